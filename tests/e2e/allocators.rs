//! Allocators other than the C library's: preloaded, linked in, loaded later, stripped, and the program's own.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use memtrace_tests::{
    Build, Memtrace, Report, Target, fixture, go,
    report::{Outstanding, Stack, Totals},
};
use serde::Deserialize;

const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
const TCMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libtcmalloc.so.4";
const MIMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libmimalloc.so.2";

/// What every_call says of itself.
#[derive(Debug, Deserialize)]
struct Count {
    #[serde(flatten)]
    totals: Totals,
    sites: BTreeMap<String, Outstanding>,
}

/// A fixture's count, of its kind, and the report on it.
fn traced<T: serde::de::DeserializeOwned>(mut target: Target, more: &[&str]) -> Result<(T, Report, Vec<String>)> {
    let memtrace = Memtrace::attach(target.pid(), more)?;
    target.tell("go")?;
    let count = target.hear_json()?;
    let finished = memtrace.interrupt()?;
    let report = finished.final_report()?;
    assert!(report.losses().is_empty(), "{:?}", report.loss);
    target.exit()?;
    Ok((count, report, finished.errors))
}

fn check_exact(target: Target, family: &str) -> Result<()> {
    let pid = target.pid();
    let (count, report, errors) = traced::<Count>(target, &[])?;
    assert!(errors.iter().any(|line| line.contains(&format!("has {family} in"))), "{family}: {errors:?}");
    assert_eq!(report.process(pid)?.totals, count.totals, "{family}");
    assert_eq!(report.outstanding_by_caller("heap"), count.sites, "{family}");
    Ok(())
}

fn every_call() -> Build {
    Build::c("every_call.c").flag("-DREPLACED_MALLOC")
}

#[test]
fn every_call_is_counted_exactly_with_a_preloaded_allocator() -> Result<()> {
    for (library, family) in [(JEMALLOC, "jemalloc"), (TCMALLOC, "tcmalloc"), (MIMALLOC, "mimalloc")] {
        for seed in ["31", "32", "33"] {
            check_exact(Target::start_preloaded(&every_call(), &["4", seed], library)?, family)?;
        }
    }
    Ok(())
}

#[test]
fn every_call_is_counted_exactly_with_an_allocator_linked_in_and_stripped() -> Result<()> {
    for (library, family) in [
        ("-Wl,--whole-archive,-l:libjemalloc.a,--no-whole-archive", "jemalloc"),
        ("-Wl,--whole-archive,-l:libtcmalloc_minimal.a,--no-whole-archive", "tcmalloc"),
    ] {
        let build = every_call().flag(library).flag("-lm").flag("-lstdc++");
        check_exact(Target::start(&build, &["4", "34"])?, family)?;
        // What is left of its names is what libraries link to, and that tells no family.
        let program = copy_stripped(&build.compile()?, "-s")?;
        let target = Target::start_file(program.path(), &["4", "35"])?;
        let pid = target.pid();
        let (count, report, _) = traced::<Count>(target, &[])?;
        assert_eq!(report.process(pid)?.totals, count.totals, "{family}, stripped");
    }
    Ok(())
}

/// What new_delete says of itself.
#[derive(Debug, Deserialize)]
struct Operators {
    blocks: u64,
    lent: u64,
    caught: u64,
    sites: BTreeMap<String, Outstanding>,
}

#[test]
fn operators_of_cpp_are_counted_exactly_where_the_allocator_has_them_itself() -> Result<()> {
    // mimalloc's C build ends the program where it would have to throw.
    for (library, throws) in [(JEMALLOC, 100), (TCMALLOC, 100), (MIMALLOC, 0)] {
        let build = Build::cpp("new_delete.cpp").flag("-std=c++17");
        let target = Target::start_preloaded(&build, &[&throws.to_string()], library)?;
        let pid = target.pid();
        let (count, report, _) = traced::<Operators>(target, &[])?;
        let totals = report.process(pid)?.totals;
        assert_eq!(count.caught, throws, "{library}: an exception that leaves a probed call finds its handler");
        assert_eq!(
            (totals.allocations, totals.frees, totals.outstanding_blocks, totals.failed_allocations),
            (count.blocks + count.lent, count.lent, count.blocks, throws),
            "{library}"
        );
        let by_leak: BTreeMap<String, Outstanding> = report
            .stacks
            .iter()
            .filter(|stack| stack.outstanding_blocks > 0)
            .filter_map(|stack| {
                let leak = stack
                    .frames
                    .iter()
                    .filter_map(|frame| frame.function.as_deref())
                    .find(|name| name.starts_with("leak_"))?;
                Some((
                    leak.to_owned(),
                    Outstanding { blocks: stack.outstanding_blocks, bytes: stack.outstanding_bytes },
                ))
            })
            .collect();
        assert_eq!(by_leak, count.sites, "{library}");
    }
    Ok(())
}

/// A file that is removed when dropped.
struct Removed(PathBuf);

impl Removed {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("running {program}"))?;
    ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path of ours")
}

/// A stripped copy of a program, beside it.
fn copy_stripped(program: &Path, how: &str) -> Result<Removed> {
    let copy = program.with_extension(format!("stripped{}", std::process::id()));
    run("strip", &[how, "-o", text(&copy)?, text(program)?])?;
    Ok(Removed(copy))
}

/// Builds the Rust fixture with an allocator; cargo keeps it.
fn rust_program(allocator: &str) -> Result<PathBuf> {
    let folder = fixture::built()?.join(format!("rust-{allocator}"));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--locked", "--manifest-path"]);
    cargo.arg(fixture::sources().join("rust_allocators/Cargo.toml")).env("CARGO_TARGET_DIR", &folder);
    if allocator != "own" {
        cargo.args(["--features", allocator]);
    }
    let output = cargo.output().context("running cargo")?;
    if !output.status.success() {
        bail!("rust_allocators with {allocator}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(folder.join("release/rust_allocators"))
}

fn check_rust(program: &Path, family: &str) -> Result<Report> {
    let target = Target::start_file(program, &[])?;
    let pid = target.pid();
    let (totals, report, errors) = traced::<Totals>(target, &[])?;
    assert!(errors.iter().any(|line| line.contains(&format!("has {family} in"))), "{family}: {errors:?}");
    let found = report.process(pid)?.totals;
    assert_eq!(Totals { mapped_bytes: 0, ..found }, totals, "{family}");
    Ok(report)
}

#[test]
fn a_rust_program_is_counted_exactly_with_the_allocator_that_it_names() -> Result<()> {
    let families = [("jemalloc", "jemalloc"), ("mimalloc", "mimalloc"), ("own", "a global allocator of its own")];
    for (allocator, family) in families {
        let report = check_rust(&rust_program(allocator)?, family)?;
        let leaked = |name: &str| -> u64 {
            let named = report.stacks.iter().filter(|stack| stack.mentions(name));
            named.map(|stack| stack.outstanding_blocks).sum()
        };
        assert_eq!((leaked("leak_boxes"), leaked("leak_aligned")), (1000, 100), "{family}: {:#?}", report.stacks);
    }
    Ok(())
}

#[test]
fn a_stripped_rust_program_is_counted_exactly_by_its_debug_file_or_its_packed_symbols() -> Result<()> {
    let program = rust_program("jemalloc")?;
    check_rust(copy_stripped(&program, "--strip-debug")?.path(), "jemalloc")?;
    let stripped = copy_stripped(&program, "--strip-all")?;
    // With neither it is told where the functions were looked for; its libc is there all the same.
    let target = Target::start_file(stripped.path(), &[])?;
    let (_, report, errors) = traced::<Totals>(target, &[])?;
    assert!(!errors.iter().any(|line| line.contains("has jemalloc")), "{errors:?}");
    assert!(!report.stacks.iter().any(|stack| stack.outstanding_blocks == 1000));

    let debug = Removed(stripped.path().with_extension("debug"));
    run("objcopy", &["--only-keep-debug", text(&program)?, text(debug.path())?])?;
    let id = run("readelf", &["-n", text(&program)?])?;
    let id =
        id.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).context("a build id")?.trim().to_owned();
    let folder = Path::new("/usr/lib/debug/.build-id").join(&id[..2]);
    fs::create_dir_all(&folder)?;
    let installed = Removed(folder.join(format!("{}.debug", &id[2..])));
    fs::copy(debug.path(), installed.path())?;
    let report = check_rust(stripped.path(), "jemalloc");
    drop(installed);
    report?;

    let symbols = Removed(stripped.path().with_extension("symbols"));
    run("objcopy", &["--strip-debug", "--remove-section=.comment", text(debug.path())?, text(symbols.path())?])?;
    run("xz", &["--force", text(symbols.path())?])?;
    let packed = Removed(stripped.path().with_extension("symbols.xz"));
    let with_symbols = Removed(stripped.path().with_extension("packed"));
    let section = format!(".gnu_debugdata={}", text(packed.path())?);
    run("objcopy", &["--add-section", &section, text(stripped.path())?, text(with_symbols.path())?])?;
    check_rust(with_symbols.path(), "jemalloc").map(|_report| ())
}

#[test]
fn a_wholly_stripped_static_program_is_told_what_was_looked_for_and_where() -> Result<()> {
    let program = every_call().flag("-static").flag("-s").compile()?;
    let target = Target::start_file(&program, &["1"])?;
    let finished = Memtrace::start(&["--pid", &target.pid().to_string(), "--duration", "1s"])?.finish()?;
    assert_eq!(finished.code(), Some(1), "{:?}", finished.errors);
    let error = finished.errors.join("\n");
    for part in ["found no allocator", "jemalloc", "/every_call-", ".gnu_debugdata", "/usr/lib/debug", "--alloc"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    target.exit()
}

/// Starts plugin_host with a library loaded, or yet to be loaded.
fn host(library: &Path, loaded: bool) -> Result<Target> {
    // jemalloc has more thread-local data than there is room for in a program that did not start with it.
    let room = ("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=65536");
    let mut host = Target::start_with(&Build::c("plugin_host.c"), &[text(library)?], room.0, room.1)?;
    host.tell("go")?;
    if loaded {
        load(&mut host)?;
    }
    Ok(host)
}

fn load(host: &mut Target) -> Result<()> {
    host.tell("load")?;
    ensure!(host.hear()? == "done", "the library is loaded");
    Ok(())
}

fn call(host: &mut Target, times: u64, bytes: u64) -> Result<()> {
    for _ in 0..times {
        host.tell(&format!("once {bytes}"))?;
        ensure!(host.hear()? == "done", "the library was called");
    }
    Ok(())
}

#[test]
fn a_librarys_own_allocator_is_traced_when_its_functions_are_named() -> Result<()> {
    let library = Build::library("pool.c").compile()?;
    let name = library.file_name().and_then(|name| name.to_str()).context("a file name")?.to_owned();
    let nm = run("nm", &[text(&library)?])?;
    let address = |function: &str| {
        let line = nm.lines().find(|line| line.ends_with(&format!(" T {function}")));
        line.and_then(|line| line.split(' ').next()).map(|digits| format!("0x{}", digits.trim_start_matches('0')))
    };
    let (take, give) = (address("pool_take").context("pool_take")?, address("pool_give").context("pool_give")?);
    for (take, give) in [("pool_take", "pool_give"), (take.as_str(), give.as_str())] {
        let mut host = host(&library, true)?;
        let (alloc, free) = (format!("{name}:{take}(size=arg1)"), format!("{name}:{give}(ptr=arg0)"));
        let memtrace = Memtrace::attach(host.pid(), &["--alloc", &alloc, "--free", &free])?;
        call(&mut host, 50, 100)?;
        let report = memtrace.interrupt()?.final_report()?;
        let totals = report.process(host.pid())?.totals;
        // Neither the chunks below the pool's blocks nor what the pool does inside its calls is counted.
        assert_eq!((totals.allocations, totals.frees, totals.frees_unmatched), (100, 50, 0), "{take}");
        assert_eq!((totals.outstanding_blocks, totals.outstanding_bytes), (50, 5000), "{take}");
        let leaked: u64 = report.stacks_of("pool_leak").map(|stack| stack.outstanding_blocks).sum();
        assert_eq!(leaked, 50, "{take}: {:#?}", report.stacks);
        host.exit()?;
    }
    Ok(())
}

#[test]
fn a_function_that_is_not_there_is_refused_and_a_file_that_is_not_there_is_waited_for() -> Result<()> {
    let library = Build::library("pool.c").compile()?;
    let name = library.file_name().and_then(|name| name.to_str()).context("a file name")?.to_owned();
    let host = host(&library, true)?;
    let wrong = format!("{name}:pool_tale(size=arg1)");
    let finished = Memtrace::start(&["--pid", &host.pid().to_string(), "--alloc", &wrong])?.finish()?;
    assert_eq!(finished.code(), Some(1));
    let error = finished.errors.join("\n");
    assert!(
        error.contains("pool_tale") && error.contains("no such function") && error.contains("0xADDRESS"),
        "{error}"
    );
    let finished = Memtrace::attach(host.pid(), &["--alloc", "libpoool.so:take", "--duration", "1s"])?.finish()?;
    assert!(
        finished.errors.iter().any(|line| line.contains("libpoool.so:take: no file of this name")),
        "{:?}",
        finished.errors
    );
    host.exit()
}

#[test]
fn an_allocator_that_is_loaded_after_the_attach_is_traced() -> Result<()> {
    let library = Build::library("plugin_jemalloc.c").flag("-Wl,--no-as-needed,-l:libjemalloc.so.2").compile()?;
    let mut host = host(&library, false)?;
    let mut memtrace = Memtrace::attach(host.pid(), &[])?;
    memtrace.next_report()?;
    load(&mut host)?;
    // A whole interval after the loading, its functions are probed.
    memtrace.next_report()?;
    memtrace.next_report()?;
    call(&mut host, 40, 1000)?;
    let finished = memtrace.interrupt()?;
    let report = finished.final_report()?;
    assert!(
        finished.errors.iter().any(|line| line.contains("has loaded allocator functions")),
        "{:?}",
        finished.errors
    );
    check_mallocx(&report, host.pid())?;
    host.exit()
}

/// After 40 calls of plugin_jemalloc with 1000 bytes.
fn check_mallocx(report: &Report, pid: u32) -> Result<()> {
    let leaked: u64 = report.stacks_of("leak_mallocx").map(|stack| stack.outstanding_blocks).sum();
    let bytes: u64 = report.stacks_of("leak_mallocx").map(|stack| stack.outstanding_bytes).sum();
    assert_eq!((leaked, bytes), (40, 40_000), "{:#?}", report.stacks);
    // In each call: three blocks and one that grows, one that grows in place, and one that cannot.
    let made: u64 = report.stacks_of("leak_mallocx").map(|stack| stack.allocations).sum();
    assert_eq!(made, 40 * 5);
    assert_eq!(report.process(pid)?.totals.failed_allocations, 40);
    Ok(())
}

/// The names of jemalloc's functions that plugin_jemalloc calls.
const EXTENDED: [&str; 5] = ["mallocx", "rallocx", "xallocx", "dallocx", "sdallocx"];

/// Debian's jemalloc with a prefix before all of its functions' names, as Apache Arrow builds its own.
fn jemalloc_with_prefix(prefix: &str, folder: &Path) -> Result<PathBuf> {
    let from = "/usr/lib/x86_64-linux-gnu/libjemalloc_pic.a";
    let archive = folder.join("libjemalloc_prefixed.a");
    let plain =
        ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign", "valloc", "free", "mallctl"];
    let renamed = plain.iter().chain(&EXTENDED).map(|name| format!("--redefine-sym={name}={prefix}{name}"));
    let renamed: Vec<String> = renamed.collect();
    let mut arguments: Vec<&str> = renamed.iter().map(String::as_str).collect();
    arguments.extend([from, text(&archive)?]);
    run("objcopy", &arguments)?;
    Ok(archive)
}

#[test]
fn a_jemalloc_under_arrows_prefix_is_counted_exactly() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let archive = jemalloc_with_prefix("je_arrow_", folder.path())?;
    let library = folder.path().join("plugin.so");
    let source = fixture::sources().join("plugin_jemalloc.c");
    let names = EXTENDED.map(|name| format!("-D{name}=je_arrow_{name}"));
    let mut arguments = vec!["-O1", "-g", "-shared", "-fPIC", "-fno-builtin", "-fno-omit-frame-pointer", "-pthread"];
    arguments.extend(names.iter().map(String::as_str));
    // Arrow does not export them either: the names are in the full table alone.
    arguments.extend([text(&source)?, text(&archive)?, "-Wl,--exclude-libs,ALL", "-lm", "-o", text(&library)?]);
    run("gcc", &arguments)?;
    let mut host = host(&library, true)?;
    let memtrace = Memtrace::attach(host.pid(), &[])?;
    call(&mut host, 40, 1000)?;
    let finished = memtrace.interrupt()?;
    let report = finished.final_report()?;
    assert!(finished.errors.iter().any(|line| line.contains("has jemalloc in")), "{:?}", finished.errors);
    assert!(report.losses().is_empty(), "{:?}", report.loss);
    check_mallocx(&report, host.pid())?;
    host.exit()
}

#[test]
fn duckdbs_buffers_are_counted_exactly_and_its_exceptions_find_their_handlers() -> Result<()> {
    let mut host = host(&Build::cpp("plugin_duckdb.cpp").flag("-shared").flag("-fPIC").compile()?, true)?;
    let memtrace = Memtrace::attach(host.pid(), &[])?;
    call(&mut host, 40, 1000)?;
    let finished = memtrace.interrupt()?;
    let report = finished.final_report()?;
    assert!(finished.errors.iter().any(|line| line.contains("has DuckDB's allocator in")), "{:?}", finished.errors);
    assert!(report.losses().is_empty(), "{:?}", report.loss);
    // In each call: one block is kept, one is released, and one is made three times as large and kept.
    let sum = |part: fn(&Stack) -> u64| {
        report.stacks.iter().filter(|stack| stack.mentions("leak_data")).map(part).sum::<u64>()
    };
    assert_eq!(
        (sum(|stack| stack.outstanding_blocks), sum(|stack| stack.outstanding_bytes)),
        (80, 160_000),
        "{:#?}",
        report.stacks
    );
    assert_eq!(sum(|stack| stack.allocations), 160);
    assert_eq!(report.process(host.pid())?.totals.failed_allocations, 80);
    host.exit()
}

#[test]
fn phps_blocks_are_counted_exactly_and_its_chunks_are_not_counted_beside_them() -> Result<()> {
    const COUNT: u64 = 20_000;
    let script = fixture::sources().join("php_blocks.php");
    let mut php = Target::spawn(Command::new("php").args(["-n", text(&script)?]))?;
    ensure!(php.hear()?.starts_with("ready "), "the script runs");
    let memtrace = Memtrace::attach(php.pid(), &[])?;
    php.tell(&format!("keep {COUNT}"))?;
    ensure!(php.hear()? == "done", "blocks are kept");
    let finished = memtrace.interrupt()?;
    let report = finished.final_report()?;
    assert!(finished.errors.iter().any(|line| line.contains("has PHP's memory manager in")), "{:?}", finished.errors);
    assert!(report.losses().is_empty(), "{:?}", report.loss);
    // Of any order: what was kept before the first interval ended is no growth, and growth decides the order of stacks.
    let mut held: Vec<(u64, u64)> = report
        .stacks
        .iter()
        .filter(|stack| stack.outstanding_blocks >= COUNT)
        .map(|stack| (stack.outstanding_blocks, stack.outstanding_bytes))
        .collect();
    held.sort_unstable();
    assert_eq!(held, [(COUNT, COUNT * 88), (COUNT, COUNT * 1031)], "{:#?}", report.stacks);
    assert_eq!(report.process(php.pid())?.totals.mapped_bytes, 0, "{:?}", report.processes);

    // The next run of memtrace sees them go.
    let memtrace = Memtrace::attach(php.pid(), &[])?;
    for word in [format!("keep {COUNT}"), "drop".to_owned()] {
        php.tell(&word)?;
        ensure!(php.hear()? == "done", "{word}");
    }
    let report = memtrace.interrupt()?.final_report()?;
    let most = report.stacks.iter().map(|stack| stack.outstanding_blocks).max();
    assert!(most < Some(10), "{:#?}", report.stacks);
    assert!(report.process(php.pid())?.totals.frees_unmatched >= 2 * COUNT, "those of the time before");
    php.exit()
}

#[test]
fn c_blocks_of_a_go_program_are_counted_exactly_while_its_stacks_move() -> Result<()> {
    let mut target = Target::start_file(&go::build("cgo_leak", "cgo_leak", &[], true)?, &[])?;
    let memtrace = Memtrace::attach(target.pid(), &[])?;
    target.tell("go")?;
    let count: serde_json::Value = target.hear_json()?;
    let report = memtrace.interrupt()?.final_report()?;
    // Go's runtime asks libc for memory, too, as it starts threads: the leak is compared, not the totals.
    let leaks: Vec<_> = report.stacks_of("leak_in_c").collect();
    let sum = |part: fn(&Stack) -> u64| Some(leaks.iter().map(|stack| part(stack)).sum::<u64>());
    assert_eq!(sum(|stack| stack.allocations), count["allocations"].as_u64());
    assert_eq!(sum(|stack| stack.outstanding_bytes), count["outstanding_bytes"].as_u64());
    // One stack for each depth of the calls, whatever goroutine asks and wherever its stack is then.
    let depth =
        |stack: &&Stack| stack.frames.iter().filter(|frame| frame.function.as_deref() == Some("main.deep")).count();
    let mut depths: Vec<_> = leaks.iter().map(depth).collect();
    depths.sort_unstable();
    assert_eq!(depths, (1..=64).collect::<Vec<_>>());
    for stack in &leaks {
        assert_eq!(stack.truncated, None, "{stack:#?}");
        assert_eq!(stack.frames.last().and_then(|frame| frame.function.as_deref()), Some("runtime.goexit"));
    }
    target.exit()
}

#[test]
fn go_code_is_refused_as_an_allocator_and_the_program_goes_on() -> Result<()> {
    let mut target = Target::start_file(&go::build("cgo_leak", "cgo_leak", &[], true)?, &[])?;
    let pid = target.pid().to_string();
    for function in ["exe:runtime.mallocgc(size=arg0)", "exe:main.deep(size=arg0)"] {
        let finished = Memtrace::start(&["--pid", &pid, "--alloc", function, "--duration", "2s"])?.finish()?;
        let errors = finished.errors.join("\n");
        assert_eq!((finished.code(), finished.output.len()), (Some(1), 0), "{errors}");
        assert!(errors.contains("it is Go code") && errors.contains("--mode growth"), "{errors}");
    }
    // C code in the same file is none of Go's.
    let memtrace = Memtrace::attach(target.pid(), &["--alloc", "exe:leak_in_c(size=arg0)"])?;
    target.tell("go")?;
    let count: serde_json::Value = target.hear_json()?;
    memtrace.interrupt()?.final_report()?;
    assert!(count["allocations"].is_u64(), "{count}");
    target.exit()
}
