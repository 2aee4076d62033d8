//! `--mode growth`: who makes the process larger, with no probe in it.

use anyhow::Result;
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
    let extended = sum("map");
    assert!(extended.abs_diff(grown) < grown / 5, "extended by {extended}, grown by {grown}");
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
