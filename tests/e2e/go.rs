//! Go's heap and goroutines: what memtrace reads from outside is what Go itself says.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{Memtrace, Report, Stack, Target, fixture, go};
use serde::Deserialize;

/// What the fixture says of itself.
#[derive(Debug, Deserialize)]
struct Counted {
    goroutines: u64,
    objects: u64,
    bytes: u64,
    /// Bytes of the heap's objects, after collections.
    heap: u64,
}

/// How far the whole heap may be from what Go says: what it allocates to say it, and what is given to its processors in whole spans.
const OF_A_HEAP: u64 = 512 << 10;

/// The fixture, built with these flags, with or without C.
fn build(name: &str, flags: &[&str], cgo: bool) -> Result<PathBuf> {
    go::build("go_service", name, flags, cgo)
}

/// Attaches and reports at this interval.
fn attach(target: &Target, interval: &str) -> Result<Memtrace> {
    let pid = target.pid().to_string();
    let arguments = ["--pid", &pid, "--interval", interval, "--format", "json", "--top", "100"];
    let mut memtrace = Memtrace::start(&arguments)?;
    memtrace.attached()?;
    Ok(memtrace)
}

fn order(target: &mut Target, line: &str) -> Result<()> {
    target.tell(line)?;
    target.hear()?;
    Ok(())
}

fn count(target: &mut Target) -> Result<Counted> {
    target.tell("count")?;
    target.hear_json()
}

/// The stacks of a kind, each of which holds something.
fn stacks<'a>(report: &'a Report, kind: &'a str) -> impl Iterator<Item = &'a Stack> {
    report.stacks.iter().filter(move |stack| stack.kind == kind && stack.outstanding_blocks > 0)
}

fn sum(report: &Report, kind: &str, function: &str) -> (u64, u64) {
    let of = stacks(report, kind).filter(|stack| stack.mentions(function));
    of.fold((0, 0), |sum, stack| (sum.0 + stack.outstanding_blocks, sum.1 + stack.outstanding_bytes))
}

/// Attaches to a program that was built so, and compares what is reported with what it says.
fn agrees(program: &Path) -> Result<()> {
    let mut target = Target::start_file(program, &[])?;
    // Before the attach as well.
    order(&mut target, "keep 40 65536")?;
    order(&mut target, "start 30")?;
    let mut memtrace = attach(&target, "200ms")?;
    for (objects, goroutines) in [(100, 50), (400, 1000)] {
        order(&mut target, &format!("keep {objects} 65536"))?;
        order(&mut target, &format!("start {goroutines}"))?;
        let said = count(&mut target)?;
        let agree = |report: &Report| {
            let (objects, bytes) = sum(report, "managed", "main.keep");
            let (goroutines, _) = sum(report, "goroutine", "main.start");
            let heap = report.heaps.iter().find(|heap| heap.name == "Go heap");
            // Each place is rounded by itself.
            heap.is_some_and(|heap| heap.bytes.abs_diff(said.heap) <= OF_A_HEAP)
                && objects.abs_diff(said.objects) <= 4
                && bytes.abs_diff(said.bytes) <= 4096
                && goroutines + 1 == said.goroutines
        };
        memtrace.report_where(&format!("{said:?}"), agree)?;
    }
    order(&mut target, "stop")?;
    order(&mut target, "drop")?;
    let said = count(&mut target)?;
    ensure!(said.objects == 0, "{said:?}");
    memtrace.report_where("nothing is held", |report| {
        sum(report, "managed", "main.keep").0 == 0 && sum(report, "goroutine", "main.start").0 == 0
    })?;
    memtrace.interrupt()?;
    target.exit()
}

#[test]
fn counts_are_those_of_go_itself() -> Result<()> {
    agrees(&build("go_service", &[], true)?)
}

#[test]
fn a_static_program_is_a_target() -> Result<()> {
    agrees(&build("go_service_static", &[], false)?)
}

#[test]
fn a_stripped_program_is_read_by_its_code() -> Result<()> {
    agrees(&build("go_service_stripped", &["-ldflags", "-s -w"], false)?)
}

#[test]
fn a_program_that_lies_anywhere_is_read() -> Result<()> {
    agrees(&build("go_service_pie", &["-buildmode=pie"], true)?)
}

#[test]
fn the_place_that_keeps_is_named_with_its_line() -> Result<()> {
    let program = build("go_service_named", &["-ldflags", "-s -w"], false)?;
    let mut target = Target::start_file(&program, &[])?;
    let mut memtrace = attach(&target, "200ms")?;
    order(&mut target, "keep 100 65536")?;
    order(&mut target, "start 5")?;
    count(&mut target)?;
    let source = fs::read_to_string(fixture::sources().join("go_service/main.go"))?;
    let line = |text: &str| -> Result<u32> {
        let at =
            source.lines().position(|line| line.contains(text)).with_context(|| format!("{text} in the fixture"))?;
        Ok(u32::try_from(at)? + 1)
    };
    let (kept, started) = (line("make([]byte, bytes)")?, line("go wait(release)")?);
    let is_at = |stack: &Stack, function: &str, line: u32| {
        stack.frames.iter().any(|frame| {
            (frame.function.as_deref(), frame.line, frame.language.as_str()) == (Some(function), Some(line), "go")
        })
    };
    let report = memtrace.report_where("both places", |report| {
        stacks(report, "managed").any(|stack| is_at(stack, "main.keep", kept))
            && stacks(report, "goroutine").any(|stack| is_at(stack, "main.start", started))
    })?;
    let waiting = stacks(&report, "goroutine").find(|stack| stack.mentions("main.start")).context("they wait")?;
    ensure!(waiting.evidence.contains("all wait: chan receive"), "{}", waiting.evidence);
    memtrace.interrupt()?;
    target.exit()
}

#[test]
fn goroutines_that_pile_up_are_a_leak_and_those_that_end_are_none() -> Result<()> {
    let program = build("go_service_leak", &[], false)?;
    for leaks in [true, false] {
        let mut target = Target::start_file(&program, &[])?;
        let mut memtrace = attach(&target, "300ms")?;
        let mut verdict = String::new();
        for _ in 0..12 {
            order(&mut target, "start 200")?;
            if !leaks {
                order(&mut target, "stop")?;
            }
            let report = memtrace.next_report()?;
            let found = report.stacks.iter().find(|stack| stack.kind == "goroutine" && stack.mentions("main.start"));
            verdict = found.map(|stack| stack.verdict.clone()).unwrap_or_default();
        }
        ensure!((verdict == "growing") == leaks, "{verdict}");
        memtrace.interrupt()?;
        target.exit()?;
    }
    Ok(())
}

#[test]
fn a_program_without_a_profile_is_watched_by_who_touches_its_memory() -> Result<()> {
    let program = build("go_service_unprofiled", &["-tags", "unprofiled"], false)?;
    let mut target = Target::start_file(&program, &[])?;
    let mut memtrace = attach(&target, "200ms")?;
    memtrace.errors_where("why", |lines| lines.iter().any(|line| line.contains("keeps no sample of its heap")))?;
    order(&mut target, "keep 400 65536")?;
    order(&mut target, "start 7")?;
    memtrace.report_where("pages by who touched them", |report| {
        let touched = report.stacks.iter().filter(|stack| stack.kind == "page" && stack.mentions("main.keep"));
        let touched: u64 = touched.map(|stack| stack.outstanding_bytes).sum();
        // All but what lay in pages that had been touched before.
        touched > 20 << 20 && sum(report, "goroutine", "main.start").0 == 7
    })?;
    memtrace.interrupt()?;
    target.exit()
}
