//! `--ask`: a Java virtual machine counts the objects that live by class; and what happens to machines that nobody may attach to.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{Asked, Memtrace, Report, Stack, Target};

/// The class of what the fixture keeps.
const KEPT: &str = "Sessions$Session";

/// A program that keeps what it is told to, and has said that it is ready. `before` starts the virtual machine.
fn program(before: &[&str], options: &[&str]) -> Result<Target> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/Sessions.java");
    let mut command = Command::new(before.first().unwrap_or(&"java"));
    command.args(before.iter().skip(1)).args(options).arg(source);
    let mut target = Target::spawn(&mut command)?;
    ensure!(target.hear()? == "ready", "{before:?} {options:?}");
    Ok(target)
}

fn order(target: &mut Target, line: &str) -> Result<()> {
    target.tell(line)?;
    ensure!(target.hear()? == "done", "{line}");
    Ok(())
}

fn asked(report: &Report) -> Option<&Asked> {
    report.processes.first()?.asked.as_ref()
}

fn kept(report: &Report) -> Option<u64> {
    report.types.iter().find(|of| of.name == KEPT && of.language == "java").map(|of| of.count)
}

#[test]
fn a_map_that_keeps_all_is_told_with_the_class_and_its_number_is_exact() -> Result<()> {
    let mut target = program(&[], &[])?;
    order(&mut target, "keep 5000")?;
    let mut memtrace = Memtrace::attach(target.pid(), &["--ask", "--fail-on-leak"])?;
    memtrace.report_where("those from before the attach", |report| kept(report) == Some(5000))?;
    let is_told = |report: &Report| {
        let text = &report.headline.text;
        text.contains("The Java heap keeps growing") && text.contains(KEPT)
    };
    let mut told = None;
    for round in 1..40 {
        order(&mut target, "keep 1000")?;
        let now = 5000 + 1000 * round;
        let report = memtrace.report_where("all that are kept", |report| kept(report) == Some(now))?;
        if is_told(&report) {
            told = Some(report);
            break;
        }
    }
    let told = told.context("the heap is told to grow")?;
    let heap = told.heaps.iter().find(|heap| heap.name == "Java heap").context("a heap")?;
    ensure!(heap.bytes > kept(&told).unwrap_or_default() * 1000, "{heap:?}");
    let finished = memtrace.interrupt()?;
    ensure!(finished.code() == Some(3), "{finished:?}");
    let last = finished.final_report()?;
    let said = asked(&last).context("what was asked")?;
    ensure!(said.opened && said.profiles > 5 && said.problem.is_none(), "{said:?}");
    ensure!(target.runs()?);
    // The next one finds the socket open.
    let mut memtrace = Memtrace::attach(target.pid(), &["--ask"])?;
    let report = memtrace.report_where("a histogram", |report| kept(report).is_some())?;
    ensure!(asked(&report).is_some_and(|asked| !asked.opened), "{:?}", asked(&report));
    memtrace.interrupt()?;
    target.exit()
}

#[test]
fn a_map_that_lets_the_oldest_go_is_no_growth_of_the_heap() -> Result<()> {
    let mut target = program(&[], &[])?;
    order(&mut target, "turn 5000")?;
    let mut memtrace = Memtrace::attach(target.pid(), &["--ask"])?;
    for _ in 0..14 {
        order(&mut target, "turn 1000")?;
        memtrace.next_report()?;
    }
    let last = memtrace.interrupt()?.final_report()?;
    // Memory of the machine's own, outside of the heap, may grow while it is warmed up.
    let heap = last.heaps.iter().find(|heap| heap.name == "Java heap").context("a heap")?;
    ensure!(heap.verdict != "growing", "{heap:?}");
    let grows = |stack: &Stack| stack.kind == "managed" && stack.verdict == "growing";
    ensure!(!last.stacks.iter().any(grows), "{:#?}", last.headline);
    ensure!(kept(&last) == Some(2000), "{:?}", last.types);
    target.exit()
}

#[test]
fn a_machine_of_another_user_with_files_of_its_own_is_asked() -> Result<()> {
    let start = "mount -t tmpfs tmpfs /tmp && chmod 1777 /tmp && exec setpriv --reuid 65534 --regid 65534 --clear-groups java \"$@\"";
    let mut target = program(&["unshare", "--mount", "sh", "-c", start, "sh"], &[])?;
    order(&mut target, "keep 5000")?;
    let mut memtrace = Memtrace::attach(target.pid(), &["--ask"])?;
    memtrace.report_where("a histogram", |report| kept(report) == Some(5000))?;
    memtrace.interrupt()?;
    target.exit()
}

#[test]
fn a_machine_that_nobody_may_attach_to_lives_and_is_not_asked() -> Result<()> {
    let mut target = program(&[], &["-XX:+DisableAttachMechanism"])?;
    let memtrace = Memtrace::attach(target.pid(), &["--ask"])?;
    memtrace.errors_where("why it is not asked", |lines| {
        lines.iter().any(|line| line.contains("did not open its attach socket"))
    })?;
    let last = memtrace.interrupt()?.final_report()?;
    let said = asked(&last).context("what was asked")?;
    ensure!(said.profiles == 0 && said.problem.is_some(), "{said:?}");
    // At the signal it has printed where its threads are.
    while !target.hear()?.starts_with("JNI global refs") {
        ensure!(target.runs()?);
    }
    target.exit()
}
