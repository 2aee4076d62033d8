//! A program that makes every call a known number of times, from four threads, is accounted for exactly.

use std::collections::BTreeMap;

use anyhow::Result;
use memtrace_tests::{
    Build, Memtrace, Report, Target,
    report::{Outstanding, Totals},
};
use serde::Deserialize;

/// What every_call says of itself.
#[derive(Debug, Deserialize)]
struct Count {
    #[serde(flatten)]
    totals: Totals,
    sites: BTreeMap<String, Outstanding>,
    map_sites: BTreeMap<String, u64>,
}

fn run(build: &Build, arguments: &[&str], more: &[&str]) -> Result<(Count, Report)> {
    let mut target = Target::start(build, arguments)?;
    let pid = target.pid();
    let memtrace = Memtrace::attach(pid, more)?;
    target.tell("go")?;
    let count = target.hear_json()?;
    let report = memtrace.interrupt()?.final_report()?;
    target.exit()?;
    Ok((count, report))
}

fn check(build: &Build, seed: u64) -> Result<()> {
    check_with(build, seed, &[])
}

fn check_with(build: &Build, seed: u64, more: &[&str]) -> Result<()> {
    check_run(build, &["4", &seed.to_string()], more)
}

fn check_run(build: &Build, arguments: &[&str], more: &[&str]) -> Result<()> {
    let (count, report) = run(build, arguments, more)?;
    let process = report.processes.first().map(|process| process.totals);
    assert!(report.losses().is_empty(), "{arguments:?}: {:?}", report.loss);
    assert_eq!(process, Some(count.totals), "{arguments:?}");
    assert_eq!(report.outstanding_by_caller("heap"), count.sites, "{arguments:?}");
    let mapped: BTreeMap<_, _> =
        report.outstanding_by_caller("map").into_iter().map(|(caller, sum)| (caller, sum.bytes)).collect();
    assert_eq!(mapped, count.map_sites, "{arguments:?}");
    let summed: u64 = report.stacks.iter().filter(|stack| stack.kind == "heap").map(|stack| stack.allocations).sum();
    assert_eq!(summed, count.totals.allocations, "{arguments:?}: the stacks' allocations add up");
    Ok(())
}

#[test]
fn every_call_is_counted_exactly_in_20_runs_of_4_threads() -> Result<()> {
    (1..=20).try_for_each(|seed| check(&Build::c("every_call.c"), seed))
}

#[test]
fn every_call_is_counted_exactly_in_more_threads_than_there_are_places_for() -> Result<()> {
    check_run(&Build::c("every_call.c"), &["400", "28", "20"], &[])
}

#[test]
fn every_call_is_counted_exactly_without_frame_pointers() -> Result<()> {
    check(&Build::c("every_call.c").without_frame_pointers(), 21)
}

#[test]
fn every_call_is_counted_exactly_on_musl() -> Result<()> {
    check(&Build::musl("every_call.c"), 22)
}

#[test]
fn every_call_is_counted_exactly_without_return_probes() -> Result<()> {
    for seed in 23..26 {
        check_with(&Build::c("every_call.c"), seed, &["--no-return-probes"])?;
    }
    check_with(&Build::c("every_call.c").without_frame_pointers(), 26, &["--no-return-probes"])?;
    check_with(&Build::musl("every_call.c"), 27, &["--no-return-probes"])
}

#[test]
fn a_call_that_is_jumped_out_of_is_abandoned_and_the_rest_is_counted_exactly() -> Result<()> {
    let mut target = Target::start(&Build::c("longjmp_handler.c"), &["10000"])?;
    let memtrace = Memtrace::attach(target.pid(), &[])?;
    target.tell("go")?;
    let count: Totals = target.hear_json()?;
    let report = memtrace.interrupt()?.final_report()?;
    assert_eq!(report.process(target.pid())?.totals, count);
    let leaked: u64 = report.stacks_of("leak_between_jumps").map(|stack| stack.outstanding_blocks).sum();
    assert_eq!(leaked, 10_000);
    assert!(report.lost("calls_abandoned") > 0, "{:?}", report.loss);
    target.exit()
}
