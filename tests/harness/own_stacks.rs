//! Programs that say themselves which stack makes each block that they keep, compared with what memtrace says.
//!
//! Such a program says `ready`, reads `go ROUNDS FILE`, makes its blocks, writes to the file how many it made of which size on which stack,
//! says `done`, and keeps them until its input ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::BufReader,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::{Frame, Memtrace, Report, Stack, Target};

/// A function, its file and a line; a stack has its innermost one first.
pub type Place = (String, String, u32);

/// Blocks of one size on each stack of interpreted code.
type Counts = BTreeMap<(u64, Vec<Place>), u64>;

/// What a program says of a stack.
#[derive(Debug, Deserialize)]
struct Said {
    size: u64,
    frames: Vec<Place>,
    blocks: u64,
}

/// What was compared.
#[derive(Debug)]
pub struct Compared {
    /// How many blocks there were.
    pub blocks: u64,
    /// How many stacks made them.
    pub stacks: usize,
    /// The report that had all of them.
    pub report: Report,
}

/// A comparison of stacks.
#[derive(Clone, Copy, Debug)]
pub struct Comparison<'a> {
    /// How often each shape of code runs.
    pub rounds: u32,
    /// How many blocks there have to be at least.
    pub at_least: u64,
    /// By how many bytes a block may be larger than the size that the program says.
    pub more: &'a [u64],
}

impl Comparison<'_> {
    /// Runs the program, and compares each stack and how many blocks it made.
    ///
    /// # Errors
    ///
    /// When any stack differs, in a function, file or line, or in its blocks; when something was lost, or the program ended.
    pub fn run(&self, command: &mut Command) -> Result<Compared> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("stacks.json");
        let mut target = Target::spawn(command)?;
        ensure!(target.hear()?.starts_with("ready"));
        let mut memtrace = Memtrace::attach(target.pid(), &[])?;
        target.tell(&format!("go {} {}", self.rounds, path.display()))?;
        ensure!(target.hear()? == "done");
        let said = said(&path)?;
        let blocks: u64 = said.values().sum();
        ensure!(blocks >= self.at_least, "{blocks} blocks are too few");
        let sizes = said.keys().map(|(size, _)| *size).collect();
        let is_all = |report: &Report| self.reported(report, &sizes).values().sum::<u64>() == blocks;
        let report = match memtrace.report_where("all blocks", is_all) {
            Ok(report) => report,
            // What is missing says more than that something is.
            Err(_) => memtrace.next_report()?,
        };
        let found = self.reported(&report, &sizes);
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
        Ok(Compared { blocks, stacks: said.len(), report })
    }

    /// The size of which all blocks of a stack are, if it is one of these. Other blocks of the interpreter may have the stack as well, which
    /// other functions of it ask for, so that they are a stack of their own: frames of Python, tables of lists.
    fn size_of(&self, stack: &Stack, sizes: &BTreeSet<u64>) -> Option<u64> {
        let (blocks, bytes) = (stack.outstanding_blocks, stack.outstanding_bytes);
        if stack.kind != "heap" || blocks == 0 || !bytes.is_multiple_of(blocks) {
            return None;
        }
        self.more.iter().filter_map(|more| (bytes / blocks).checked_sub(*more)).find(|size| sizes.contains(size))
    }

    /// What memtrace says of blocks of these sizes.
    fn reported(&self, report: &Report, sizes: &BTreeSet<u64>) -> Counts {
        let mut counts = Counts::new();
        for stack in &report.stacks {
            if let Some(size) = self.size_of(stack, sizes) {
                let interpreted = stack.frames.iter().filter(|frame| frame.kind == "interpreter");
                *counts.entry((size, interpreted.map(place).collect())).or_default() += stack.outstanding_blocks;
            }
        }
        counts
    }
}

/// What the program says of all stacks.
fn said(path: &Path) -> Result<Counts> {
    let stacks: Vec<Said> = serde_json::from_reader(BufReader::new(File::open(path)?)).context("reading the stacks")?;
    Ok(stacks.into_iter().map(|stack| ((stack.size, stack.frames), stack.blocks)).collect())
}

fn place(frame: &Frame) -> Place {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&frame.function), text(&frame.file), frame.line.unwrap_or(0))
}

/// The stacks with another number of blocks in `these` than in `those`, as text.
fn differences(these: &Counts, those: &Counts) -> Vec<String> {
    let differs = |(stack, blocks): &(&_, &u64)| those.get(stack) != Some(blocks);
    these.iter().filter(differs).map(|(stack, blocks)| format!("{blocks} blocks of {stack:#?}")).collect()
}
