//! Results of `malloc` that are known at its entry: exact, told, and given up when they turn out wrong.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use memtrace_tests::{
    Build, Memtrace, Report, Target,
    memtrace::{program, require_root},
};
use serde::Deserialize;

const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
const JEMALLOC_LINKED: &str = "-Wl,--whole-archive,-l:libjemalloc.a,--no-whole-archive";

/// With jemalloc linked in.
fn with_jemalloc() -> Build {
    Build::c("cached.c").flag(JEMALLOC_LINKED).flag("-lm").flag("-lstdc++")
}

/// What the fixtures say of themselves.
#[derive(Debug, Deserialize)]
struct Count {
    allocations: u64,
    #[serde(default)]
    allocated_bytes: u64,
}

/// Whether this kernel has what it takes (Linux 6.13). Elsewhere nothing may be predicted, and everything else holds.
fn kernel_predicts() -> Result<bool> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let (major, minor): (u32, u32) =
        (numbers.next().context("a major version")??, numbers.next().context("a minor version")??);
    Ok((major, minor) >= (6, 13))
}

fn check(report: &Report, pid: u32, count: &Count) -> Result<()> {
    assert!(report.losses().is_empty(), "{:?}", report.loss);
    let totals = report.process(pid)?.totals;
    assert_eq!((totals.allocations, totals.allocated_bytes), (count.allocations, count.allocated_bytes));
    assert_eq!((totals.frees, totals.outstanding_blocks, totals.frees_unmatched), (count.allocations, 0, 0));
    Ok(())
}

/// Traces `target` while it does its work once; how many blocks it made, and how many of its results were predicted.
fn run(mut target: Target, more: &[&str]) -> Result<(u64, u64)> {
    let memtrace = Memtrace::attach(target.pid(), more)?;
    target.tell("go")?;
    let count: Count = target.hear_json()?;
    let report = memtrace.interrupt()?.final_report()?;
    check(&report, target.pid(), &count)?;
    target.exit()?;
    Ok((count.allocations, report.tracer.results_predicted))
}

/// The same, and most results must be predicted where any are.
fn check_most(target: Target) -> Result<()> {
    let (allocations, predicted) = run(target, &[])?;
    check_predicted(predicted, allocations)
}

fn check_predicted(predicted: u64, allocations: u64) -> Result<()> {
    if kernel_predicts()? {
        // The largest blocks are not cached, and one in 64 is compared.
        assert!(predicted > allocations / 2, "{predicted} of {allocations}");
    } else {
        assert_eq!(predicted, 0);
    }
    Ok(())
}

#[test]
fn most_results_are_known_and_everything_is_counted_exactly() -> Result<()> {
    check_most(Target::start(&Build::c("cached.c"), &[])?)?;
    check_most(Target::start(&Build::c("cached.c").without_frame_pointers(), &[])?)?;
    check_most(Target::start(&Build::c("cached.c").flag("-static"), &[])?)
}

#[test]
fn jemallocs_results_are_known_as_well() -> Result<()> {
    check_most(Target::start_preloaded(&Build::c("cached.c"), &[], JEMALLOC)?)?;
    check_most(Target::start(&with_jemalloc(), &[])?)
}

#[test]
fn nothing_is_predicted_where_that_is_asked_for_or_there_is_no_cache() -> Result<()> {
    assert_eq!(run(Target::start(&Build::c("cached.c"), &[])?, &["--no-prediction"])?.1, 0);
    assert_eq!(run(Target::start(&Build::musl("cached.c"), &[])?, &[])?.1, 0);
    let (variable, value) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");
    assert_eq!(run(Target::start_with(&Build::c("cached.c"), &[], variable, value)?, &[])?.1, 0);
    let (variable, value) = ("MALLOC_CONF", "tcache:false");
    let uncached = with_jemalloc();
    assert_eq!(run(Target::start_with(&uncached, &[], variable, value)?, &[])?.1, 0);
    Ok(())
}

#[test]
fn a_sample_is_of_the_same_calls() -> Result<()> {
    let mut target = Target::start(&Build::c("cached.c"), &[])?;
    let memtrace = Memtrace::attach(target.pid(), &["--sample", "4KiB"])?;
    target.tell("go")?;
    let count: Count = target.hear_json()?;
    let report = memtrace.interrupt()?.final_report()?;
    assert!(report.losses().is_empty(), "{:?}", report.loss);
    let totals = report.process(target.pid())?.totals;
    assert_eq!((totals.allocations, totals.allocated_bytes), (count.allocations, count.allocated_bytes));
    assert_eq!(totals.outstanding_blocks, 0);
    check_predicted(report.tracer.results_predicted, count.allocations)?;
    target.exit()
}

#[test]
fn a_new_image_has_its_caches_elsewhere() -> Result<()> {
    let mut target = Target::start(&Build::c("cached.c"), &[])?;
    let pid = target.pid();
    let mut memtrace = Memtrace::attach(pid, &[])?;
    target.tell("go")?;
    let first: Count = target.hear_json()?;
    let report = memtrace.report_where("the first image's calls", |report| {
        report.process(pid).is_ok_and(|process| process.totals.allocations == first.allocations)
    })?;
    let before = report.tracer.results_predicted;
    target.tell("exec")?;
    assert!(target.hear()?.starts_with("ready "));
    memtrace
        .errors_where("the exec is noticed", |lines| lines.iter().any(|line| line.contains("replaced its program")))?;
    target.tell("go")?;
    let second: Count = target.hear_json()?;
    let report = memtrace.interrupt()?.final_report()?;
    assert!(report.losses().is_empty(), "{:?}", report.loss);
    let totals = report.process(pid)?.totals;
    assert_eq!(totals.allocations, first.allocations + second.allocations);
    assert_eq!((totals.outstanding_blocks, totals.frees_unmatched), (0, 0));
    check_predicted(report.tracer.results_predicted - before, second.allocations)?;
    target.exit()
}

#[test]
fn a_spawned_child_has_its_cache_elsewhere_than_its_parent() -> Result<()> {
    let mut target = Target::start(&Build::c("cached.c"), &[])?;
    let pid = target.pid();
    let mut memtrace = Memtrace::attach(pid, &["--follow"])?;
    target.tell("spawn")?;
    let ready = target.hear()?;
    let child: u32 = ready.strip_prefix("ready ").context("a child")?.parse()?;
    memtrace.report_where("the child", |report| report.process(child).is_ok())?;
    target.tell("go")?;
    let count: Count = target.hear_json()?;
    memtrace.report_where("the child's calls", |report| {
        report.process(child).is_ok_and(|process| process.totals.frees == count.allocations)
    })?;
    target.tell("exit")?;
    assert_eq!(target.hear()?, "ended");
    let report = memtrace.interrupt()?.final_report()?;
    check(&report, child, &count)?;
    // What it did in its parent's memory is its parent's where single probes see it; multi-uprobe links let the threads of
    // one process through.
    let totals = report.process(pid)?.totals;
    assert!(totals.allocations == totals.frees && [0, 100].contains(&totals.frees), "{totals:?}");
    check_predicted(report.tracer.results_predicted, count.allocations)?;
    target.exit()
}

#[test]
fn a_launched_programs_cache_is_found_once_its_loader_has_been_there() -> Result<()> {
    require_root()?;
    let fixture = Build::c("cached.c").compile()?;
    let mut memtrace = Command::new(program()?);
    memtrace.args(["--format", "json", "--interval", "1h", "--"]).arg(fixture).arg("now").stdin(Stdio::null());
    let output = memtrace.output()?;
    assert!(output.status.success(), "{output:?}");
    let output = String::from_utf8(output.stdout)?;
    let (count, report) = output.split_once('\n').context("the program's line, and the report's")?;
    let (count, report): (Count, _) = (serde_json::from_str(count)?, Report::parse(report.trim_end())?);
    assert!(report.losses().is_empty(), "{:?}", report.loss);
    // The loader and the C library allocate a little before.
    let allocations = report.processes.first().context("a process")?.totals.allocations;
    assert!((count.allocations..count.allocations + 20).contains(&allocations), "{allocations} for {count:?}");
    check_predicted(report.tracer.results_predicted, count.allocations)?;
    Ok(())
}

#[test]
fn a_wrong_prediction_is_told_and_the_last_one() -> Result<()> {
    let mut target = Target::start(&Build::c("two_caches.c"), &[])?;
    let pid = target.pid();
    let mut memtrace = Memtrace::attach(pid, &[])?;
    target.tell("go")?;
    let first: Count = target.hear_json()?;
    let report = memtrace.report_where("the calls by the second pointer", |report| {
        report.process(pid).is_ok_and(|process| process.totals.allocations == first.allocations)
    })?;
    let predicted = report.tracer.results_predicted;
    target.tell("more")?;
    let all: Count = target.hear_json()?;
    let report = memtrace.interrupt()?.final_report()?;
    // That is as right as ever: which blocks they were is what went wrong.
    assert_eq!(report.process(pid)?.totals.allocations, all.allocations);
    assert_eq!(report.tracer.results_predicted, predicted, "after the wrong one");
    if kernel_predicts()? {
        assert!((1..64).contains(&predicted), "{predicted}");
        assert_eq!(report.lost("predictions_wrong"), 1, "{:?}", report.loss);
    } else {
        assert!(predicted == 0 && report.losses().is_empty(), "{predicted}, {:?}", report.loss);
    }
    target.exit()
}
