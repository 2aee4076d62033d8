//! Recorded cases: what memtrace reported of real programs, with what is true of them.
//!
//! A file of `recorded/` is JSON lines: first the program, then one line for each stack: its label, the function that
//! called the allocator, and after each interval `[elapsed_ms, bytes, blocks, allocations, allocated_bytes]`. They are made
//! from `memtrace --format json --top 100000` by `cargo run -p verdict-corpus -- record`.

use std::{
    collections::BTreeMap,
    fs,
    io::BufRead,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use memtrace::parts::{
    report::{Snapshot, Stack},
    trend::{Observation, Trend, Verdict},
};
use serde::{Deserialize, Serialize};

/// The stacks of a program that are kept: those that held the most.
const KEPT: usize = 12;

/// The first line of a file.
#[derive(Debug, Deserialize, Serialize)]
pub struct Program {
    /// What ran, for people.
    pub program: String,
    /// How many stacks were seen, of which the largest are kept.
    pub stacks: usize,
}

/// A stack of it.
#[derive(Debug, Deserialize, Serialize)]
pub struct Trace {
    /// Whether it leaks.
    pub leaks: bool,
    /// The function that called the allocator.
    pub function: String,
    /// `[elapsed_ms, bytes, blocks, allocations, allocated_bytes]`
    pub samples: Vec<[u64; 5]>,
}

/// What was said of a recorded program at its end.
#[derive(Debug)]
pub struct Replayed {
    /// The file's name.
    pub name: String,
    /// For each stack: whether it leaks, its function, what it is called, and why.
    pub stacks: Vec<(bool, String, Verdict, String)>,
}

/// Makes a recording from the reports of a run, the lines of `--format json`. A stack leaks when a function of it contains
/// `leak`.
///
/// # Errors
/// When a line is no report.
pub fn record(program: &str, leak: Option<&str>, reports: impl BufRead) -> Result<String> {
    let mut samples: BTreeMap<String, Vec<[u64; 5]>> = BTreeMap::new();
    let mut last: BTreeMap<String, Stack> = BTreeMap::new();
    for line in reports.lines() {
        let snapshot: Snapshot = serde_json::from_str(&line?).context("reading a report")?;
        for stack in snapshot.stacks {
            let key = format!("{} {} {:?}", stack.pid, stack.id, stack.kind);
            let sample = [
                snapshot.elapsed_ms,
                stack.outstanding_bytes,
                stack.outstanding_blocks,
                stack.allocations,
                stack.allocated_bytes,
            ];
            samples.entry(key.clone()).or_default().push(sample);
            last.insert(key, stack);
        }
    }
    let mut traces: Vec<Trace> = samples
        .into_iter()
        .map(|(key, samples)| {
            let functions = last[&key].frames.iter().filter_map(|frame| frame.function.as_deref());
            let leaks = leak.is_some_and(|leak| functions.clone().any(|function| function.contains(leak)));
            let function = functions.clone().next().unwrap_or_default().chars().take(80).collect();
            Trace { leaks, function, samples }
        })
        .collect();
    traces.sort_by_key(|trace| std::cmp::Reverse(trace.samples.iter().map(|sample| sample[1]).max()));
    let mut text = serde_json::to_string(&Program { program: program.to_owned(), stacks: traces.len() })? + "\n";
    for trace in traces.iter().take(KEPT) {
        text += &(serde_json::to_string(trace)? + "\n");
    }
    Ok(text)
}

/// Judges every recording in the crate.
///
/// # Errors
/// When there is none, or one cannot be read.
pub fn replay_all() -> Result<Vec<Replayed>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded");
    let entries = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    ensure!(!files.is_empty(), "there are no recordings in {}", folder.display());
    files.iter().map(|file| replay(file).with_context(|| format!("replaying {}", file.display()))).collect()
}

fn replay(file: &Path) -> Result<Replayed> {
    let text = fs::read_to_string(file)?;
    let mut lines = text.lines();
    let program: Program = serde_json::from_str(lines.next().context("it is empty")?)?;
    let traces: Vec<Trace> = lines.map(serde_json::from_str).collect::<Result<_, _>>()?;
    let mut times: Vec<u64> = traces.iter().flat_map(|trace| trace.samples.iter().map(|sample| sample[0])).collect();
    times.sort_unstable();
    times.dedup();
    let mut trend = Trend::new();
    for time in times {
        trend.begin_interval(time, time * 1_000_000);
        for (key, trace) in (0u32..).zip(&traces) {
            let Some(&[_, bytes, blocks, allocations, allocated_bytes]) =
                trace.samples.iter().find(|sample| sample[0] == time)
            else {
                continue;
            };
            if bytes > 0 || !trend.series(key).is_empty() {
                trend.observe(key, Observation { bytes, blocks, allocations, allocated_bytes, precision: None });
            }
        }
    }
    let keys: Vec<u32> = (0..traces.len() as u32).collect();
    let judged = trend.judge_all(&keys);
    let stacks = traces
        .into_iter()
        .zip(judged)
        .map(|(trace, judgement)| (trace.leaks, trace.function, judgement.verdict, judgement.evidence))
        .collect();
    Ok(Replayed { name: program.program, stacks })
}
