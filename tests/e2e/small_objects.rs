//! Small objects of Python, of which no probe sees each: which line keeps them, and how much.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{Memtrace, Report, Target, python::interpreters};

/// How many are kept of each, and the bytes of a block of them: a multiple of 16, of the object and what the collector notes of it.
const KEPT: [(&str, u64, u64); 3] = [("floats", 60_000, 32), ("strings", 12_000, 192), ("points", 20_000, 64)];

/// What a line that allocates may have in pools besides what it keeps, in bytes: one pool's worth before and one behind.
const OFF: u64 = 2 * 16_384;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/python_small.py")
}

/// The line of the fixture that ends in this comment.
fn line_of(name: &str) -> Result<u32> {
    let source = fs::read_to_string(fixture())?;
    let found = source.lines().position(|line| line.ends_with(&format!("# {name}")));
    Ok(found.with_context(|| format!("a line for {name}"))? as u32 + 1)
}

fn start(python: &Path) -> Result<(Target, Memtrace)> {
    let mut target = Target::spawn(Command::new(python).arg(fixture()))?;
    ensure!(target.hear()?.starts_with("ready "), "{python:?}");
    let pid = target.pid().to_string();
    let mut memtrace = Memtrace::start(&["--pid", &pid, "--interval", "300ms", "--format", "json"])?;
    memtrace.attached()?;
    Ok((target, memtrace))
}

fn order(target: &mut Target, line: &str) -> Result<()> {
    target.tell(line)?;
    target.hear()?;
    Ok(())
}

/// Bytes and objects that stacks hold in small objects, by the line of the fixture that allocates.
fn by_line(report: &Report) -> BTreeMap<u32, (u64, u64)> {
    let mut lines = BTreeMap::new();
    for stack in report.stacks.iter().filter(|stack| stack.kind == "small") {
        let own = stack.frames.iter().find_map(|frame| {
            let file = frame.file.as_deref()?;
            (file.ends_with("python_small.py") && frame.language == "python").then_some(frame.line?)
        });
        if let Some(line) = own {
            let (bytes, objects) = lines.entry(line).or_insert((0, 0));
            *bytes += stack.outstanding_bytes;
            *objects += stack.outstanding_blocks;
        }
    }
    lines
}

#[test]
fn what_each_line_keeps_is_what_it_allocated() -> Result<()> {
    for (python, _) in interpreters()?.into_iter().filter(|(_, version)| *version >= 309) {
        let (mut target, mut memtrace) = start(&python)?;
        for (name, count, _) in KEPT {
            order(&mut target, &format!("keep {name} {count}"))?;
        }
        let lines: Vec<(u32, u64, u64)> =
            KEPT.iter().map(|&(name, count, bytes)| Ok((line_of(name)?, count, bytes))).collect::<Result<_>>()?;
        let holds = |report: &Report| {
            let held = by_line(report);
            lines.iter().all(|&(line, count, bytes)| {
                let (held, objects) = held.get(&line).copied().unwrap_or_default();
                held.abs_diff(count * bytes) <= OFF && objects.abs_diff(count) <= OFF / bytes
            })
        };
        let report = memtrace.report_where("what each line keeps", holds).with_context(|| format!("{python:?}"))?;
        let arenas = report.stacks.iter().filter(|stack| stack.kind == "map" && stack.outstanding_bytes >= 1 << 20);
        ensure!(arenas.count() == 0, "{python:?}: what objects lie in is no stack besides");
        for (name, ..) in KEPT {
            order(&mut target, &format!("drop {name}"))?;
        }
        let is_empty =
            |report: &Report| lines.iter().all(|(line, ..)| by_line(report).get(line).is_none_or(|held| held.0 <= OFF));
        memtrace.report_where("that all is given back", is_empty).with_context(|| format!("{python:?}"))?;
        memtrace.interrupt()?;
        ensure!(target.runs()?, "{python:?}");
    }
    Ok(())
}

#[test]
fn whoever_gives_its_objects_back_is_not_blamed_for_those_that_stay_in_their_gaps() -> Result<()> {
    for (python, _) in interpreters()?.into_iter().filter(|(_, version)| *version >= 309) {
        let (mut target, mut memtrace) = start(&python)?;
        let (passing, mut bytes) = (line_of("passing")?, 0);
        let (mut found, mut told) = (None, false);
        for _ in 0..30 {
            order(&mut target, "pass 20000")?;
            memtrace.next_report()?;
            // What stays lies in the gaps.
            order(&mut target, "keep floats 19000")?;
            bytes += 20_000 * 32;
            let report = memtrace.next_report()?;
            told = report
                .heaps
                .iter()
                .any(|heap| heap.name == "heap of Python's small objects" && heap.verdict == "growing");
            found = Some(report);
            if told {
                break;
            }
        }
        let report = found.context("reports")?;
        ensure!(told, "{python:?}: {:?}", report.heaps);
        let held = by_line(&report).get(&passing).copied().unwrap_or_default();
        ensure!(held.0 < bytes / 10, "{python:?}: {held:?} of {bytes} bytes by the line whose objects are all gone");
        let is_blamed = |stack: &&memtrace_tests::Stack| {
            stack.verdict == "growing" && stack.frames.iter().any(|frame| frame.line == Some(passing))
        };
        ensure!(!report.stacks.iter().any(|stack| is_blamed(&stack)), "{python:?}: {:?}", report.stacks);
        memtrace.interrupt()?;
    }
    Ok(())
}
