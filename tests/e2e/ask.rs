//! `--ask`: Node's inspector says which functions made the objects that live; and what happens to programs that have no inspector to give.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{Asked, Memtrace, Report, Stack, Target};
use rustix::process::Signal;

/// More programs of Node's that are tested, separated by colons.
const MORE_NODES: &str = "MEMTRACE_TEST_NODES";

/// Port 0 is any that is free: many tests run at a time, and all inspectors have one port otherwise.
const ANY_PORT: &str = "--inspect-port=0";

fn nodes() -> Vec<PathBuf> {
    let more = env::var_os(MORE_NODES).unwrap_or_default();
    [PathBuf::from("node")].into_iter().chain(env::split_paths(&more).filter(|path| path.is_absolute())).collect()
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/node_map.js")
}

/// The functions that the comments of the fixture mark, with the line on which each begins.
fn marked() -> Result<Vec<(String, u32)>> {
    let text = fs::read_to_string(fixture())?;
    let marks =
        text.lines().zip(1..).filter_map(|(line, number)| Some((line.split_once("// begins: ")?.1.to_owned(), number)));
    Ok(marks.collect())
}

/// A program that keeps what it is told to, and has said that it is ready.
fn program(node: &Path, more: &[&str]) -> Result<Target> {
    let mut target = Target::spawn(Command::new(node).arg(ANY_PORT).args(more).arg(fixture()))?;
    ensure!(target.hear()? == "ready", "{node:?}");
    Ok(target)
}

fn asked(report: &Report) -> Option<&Asked> {
    report.processes.first()?.asked.as_ref()
}

/// The functions of JavaScript of a stack, with their files and lines.
fn functions(stack: &Stack) -> Vec<(&str, &str, u32)> {
    let frames = stack.frames.iter().filter(|frame| frame.language == "javascript");
    frames
        .map(|frame| {
            let (function, file) = (frame.function.as_deref(), frame.file.as_deref());
            (function.unwrap_or_default(), file.unwrap_or_default(), frame.line.unwrap_or(0))
        })
        .collect()
}

/// Has the target keep, or put in the place of others, so many objects at each report until one is `wanted`; at most so many times.
fn until(
    memtrace: &mut Memtrace,
    target: &mut Target,
    times: usize,
    order: &str,
    wanted: impl Fn(&Report) -> bool,
) -> Result<Option<Report>> {
    for _ in 0..times {
        target.tell(order)?;
        ensure!(target.hear()? == "done", "{order}");
        let report = memtrace.next_report()?;
        if wanted(&report) {
            return Ok(Some(report));
        }
    }
    Ok(None)
}

fn growing(report: &Report) -> impl Iterator<Item = &Stack> {
    report.stacks.iter().filter(|stack| stack.kind == "profiled" && stack.verdict == "growing")
}

#[test]
fn a_leak_in_a_kept_map_is_told_with_its_functions_and_the_inspector_is_closed_again() -> Result<()> {
    let marked = marked()?;
    let file = fixture().display().to_string();
    for node in nodes() {
        let mut target = program(&node, &[])?;
        let mut memtrace = Memtrace::attach(target.pid(), &["--ask", "--fail-on-leak"])?;
        let expected: Vec<(&str, &str, u32)> =
            marked.iter().map(|(function, line)| (function.as_str(), file.as_str(), *line)).collect();
        // V8's compiler may inline the first one into the second, and a profile has no inlined functions.
        let is_expected = |stack: &Stack| {
            let functions = functions(stack);
            functions.starts_with(&expected) || functions.starts_with(&expected[1..])
        };
        let is_told = |report: &Report| growing(report).any(is_expected);
        let told = until(&mut memtrace, &mut target, 40, "keep 400", is_told)?;
        let told = told.with_context(|| format!("{node:?}: nothing is told to grow in {expected:?}"))?;
        // The heap as a whole is no stack beside those that hold it.
        let heaps = told.stacks.iter().filter(|stack| stack.kind == "managed").count();
        ensure!(heaps == 0 && told.heaps.iter().any(|heap| heap.name == "JavaScript heap"), "{:#?}", told.stacks);
        let finished = memtrace.interrupt()?;
        ensure!(finished.code() == Some(3), "{node:?}: {finished:?}");
        let last = finished.final_report()?;
        let asked = asked(&last).context("what was asked")?;
        ensure!(asked.opened && asked.left.as_deref() == Some("closed"), "{node:?}: {asked:?}");
        ensure!(asked.profiles > 4 && asked.problem.is_none(), "{node:?}: {asked:?}");
        ensure!(target.runs()?, "{node:?}");
        // It can be asked again.
        let mut memtrace = Memtrace::attach(target.pid(), &["--ask"])?;
        memtrace.report_where("a profile", |report| self::asked(report).is_some_and(|asked| asked.profiles > 0))?;
        memtrace.interrupt()?;
        target.exit()?;
    }
    Ok(())
}

#[test]
fn a_map_that_lets_the_oldest_go_is_quiet_and_an_inspector_that_was_open_stays_open() -> Result<()> {
    let mut target = program(Path::new("node"), &["--inspect=127.0.0.1:0"])?;
    // It is full before the attach, and from then on as many go as come.
    for _ in 0..5 {
        target.tell("replace 1000")?;
        ensure!(target.hear()? == "done");
    }
    let mut memtrace = Memtrace::attach(target.pid(), &["--ask", "--fail-on-leak"])?;
    until(&mut memtrace, &mut target, 14, "replace 1000", |_| false)?;
    let finished = memtrace.interrupt()?;
    let last = finished.final_report()?;
    ensure!(finished.code() == Some(0), "{:#?}", last.groups);
    let asked = asked(&last).context("what was asked")?;
    ensure!(!asked.opened && asked.left.as_deref() == Some("as_it_was") && asked.profiles > 4, "{asked:?}");
    let profiled = last.stacks.iter().filter(|stack| stack.kind == "profiled");
    let held: u64 = profiled.map(|stack| stack.outstanding_bytes).sum();
    ensure!(held > 0, "{:#?}", last.stacks);
    target.exit()
}

#[test]
fn a_program_that_handles_the_signal_itself_or_does_not_catch_it_lives_and_is_not_asked() -> Result<()> {
    let own = "process.on('SIGUSR1', () => console.log('got it')); console.log('ready');
               require('readline').createInterface({ input: process.stdin }).on('line', () => process.exit());";
    let mut target = Target::spawn(Command::new("node").args([ANY_PORT, "-e", own]))?;
    ensure!(target.hear()? == "ready");
    let memtrace = Memtrace::attach(target.pid(), &["--ask"])?;
    memtrace.errors_where("why it is not asked", |lines| {
        lines.iter().any(|line| line.contains("did not open its inspector"))
    })?;
    ensure!(target.hear()? == "got it" && target.runs()?);
    let last = memtrace.interrupt()?.final_report()?;
    let asked = asked(&last).context("what was asked")?;
    ensure!(asked.problem.is_some() && asked.profiles == 0 && asked.left.is_none(), "{asked:?}");
    target.exit()?;
    for node in nodes() {
        let option = "--disable-sigusr1";
        // Versions before 22 have no such option.
        if !Command::new(&node).args([option, "-e", ""]).output()?.status.success() {
            continue;
        }
        let mut target = program(&node, &[option])?;
        let memtrace = Memtrace::attach(target.pid(), &["--ask"])?;
        memtrace.errors_where("why it is not asked", |lines| {
            lines.iter().any(|line| line.contains("so it is not asked"))
        })?;
        ensure!(target.runs()?, "{node:?}");
        memtrace.interrupt()?;
        ensure!(target.runs()?, "{node:?}");
        target.exit()?;
    }
    Ok(())
}

#[test]
fn a_program_that_is_no_node_gets_no_signal() -> Result<()> {
    let mut target = Target::spawn(Command::new("sh").args(["-c", "echo ready; read line"]))?;
    ensure!(target.hear()? == "ready");
    let memtrace = Memtrace::attach(target.pid(), &["--ask"])?;
    let finished = memtrace.interrupt()?;
    ensure!(finished.errors.iter().any(|line| line.contains("--ask had nothing to ask")), "{:?}", finished.errors);
    ensure!(target.runs()?);
    target.exit()
}

#[test]
fn a_program_in_a_network_of_its_own_is_asked_there() -> Result<()> {
    let start = format!("ip link set lo up && exec node {}", fixture().display());
    let mut target = Target::spawn(Command::new("unshare").args(["--net", "sh", "-c", &start]))?;
    ensure!(target.hear()? == "ready");
    let mut memtrace = Memtrace::attach(target.pid(), &["--ask"])?;
    let has_profile = |report: &Report| asked(report).is_some_and(|asked| asked.profiles > 0);
    let report = memtrace.report_where("a profile", has_profile)?;
    let inspector = asked(&report).and_then(|asked| asked.inspector.clone());
    ensure!(inspector.as_deref() == Some("127.0.0.1:9229"), "{inspector:?}");
    let last = memtrace.interrupt()?.final_report()?;
    ensure!(asked(&last).is_some_and(|asked| asked.left.as_deref() == Some("closed")), "{:?}", asked(&last));
    target.exit()
}

#[test]
fn a_target_outlives_a_memtrace_that_is_killed_while_it_asks() -> Result<()> {
    let mut target = program(Path::new("node"), &[])?;
    let mut memtrace = Memtrace::attach(target.pid(), &["--ask"])?;
    let has_profile = |report: &Report| asked(report).is_some_and(|asked| asked.profiles > 0);
    memtrace.report_where("a profile", has_profile)?;
    memtrace.signal(Signal::KILL)?;
    memtrace.finish()?;
    target.tell("keep 10")?;
    ensure!(target.hear()? == "done" && target.runs()?);
    // The inspector that was opened is open still, and found by the next one, which did not open it.
    let memtrace = Memtrace::attach(target.pid(), &["--ask"])?;
    memtrace
        .errors_where("the open inspector", |lines| lines.iter().any(|line| line.contains("which was open before")))?;
    let status = memtrace.interrupt()?;
    ensure!(status.code() == Some(0), "{status:?}");
    target.exit()
}
