//! Python's own frames: for every interpreter on this machine, what memtrace names is what the interpreter itself says.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{Frame, Memtrace, Report, Stack, Target, python::interpreters};
use serde::Deserialize;

const COUNT: u64 = 20;

/// The most frames of an interpreter that a stack carries.
const MAX_FRAMES: usize = 127;

const CASES: [&str; 14] = [
    "plain",
    "sort_key",
    "generator",
    "nested_generator",
    "method",
    "through_cache",
    "substitution",
    "native_callback",
    "in_thread",
    "in_task",
    "compiled",
    "größe",
    "deep",
    "very_deep",
];

/// What the fixture says of a case.
#[derive(Debug, Deserialize)]
struct Kept {
    /// Bytes of each block.
    size: u64,
    /// Function, file and line; the innermost frame first.
    frames: Vec<(String, String, u32)>,
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/python_frames.py")
}

fn is_interpreted(frame: &&Frame) -> bool {
    frame.kind == "interpreter"
}

/// The stacks of the blocks of one size: interpreters call by other functions of theirs as code becomes warm. (A byte array
/// ends in one byte more; from 3.15 on it keeps them in an object of bytes, which has a head of 32.)
fn stacks_of(report: &Report, kept: &Kept) -> Vec<Stack> {
    let is_of = |stack: &&Stack| {
        let blocks = stack.outstanding_blocks;
        blocks > 0 && [1, 33].iter().any(|more| stack.outstanding_bytes == blocks * (kept.size + more))
    };
    report.stacks.iter().filter(is_of).cloned().collect()
}

/// The one with the most blocks.
fn stack_of(report: &Report, kept: &Kept) -> Option<Stack> {
    stacks_of(report, kept).into_iter().max_by_key(|stack| stack.outstanding_blocks)
}

fn check(case: &str, stack: &Stack, kept: &Kept) -> Result<()> {
    let named: Vec<(String, String, u32)> = stack
        .frames
        .iter()
        .filter(is_interpreted)
        .map(|frame| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            (text(&frame.function), text(&frame.file), frame.line.unwrap_or(0))
        })
        .collect();
    let said = &kept.frames[..kept.frames.len().min(MAX_FRAMES)];
    ensure!(named == said, "{case}: {named:#?} is not {said:#?}");
    Ok(())
}

#[test]
fn frames_are_those_that_every_interpreter_itself_names() -> Result<()> {
    for (python, version) in interpreters()? {
        let mut target = Target::spawn(Command::new(&python).arg(fixture()))?;
        ensure!(target.hear()?.starts_with("ready "), "{python:?}");
        let mut memtrace = Memtrace::attach(target.pid(), &[])?;
        let mut cases = Vec::new();
        for case in CASES {
            target.tell(&format!("{case} {COUNT}"))?;
            cases.push((case, target.hear_json::<Kept>()?));
        }
        let blocks = |stacks: &[Stack]| stacks.iter().map(|stack| stack.outstanding_blocks).sum::<u64>();
        let is_there = |report: &Report| cases.iter().all(|(_, kept)| blocks(&stacks_of(report, kept)) == COUNT);
        let report =
            memtrace.report_where("every case's blocks", is_there).with_context(|| format!("{}", python.display()))?;
        for (case, kept) in &cases {
            for stack in stacks_of(&report, kept) {
                let is_cut = kept.frames.len() > MAX_FRAMES;
                ensure!(
                    !is_cut || stack.truncated.is_some(),
                    "{python:?} {case}: frames are missing, and nothing says so"
                );
                check(case, &stack, kept).with_context(|| format!("{}: {stack:#?}", python.display()))?;
                // What runs Python code is not shown beside it, and what it calls is.
                let is_loop = |frame: &Frame| frame.function.as_deref() == Some("_PyEval_EvalFrameDefault");
                ensure!(*case == "very_deep" || !stack.frames.iter().any(is_loop), "{python:?} {case}: {stack:#?}");
                ensure!(stack.frames.first().is_some_and(|frame| frame.kind == "native"), "{python:?} {case}");
            }
        }
        native_frames_stand_between(&report, &cases, version).with_context(|| format!("{}", python.display()))?;
        let finished = memtrace.interrupt()?;
        ensure!(finished.errors.iter().all(|line| !line.contains("not named")), "{:?}", finished.errors);
        let last = finished.final_report()?;
        ensure!(last.losses().is_empty(), "{:?}", last.losses());
        ensure!(target.runs()?, "{python:?}");
    }
    Ok(())
}

/// The C library's `qsort` stands between the function that it calls and the one that calls it.
fn native_frames_stand_between(report: &Report, cases: &[(&str, Kept)], version: u32) -> Result<()> {
    let (_, kept) = cases.iter().find(|(case, _)| *case == "native_callback").context("a case")?;
    let stack = stack_of(report, kept).context("its stack")?;
    let place = |wanted: &str| {
        let ends = |frame: &Frame| {
            let function = frame.function.as_deref().unwrap_or_default();
            function == wanted || function.ends_with(&format!(".{wanted}"))
        };
        stack.frames.iter().position(ends).with_context(|| format!("{wanted} in {stack:#?}"))
    };
    let (compare, caller) = (place("compare")?, place("native_callback")?);
    let between = &stack.frames[compare + 1..caller];
    ensure!(between.iter().any(|frame| frame.module.as_deref() == Some("libc.so.6")), "{stack:#?}");
    ensure!(between.iter().all(|frame| frame.kind == "native"), "{stack:#?}");
    // From 3.11 on, one native frame runs functions that call each other directly.
    let (_, kept) = cases.iter().find(|(case, _)| *case == "deep").context("a case")?;
    let stack = stack_of(report, kept).context("its stack")?;
    let first = stack.frames.iter().position(|frame| frame.kind == "interpreter").context("Python frames")?;
    let together = stack.frames[first..].iter().take_while(|frame| frame.kind == "interpreter").count();
    ensure!(if version >= 311 { together > 60 } else { together == 1 }, "{together} together in {stack:#?}");
    Ok(())
}

#[test]
fn an_interpreter_that_is_started_is_known_before_long() -> Result<()> {
    for (python, _) in interpreters()? {
        let python = python.display().to_string();
        let script = "kept = []\ndef late():\n    kept.append(bytearray(5000))\nimport os, time\nparent = os.getppid()\nwhile os.getppid() == parent:\n    late(); time.sleep(0.002)\n";
        let mut memtrace = Memtrace::start(&["--format", "json", "--interval", "300ms", "--", &python, "-c", script])?;
        let is_named = |stack: &Stack| {
            stack.frames.iter().any(|frame| frame.function.as_deref() == Some("late") && frame.line == Some(3))
        };
        memtrace.report_where("the line of a started script", |report| report.stacks.iter().any(is_named))?;
        memtrace.interrupt()?;
    }
    Ok(())
}

#[test]
fn a_fork_and_another_program_have_their_own_frames() -> Result<()> {
    // The child runs the same code, and then another interpreter in its place.
    let script = "\
import os, sys, time
kept, parent = [], os.getppid()
def in_child():
    kept.append(bytearray(6000))
def in_parent():
    kept.append(bytearray(7000))
if os.fork() == 0:
    for _ in range(200):
        in_child(); time.sleep(0.01)
    os.execv(sys.executable, [sys.executable, '-c', '''
import os, time
kept, parent = [], os.getppid()
def after_exec():
    kept.append(bytearray(8000))
while os.getppid() == parent:
    after_exec(); time.sleep(0.005)
'''])
while os.getppid() == parent:
    in_parent(); time.sleep(0.005)
";
    let arguments = ["--format", "json", "--interval", "300ms", "--follow", "--", "/usr/bin/python3", "-c", script];
    let mut memtrace = Memtrace::start(&arguments)?;
    let names = |report: &Report, function: &str| {
        let of = |frame: &Frame| frame.function.as_deref() == Some(function) && frame.kind == "interpreter";
        report.stacks.iter().any(|stack| stack.frames.iter().any(of))
    };
    for function in ["in_child", "in_parent", "after_exec"] {
        memtrace.report_where(function, |report| names(report, function))?;
    }
    memtrace.interrupt()?;
    Ok(())
}
