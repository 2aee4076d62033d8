//! Python's stacks against `traceback`: for every interpreter on this machine, all blocks that code of many shapes makes have exactly the
//! functions, files and lines that the interpreter itself says, and each stack has as many blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::BufReader,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{Frame, Memtrace, Report, Stack, Target, python::interpreters};
use serde::Deserialize;

/// How often each shape runs: enough for interpreters to specialise code.
const ROUNDS: u32 = 100;

/// How many blocks there have to be at least.
const AT_LEAST: u64 = 10_000;

/// By how much a block is larger than what is in it. Bytes have a head of 32 and end in one more; byte arrays end in one more, and from
/// 3.15 on keep what is in them as bytes.
const MORE: [u64; 2] = [1, 33];

/// A function, its file and a line; a stack has its innermost one first.
type Place = (String, String, u32);

/// Blocks of one size on each stack of Python.
type Counts = BTreeMap<(u64, Vec<Place>), u64>;

/// What the fixture says of a stack.
#[derive(Debug, Deserialize)]
struct Said {
    size: u64,
    frames: Vec<Place>,
    blocks: u64,
}

/// What the fixture says of all stacks.
fn said(path: &Path) -> Result<Counts> {
    let stacks: Vec<Said> = serde_json::from_reader(BufReader::new(File::open(path)?)).context("reading the stacks")?;
    Ok(stacks.into_iter().map(|stack| ((stack.size, stack.frames), stack.blocks)).collect())
}

fn place(frame: &Frame) -> Place {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&frame.function), text(&frame.file), frame.line.unwrap_or(0))
}

/// The size of which all blocks of a stack are, if it is one of these. Other blocks of the interpreter may have the stack as well, which
/// other functions of it ask for, so that they are a stack of their own: frames of Python, tables of lists.
fn size_of(stack: &Stack, sizes: &BTreeSet<u64>) -> Option<u64> {
    let (blocks, bytes) = (stack.outstanding_blocks, stack.outstanding_bytes);
    if stack.kind != "heap" || blocks == 0 || !bytes.is_multiple_of(blocks) {
        return None;
    }
    MORE.iter().filter_map(|more| (bytes / blocks).checked_sub(*more)).find(|size| sizes.contains(size))
}

/// What memtrace says of blocks of these sizes.
fn reported(report: &Report, sizes: &BTreeSet<u64>) -> Counts {
    let mut counts = Counts::new();
    for stack in &report.stacks {
        if let Some(size) = size_of(stack, sizes) {
            let interpreted = stack.frames.iter().filter(|frame| frame.kind == "interpreter");
            *counts.entry((size, interpreted.map(place).collect())).or_default() += stack.outstanding_blocks;
        }
    }
    counts
}

/// The stacks with another number of blocks in `these` than in `those`, as text.
fn differences(these: &Counts, those: &Counts) -> Vec<String> {
    let differs = |(stack, blocks): &(&_, &u64)| those.get(stack) != Some(blocks);
    these.iter().filter(differs).map(|(stack, blocks)| format!("{blocks} blocks of {stack:#?}")).collect()
}

#[expect(clippy::print_stdout, reason = "how much was compared is what a reader wants from this test")]
fn check(python: &Path) -> Result<()> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/python_differential.py");
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("stacks.json");
    let mut target = Target::spawn(Command::new(python).arg(fixture))?;
    ensure!(target.hear()?.starts_with("ready "));
    let mut memtrace = Memtrace::attach(target.pid(), &[])?;
    target.tell(&format!("go {ROUNDS} {}", path.display()))?;
    ensure!(target.hear()? == "done");
    let said = said(&path)?;
    let all: u64 = said.values().sum();
    ensure!(all >= AT_LEAST, "{all} blocks are too few");
    let sizes = said.keys().map(|(size, _)| *size).collect();
    let report = memtrace
        .report_where("all blocks", |report| reported(report, &sizes).values().sum::<u64>() == all)
        .with_context(|| format!("{all} blocks"))?;
    let found = reported(&report, &sizes);
    let (missing, wrong) = (differences(&said, &found), differences(&found, &said));
    let some = |differences: &[String]| differences.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    ensure!(
        found == said,
        "{} of {} stacks are wrong, such as\n{}\nwhich should be among\n{}",
        wrong.len(),
        found.len(),
        some(&wrong),
        some(&missing)
    );
    let last = memtrace.interrupt()?.final_report()?;
    ensure!(last.losses().is_empty(), "{:?}", last.losses());
    ensure!(target.runs()?, "the target ended");
    println!("{}: {all} blocks on {} stacks", python.display(), said.len());
    Ok(())
}

#[test]
fn every_block_has_the_stack_that_traceback_says() -> Result<()> {
    for (python, _) in interpreters()? {
        check(&python).with_context(|| python.display().to_string())?;
    }
    Ok(())
}
