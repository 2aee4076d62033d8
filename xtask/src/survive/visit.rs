//! One visit of memtrace to the processes of a program: it attaches, or begins to, and ends in one of several ways.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::process;

/// How long memtrace may take to attach, or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a visit ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// SIGINT, this long after the attach.
    Interrupted(Duration),
    /// SIGKILL, this long after the attach.
    Killed(Duration),
    /// SIGKILL, this long after the start, wherever that is in the attach.
    KilledEarly(Duration),
    /// By itself, at the end of `--duration`.
    Over,
}

impl Way {
    /// The ways take turns, and so do the times.
    fn of(round: u32) -> Self {
        let turn = round / 4;
        let after = Duration::from_millis(u64::from(turn % 5) * 20);
        match round % 4 {
            0 => Self::Interrupted(after),
            1 => Self::Killed(after),
            2 => Self::Over,
            // An attach takes some 200 to 400 ms.
            _ => Self::KilledEarly(Duration::from_millis(20 + u64::from(turn * 37 % 400))),
        }
    }
}

/// What came of a visit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Visit {
    /// All probes were in place.
    Attached,
    /// memtrace was killed before that.
    CutShort,
    /// memtrace did not attach, and says why.
    Refused(String),
}

/// Makes one visit.
///
/// # Errors
/// When memtrace does not end, or ends in an unexpected way.
pub fn pay(memtrace: &Path, pids: &[u32], flags: &[&str], round: u32) -> Result<Visit> {
    let way = Way::of(round);
    let mut command = Command::new(memtrace);
    command.args(pids.iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()])).args(flags);
    command.args(["--interval", "1s", "--format", "json"]);
    if way == Way::Over {
        command.args(["--duration", "50ms"]);
    }
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run memtrace")?;
    let (sender, lines) = mpsc::channel();
    let errors = child.stderr.take().context("standard error is piped")?;
    thread::spawn(move || {
        let lines = BufReader::new(errors).lines().map_while(Result::ok);
        lines.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
    });
    let signal = |signal| kill_process(Pid::from_child(&child), signal);
    let limit = match way {
        Way::KilledEarly(after) => after,
        _ => PATIENCE,
    };
    let (mut attached, mut said) = (0, Vec::new());
    while attached < pids.len() {
        match lines.recv_timeout(limit.saturating_sub(begun.elapsed())) {
            Ok(line) if line.starts_with("memtrace: attached to ") => {
                let count = line.split(" processes").next().and_then(|before| before.rsplit(' ').next()?.parse().ok());
                attached += if line.contains(" processes in ") { count.unwrap_or(1) } else { 1 };
            }
            Ok(line) => said.push(line),
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    match way {
        Way::Interrupted(after) => {
            thread::sleep(after);
            // An error means that it has ended.
            let _ = signal(Signal::INT);
        }
        Way::Killed(after) => {
            thread::sleep(after);
            let _ = signal(Signal::KILL);
        }
        Way::KilledEarly(after) => {
            thread::sleep(after.saturating_sub(begun.elapsed()));
            let _ = signal(Signal::KILL);
        }
        Way::Over => {}
    }
    let status = process::end_within(&mut child, PATIENCE)?;
    let status = status.with_context(|| format!("memtrace did not end ({way:?})"))?;
    said.extend(lines.iter());
    let is_killed = matches!(way, Way::Killed(_) | Way::KilledEarly(_));
    match status.code() {
        Some(0) if attached > 0 => Ok(Visit::Attached),
        None if is_killed && attached > 0 => Ok(Visit::Attached),
        None if is_killed => Ok(Visit::CutShort),
        Some(1) => Ok(Visit::Refused(said.join(" / "))),
        _ => bail!("memtrace ended with {status} ({way:?}): {}", said.join(" / ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_comes_up_in_four_rounds() {
        let ways: Vec<_> = (0..4).map(Way::of).collect();
        assert!(matches!(ways[..], [Way::Interrupted(_), Way::Killed(_), Way::Over, Way::KilledEarly(_)]));
        let early: Vec<_> = (0..100).map(|turn| Way::of(turn * 4 + 3)).collect();
        assert!(early.iter().any(|way| *way < Way::KilledEarly(Duration::from_millis(60))));
    }

    impl PartialOrd for Way {
        fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
            match (self, other) {
                (Self::KilledEarly(one), Self::KilledEarly(two)) => one.partial_cmp(two),
                _ => None,
            }
        }
    }
}
