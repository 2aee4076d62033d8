//! With the drain stopped for five seconds under a churning target, nothing becomes a leak and the books are right in the end.

use std::{thread::sleep, time::Duration};

use anyhow::Result;
use memtrace_tests::{Build, Memtrace, Target, report::Totals};
use rustix::process::Signal;

const STALL: Duration = Duration::from_secs(5);

#[test]
fn a_stalled_drain_invents_no_leak_and_catches_up_exactly() -> Result<()> {
    let mut churn = Target::start(&Build::c("churn.c"), &["2", "1000", "1000"])?;
    let pid = churn.pid();
    let mut memtrace = Memtrace::attach(pid, &[])?;
    churn.tell("go")?;
    for _ in 0..3 {
        memtrace.next_report()?;
    }
    memtrace.signal(Signal::STOP)?;
    sleep(STALL);
    memtrace.signal(Signal::CONT)?;
    for _ in 0..3 {
        let report = memtrace.next_report()?;
        assert!(report.stacks.iter().all(|stack| stack.verdict != "growing"), "{:#?}", report.stacks);
    }

    let count: Totals = churn.count()?;
    let same = |totals: &Totals| {
        totals.outstanding_blocks == count.outstanding_blocks && totals.outstanding_bytes == count.outstanding_bytes
    };
    let what = format!("the target's own count {count:?}");
    memtrace.report_where(&what, |report| report.process(pid).is_ok_and(|process| same(&process.totals)))?;
    let report = memtrace.interrupt()?.final_report()?;
    let totals = report.process(pid)?.totals;
    assert!(same(&totals), "{totals:?} is not {count:?}");
    assert!(report.stacks.iter().all(|stack| stack.verdict != "growing"), "{:#?}", report.stacks);

    let shown = ["allocations_deferred", "allocations_dropped", "releases_deferred", "releases_dropped"];
    assert!(shown.iter().any(|name| report.lost(name) > 0), "the stall is shown: {:?}", report.loss);
    if report.losses().is_empty() {
        assert_eq!(totals.allocations, count.allocations, "nothing was lost: {:?}", report.loss);
    }
    churn.tell("resume")?;
    assert!(churn.runs()?);
    Ok(())
}
