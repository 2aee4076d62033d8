//! Unwind tables of many objects: all of them at once, and those that are used when not all fit.
//!
//! The times are printed (`cargo test -- --nocapture`); none is asserted.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail, ensure};
use memtrace_tests::{Build, Memtrace, Report, Stack, Target, memtrace};

/// Objects with unwind tables that the host maps at least.
const OBJECTS: usize = 110;

/// Where Debian puts libraries.
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";

/// Larger files may have more rows than the smallest budget of these tests.
const MAX_LIBRARY_BYTES: u64 = 4 << 20;

/// Libraries that change their process when they are loaded: allocators, sanitizers, profilers.
const UNSAFE: &[&str] = &["alloc", "san", "profiler", "memusage", "pcprofile", "SegFault", "efence", "hwasan"];

/// The distribution's libraries, each once, in the order of their names.
fn libraries() -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(LIBRARIES).with_context(|| format!("listing {LIBRARIES}"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with("lib") || !name.contains(".so") || UNSAFE.iter().any(|part| name.contains(part)) {
            continue;
        }
        // A link whose file is gone is none.
        let Ok(file) = path.canonicalize() else { continue };
        if fs::metadata(&file)?.len() <= MAX_LIBRARY_BYTES {
            files.insert(file);
        }
    }
    Ok(files)
}

/// The host with [`OBJECTS`] objects mapped, zlib among them; and how many they are.
fn host() -> Result<(Target, usize)> {
    let mut host = Target::start(&Build::c("many_objects.c").without_frame_pointers(), &[])?;
    host.tell("go")?;
    host.tell("load libz.so.1")?;
    ensure!(host.hear()? == "loaded", "zlib is not there");
    for library in libraries()? {
        host.tell(&format!("load {}", library.display()))?;
        host.hear().with_context(|| format!("loading {}", library.display()))?;
        host.tell("objects")?;
        let count: usize = host.hear()?.parse()?;
        if count >= OBJECTS {
            return Ok((host, count));
        }
    }
    bail!("fewer than {OBJECTS} libraries in {LIBRARIES} can be loaded");
}

/// The whole stack that kept a block of this size.
fn whole(report: &Report, bytes: u64) -> Option<&Stack> {
    let mut holding = report.stacks.iter().filter(|stack| stack.truncated.is_none() && stack.outstanding_blocks > 0);
    holding.find(|stack| stack.outstanding_bytes == bytes * stack.outstanding_blocks)
}

fn assert_whole(report: &Report, bytes: u64, mentions: &[&str]) -> Result<()> {
    let stack = whole(report, bytes).with_context(|| format!("a whole stack of {bytes} bytes in {report:#?}"))?;
    for function in mentions {
        assert!(stack.mentions(function), "{function} in {stack:#?}");
    }
    Ok(())
}

/// The number before a word of doctor's line on unwind tables.
fn number_before(text: &str, words: &str) -> Result<usize> {
    let before = text.split(words).next().and_then(|before| before.split_whitespace().last());
    let number = before.with_context(|| format!("a number before {words:?} in {text}"))?;
    Ok(number.replace(',', "").parse()?)
}

#[test]
fn the_tables_of_a_hundred_objects_are_made_and_loaded() -> Result<()> {
    let (mut host, objects) = host()?;
    let pid = host.pid().to_string();
    let doctor = Command::new(memtrace::program()?).args(["doctor", "--pid", &pid]).output()?;
    let said = String::from_utf8(doctor.stdout)?;
    let line = said.lines().find(|line| line.contains("unwind tables: ")).with_context(|| said.clone())?;
    println!("{objects} objects:{line}");
    let rows = number_before(line, " rows for")?;
    assert!(number_before(line, " stretches")? >= OBJECTS, "{line}");

    let mut memtrace = Memtrace::attach(host.pid(), &[])?;
    println!("attached after {:.2?}", memtrace.attached()?);
    for command in ["once 1000003", "through 1000005"] {
        host.tell(command)?;
        assert_eq!(host.hear()?, "done");
    }
    let report = memtrace.interrupt()?.final_report()?;
    let tracer = &report.tracer;
    assert_eq!((tracer.unwind_rows, tracer.unwind_left_out, tracer.unwind_evicted), (rows as u64, 0, 0));
    assert_whole(&report, 1_000_003, &["keep_block", "main", "_start"])?;
    assert_whole(&report, 1_000_005, &["keep_block", "called_back", "deflateInit", "through_zlib", "main", "_start"])?;
    assert_eq!(tracer.stacks_short.values().sum::<u64>(), 0, "{tracer:?}");
    assert_eq!(tracer.stacks_complete, report.stacks.iter().map(|stack| stack.allocations).sum::<u64>());
    host.exit()
}

#[test]
fn in_a_small_budget_the_tables_that_are_used_get_room() -> Result<()> {
    let (mut host, _) = host()?;
    let pid = host.pid().to_string();
    let arguments = ["--pid", &pid, "--format", "json", "--interval", "300ms", "--top", "1000"];
    let mut memtrace = Memtrace::start(&[&arguments[..], &["--unwind-memory", "256KiB"]].concat())?;
    memtrace.attached()?;
    // The C library, which every stack ends in, comes behind the others in the address space and does not fit at first.
    // Each interval's stacks say what is missing, until they are whole.
    let mut reports = 0;
    let report = loop {
        for command in ["once 1000003", "through 1000005"] {
            host.tell(command)?;
            assert_eq!(host.hear()?, "done");
        }
        let report = memtrace.next_report()?;
        if whole(&report, 1_000_003).is_some() && whole(&report, 1_000_005).is_some() {
            break report;
        }
        reports += 1;
        ensure!(reports < 60, "the stacks did not become whole: {report:#?}");
    };
    assert_whole(&report, 1_000_003, &["keep_block", "main", "_start"])?;
    assert_whole(&report, 1_000_005, &["called_back", "deflateInit", "through_zlib", "main", "_start"])?;
    let tracer = &report.tracer;
    assert!(tracer.unwind_bytes <= 256 << 10 && tracer.unwind_rows * 8 <= tracer.unwind_bytes, "{tracer:?}");
    assert!(tracer.unwind_evicted > 0 && tracer.unwind_left_out > 0, "{tracer:?}");
    let cut: u64 = report.stacks.iter().filter(|stack| stack.truncated.is_some()).map(|stack| stack.allocations).sum();
    assert!(cut > 0, "the first stacks were cut: {report:#?}");
    assert_eq!(tracer.stacks_short.values().sum::<u64>(), cut, "{tracer:?}");
    memtrace.interrupt()?.final_report()?;
    host.exit()
}
