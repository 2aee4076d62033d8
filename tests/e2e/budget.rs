//! `--max-overhead`: what is given up is said, what is seen is right, and the leak is found.

use anyhow::Result;
use memtrace_tests::{Build, Memtrace, Target, code};

#[test]
fn a_target_that_allocates_little_is_traced_wholly() -> Result<()> {
    // Some 200 allocations a second.
    let mut target = Target::start(&Build::c("leaky_service.c"), &["2000", "100000", "50"])?;
    let mut memtrace = Memtrace::attach(target.pid(), &["--max-overhead", "50%"])?;
    target.tell("go")?;
    memtrace.report_where("three seconds", |report| report.elapsed_ms > 3000)?;
    target.tell("count")?;
    let count: serde_json::Value = target.hear_json()?;
    let report = memtrace.interrupt()?.final_report()?;
    assert!(report.losses().is_empty(), "{:?}", report.loss);
    let leaked = report.stacks_of("leak_here").map(|stack| stack.outstanding_blocks).sum::<u64>();
    // It goes on while it answers.
    let said = count["leaked_blocks"].as_u64().unwrap_or(0);
    assert!(said > 20 && leaked.abs_diff(said) <= 5, "{leaked} of {count}");
    let budget = report.budget.clone();
    assert_eq!((budget["recorded_share"].as_f64(), budget["releases_seen_share"].as_f64()), (Some(1.0), Some(1.0)));
    target.exit()
}

#[test]
fn a_target_that_does_little_else_is_looked_at_now_and_then_and_its_leak_comes_first() -> Result<()> {
    let mut target = Target::start(&Build::c("leaky_service.c"), &["2000", "0", "1000"])?;
    let pid = target.pid();
    let mut memtrace = Memtrace::attach(pid, &["--max-overhead", "5%"])?;
    target.tell("go")?;
    let report = memtrace.report_where("a leak, and time without probes", |report| {
        let first = report.stacks.first().is_some_and(|stack| stack.verdict == "growing");
        first && report.budget["releases_seen_share"].as_f64().is_some_and(|share| share < 0.5)
    })?;
    assert_eq!(report.stacks[0].caller(), "leak_here", "{:?}", report.stacks[0]);
    let finished = memtrace.interrupt()?;
    let said = finished.errors.join("\n");
    assert!(said.contains("--max-overhead: recording releases alone would cost more"), "{said}");
    assert!(code::changed_libc_bytes(pid)?.is_empty(), "a probe was left");
    target.exit()
}

#[test]
fn a_budget_that_makes_no_sense_is_bad_usage() -> Result<()> {
    for budget in ["0", "0%", "101%", "some%"] {
        let finished = Memtrace::start(&["--pid", "1", "--max-overhead", budget])?.finish()?;
        assert_eq!((finished.code(), finished.errors.len()), (Some(2), 1), "{:?}", finished.errors);
        assert!(finished.errors[0].contains("--max-overhead"), "{:?}", finished.errors);
    }
    Ok(())
}
