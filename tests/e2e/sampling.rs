//! `--sample`: what is left out is left out by chance alone, what is said of the rest is right, and it changes no ranking.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use memtrace_tests::{
    Build, Memtrace, Report, Target,
    report::{Estimate, Frame, Totals},
};

/// How many standard deviations an estimate is off, by the 95 % interval that it states.
fn deviations(estimate: u64, interval: (u64, u64), truth: u64) -> f64 {
    let (low, high) = interval;
    assert!(low <= estimate && estimate <= high, "{estimate} is not in {interval:?}");
    let end = if truth < estimate { low } else { high };
    1.96 * truth.abs_diff(estimate) as f64 / end.abs_diff(estimate).max(1) as f64
}

#[test]
fn every_call_is_counted_and_what_lives_is_estimated() -> Result<()> {
    let mut off = Vec::new();
    for seed in 1..=6 {
        let mut target = Target::start(&Build::c("every_call.c"), &["4", &seed.to_string()])?;
        let memtrace = Memtrace::attach(target.pid(), &["--sample", "16KiB"])?;
        target.tell("go")?;
        let truth: Totals = target.hear_json()?;
        let report = memtrace.interrupt()?.final_report()?;
        let found = report.process(target.pid())?.totals;
        target.exit()?;
        assert!(report.losses().is_empty(), "{:?}", report.loss);
        // Reallocations whose old block was not drawn, failures and all.
        assert_eq!(
            (found.allocations, found.allocated_bytes, found.failed_allocations, found.mapped_bytes),
            (truth.allocations, truth.allocated_bytes, truth.failed_allocations, truth.mapped_bytes),
        );
        let Estimate { blocks_seen, outstanding_interval_bytes } = found.estimate.context("an estimate")?;
        assert!(blocks_seen > 0 && blocks_seen < truth.outstanding_blocks / 2, "{blocks_seen} of {truth:?}");
        off.push(deviations(found.outstanding_bytes, outstanding_interval_bytes, truth.outstanding_bytes));
    }
    println!("standard deviations: {off:.2?}");
    // Once in a million times by chance.
    assert!(off.iter().all(|&off| off < 5.0), "{off:?}");
    Ok(())
}

#[test]
fn what_is_released_is_known_to_be() -> Result<()> {
    // Four threads; blocks live for a moment, and at rest the truth is known.
    let mut target = Target::start(&Build::c("churn.c"), &["4", "2000", "4000", "1000"])?;
    let mut memtrace = Memtrace::attach(target.pid(), &["--sample", "8KiB"])?;
    target.tell("go")?;
    memtrace.report_where("three seconds", |report| report.elapsed_ms > 3000)?;
    target.tell("count")?;
    let truth: Totals = target.hear_json()?;
    let report = memtrace.interrupt()?.final_report()?;
    let found = report.process(target.pid())?.totals;
    assert!(report.losses().is_empty(), "{:?}", report.loss);
    assert_eq!((found.allocations, found.allocated_bytes), (truth.allocations, truth.allocated_bytes));
    assert!(truth.allocations > 50_000, "{truth:?}");
    let interval = found.estimate.context("an estimate")?.outstanding_interval_bytes;
    let off = deviations(found.outstanding_bytes, interval, truth.outstanding_bytes);
    assert!(off < 5.0, "{off} standard deviations: {found:?} is not {truth:?}");
    assert!(!report.grows("replace_block"), "{report:?}");
    target.exit()
}

#[test]
fn the_first_five_are_the_same_with_and_without() -> Result<()> {
    let mut target = Target::start(&Build::c("six_leaks.c"), &[])?;
    let pid = target.pid().to_string();
    let arguments = ["--pid", &pid, "--format", "json", "--interval", "300ms"];
    let mut all = Memtrace::start(&arguments)?;
    let mut sampled = Memtrace::start(&[&arguments[..], &["--sample", "16KiB"]].concat())?;
    all.attached()?;
    sampled.attached()?;
    target.tell("go")?;
    let first_five = |report: &Report| -> Vec<String> {
        let growing = report.stacks.iter().filter(|stack| stack.verdict == "growing");
        growing.take(5).map(|stack| stack.caller().to_owned()).collect()
    };
    let known = |report: &Report| report.elapsed_ms > 6000 && first_five(report).len() == 5;
    let by_sample = first_five(&sampled.report_where("five leaks", known)?);
    let by_all = first_five(&all.report_where("five leaks", known)?);
    assert_eq!(by_all, ["leak_32", "leak_16", "leak_8", "leak_4", "leak_2"]);
    assert_eq!(by_sample, by_all);
    target.tell("exit")
}

/// Keeps strings, lists and a hash of hashes, so that perl's own functions hold some 19 MB.
const PERL: &str = r#"
    my (%by_key, @strings, @lists, %nested);
    for my $i (1..60000) {
        $by_key{"key$i"} = "value$i" x 3;
        push @strings, "string number $i" x 2 if $i % 2;
        push @lists, [$i] if $i % 7 == 0;
        $nested{$i % 5000}{$i} = 1 if $i % 9 == 0;
    }
    use POSIX;
    # Without cleaning up.
    POSIX::_exit(0);
"#;

/// Heap bytes that live at the end of a perl program, by stack, the largest first. Two runs have it at other addresses.
fn perl(more: &[&str]) -> Result<Vec<(Vec<String>, u64)>> {
    let command = ["--format", "json", "--interval", "1h", "--top", "100000"];
    let finished = Memtrace::start(&[&command, more, &["--", "/usr/bin/perl", "-e", PERL]].concat())?.finish()?;
    let report = finished.final_report()?;
    assert!(report.losses().is_empty(), "{:?}", report.loss);
    let mut held = BTreeMap::<Vec<String>, u64>::new();
    for stack in report.stacks.iter().filter(|stack| stack.kind == "heap") {
        let place = |frame: &Frame| format!("{:?}+{:?}", frame.module, frame.offset);
        *held.entry(stack.frames.iter().map(place).collect()).or_default() += stack.outstanding_bytes;
    }
    let mut held: Vec<_> = held.into_iter().collect();
    held.sort_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
    Ok(held)
}

#[test]
fn the_five_largest_of_a_perl_program_are_the_same_with_and_without() -> Result<()> {
    let all = perl(&[])?;
    let five =
        |held: &[(Vec<String>, u64)]| -> Vec<_> { held.iter().take(5).map(|(stack, _)| stack.clone()).collect() };
    let bytes: Vec<u64> = all.iter().take(7).map(|&(_, bytes)| bytes).collect();
    // Blocks of some 50 bytes, so that one in twenty is drawn, and the least of these distances is five standard deviations.
    let sampled = perl(&["--sample", "1KiB"])?;
    assert_eq!(five(&sampled), five(&all), "{bytes:?}");
    Ok(())
}

#[test]
fn a_distance_that_makes_no_sense_is_bad_usage() -> Result<()> {
    for size in ["1", "2GiB", "much"] {
        let finished = Memtrace::start(&["--pid", "1", "--sample", size])?.finish()?;
        assert_eq!((finished.code(), finished.errors.len()), (Some(2), 1), "{:?}", finished.errors);
        assert!(finished.errors[0].contains("--sample"), "{:?}", finished.errors);
    }
    Ok(())
}
