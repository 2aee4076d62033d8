//! Looking at a part: windows since a mark, stacks by name, and blocks by age.

use std::process::Command;

use anyhow::{Context, Result};
use memtrace_tests::{Build, Finished, Memtrace, Target, memtrace};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;

/// What a fixture that rests says of itself.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Leaked {
    early: u64,
    late: u64,
}

fn two_leaks() -> Result<Target> {
    let mut target = Target::start(&Build::c("two_leaks.c"), &[])?;
    target.tell("go")?;
    Ok(target)
}

fn rest(target: &mut Target) -> Result<Leaked> {
    target.tell("rest")?;
    target.hear_json()
}

fn attach(target: &Target, more: &[&str]) -> Result<Memtrace> {
    let pid = target.pid().to_string();
    let mut arguments =
        vec!["--pid", &pid, "--format", "json", "--interval", "500ms", "--top", "100000", "--fail-on-leak"];
    arguments.extend(more);
    let mut memtrace = Memtrace::start(&arguments)?;
    memtrace.attached()?;
    Ok(memtrace)
}

fn mark(pid: u32) -> Result<(Option<i32>, String)> {
    let output = Command::new(memtrace::program()?).args(["mark", &pid.to_string()]).output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// The last report with the fields that the harness does not know.
fn last(finished: &Finished) -> Result<Value> {
    Ok(serde_json::from_str(finished.output.last().with_context(|| format!("no report: {finished:?}"))?)?)
}

fn stack<'a>(report: &'a Value, function: &str) -> Result<&'a Value> {
    let stacks = report["stacks"].as_array().context("stacks")?;
    let found = stacks.iter().find(|stack| stack["frames"][0]["function"] == function);
    found.with_context(|| format!("{function} in {stacks:#?}"))
}

#[test]
fn a_leak_before_the_mark_only_does_not_grow_after_it() -> Result<()> {
    let mut target = two_leaks()?;
    let mut memtrace = attach(&target, &[])?;
    target.tell("early")?;
    memtrace.report_where("a growing leak", |report| report.grows("leak_early"))?;
    let leaked = rest(&mut target)?;
    assert_eq!(mark(memtrace.pid())?.0, Some(0));
    memtrace.report_where("the leak at rest", |report| {
        report.stacks_of("leak_early").any(|stack| stack.verdict == "plateau" && stack.series[0].0 > 0)
    })?;
    let finished = memtrace.interrupt()?;
    assert_eq!(finished.code(), Some(0), "not growing in this window: {:?}", finished.errors);
    assert!(finished.errors.iter().any(|line| line.contains("new measuring window")), "{:?}", finished.errors);
    let report = last(&finished)?;
    let early = stack(&report, "leak_early")?;
    assert_eq!(early["outstanding_blocks"], leaked.early);
    assert_eq!(
        (&early["since_mark"]["outstanding_blocks"], &early["since_mark"]["outstanding_bytes"]),
        (&0.into(), &0.into())
    );
    let marked = report["marks"][0]["elapsed_ms"].as_u64().context("when the mark was")?;
    assert_eq!(early["series"][0][0], marked);
    assert_eq!(early["since_mark"]["window_ms"].as_u64(), report["elapsed_ms"].as_u64().map(|now| now - marked));
    target.exit()
}

#[test]
fn a_leak_after_the_mark_only_grows_and_all_of_it_is_since_the_mark() -> Result<()> {
    let mut target = two_leaks()?;
    let mut memtrace = attach(&target, &[])?;
    target.tell("early")?;
    memtrace
        .report_where("a leak", |report| report.stacks_of("leak_early").any(|stack| stack.outstanding_blocks > 100))?;
    let before = rest(&mut target)?;
    // By the signal this time, and twice: the last mark counts, and none of them ends the run.
    for marks in 1..=2 {
        memtrace.signal(Signal::USR1)?;
        memtrace.errors_where("the mark", |lines| {
            lines.iter().filter(|line| line.contains("new measuring window")).count() == marks
        })?;
    }
    target.tell("late")?;
    memtrace.report_where("the late leak", |report| report.grows("leak_late"))?;
    let leaked = rest(&mut target)?;
    let finished = memtrace.interrupt()?;
    let report = last(&finished)?;
    assert_eq!(report["marks"].as_array().map(Vec::len), Some(2));
    let (early, late) = (stack(&report, "leak_early")?, stack(&report, "leak_late")?);
    assert_eq!(
        (&early["outstanding_blocks"], &early["since_mark"]["outstanding_blocks"]),
        (&before.early.into(), &0.into())
    );
    assert_eq!(late["since_mark"]["outstanding_blocks"], leaked.late);
    assert_eq!(late["since_mark"]["outstanding_bytes"], leaked.late * 128);
    assert_ne!(early["verdict"], "growing");
    target.exit()
}

#[test]
fn mark_refuses_what_is_no_memtrace_and_leaves_it_alone() -> Result<()> {
    let mut target = two_leaks()?;
    let (status, said) = mark(target.pid())?;
    assert_eq!(status, Some(1));
    assert!(said.contains("is no memtrace") && said.lines().count() == 1, "{said}");
    assert!(target.runs()?, "the signal would have ended it");
    // No process has the largest id that there can be.
    assert_eq!(mark(i32::MAX as u32)?.0, Some(1));
    target.exit()
}

#[test]
fn exclude_and_include_hide_stacks_from_report_and_gate_but_not_from_the_totals() -> Result<()> {
    for (flags, leak_shown) in [
        (["--exclude", "function:^leak_early$"], false),
        (["--include", "leak_late"], false),
        (["--include", "stack:leak_early;main"], true),
    ] {
        let mut target = two_leaks()?;
        let mut memtrace = attach(&target, &flags)?;
        target.tell("early")?;
        let held = |report: &memtrace_tests::Report| report.processes[0].totals.outstanding_blocks;
        memtrace.report_where("a leak that grows, or would", |report| {
            if leak_shown { report.grows("leak_early") } else { report.elapsed_ms > 6000 && held(report) > 1000 }
        })?;
        let finished = memtrace.interrupt()?;
        assert_eq!(finished.code() == Some(3), leak_shown, "{flags:?}: {:?}", finished.errors);
        let report = last(&finished)?;
        assert_eq!(stack(&report, "leak_early").is_ok(), leak_shown, "{flags:?}");
        // Nothing else allocates.
        let totals = &report["processes"][0]["totals"];
        let hidden = if leak_shown { &Value::from(0) } else { &totals["outstanding_bytes"] };
        assert_eq!(report["focus"]["hidden_bytes"], *hidden, "{flags:?}");
        assert!(totals["outstanding_blocks"].as_u64() > Some(100), "{totals}");
        target.exit()?;
    }
    Ok(())
}

#[test]
fn blocks_younger_than_older_do_not_count_in_what_a_stack_holds() -> Result<()> {
    let mut target = two_leaks()?;
    let (mut old, mut all) = (attach(&target, &["--older", "1h"])?, attach(&target, &["--older", "1s"])?);
    target.tell("early")?;
    let held = |report: &memtrace_tests::Report| report.processes[0].totals.outstanding_blocks;
    old.report_where("a leak", |report| report.elapsed_ms > 6000 && held(report) > 1000)?;
    let leaked = rest(&mut target)?;
    all.report_where("all blocks are old enough", |report| {
        report.stacks_of("leak_early").any(|stack| stack.outstanding_blocks == leaked.early)
    })?;
    all.interrupt()?.final_report()?;
    let finished = old.interrupt()?;
    assert_eq!(finished.code(), Some(0), "what holds nothing old is no leak: {:?}", finished.errors);
    let report = last(&finished)?;
    let early = stack(&report, "leak_early")?;
    assert_eq!((&early["outstanding_blocks"], &early["outstanding_bytes"]), (&0.into(), &0.into()));
    assert_eq!(early["allocations"], leaked.early);
    assert_eq!(report["focus"]["older_than_ms"], 3_600_000);
    assert_eq!(report["processes"][0]["totals"]["outstanding_blocks"], leaked.early);
    target.exit()
}
