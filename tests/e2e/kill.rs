//! However memtrace dies, its probes go with it, and the target runs on.

use std::{thread::sleep, time::Duration};

use anyhow::Result;
use memtrace_tests::{Build, Memtrace, Target, code::changed_libc_bytes, report::Totals, wait};
use rustix::process::Signal;

#[test]
fn a_killed_memtrace_leaves_no_probe_and_the_next_attaches_at_once() -> Result<()> {
    let mut churn = Target::start(&Build::c("churn.c"), &["2", "1000", "1000"])?;
    let pid = churn.pid();
    assert_eq!(changed_libc_bytes(pid)?, [0; 0], "before the attach");
    let mut memtrace = Memtrace::attach(pid, &[])?;
    churn.tell("go")?;
    memtrace.next_report()?;
    assert_ne!(changed_libc_bytes(pid)?, [0; 0], "the probes can be seen while they are there");

    memtrace.signal(Signal::KILL)?;
    assert_eq!(memtrace.finish()?.code(), None);
    wait::until("the probes to go", || Ok(changed_libc_bytes(pid)?.is_empty().then_some(())))?;

    let before: Totals = churn.count()?;
    churn.tell("resume")?;
    sleep(Duration::from_millis(300));
    let after: Totals = churn.count()?;
    churn.tell("resume")?;
    assert!(after.allocations > before.allocations, "the target goes on");

    let mut second = Memtrace::attach(pid, &[])?;
    let seen = second.report_where("allocations", |report| {
        report.process(pid).is_ok_and(|process| process.totals.allocations > 0)
    })?;
    assert!(!seen.is_final);
    second.interrupt()?.final_report()?;
    assert_eq!(changed_libc_bytes(pid)?, [0; 0], "after an orderly end");
    assert!(churn.runs()?);
    Ok(())
}
