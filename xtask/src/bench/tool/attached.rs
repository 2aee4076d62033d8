//! Tools at work on a process: those that attach to it, and the proof that those that were started with it are there.

use std::fs;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{Said, Tool, started};
use crate::procfs::{self, Usage, mapped};
use crate::{process, tree};

/// A tool at work.
pub enum Attached {
    /// There is nothing to end and nothing to ask.
    Quiet,
    /// A process that traces.
    Tracer {
        tool: Tool,
        child: Child,
        /// The process that does the work: the child, or below sudo.
        pid: u32,
    },
    /// heaptrack, with the length of its record.
    Recording(u64),
}

/// Attaches, and returns when all probes are in place.
pub fn attach(tool: Tool, pid: u32, memtrace: &Path) -> Result<Attached> {
    let pid_text = pid.to_string();
    let command = match tool {
        Tool::Nothing | Tool::Valgrind => return Ok(Attached::Quiet),
        Tool::Jemalloc | Tool::JemallocSampled | Tool::JemallocEvery => {
            mapped(pid, "/libjemalloc.so")?.context("jemalloc is not in the program that it was preloaded into")?;
            return Ok(Attached::Quiet);
        }
        Tool::Heaptrack => return Ok(Attached::Recording(record_length()?)),
        Tool::Empty | Tool::Memtrace | Tool::MemtraceSampled => {
            let mut command = process::as_root(memtrace, "tracing")?;
            command.args(["--pid", &pid_text, "--format", "json", "--interval", "1h", "--top", "100000"]);
            if tool == Tool::Empty {
                command.arg("--empty-programs");
            }
            if tool == Tool::MemtraceSampled {
                command.args(["--sample", "512KiB"]);
            }
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command
        }
        Tool::Bpftrace => {
            let mut command = process::as_root("bpftrace", "tracing")?;
            command.args(["-p", &pid_text]).arg(script(pid)?);
            command.env("BPFTRACE_MAP_KEYS_MAX", "1000000");
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command
        }
    };
    spawn(tool, command)
}

fn spawn(tool: Tool, mut command: Command) -> Result<Attached> {
    let mut child = command.spawn().with_context(|| format!("cannot run {}", tool.name()))?;
    wait_attached(&mut child, tool)?;
    let name = if tool == Tool::Bpftrace { "bpftrace" } else { "memtrace" };
    let pid = procfs::process_named(child.id(), name)?;
    Ok(Attached::Tracer { tool, child, pid })
}

impl Attached {
    /// Processor time that the tool's process has taken so far, if it has one.
    pub fn processor_seconds(&self) -> Result<Option<f64>> {
        match self {
            Attached::Tracer { pid, .. } => Ok(Some(Usage::of(*pid)?.processor_seconds)),
            Attached::Quiet | Attached::Recording(_) => Ok(None),
        }
    }

    /// Ends the tool; gives what it says.
    pub fn detach(self) -> Result<Said> {
        match self {
            Attached::Quiet => Ok(Said::default()),
            Attached::Recording(before) => {
                ensure!(record_length()? > before, "heaptrack recorded nothing");
                fs::remove_file(started::heaptrack_record()?).context("cannot remove heaptrack's record")?;
                Ok(Said::default())
            }
            Attached::Tracer { tool, child, pid } => {
                let peak_bytes = Some(Usage::of(pid)?.peak_bytes);
                let output = end(child, pid, tool)?;
                let said = if matches!(tool, Tool::Memtrace | Tool::MemtraceSampled) {
                    read(&output)?
                } else {
                    Said::default()
                };
                Ok(Said { peak_bytes, ..said })
            }
        }
    }
}

/// Ends the process and gives its output.
pub fn end(mut child: Child, pid: u32, tool: Tool) -> Result<String> {
    let mut kill = process::as_root("kill", "ending what traces")?;
    process::run_quietly(kill.args(["-INT", &pid.to_string()])).context("cannot end the tool")?;
    let mut output = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut output)?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "{} failed: {status}", tool.name());
    Ok(output)
}

/// memtrace's last report.
pub fn last_report(output: &str) -> Result<Value> {
    let last = output.lines().last().context("memtrace printed no report")?;
    serde_json::from_str(last).context("memtrace's report is not JSON")
}

/// A number of a report; 0 if it is not there.
pub fn number(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// Events that memtrace could not keep.
pub fn lost(report: &Value) -> u64 {
    let names = ["allocations_dropped", "releases_dropped", "mappings_dropped", "thread_state_missing"];
    names.iter().map(|name| number(report, &format!("/loss/{name}"))).sum()
}

/// What memtrace's last report says.
fn read(output: &str) -> Result<Said> {
    let report = last_report(output)?;
    let number = |pointer: &str| number(&report, pointer);
    let (remembered, walked) = (number("/tracer/stacks_remembered"), number("/tracer/stacks_walked"));
    Ok(Said {
        lost: Some(lost(&report)),
        seen: Some(number("/processes/0/totals/allocations")),
        remembered: Some(remembered as f64 / (remembered + walked) as f64),
        frames: frames(&report),
        peak_bytes: None,
    })
}

fn frames(report: &Value) -> Option<usize> {
    let stacks = report.get("stacks")?.as_array()?;
    let most = stacks.iter().max_by_key(|stack| stack["allocations"].as_u64())?;
    let frames = most["frames"].as_array()?.iter().filter(|frame| frame["inlined"] == false).count();
    Some(if most["truncated"].is_null() { frames } else { 0 })
}

fn record_length() -> Result<u64> {
    let record = started::heaptrack_record()?;
    Ok(fs::metadata(record).context("heaptrack has written no record")?.len())
}

/// The script with the process, and the path of the library that it allocates with.
fn script(pid: u32) -> Result<PathBuf> {
    let library = match mapped(pid, "/libjemalloc.so")? {
        Some(library) => library,
        None => mapped(pid, "/libc.so")?.context("the target maps no libc.so")?,
    };
    let source = tree::root().join("xtask/bench/equivalent.bt");
    let text = fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    let place = tree::target().join("bench/equivalent.bt");
    let text = text.replace("LIBRARY", &library).replace("TARGET", &pid.to_string());
    fs::write(&place, text).with_context(|| format!("cannot write {}", place.display()))?;
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
        // The script's errors; of memtrace's nothing is left.
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut seen)?;
        }
        bail!("{} did not attach: {}", tool.name(), seen.trim());
    }
    Ok(())
}

/// Whether a line says that a tool has attached; the lines until then are added to `seen`.
pub fn contains_line(lines: &mut dyn BufRead, seen: &mut String) -> Result<bool> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memtraces_last_report_counts() {
        let first = r#"{"processes":[{"totals":{"allocations":1}}]}"#;
        let last = r#"{"processes":[{"totals":{"allocations":30}}],
            "loss":{"allocations_dropped":1,"releases_dropped":2,"mappings_dropped":4,"thread_state_missing":8},
            "tracer":{"stacks_remembered":9,"stacks_walked":1},
            "stacks":[{"allocations":3,"frames":[],"truncated":null},
                      {"allocations":27,"frames":[{"inlined":true},{"inlined":false},{"inlined":false}],"truncated":null}]}"#;
        let said = read(&format!("{first}\n{}", last.replace('\n', ""))).unwrap();
        let expected =
            Said { lost: Some(15), seen: Some(30), remembered: Some(0.9), frames: Some(2), peak_bytes: None };
        assert_eq!(said, expected);
    }

    #[test]
    fn output_without_a_report_is_an_error() {
        assert!(read("").is_err());
        assert!(read("memtrace: no such process\n").is_err());
    }

    #[test]
    fn the_line_that_says_so_ends_the_wait() {
        let mut seen = String::new();
        let mut lines: &[u8] = b"memtrace: reading maps\nmemtrace: attached to 1 process\nmore\n";
        assert!(contains_line(&mut lines, &mut seen).unwrap());
        assert_eq!(lines, b"more\n");
        assert!(!contains_line(&mut lines, &mut seen).unwrap());
    }
}
