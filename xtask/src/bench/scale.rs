//! What memtrace itself takes when there is much to watch: its memory for each block and stack, and the time of a report.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    table,
    tool::{
        Tool,
        attached::{self, lost, number},
    },
    workload::{Size, Target, ordered::c_program},
};
use crate::{process, procfs};

/// So much of one thing.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    blocks: u32,
    /// Stacks as a power of two.
    depth: u32,
    threads: u32,
    processes: u32,
}

const CASES: [Case; 4] = [
    Case { name: "blocks", blocks: 10_000_000, depth: 4, threads: 1, processes: 1 },
    Case { name: "stacks", blocks: 262_144, depth: 17, threads: 1, processes: 1 },
    Case { name: "threads", blocks: 1_000_000, depth: 4, threads: 1000, processes: 1 },
    Case { name: "processes", blocks: 640_000, depth: 4, threads: 1, processes: 64 },
];

/// What one case took.
#[derive(Clone, Debug, PartialEq)]
pub struct Took {
    name: &'static str,
    what: String,
    /// Live blocks and stacks in the report.
    blocks: u64,
    stacks: u64,
    /// The tracer's own memory: neither files nor what it shares with the kernel.
    own_bytes: u64,
    /// From the order to end until all was said, the probes' removal included.
    report_seconds: f64,
    lost: u64,
}

/// The heads of the table.
pub const HEADS: [&str; 7] = ["", "live blocks", "stacks", "own memory", "for each block", "report in", "lost"];

impl Took {
    /// The cells of its row.
    pub fn cells(&self) -> [String; HEADS.len()] {
        [
            format!("{}: {}", self.name, self.what),
            self.blocks.to_string(),
            self.stacks.to_string(),
            format!("{} MiB", self.own_bytes.div_ceil(1 << 20)),
            format!("{:.1} B", self.own_bytes as f64 / self.blocks.max(1) as f64),
            format!("{:.1} s", self.report_seconds),
            self.lost.to_string(),
        ]
    }
}

/// The table for a terminal.
pub fn render(rows: &[Took]) -> String {
    let heads = HEADS.map(str::to_owned).to_vec();
    let lines: Vec<Vec<String>> = std::iter::once(heads).chain(rows.iter().map(|row| row.cells().to_vec())).collect();
    table::aligned(&lines)
}

/// Runs every case once.
pub fn run(size: Size, memtrace: &Path, progress: impl Fn(&str)) -> Result<Vec<Took>> {
    let program = c_program("scale", &["-fomit-frame-pointer", "-pthread"])?;
    CASES
        .iter()
        .map(|case| {
            progress(&format!("scale: {}", case.name));
            let case = Case { blocks: size.of(case.blocks), ..*case };
            measure(case, &program, memtrace).with_context(|| format!("scale: {}", case.name))
        })
        .collect()
}

fn measure(case: Case, program: &Path, memtrace: &Path) -> Result<Took> {
    let mut holders = (0..case.processes).map(|_| Holder::start(case, program)).collect::<Result<Vec<_>>>()?;
    let mut command = process::as_root(memtrace, "tracing")?;
    for holder in &holders {
        command.args(["--pid", &holder.process.0.id().to_string()]);
    }
    command.args(["--format", "json", "--interval", "1h", "--top", "100000"]);
    let mut tracer = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot run memtrace")?;
    let mut errors = BufReader::new(tracer.stderr.take().context("no standard error")?);
    let mut seen = String::new();
    for _ in &holders {
        ensure!(attached::contains_line(&mut errors, &mut seen)?, "memtrace did not attach: {}", seen.trim());
    }
    for holder in &mut holders {
        holder.say("go")?;
    }
    for holder in &mut holders {
        holder.hear("done")?;
    }
    let pid = procfs::process_named(tracer.id(), "memtrace")?;
    let begun = Instant::now();
    let output = attached::end(tracer, pid, Tool::Memtrace)?;
    let report_seconds = begun.elapsed().as_secs_f64();
    took(case, &attached::last_report(&output)?, report_seconds)
}

fn took(case: Case, report: &Value, report_seconds: f64) -> Result<Took> {
    let processes = report["processes"].as_array().context("no processes in the report")?;
    let blocks = processes.iter().map(|process| number(process, "/totals/outstanding_blocks")).sum();
    ensure!(blocks >= u64::from(case.blocks), "{blocks} blocks were seen, of {}", case.blocks);
    let mut what = format!("{} blocks from {} stacks", case.blocks, 1u32 << case.depth);
    for (count, name) in [(case.threads, "threads"), (case.processes, "processes")] {
        if count > 1 {
            let _ = write!(what, " in {count} {name}");
        }
    }
    Ok(Took {
        name: case.name,
        what,
        blocks,
        stacks: report["stacks"].as_array().map_or(0, |stacks| stacks.len() as u64),
        own_bytes: number(report, "/tracer/anon_bytes"),
        report_seconds,
        lost: lost(report),
    })
}

/// A program that waits for its order.
struct Holder {
    process: Target,
    answers: BufReader<ChildStdout>,
}

impl Holder {
    fn start(case: Case, program: &Path) -> Result<Self> {
        let blocks = case.blocks / case.processes;
        let mut command = Command::new(program);
        command.args([blocks, case.depth, case.threads].map(|number| number.to_string()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start scale")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut holder = Self { process: Target(child), answers };
        holder.hear("ready")?;
        Ok(holder)
    }

    fn say(&mut self, order: &str) -> Result<()> {
        let input = self.process.0.stdin.as_mut().context("no standard input")?;
        writeln!(input, "{order}").context("the program takes no orders")
    }

    fn hear(&mut self, answer: &str) -> Result<()> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(line.trim_end() == answer, "the program said {line:?}, not {answer}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(blocks: u64) -> Value {
        serde_json::json!({
            "processes": [{"totals": {"outstanding_blocks": blocks}}, {"totals": {"outstanding_blocks": 5}}],
            "stacks": [{}, {}],
            "tracer": {"anon_bytes": 3 << 20},
            "loss": {"allocations_dropped": 2, "mappings_dropped": 1},
        })
    }

    #[test]
    fn a_row_is_made_of_the_report() {
        let case = Case { name: "x", blocks: 100, depth: 3, threads: 2, processes: 2 };
        let row = took(case, &report(100), 1.25).unwrap();
        assert_eq!((row.blocks, row.stacks, row.lost), (105, 2, 3));
        let text = render(&[row]);
        assert!(text.contains("x: 100 blocks from 8 stacks in 2 threads in 2 processes"), "{text}");
        assert!(text.contains("3 MiB") && text.contains("29959.3 B") && text.contains("1.2 s"), "{text}");
    }

    #[test]
    fn blocks_that_were_not_seen_are_an_error() {
        let case = Case { name: "x", blocks: 106, depth: 3, threads: 1, processes: 1 };
        assert!(took(case, &report(100), 1.0).is_err());
    }
}
