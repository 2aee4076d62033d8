//! `--mode growth`: who makes the process larger, with no probe in it.

use anyhow::{Context as _, Result};
use memtrace_tests::{Build, Memtrace, Target, code};

#[test]
fn what_is_touched_adds_up_to_the_growth_and_no_probe_is_in_the_target() -> Result<()> {
    let mut target = Target::start(&Build::c("six_leaks.c"), &[])?;
    let pid = target.pid();
    let mut memtrace = Memtrace::attach(pid, &["--mode", "growth"])?;
    let before = anonymous(pid)?;
    target.tell("go")?;
    memtrace.report_where("growth", |report| {
        report.elapsed_ms > 6000 && report.stacks.first().is_some_and(|stack| stack.verdict == "growing")
    })?;
    assert!(code::changed_libc_bytes(pid)?.is_empty(), "growth mode sets no probe");
    let report = memtrace.interrupt()?.final_report()?;
    let grown = anonymous(pid)?.saturating_sub(before);
    assert!(report.losses().is_empty(), "{:?}", report.loss);
    let sum = |kind: &str| -> u64 {
        report.stacks.iter().filter(|stack| stack.kind == kind).map(|stack| stack.outstanding_bytes).sum()
    };
    // It goes on growing between the two looks; a huge page is one fault.
    let touched = sum("page");
    assert!(grown > 10_000_000 && touched.abs_diff(grown) < grown / 5, "touched {touched}, grown by {grown}");
    // What is mapped besides is what was not touched yet.
    let mapped = sum("map");
    assert!(mapped < grown / 5, "{mapped} mapped and not touched, grown by {grown}");
    let explained = &report.processes.first().context("one process")?.memory["since_attach"]["explained"];
    assert!(explained.as_f64().is_some_and(|share| share > 0.8), "{explained}");
    // The heap's end is moved by whoever asks when it is full: the large leaks, in proportion.
    let first = report.stacks.first().map(|stack| stack.frames.iter().any(|frame| is_leak(frame.function.as_deref())));
    assert_eq!(first, Some(true), "{:?}", report.stacks.first());
    target.tell("exit")
}

fn is_leak(function: Option<&str>) -> bool {
    function.is_some_and(|name| name.starts_with("leak_"))
}

/// Anonymous resident bytes.
fn anonymous(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

#[test]
fn what_is_given_back_is_gone() -> Result<()> {
    // Maps, writes to, and unmaps ranges, and discards others, over and over.
    let mut target = Target::start(&Build::c("page_churn.c"), &[])?;
    let memtrace = Memtrace::attach(target.pid(), &["--mode", "growth"])?;
    target.tell("go")?;
    let kept: u64 = target.hear()?.parse()?;
    let report = memtrace.interrupt()?.final_report()?;
    assert!(report.losses().is_empty(), "{:?}", report.loss);
    let of = |function: &'static str| -> u64 {
        let page = |stack: &&memtrace_tests::Stack| {
            stack.kind == "page" && stack.frames.iter().any(|frame| frame.function.as_deref() == Some(function))
        };
        report.stacks.iter().filter(page).map(|stack| stack.outstanding_bytes).sum()
    };
    assert_eq!((of("unmapped"), of("discarded"), of("kept")), (0, 0, kept));
    target.exit()
}

#[test]
fn flags_about_probes_are_bad_usage() -> Result<()> {
    for flag in [["--sample", "1MiB"], ["--max-overhead", "5%"]] {
        let finished = Memtrace::start(&["--pid", "1", "--mode", "growth", flag[0], flag[1]])?.finish()?;
        assert_eq!((finished.code(), finished.errors.len()), (Some(2), 1), "{:?}", finished.errors);
        assert!(finished.errors[0].contains("--mode growth"), "{:?}", finished.errors);
    }
    Ok(())
}

/// What reserved.c says of itself.
#[derive(Debug, serde::Deserialize)]
struct Ranges {
    mapped: u64,
    reserved: u64,
    untouched: u64,
}

/// Runs reserved.c; its own count, and the last report.
fn reserving(more: &[&str]) -> Result<(Ranges, serde_json::Value)> {
    let mut target = Target::start(&Build::c("reserved.c"), &[])?;
    let memtrace = Memtrace::attach(target.pid(), more)?;
    target.tell("go")?;
    let ranges = target.hear_json()?;
    let finished = memtrace.interrupt()?;
    target.exit()?;
    Ok((ranges, serde_json::from_str(finished.output.last().map_or("", String::as_str))?))
}

/// The stack of a kind that is in a function.
fn stack_in<'a>(report: &'a serde_json::Value, kind: &str, function: &str) -> &'a serde_json::Value {
    let is_in = |stack: &&serde_json::Value| {
        let frames = stack["frames"].as_array().map_or(&[] as &[_], Vec::as_slice);
        stack["kind"] == kind && frames.iter().any(|frame| frame["function"] == function)
    };
    let stacks = report["stacks"].as_array().map_or(&[] as &[_], Vec::as_slice);
    stacks.iter().find(is_in).unwrap_or(&serde_json::Value::Null)
}

#[test]
fn reserved_address_space_is_no_memory_and_a_block_that_nobody_wrote_to_is_marked() -> Result<()> {
    let (ranges, report) = reserving(&[])?;
    let totals = &report["processes"][0]["totals"];
    assert_eq!((&totals["mapped_bytes"], &totals["reserved_bytes"]), (&ranges.mapped.into(), &ranges.reserved.into()));
    let reserver = stack_in(&report, "map", "reserve");
    assert_eq!(reserver["outstanding_bytes"], ranges.mapped, "{reserver}");
    assert_eq!(reserver["resident_bytes"], ranges.mapped, "{reserver}");
    let untouched = stack_in(&report, "heap", "untouched");
    assert_eq!(untouched["outstanding_bytes"], ranges.untouched, "{untouched}");
    assert!(untouched["resident_bytes"].as_u64().is_some_and(|bytes| bytes < 64 << 10), "{untouched}");
    Ok(())
}

#[test]
fn a_page_counts_once_when_it_is_touched() -> Result<()> {
    let (ranges, report) = reserving(&["--mode", "growth"])?;
    let totals = &report["processes"][0]["totals"];
    assert_eq!(totals["reserved_bytes"], ranges.reserved);
    assert_eq!(stack_in(&report, "page", "commit")["outstanding_bytes"], ranges.mapped);
    // All that is accessible was touched, but for the block that malloc mapped and the new end of the heap.
    let mapped = totals["mapped_bytes"].as_u64().unwrap_or_default();
    assert!(mapped.abs_diff(ranges.untouched) < 256 << 10, "{totals}");
    assert!(totals["touched_bytes"].as_u64().is_some_and(|bytes| bytes >= ranges.mapped), "{totals}");
    Ok(())
}
