//! The target survives whatever its stacks are, and the first line says what the figures say.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use memtrace_tests::{Build, Memtrace, Target};
use serde::Deserialize;
use serde_json::Value;

/// What other_stacks says of itself.
#[derive(Debug, Deserialize)]
struct Count {
    allocations: u64,
    frees: u64,
    signals: u64,
    taken: u64,
}

/// Traces other_stacks; its own count, and the report.
fn on_other_stacks(how: &str, more: &[&str]) -> Result<(Count, memtrace_tests::Report)> {
    let mut target = Target::start(&Build::c("other_stacks.c"), &[how])?;
    let memtrace = Memtrace::attach(target.pid(), more)?;
    target.tell("go")?;
    let count: Count = target.hear_json().context("the target did not survive")?;
    let report = memtrace.interrupt()?.final_report()?;
    target.exit()?;
    Ok((count, report))
}

#[test]
fn a_handler_on_an_alternate_stack_may_map_memory_while_its_thread_allocates() -> Result<()> {
    for how in ["above", "below"] {
        let (count, report) = on_other_stacks(how, &[])?;
        assert!(count.signals > 100, "{how}: {count:?}");
        let totals = report.processes.first().context("one process")?.totals;
        // What starting the thread allocates and frees comes besides; what is missing is counted.
        let lost = report.lost("calls_abandoned") + report.lost("calls_on_other_stacks");
        let missing = count.allocations.abs_diff(totals.allocations).max(count.frees.abs_diff(totals.frees));
        assert!(missing <= 4 + lost, "{how}: {count:?} {totals:?} {:?}", report.loss);
        assert!(missing * 1000 <= count.allocations, "{how}: {count:?} {totals:?} {:?}", report.loss);
    }
    Ok(())
}

#[test]
fn a_function_of_the_users_may_switch_to_another_coroutine() -> Result<()> {
    let flags = ["--alloc", "exe:pool_take(size=arg0)", "--free", "exe:pool_give(ptr=arg0)"];
    for how in ["up", "down"] {
        let (count, report) = on_other_stacks(how, &flags)?;
        let taken: u64 = report.stacks_of("take_and_give").map(|stack| stack.allocations).sum();
        assert_eq!(taken, count.taken, "{how}: {count:?} {:?}", report.loss);
    }
    Ok(())
}

#[test]
fn a_leak_over_many_paths_is_one_group_and_fails_the_gate() -> Result<()> {
    let mut target = Target::start(&Build::c("many_paths.c").flag("-fno-optimize-sibling-calls"), &["10"])?;
    let memtrace = Memtrace::attach(target.pid(), &["--duration", "9s", "--fail-on-leak"])?;
    target.tell("go")?;
    let finished = memtrace.finish()?;
    assert_eq!(finished.code(), Some(3), "{:?}", finished.errors);
    let report: Value = serde_json::from_str(finished.output.last().context("a report")?)?;
    let group = &report["groups"][0];
    assert_eq!(group["by"], "function", "{group}");
    assert_eq!(group["name"], "node_new");
    assert_eq!(group["verdict"], "growing");
    assert!(group["stack_count"].as_u64() > Some(100), "{}", group["stack_count"]);
    let rate = group["growth_bytes_per_hour"].as_f64().context("a rate")?;
    let process = report["processes"][0]["totals"]["outstanding_bytes"].as_f64().context("bytes")?;
    let elapsed = report["elapsed_ms"].as_f64().context("a time")?;
    let true_rate = process / elapsed * 3_600_000.0;
    assert!((rate / true_rate - 1.0).abs() < 0.2, "{rate} for {true_rate}");
    assert_eq!(report["headline"]["state"], "growing");
    let headline = report["headline"]["text"].as_str().unwrap_or_default();
    assert!(headline.contains("node_new") && headline.starts_with("A group of "), "{headline}");
    let paths: HashSet<&str> =
        group["paths"].as_array().into_iter().flatten().filter_map(|path| path["function"].as_str()).collect();
    assert!(paths.contains("left") && paths.contains("right"), "{paths:?}");
    target.signal(rustix::process::Signal::KILL)
}

#[test]
fn a_leak_that_was_called_one_stays_one_while_nothing_is_freed() -> Result<()> {
    let mut target = Target::start(&Build::c("steady_leaks.c"), &[])?;
    let memtrace = Memtrace::attach(target.pid(), &["--duration", "12s", "--fail-on-leak"])?;
    target.tell("go")?;
    let finished = memtrace.finish()?;
    assert_eq!(finished.code(), Some(3), "{:?}", finished.errors);
    let reports = finished.reports()?;
    for leak in ["constant", "slowing", "uneven", "swinging", "quickening"] {
        let verdicts: Vec<bool> = reports.iter().map(|report| report.grows(leak)).collect();
        let first = verdicts.iter().position(|&grows| grows).context("it is found")?;
        assert!(first <= 7 && verdicts[first..].iter().all(|&grows| grows), "{leak}: {verdicts:?}");
    }
    target.signal(rustix::process::Signal::KILL)
}

#[test]
fn an_allocator_whose_allocations_cannot_be_seen_is_no_clean_bill_of_health() -> Result<()> {
    let mut target = Target::start(&Build::c("inlined_allocator.c"), &[])?;
    let memtrace = Memtrace::attach(target.pid(), &["--duration", "8s", "--fail-on-leak"])?;
    target.tell("go")?;
    let finished = memtrace.finish()?;
    assert_eq!(finished.code(), Some(4), "{:?}", finished.errors);
    let report: Value = serde_json::from_str(finished.output.last().context("a report")?)?;
    assert_eq!(report["headline"]["state"], "blind", "{}", report["headline"]);
    assert_eq!(report["processes"][0]["allocates_unseen"], true);
    target.signal(rustix::process::Signal::KILL)
}
