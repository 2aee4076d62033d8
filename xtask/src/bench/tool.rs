//! What watches while the workload runs.

use std::fs;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{process, tree};

/// A way to trace, or not to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tool {
    /// Nothing attached.
    Nothing,
    /// Programs that do nothing, on memtrace's probe sites.
    Empty,
    /// memtrace.
    Memtrace,
    /// The equivalent bpftrace script (`bench/equivalent.bt`).
    Bpftrace,
}

impl Tool {
    /// In the order of the table.
    pub const ALL: [Tool; 4] = [Tool::Nothing, Tool::Empty, Tool::Memtrace, Tool::Bpftrace];

    /// The row's name.
    pub const fn name(self) -> &'static str {
        match self {
            Tool::Nothing => "nothing",
            Tool::Empty => "empty programs, same sites",
            Tool::Memtrace => "memtrace",
            Tool::Bpftrace => "bpftrace equivalent",
        }
    }

    /// Attaches to the process, and returns when all probes are in place.
    pub fn attach(self, pid: u32, memtrace: &Path) -> Result<Attached> {
        let pid_text = pid.to_string();
        let mut command = match self {
            Tool::Nothing => return Ok(Attached { child: None }),
            Tool::Empty | Tool::Memtrace => {
                let mut command = process::as_root(memtrace, "tracing")?;
                command.args(["--pid", &pid_text, "--format", "json", "--interval", "1h", "--top", "100000"]);
                if self == Tool::Empty {
                    command.arg("--empty-programs");
                }
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                command
            }
            Tool::Bpftrace => {
                let mut command = process::as_root("bpftrace", "tracing")?;
                command.args(["-p", &pid_text]).arg(script(pid)?);
                command.env("BPFTRACE_MAP_KEYS_MAX", "1000000");
                command.stdout(Stdio::piped()).stderr(Stdio::null());
                command
            }
        };
        let mut child = command.spawn().with_context(|| format!("cannot run {}", self.name()))?;
        wait_attached(&mut child, self)?;
        Ok(Attached { child: Some((child, self)) })
    }
}

/// A tool at work.
pub struct Attached {
    child: Option<(Child, Tool)>,
}

impl Attached {
    /// Ends the tool; gives what it says.
    pub fn detach(self) -> Result<Said> {
        let Some((mut child, tool)) = self.child else { return Ok(Said::default()) };
        let signalled = process::run_quietly(Command::new("kill").args(["-INT", &child.id().to_string()]));
        signalled.context("cannot end the tool")?;
        let mut output = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut output)?;
        }
        let status = child.wait()?;
        if tool != Tool::Memtrace {
            return Ok(Said::default());
        }
        ensure!(status.success(), "memtrace failed: {status}");
        let last = output.lines().last().context("memtrace printed no report")?;
        let report: serde_json::Value = serde_json::from_str(last).context("memtrace's report is not JSON")?;
        let number = |pointer: &str| report.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let lost = ["allocations_dropped", "releases_dropped", "mappings_dropped", "thread_state_missing"];
        let lost = lost.iter().map(|name| number(&format!("/loss/{name}"))).sum();
        let (remembered, walked) = (number("/tracer/stacks_remembered"), number("/tracer/stacks_walked"));
        Ok(Said {
            lost: Some(lost),
            seen: Some(number("/processes/0/totals/allocations")),
            remembered: Some(remembered as f64 / (remembered + walked) as f64),
            frames: frames(&report),
        })
    }
}

/// What a tool says of itself when it ends; `None` for what it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Said {
    /// Events that it could not keep.
    pub lost: Option<u64>,
    /// Allocations that it saw.
    pub seen: Option<u64>,
    /// The share of stacks that it remembered and did not walk, 0 to 1.
    pub remembered: Option<f64>,
    /// Frames of the stack that allocated most, if it is whole, inlined functions not counted.
    pub frames: Option<usize>,
}

fn frames(report: &serde_json::Value) -> Option<usize> {
    let stacks = report.get("stacks")?.as_array()?;
    let most = stacks.iter().max_by_key(|stack| stack["allocations"].as_u64())?;
    let frames = most["frames"].as_array()?.iter().filter(|frame| frame["inlined"] == false).count();
    Some(if most["truncated"].is_null() { frames } else { 0 })
}

/// The script with the path of the C library that the process maps.
fn script(pid: u32) -> Result<PathBuf> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).context("cannot read the target's maps")?;
    let library = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("/libc.so"));
    let library = library.context("the target maps no libc.so")?;
    let source = tree::root().join("xtask/bench/equivalent.bt");
    let text = fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    let place = tree::target().join("bench/equivalent.bt");
    fs::write(&place, text.replace("LIBC", library)).with_context(|| format!("cannot write {}", place.display()))?;
    Ok(place)
}

/// memtrace says so on standard error, the script on standard output.
fn wait_attached(child: &mut Child, tool: Tool) -> Result<()> {
    let mut seen = String::new();
    let found = if tool == Tool::Bpftrace {
        let stdout = child.stdout.as_mut().context("no standard output")?;
        contains_line(&mut BufReader::new(stdout), &mut seen)?
    } else {
        let stderr = child.stderr.as_mut().context("no standard error")?;
        contains_line(&mut BufReader::new(stderr), &mut seen)?
    };
    if !found {
        bail!("{} did not attach: {}", tool.name(), seen.trim());
    }
    Ok(())
}

fn contains_line(lines: &mut dyn std::io::BufRead, seen: &mut String) -> Result<bool> {
    loop {
        let begin = seen.len();
        if lines.read_line(seen)? == 0 {
            return Ok(false);
        }
        if seen[begin..].starts_with("attached") || seen[begin..].contains(": attached") {
            return Ok(true);
        }
    }
}
