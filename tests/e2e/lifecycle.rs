//! Targets fork, exec, end, and lose threads at any moment; memtrace comes and goes.

use std::{thread::sleep, time::Duration};

use anyhow::{Context, Result};
use memtrace_tests::{Build, Memtrace, Target, code::changed_libc_bytes, report::Totals};
use serde_json::Value;

#[test]
fn what_children_allocate_is_not_the_parents() -> Result<()> {
    let mut forker = Target::start(&Build::c("forker.c"), &["20"])?;
    let pid = forker.pid();
    let memtrace = Memtrace::attach(pid, &[])?;
    forker.tell("go")?;
    let count: Value = forker.hear_json()?;
    let report = memtrace.interrupt()?.final_report()?;
    assert_eq!(report.processes.len(), 1);
    let totals = report.process(pid)?.totals;
    assert_eq!(Some(totals.allocations), count["allocations"].as_u64());
    assert_eq!(Some(totals.outstanding_bytes), count["outstanding_bytes"].as_u64());
    assert_eq!((totals.frees, totals.frees_unmatched), (0, 0));
    // The stacks that posix_spawn maps for its children are gone again.
    assert_eq!(totals.mapped_bytes, 0);
    assert_eq!(report.stacks_of("child_takes").count(), 0);
    forker.exit()
}

#[test]
fn tracing_goes_on_under_a_new_image() -> Result<()> {
    let mut execer = Target::start(&Build::c("execer.c"), &[])?;
    let pid = execer.pid();
    let mut memtrace = Memtrace::attach(pid, &[])?;
    execer.tell("go")?;
    assert_eq!(execer.hear()?, "kept 300");
    memtrace.report_where("the first image's blocks", |report| {
        report.process(pid).is_ok_and(|process| process.totals.outstanding_blocks == 300)
    })?;
    execer.tell("exec")?;
    assert!(execer.hear()?.starts_with("ready "));
    memtrace.report_where("the second image's leak", |report| {
        report.stacks_of("after_exec").any(|stack| stack.outstanding_blocks > 500)
    })?;
    let leaked = execer.count_line()?;
    let report = memtrace.interrupt()?.final_report()?;
    let leaked: u64 = leaked.strip_prefix("leaked ").context("a count")?.parse()?;
    let totals = report.process(pid)?.totals;
    assert_eq!(totals.blocks_dropped_by_exec, 300);
    assert!(report.stacks_of("before_exec").all(|stack| stack.outstanding_blocks == 0), "{:#?}", report.stacks);
    // What the new image does before the probes are in its new libc cannot be seen.
    let seen: u64 = report.stacks_of("after_exec").map(|stack| stack.outstanding_blocks).sum();
    assert!(seen > leaked / 2 && seen < leaked + 5_000, "{seen} of {leaked}");
    execer.exit()
}

#[test]
fn a_target_that_runs_another_program_while_being_attached_is_attached() -> Result<()> {
    let target = Target::start(&Build::c("exec_loop.c"), &[])?;
    for _ in 0..4 {
        let memtrace = Memtrace::attach(target.pid(), &["--duration", "300ms"])?;
        let finished = memtrace.finish()?;
        assert_eq!(finished.code(), Some(0), "{:?}", finished.errors);
        assert!(!finished.final_report()?.process(target.pid())?.exited);
    }
    target.exit()
}

#[test]
fn a_target_that_ends_while_being_attached_is_no_more_than_a_message() -> Result<()> {
    let build = Build::c("exiter.c");
    for life_ms in (0..120).step_by(4) {
        let target = Target::start(&build, &[&(life_ms * 1000).to_string()])?;
        let pid = target.pid().to_string();
        let memtrace = Memtrace::start(&["--pid", &pid, "--format", "json", "--duration", "30s"])?;
        // Reaps it when it ends, as its parent would.
        let reaper = std::thread::spawn(move || {
            let mut target = target;
            target.ended()
        });
        let finished = memtrace.finish()?;
        match finished.code() {
            Some(0) => assert!(finished.final_report()?.processes.iter().all(|process| process.exited)),
            Some(1) => {
                assert_eq!(finished.output, [""; 0]);
                let said = finished.errors.iter().filter(|line| line.starts_with("memtrace: ")).count();
                assert_eq!(said, 1, "life of {life_ms} ms: {:?}", finished.errors);
            }
            _ => assert_eq!(finished.code(), Some(0), "life of {life_ms} ms: {finished:?}"),
        }
        assert!(reaper.join().is_ok_and(|status| status.is_ok_and(|status| status.success())));
    }
    Ok(())
}

/// Traces exiter to its end; the headline, the one process of the report, and standard error.
fn traced_to_its_end(way: &str, flags: &[&str]) -> Result<(String, Value, String)> {
    let mut target = Target::start(&Build::c("exiter.c"), &["1000", way])?;
    let memtrace = Memtrace::attach(target.pid(), flags)?;
    target.tell("go")?;
    // Reaped at once, as by a parent that waits for it.
    target.ended()?;
    let finished = memtrace.finish()?;
    let report: Value = serde_json::from_str(finished.output.last().context("a report")?)?;
    let headline = report["headline"]["text"].as_str().context("a headline")?.to_owned();
    Ok((headline, report["processes"][0].clone(), finished.errors.join("\n")))
}

#[test]
fn an_end_by_a_signal_that_probes_cause_is_said_first_and_no_other_end() -> Result<()> {
    for (way, name, number) in [("trap", "SIGTRAP", 5), ("illegal", "SIGILL", 4)] {
        let (headline, process, errors) = traced_to_its_end(way, &[])?;
        assert!(headline.contains(&format!("was ended by {name}, and memtrace is the likely cause")), "{headline}");
        assert!(headline.contains("--mode growth") && errors.contains("is the likely cause"), "{headline} {errors}");
        assert_eq!((&process["ended_by_signal"], &process["probably_ended_by_probes"]), (&number.into(), &true.into()));
    }
    for (way, flags) in [("terminate", &[][..]), ("itself", &[]), ("trap", &["--mode", "growth"])] {
        let (headline, process, errors) = traced_to_its_end(way, flags)?;
        assert!(!headline.contains("likely cause") && !errors.contains("likely cause"), "{headline} {errors}");
        assert_eq!(process["probably_ended_by_probes"], false, "{process}");
    }
    Ok(())
}

#[test]
fn threads_that_end_all_the_time_do_no_harm() -> Result<()> {
    let mut target = Target::start(&Build::c("thread_exit.c"), &["8"])?;
    let pid = target.pid();
    let mut memtrace = Memtrace::attach(pid, &[])?;
    target.tell("go")?;
    for _ in 0..3 {
        memtrace.next_report()?;
    }
    let count: Value = target.count()?;
    let report = memtrace.interrupt()?.final_report()?;
    let leaked: u64 = report.stacks_of("thread_leaks").map(|stack| stack.outstanding_blocks).sum();
    assert_eq!(Some(leaked), count["leaked"].as_u64(), "{:?}", report.loss);
    let churned: u64 = report.stacks_of("thread_churns").map(|stack| stack.outstanding_blocks).sum();
    assert_eq!(churned, 0);
    target.tell("resume")?;
    sleep(Duration::from_millis(200));
    assert!(target.count::<Value>()?["threads"].as_u64() > count["threads"].as_u64());
    Ok(())
}

#[test]
fn a_process_whose_first_thread_has_ended_is_traced_by_another() -> Result<()> {
    let mut leader = Target::start(&Build::c("leader.c"), &["before"])?;
    let pid = leader.pid();
    let mut memtrace = Memtrace::attach(pid, &[])?;
    leader.tell("go")?;
    memtrace.report_where("100 blocks", |report| {
        report.stacks_of("leader_leaks").map(|stack| stack.outstanding_blocks).sum::<u64>() >= 100
    })?;
    let leaked: u64 = leader.count()?;
    let report = memtrace.interrupt()?.final_report()?;
    let seen: u64 = report.stacks_of("leader_leaks").map(|stack| stack.outstanding_blocks).sum();
    assert_eq!(seen, leaked, "{:?}", report.loss);
    let process = report.process(pid)?;
    assert!(!process.exited && process.rss_bytes > 0, "{process:?}");
    leader.tell("resume")
}

#[test]
fn a_busy_target_survives_20_attaches_and_detaches() -> Result<()> {
    let mut churn = Target::start(&Build::c("churn.c"), &["4", "500", "1000"])?;
    let pid = churn.pid();
    churn.tell("go")?;
    for turn in 0..20 {
        let memtrace = Memtrace::attach(pid, &[])?;
        sleep(Duration::from_millis(100));
        let report = memtrace.interrupt()?.final_report()?;
        assert!(report.process(pid)?.totals.allocations > 0, "turn {turn}");
        assert_eq!(changed_libc_bytes(pid)?, [0; 0], "turn {turn}");
    }
    let before: Totals = churn.count()?;
    churn.tell("resume")?;
    sleep(Duration::from_millis(200));
    let after: Totals = churn.count()?;
    assert!(after.allocations > before.allocations);
    Ok(())
}

#[test]
fn a_target_whose_filter_kills_at_return_probes_is_traced_exactly_or_refused() -> Result<()> {
    let mut confined = Target::start(&Build::c("confined.c"), &[])?;
    let pid = confined.pid();
    // The same question, asked by doctor: where filters see return probes, nothing may be attached.
    let doctor = Memtrace::start(&["doctor"])?.finish()?;
    let line = doctor.output.iter().find(|line| line.contains("seccomp")).context("doctor's line on seccomp")?;
    if !line.trim_start().starts_with("ok") {
        let refused = Memtrace::start(&["--pid", &pid.to_string()])?.finish()?;
        assert_eq!((refused.code(), refused.errors.len()), (Some(1), 1), "{:?}", refused.errors);
        assert!(refused.errors[0].contains("seccomp"), "{:?}", refused.errors);
        assert!(refused.errors[0].contains("--no-return-probes"), "{:?}", refused.errors);
        return confined.exit();
    }
    let memtrace = Memtrace::attach(pid, &[])?;
    confined.tell("go")?;
    let count: Value = confined.hear_json()?;
    let totals = memtrace.interrupt()?.final_report()?.process(pid)?.totals;
    assert_eq!(Some(totals.allocations), count["allocations"].as_u64());
    assert_eq!(Some(totals.outstanding_bytes), count["outstanding_bytes"].as_u64());
    confined.exit()
}

#[test]
fn two_memtraces_watch_one_target_side_by_side() -> Result<()> {
    let mut service = Target::start(&Build::c("leaky_service.c"), &["64", "1000", "10", "10"])?;
    let (mut first, mut second) = (Memtrace::attach(service.pid(), &[])?, Memtrace::attach(service.pid(), &[])?);
    service.tell("go")?;
    for memtrace in [&mut first, &mut second] {
        memtrace
            .report_where("the leak", |report| report.stacks_of("leak_here").any(|s| s.outstanding_blocks > 500))?;
    }
    first.interrupt()?.final_report()?;
    second.interrupt()?.final_report()?;
    assert_eq!(changed_libc_bytes(service.pid())?, [0; 0]);
    service.exit()
}
