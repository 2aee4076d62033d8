//! The room on real programs: compiled here, run, asked for the return addresses of a stack of theirs.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, OnceLock},
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::debuginfod;

mod runtime_code;

const SLOT: Slot = Slot(3);
const STACK: StackId = StackId(0xabc);

/// Prints the return addresses of `inner` <- `outer` <- `main`, line 3 calls, line 4 calls; then waits.
const C: &str = r#"#include <stdio.h>
__attribute__((noinline)) void inner(void) { printf("%p\n", __builtin_return_address(0)); }
__attribute__((noinline)) static void outer(void) { inner(); __asm__ volatile(""); }
int main(void) { outer(); puts("ready"); fflush(stdout); return getchar() != 'x'; }
"#;

/// A program that runs, and ends with the test.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    /// The addresses it printed.
    frames: Vec<u64>,
}

impl Running {
    fn start(program: &Path) -> Running {
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the compiled program starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut running = Running { child, output, frames: Vec::new() };
        running.frames = running.read_until_ready();
        running
    }

    /// The addresses up to the next `ready`.
    fn read_until_ready(&mut self) -> Vec<u64> {
        let mut frames = Vec::new();
        for line in self.output.by_ref().lines() {
            let line = line.expect("text");
            if line == "ready" {
                return frames;
            }
            frames.push(u64::from_str_radix(line.trim_start_matches("0x"), 16).expect("an address"));
        }
        panic!("the program ended before it was ready");
    }

    fn mappings(&self) -> Vec<ModuleMapping> {
        mappings(self.child.id())
    }

    fn end(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mappings(pid: u32) -> Vec<ModuleMapping> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the maps of our own child");
    maps.lines().filter_map(mapping).collect()
}

fn mapping(line: &str) -> Option<ModuleMapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let executable = fields.next()?.contains('x');
    let file_offset = u64::from_str_radix(fields.next()?, 16).ok()?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let inode = fields.next()?.parse().ok()?;
    let path = fields.next().map(str::trim).filter(|path| !path.is_empty());
    executable.then_some(ModuleMapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        file_offset,
        device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode,
        path: path.map(|path| PathBuf::from(path.trim_end_matches(" (deleted)"))),
    })
}

/// As if a process mapped a whole file at `start`.
fn mapping_of(path: &Path, start: u64, length: u64) -> ModuleMapping {
    let metadata = fs::metadata(path).expect("our own file");
    let device = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
    let inode = metadata.ino();
    ModuleMapping { start, end: start + length, file_offset: 0, device, inode, path: Some(path.to_owned()) }
}

/// Runs a tool to its end; its failure is the test's.
fn run(program: &str, arguments: &[&dyn AsRef<std::ffi::OsStr>]) {
    let arguments = arguments.iter().map(|argument| argument.as_ref());
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Compiles a source text; the compiler follows from the file name's extension.
fn compile(dir: &Path, name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let input = dir.join(name);
    fs::write(&input, source).expect("room for a small file");
    let output = input.with_extension("");
    let compiler = match input.extension().and_then(|extension| extension.to_str()) {
        Some("c") => "cc",
        Some("rs") => "rustc",
        _ => "c++",
    };
    let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&input, &"-o", &output];
    arguments.extend(flags.iter().map(|flag| flag as &dyn AsRef<std::ffi::OsStr>));
    run(compiler, &arguments);
    output
}

fn symbolizer(debug_dirs: &[&Path]) -> Symbolizer {
    let debug_dirs = debug_dirs.iter().map(|dir| dir.to_path_buf()).collect();
    Symbolizer::new(Options { debug_dirs, ..Options::default() }).expect("our own root")
}

fn native(addresses: &[u64]) -> Vec<StackFrame> {
    addresses.iter().map(|&address| StackFrame::Native(Address(address))).collect()
}

fn observe(symbolizer: &mut Symbolizer, frames: &[u64]) -> Observed {
    symbolizer.observe(SLOT, STACK, &native(frames), StackEnd::Complete)
}

/// Observes the program's stack while it runs, ends it, and only then resolves.
fn resolve(symbolizer: &mut Symbolizer, running: &mut Running) -> Vec<ResolvedFrame> {
    symbolizer.add_process(SLOT, running.child.id(), running.mappings());
    assert_eq!(observe(symbolizer, &running.frames), Observed { unknown_addresses: false });
    running.end();
    let stack = symbolizer.frames(SLOT, STACK);
    assert_eq!(stack.truncated, None);
    stack.frames
}

fn functions(frames: &[ResolvedFrame]) -> Vec<Option<&str>> {
    frames.iter().map(|frame| frame.function.as_deref()).collect()
}

/// The file name and the line.
fn place(frame: &ResolvedFrame) -> Option<(&str, u32)> {
    let file = frame.file.as_deref()?;
    Some((file.rsplit('/').next().unwrap_or(file), frame.line?))
}

fn no_problems(symbolizer: &Symbolizer) {
    assert_eq!(symbolizer.problems().collect::<Vec<_>>(), Vec::<&Problem>::new());
}

/// Moves the debug information of `program` to `debug` and strips it.
fn split(program: &Path, debug: &Path) {
    fs::create_dir_all(debug.parent().expect("a file in a directory")).expect("a temporary directory");
    run("objcopy", &[&"--only-keep-debug", &program, &debug]);
    run("strip", &[&"--strip-all", &program]);
}

fn link(program: &Path, debug: &Path) {
    let mut link = std::ffi::OsString::from("--add-gnu-debuglink=");
    link.push(debug);
    run("objcopy", &[&link, &program]);
}

fn build_id(program: &Path) -> String {
    let layout = crate::object::layout::Layout::read(&fs::File::open(program).expect("the program")).expect("ELF");
    layout.build_id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn these_tests_run_as_root() {
    // Without it map_files cannot be read, and the tests of deleted files test nothing.
    assert!(rustix::process::geteuid().is_root(), "run these tests as root");
}

#[test]
fn functions_files_and_lines_are_those_of_the_source() {
    for flags in
        [&["-g", "-pie", "-fPIE"][..], &["-g", "-no-pie"], &["-g", "-gz"], &["-g", "-gdwarf-4"], &["-g", "-static"]]
    {
        let dir = TempDir::new().expect("a temporary directory");
        let program = compile(dir.path(), "target.c", C, flags);
        let mut symbolizer = symbolizer(&[]);
        let mut running = Running::start(&program);
        let address = running.frames[0];
        let frames = resolve(&mut symbolizer, &mut running);
        assert_eq!(functions(&frames), [Some("outer")], "{flags:?}");
        assert_eq!(frames[0].module.as_deref(), Some("target"));
        assert_eq!(frames[0].address, address);
        assert_eq!(place(&frames[0]), Some(("target.c", 3)), "{flags:?}");
        no_problems(&symbolizer);
    }
}

#[test]
fn without_debug_information_there_is_the_function_and_when_stripped_nothing_is_guessed() {
    let dir = TempDir::new().expect("a temporary directory");
    let program = compile(dir.path(), "target.c", C, &["-rdynamic"]);
    let mut plain = symbolizer(&[]);
    let frames = resolve(&mut plain, &mut Running::start(&program));
    assert_eq!(functions(&frames), [Some("outer")]);
    assert_eq!(place(&frames[0]), None);
    // `inner` and `main` are in .dynsym; the static `outer` between them is not, and must not become one of them.
    run("strip", &[&"--strip-all", &program]);
    let mut stripped = symbolizer(&[]);
    let frames = resolve(&mut stripped, &mut Running::start(&program));
    assert_eq!(functions(&frames), [None]);
    assert_eq!(frames[0].module.as_deref(), Some("target"));
    no_problems(&stripped);
}

/// A symbolizer with this cache of debug files, and a server that nobody can reach.
fn with_cache(cache: &Path) -> Symbolizer {
    let mut symbolizer = symbolizer(&[]);
    let options = debuginfod::Options::new(vec!["http://127.0.0.1:1".to_owned()], cache.to_owned());
    symbolizer.ask_servers(Debuginfod::new(options, Arc::new(|_: &str| {})));
    symbolizer
}

#[test]
fn names_of_a_stripped_program_come_after_its_debug_file_has_been_fetched() {
    let dir = TempDir::new().expect("a directory");
    let program = compile(dir.path(), "target.c", C, &["-g", "-Wl,--build-id=sha1"]);
    let cache = dir.path().join("cache");
    split(&program, &cache.join(build_id(&program)).join("debuginfo"));
    for whole in [false, true] {
        let mut symbolizer = with_cache(&cache);
        let mut running = Running::start(&program);
        symbolizer.add_process(SLOT, running.child.id(), running.mappings());
        assert_eq!(observe(&mut symbolizer, &running.frames), Observed { unknown_addresses: false });
        running.end();
        if !whole {
            // The thread may be quicker than we are, but what it has is taken in by the next call only.
            let stack = symbolizer.frames(SLOT, STACK);
            assert_eq!((functions(&stack.frames), stack.names_come), (vec![None], true));
        }
        symbolizer.await_debug_files(Duration::from_secs(60));
        let stack = symbolizer.frames(SLOT, STACK);
        assert_eq!((functions(&stack.frames), stack.names_come), (vec![Some("outer")], false));
        assert_eq!(place(&stack.frames[0]), Some(("target.c", 3)));
        no_problems(&symbolizer);
    }
}

#[test]
fn no_server_is_asked_for_a_program_with_symbols_or_without_a_build_id() {
    for (flags, is_stripped) in [
        (&["-Wl,--build-id=sha1"][..], false),
        (&["-g", "-Wl,--build-id=sha1"], false),
        (&["-g", "-Wl,--build-id=none"], true),
    ] {
        let dir = TempDir::new().expect("a directory");
        let program = compile(dir.path(), "target.c", C, flags);
        if is_stripped {
            run("strip", &[&"--strip-all", &program]);
        }
        let cache = dir.path().join("cache");
        let mut symbolizer = with_cache(&cache);
        let frames = resolve(&mut symbolizer, &mut Running::start(&program));
        assert_eq!(functions(&frames), [(!is_stripped).then_some("outer")], "{flags:?}");
        symbolizer.await_debug_files(Duration::from_secs(60));
        assert!(!cache.exists(), "the folder is made for the first question: {flags:?}");
    }
}

#[test]
fn a_debug_link_leads_to_the_debug_file_beside_below_and_in_the_debug_directory() {
    let debug_dir = TempDir::new().expect("a temporary directory");
    for build_id in ["-Wl,--build-id=none", "-Wl,--build-id=sha1"] {
        for place_of_debug in ["beside", "below", "debug directory"] {
            let dir = TempDir::new().expect("a temporary directory");
            let program = compile(dir.path(), "target.c", C, &["-g", build_id]);
            let debug = match place_of_debug {
                "beside" => dir.path().join("target.debug"),
                "below" => dir.path().join(".debug/target.debug"),
                _ => debug_dir.path().join(dir.path().strip_prefix("/").expect("absolute")).join("target.debug"),
            };
            split(&program, &debug);
            link(&program, &debug);
            let mut symbolizer = symbolizer(&[debug_dir.path()]);
            let frames = resolve(&mut symbolizer, &mut Running::start(&program));
            assert_eq!(functions(&frames), [Some("outer")], "{place_of_debug}");
            assert_eq!(place(&frames[0]), Some(("target.c", 3)), "{place_of_debug}");
            no_problems(&symbolizer);
        }
    }
}

#[test]
fn a_build_id_leads_to_the_debug_file_without_a_link() {
    let (dir, debug_dir) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let program = compile(dir.path(), "target.c", C, &["-g", "-Wl,--build-id=sha1"]);
    let id = build_id(&program);
    split(&program, &debug_dir.path().join(format!(".build-id/{}/{}.debug", &id[..2], &id[2..])));
    let mut symbolizer = symbolizer(&[Path::new("/nonexistent"), debug_dir.path()]);
    let frames = resolve(&mut symbolizer, &mut Running::start(&program));
    assert_eq!(functions(&frames), [Some("outer")]);
    assert_eq!(place(&frames[0]), Some(("target.c", 3)));
    no_problems(&symbolizer);
}

#[test]
fn the_debug_file_of_another_build_is_refused() {
    let (dir, debug_dir) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let program = compile(dir.path(), "target.c", C, &["-g", "-Wl,--build-id=sha1"]);
    let other = compile(dir.path(), "other.c", &format!("\n\n\n{C}"), &["-g", "-Wl,--build-id=sha1"]);
    let id = build_id(&program);
    let debug = debug_dir.path().join(format!(".build-id/{}/{}.debug", &id[..2], &id[2..]));
    split(&other, &debug);
    run("strip", &[&"--strip-all", &program]);
    let mut symbolizer = symbolizer(&[debug_dir.path()]);
    let frames = resolve(&mut symbolizer, &mut Running::start(&program));
    assert_eq!(functions(&frames), [None]);
    let problem = symbolizer.problems().next().expect("a problem");
    assert_eq!(problem.module, "target");
    assert!(problem.reason.contains("another build"), "{problem:?}");
}

#[test]
fn a_fifo_in_place_of_a_debug_file_does_not_block() {
    let dir = TempDir::new().expect("a temporary directory");
    let program = compile(dir.path(), "target.c", C, &["-g"]);
    let debug = dir.path().join("target.debug");
    run("objcopy", &[&"--only-keep-debug", &program, &debug]);
    // Not stripped: blazesym alone would follow the link.
    link(&program, &debug);
    fs::remove_file(&debug).expect("our own file");
    run("mkfifo", &[&debug]);
    let mut symbolizer = symbolizer(&[]);
    let frames = resolve(&mut symbolizer, &mut Running::start(&program));
    assert_eq!(functions(&frames), [Some("outer")]);
    assert!(symbolizer.problems().any(|problem| problem.reason.contains("not followed")));
}

#[test]
fn a_deleted_and_replaced_executable_is_read_as_it_was() {
    let dir = TempDir::new().expect("a temporary directory");
    let program = compile(dir.path(), "target.c", C, &["-g"]);
    let mut running = Running::start(&program);
    fs::remove_file(&program).expect("our own file");
    fs::write(&program, "another file of that name").expect("room for a small file");
    let mut symbolizer = symbolizer(&[]);
    let frames = resolve(&mut symbolizer, &mut running);
    assert_eq!(functions(&frames), [Some("outer")]);
    assert_eq!(place(&frames[0]), Some(("target.c", 3)));
}

#[test]
fn a_process_that_ended_first_is_read_by_path_when_the_file_is_the_same() {
    let dir = TempDir::new().expect("a temporary directory");
    let program = compile(dir.path(), "target.c", C, &["-g"]);
    let mut running = Running::start(&program);
    let (pid, mappings, frames) = (running.child.id(), running.mappings(), running.frames.clone());
    running.end();
    let mut first = symbolizer(&[]);
    first.add_process(SLOT, pid, mappings.clone());
    assert!(!observe(&mut first, &frames).unknown_addresses);
    assert_eq!(functions(&first.frames(SLOT, STACK).frames), [Some("outer")]);
    // The old file keeps its inode as long as it has a name.
    fs::rename(&program, dir.path().join("old")).expect("our own file");
    fs::write(&program, "another file of that name").expect("room for a small file");
    let mut second = symbolizer(&[]);
    second.add_process(SLOT, pid, mappings);
    assert!(!observe(&mut second, &frames).unknown_addresses);
    assert_eq!(functions(&second.frames(SLOT, STACK).frames), [None]);
    assert!(second.problems().any(|problem| problem.module == "target" && problem.reason.contains("replaced")));
}

#[test]
fn code_without_a_file_at_one_offset_of_two_regions_is_not_the_same() {
    let region =
        |start| ModuleMapping { start, end: start + 0x1000, file_offset: 0, device: (0, 0), inode: 0, path: None };
    let mut symbolizer = symbolizer(&[]);
    symbolizer.add_process(SLOT, std::process::id(), [region(0x1000_0000), region(0x2000_0000)]);
    let mut shape = |id, address| {
        let stack = StackId(id);
        let _ = symbolizer.observe(SLOT, stack, &native(&[address]), StackEnd::Complete);
        symbolizer.shape(SLOT, stack).expect("it is stored")
    };
    assert_ne!(shape(1, 0x1000_0123), shape(2, 0x2000_0123));
    assert_eq!(shape(3, 0x1000_0123), shape(1, 0x1000_0123));
}

#[test]
fn without_map_files_the_path_is_taken_if_it_is_the_very_file() {
    let dir = TempDir::new().expect("a temporary directory");
    let program = compile(dir.path(), "target.c", C, &["-g"]);
    let running = Running::start(&program);
    // The maps follow a rename; these do not.
    let mappings = running.mappings();
    let resolve = || {
        let mut symbolizer = symbolizer(&[]);
        // No such range is mapped.
        let mappings = mappings.iter().cloned();
        let mappings = mappings.map(|mapping| ModuleMapping { end: mapping.end + 4096, ..mapping });
        symbolizer.add_process(SLOT, running.child.id(), mappings);
        assert!(!observe(&mut symbolizer, &running.frames).unknown_addresses);
        symbolizer.frames(SLOT, STACK).frames[0].function.clone()
    };
    assert_eq!(resolve().as_deref(), Some("outer"));
    fs::rename(&program, dir.path().join("old")).expect("our own file");
    fs::copy(dir.path().join("old"), &program).expect("room for a small file");
    assert_eq!(resolve(), None);
}

#[test]
fn compressed_symbols_in_a_stripped_file_are_read() {
    let dir = TempDir::new().expect("a temporary directory");
    let program = compile(dir.path(), "target.c", C, &[]);
    let (small, section) = (dir.path().join("small"), dir.path().join("small.xz"));
    run("objcopy", &[&"--strip-all", &"--keep-symbol=outer", &program, &small]);
    run("xz", &[&small]);
    let mut add = std::ffi::OsString::from("--add-section=.gnu_debugdata=");
    add.push(section);
    run("objcopy", &[&"--strip-all", &add, &program]);
    let mut symbolizer = symbolizer(&[]);
    let frames = resolve(&mut symbolizer, &mut Running::start(&program));
    assert_eq!(functions(&frames), [Some("outer")]);
    no_problems(&symbolizer);
}

#[test]
fn a_target_in_another_root_is_read_below_that_root() {
    let dir = TempDir::new().expect("a temporary directory");
    let root = dir.path().join("root");
    let program = compile(dir.path(), "target.c", C, &["-g", "-static", "-Wl,--build-id=sha1"]);
    let id = build_id(&program);
    split(&program, &root.join(format!("usr/lib/debug/.build-id/{}/{}.debug", &id[..2], &id[2..])));
    fs::create_dir_all(root.join("bin")).expect("a temporary directory");
    fs::rename(&program, root.join("bin/target")).expect("our own file");
    let mut command = Command::new("chroot");
    command.arg(&root).arg("/bin/target").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("chroot starts");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let mut running = Running { child, output, frames: Vec::new() };
    running.frames = running.read_until_ready();
    let mut symbolizer = symbolizer(&[Path::new("/usr/lib/debug")]);
    let frames = resolve(&mut symbolizer, &mut running);
    assert_eq!(functions(&frames), [Some("outer")]);
    assert_eq!(place(&frames[0]), Some(("target.c", 3)));
    no_problems(&symbolizer);
}

#[test]
fn inlined_functions_come_innermost_first() {
    const INLINED: &str = r#"#include <stdio.h>
__attribute__((noinline)) void leaf(void) { printf("%p\n", __builtin_return_address(0)); }
static inline __attribute__((always_inline)) void innermost(void) {
    leaf();
    __asm__ volatile("");
}
static inline __attribute__((always_inline)) void middle(void) {
    innermost();
}
__attribute__((noinline)) void outermost(void) {
    middle();
}
int main(void) { outermost(); puts("ready"); fflush(stdout); return getchar() != 'x'; }
"#;
    let dir = TempDir::new().expect("a temporary directory");
    let program = compile(dir.path(), "target.c", INLINED, &["-O2", "-g"]);
    let mut running = Running::start(&program);
    let address = running.frames[0];
    let frames = resolve(&mut symbolizer(&[]), &mut running);
    assert_eq!(functions(&frames), [Some("innermost"), Some("middle"), Some("outermost")]);
    assert_eq!(frames.iter().map(|frame| frame.inlined).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(frames.iter().map(|frame| place(frame).expect("a place").1).collect::<Vec<_>>(), [4, 8, 11]);
    assert!(frames.iter().all(|frame| frame.address == address));
}

#[test]
fn a_call_that_is_the_last_instruction_belongs_to_its_function() {
    const NORETURN: &str = r#"#include <stdio.h>
#include <stdlib.h>
__attribute__((noinline, noreturn)) void stop(void) {
    printf("%p\n", __builtin_return_address(0)); puts("ready"); fflush(stdout); exit(getchar() != 'x');
}
__attribute__((noinline)) void caller(int keep) { __asm__ volatile("" : : "r"(keep)); stop(); }
__attribute__((noinline)) void next_one(void) { __asm__ volatile(""); }
int main(void) { caller(1); next_one(); return 0; }
"#;
    let dir = TempDir::new().expect("a temporary directory");
    // Without padding between functions the return address is the next function's first.
    let flags = ["-O1", "-g", "-falign-functions=1", "-fno-reorder-functions", "-fcf-protection=none"];
    let program = compile(dir.path(), "target.c", NORETURN, &flags);
    let frames = resolve(&mut symbolizer(&[]), &mut Running::start(&program));
    assert_eq!(functions(&frames), [Some("caller")]);
}

#[test]
fn a_frame_that_a_signal_interrupted_at_its_first_instruction_has_its_own_name() {
    const SIGNAL: &str = r#"#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <ucontext.h>
void at_once(void);
__asm__("before: ret\nat_once: ud2\nret\n.type before, @function\n.type at_once, @function\n"
        ".size before, at_once - before\n.size at_once, . - at_once\n");
static void handle(int number, siginfo_t *information, void *context) {
    greg_t *ip = &((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    printf("%p\n%#llx\nready\n", __builtin_return_address(0), *ip);
    *ip += 2;
    (void)number, (void)information;
}
int main(void) {
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &action, NULL);
    at_once();
    fflush(stdout);
    return getchar() != 'x';
}
"#;
    let dir = TempDir::new().expect("a temporary directory");
    let program = compile(dir.path(), "target.c", SIGNAL, &["-O1"]);
    let mut running = Running::start(&program);
    let interrupted = running.frames[1];
    let frames = resolve(&mut symbolizer(&[]), &mut running);
    assert_eq!(functions(&frames)[1], Some("at_once"));
    assert_eq!(frames[1].address, interrupted);
    // By a call, the same address is the end of the function before.
    let mut running = Running::start(&program);
    running.frames.remove(0);
    assert_eq!(functions(&resolve(&mut symbolizer(&[]), &mut running)), [Some("before")]);
}

#[test]
fn cpp_templates_and_lambdas_are_demangled() {
    const CPP: &str = r#"#include <cstdio>
namespace shop {
template <class T, int N> struct Basket {
    __attribute__((noinline)) void fill(T) { std::printf("%p\n", __builtin_return_address(0)); asm volatile(""); }
};
template <class F> __attribute__((noinline)) void each(F f) { std::printf("%p\n", __builtin_return_address(0)); f(); asm volatile(""); }
}
__attribute__((noinline)) void leaf() { std::printf("%p\n", __builtin_return_address(0)); asm volatile(""); }
struct Outer {
    template <class T> __attribute__((noinline)) void hold(T t) { shop::Basket<T, 3>().fill(t); asm volatile(""); }
};
int main() {
    Outer().hold<long>(4);
    auto lambda = []() __attribute__((noinline)) { leaf(); asm volatile(""); };
    shop::each(lambda);
    std::puts("ready"); std::fflush(stdout); return std::getchar() != 'x';
}
"#;
    for flags in [&["-g"][..], &[]] {
        let dir = TempDir::new().expect("a temporary directory");
        let program = compile(dir.path(), "target.cpp", CPP, flags);
        let frames = resolve(&mut symbolizer(&[]), &mut Running::start(&program));
        let names: Vec<_> = functions(&frames).into_iter().map(|name| name.expect("a name")).collect();
        assert_eq!(names[0], "void Outer::hold<long>(long)", "{flags:?}");
        assert_eq!(names[1], "main");
        assert!(names[2].starts_with("main::{lambda()#1}::operator()"), "{names:?}");
    }
}

#[test]
fn rust_names_have_no_hash() {
    const RUST: &str = r#"
use std::io::Read;
unsafe extern "C" { fn backtrace(buffer: *mut *mut u8, size: i32) -> i32; }
mod shop {
    pub struct Basket<T>(pub T);
    impl<T: Copy> Basket<T> {
        #[inline(never)]
        pub fn fill(&self) -> T {
            let mut frames = [std::ptr::null_mut(); 8];
            let count = unsafe { super::backtrace(frames.as_mut_ptr(), 8) };
            println!("{:p}", frames[..count as usize][0]);
            self.0
        }
    }
}
fn main() {
    shop::Basket(7u64).fill();
    println!("ready");
    let _ = std::io::stdin().read(&mut [0]);
}
"#;
    for flags in [&["-g"][..], &[], &["-g", "-Csymbol-mangling-version=v0"]] {
        let dir = TempDir::new().expect("a temporary directory");
        let program = compile(dir.path(), "target.rs", RUST, flags);
        let frames = resolve(&mut symbolizer(&[]), &mut Running::start(&program));
        let name = frames.last().and_then(|frame| frame.function.as_deref()).expect("a name");
        assert!(name.starts_with("<target::shop::Basket<") || name.starts_with("target::shop::Basket<"), "{name}");
        assert!(name.ends_with("::fill"), "{name}");
    }
}

#[test]
fn a_library_opened_later_is_known_after_a_refresh_and_after_it_is_closed() {
    const LIBRARY: &str = r#"#include <stdio.h>
__attribute__((noinline)) void report(void) { printf("%p\n", __builtin_return_address(0)); }
void enter(void) { report(); __asm__ volatile(""); }
"#;
    const LOADER: &str = r#"#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) {
    puts("ready"); fflush(stdout); getchar();
    char path[4096]; snprintf(path, sizeof path, "%s.so", argv[0]);
    void *library = dlopen(path, RTLD_NOW);
    ((void (*)(void))dlsym(library, "enter"))();
    puts("ready"); fflush(stdout); getchar();
    dlclose(library);
    puts("ready"); fflush(stdout); getchar();
}
"#;
    let dir = TempDir::new().expect("a temporary directory");
    let library = compile(dir.path(), "library.c", LIBRARY, &["-g", "-shared", "-fPIC"]);
    let program = compile(dir.path(), "target.c", LOADER, &["-g"]);
    fs::rename(library, dir.path().join("target.so")).expect("our own file");
    let mut running = Running::start(&program);
    let mut input = running.child.stdin.take().expect("piped");
    let mut go_on = || io::Write::write_all(&mut input, b"\n").expect("the program reads");
    let mut symbolizer = symbolizer(&[]);
    symbolizer.add_process(SLOT, running.child.id(), running.mappings());
    let generation = symbolizer.generation(SLOT);
    go_on();
    let frames = running.read_until_ready();
    assert_eq!(observe(&mut symbolizer, &frames), Observed { unknown_addresses: true });
    symbolizer.refresh(SLOT, running.mappings());
    assert_eq!(symbolizer.generation(SLOT), generation + 1);
    assert_eq!(observe(&mut symbolizer, &frames), Observed { unknown_addresses: false });
    go_on();
    running.read_until_ready();
    symbolizer.refresh(SLOT, running.mappings());
    assert_eq!(observe(&mut symbolizer, &frames), Observed { unknown_addresses: false });
    let frames = symbolizer.frames(SLOT, STACK).frames;
    assert_eq!(functions(&frames), [Some("enter")]);
    assert_eq!(frames[0].module.as_deref(), Some("target.so"));
    assert_eq!(place(&frames[0]), Some(("library.c", 3)));
}

#[test]
fn memory_that_is_no_file_is_named_for_what_it_is() {
    let dir = TempDir::new().expect("a temporary directory");
    let running = Running::start(&compile(dir.path(), "target.c", C, &[]));
    let mut mappings = running.mappings();
    let vdso = mappings.iter().find(|mapping| mapping.path.as_deref() == Some(Path::new("[vdso]"))).expect("a vDSO");
    let frames = [vdso.start + 0x10, 0x2000, 0x9000];
    mappings.push(ModuleMapping { start: 0x1000, end: 0x3000, file_offset: 0, device: (0, 0), inode: 0, path: None });
    let mut symbolizer = symbolizer(&[]);
    symbolizer.add_process(SLOT, running.child.id(), mappings);
    assert!(observe(&mut symbolizer, &frames).unknown_addresses);
    let frames = symbolizer.frames(SLOT, STACK).frames;
    assert_eq!(functions(&frames), [None; 3]);
    let modules: Vec<_> = frames.iter().map(|frame| frame.module.as_deref()).collect();
    assert_eq!(modules, [Some("[vdso]"), Some("[anonymous]"), None]);
    assert_eq!(frames[2].address, 0x9000);
}

#[test]
fn a_file_that_is_not_elf_spoils_only_its_own_frames() {
    let dir = TempDir::new().expect("a temporary directory");
    let running = Running::start(&compile(dir.path(), "target.c", C, &["-g"]));
    let other = dir.path().join("broken.so");
    fs::write(&other, b"\x7fELF\x02\x01\x01\0 and then nonsense").expect("room for a small file");
    let mut mappings = running.mappings();
    mappings.push(mapping_of(&other, 0x1000, 0x2000));
    let mut symbolizer = symbolizer(&[]);
    symbolizer.add_process(SLOT, running.child.id(), mappings);
    assert!(!observe(&mut symbolizer, &[0x2000, running.frames[0], 0x2001]).unknown_addresses);
    let frames = symbolizer.frames(SLOT, STACK).frames;
    assert_eq!(functions(&frames), [None, Some("outer"), None]);
    let problem = symbolizer.problems().next().expect("a problem");
    assert_eq!((problem.module.as_str(), problem.count), ("broken.so", 3), "{problem:?}");
}

#[test]
fn beyond_the_bound_files_are_read_by_path_and_counted() {
    let dir = TempDir::new().expect("a temporary directory");
    let program = compile(dir.path(), "target.c", C, &["-g"]);
    let mut symbolizer = Symbolizer::new(Options { open_files: 0, ..Options::default() }).expect("our own root");
    let frames = resolve(&mut symbolizer, &mut Running::start(&program));
    assert_eq!(functions(&frames), [Some("outer")]);
    let counts = symbolizer.counts();
    assert_eq!(counts.open_files, 0);
    assert!(counts.files_not_opened >= 2, "{counts:?}");
}

#[test]
fn a_removed_process_gives_everything_back() {
    let dir = TempDir::new().expect("a temporary directory");
    let running = Running::start(&compile(dir.path(), "target.c", C, &[]));
    let mut symbolizer = symbolizer(&[]);
    symbolizer.add_process(SLOT, running.child.id(), running.mappings());
    assert!(!observe(&mut symbolizer, &running.frames).unknown_addresses);
    assert!(symbolizer.contains(SLOT, STACK));
    assert!(symbolizer.counts().open_files >= 2);
    symbolizer.remove_process(SLOT);
    assert_eq!(symbolizer.counts(), Counts::default());
    assert!(symbolizer.frames(SLOT, STACK).truncated.is_some());
    assert!(!observe(&mut symbolizer, &running.frames).unknown_addresses);
    assert_eq!(symbolizer.counts().stacks_not_stored, 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 0, ..ProptestConfig::default() })]

    /// Nothing in a file may end the program or keep it: not its symbols, not its DWARF.
    #[test]
    fn a_damaged_file_ends_in_names_or_none(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..400)) {
        static ORIGINAL: OnceLock<Vec<u8>> = OnceLock::new();
        let original = ORIGINAL.get_or_init(|| {
            let dir = TempDir::new().expect("a temporary directory");
            fs::read(compile(dir.path(), "target.c", C, &["-O2", "-g", "-gz=none"])).expect("the program")
        });
        let mut bytes = original.clone();
        for (at, byte) in damage {
            // The file header stays: without it there is nothing to damage.
            let at = 64 + at.index(bytes.len() - 64);
            bytes[at] = byte;
        }
        let dir = TempDir::new().expect("a temporary directory");
        let path = dir.path().join("damaged");
        fs::write(&path, &bytes).expect("room for a small file");
        let mapping = mapping_of(&path, 0x1_0000, bytes.len() as u64);
        let mut symbolizer = symbolizer(&[]);
        // Of a process that there is none: found by its path.
        symbolizer.add_process(SLOT, u32::MAX, [mapping]);
        for offset in (0x1000..0x1400).step_by(16) {
            let _ = symbolizer.observe(SLOT, StackId(offset), &native(&[0x1_0000 + offset]), StackEnd::Complete);
            prop_assert!(!symbolizer.frames(SLOT, StackId(offset)).frames.is_empty());
        }
    }
}
