//! memtrace while it traces a service.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::process;

/// How long an attach may take, and the end beyond its time.
const PATIENCE: Duration = Duration::from_secs(120);

/// A memtrace that runs; dropping it ends it.
pub struct Tracer {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
    report: PathBuf,
    since: Instant,
    duration: Duration,
}

impl Tracer {
    /// Starts memtrace for some time; its reports go to the file `report`, a line each.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn start(
        memtrace: &Path,
        target: &[String],
        flags: &[&str],
        duration: Duration,
        report: PathBuf,
    ) -> Result<Self> {
        let mut command = Command::new(memtrace);
        command.args(target).args(flags).args(["--interval", "5s", "--duration", &format!("{}s", duration.as_secs())]);
        command.args(["--format", "json", "--output"]).arg(&report);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        process::ends_with_us(&mut command);
        let mut child = command.spawn().context("cannot run memtrace")?;
        let (sender, lines) = mpsc::channel();
        let errors = child.stderr.take().context("standard error is piped")?;
        thread::spawn(move || {
            let lines = BufReader::new(errors).lines().map_while(Result::ok);
            lines.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
        });
        Ok(Self { child, lines, said: Vec::new(), report, since: Instant::now(), duration })
    }

    /// Whether it says that it is attached.
    ///
    /// # Errors
    /// When it ended before that, or takes too long.
    pub fn is_attached(&mut self) -> Result<bool> {
        loop {
            match self.lines.try_recv() {
                Ok(line) => {
                    let is_attached = line.starts_with("memtrace: attached to ");
                    self.said.push(line);
                    if is_attached {
                        return Ok(true);
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => bail!("memtrace did not attach: {}", self.said.join(" / ")),
            }
        }
        ensure!(self.since.elapsed() < PATIENCE, "memtrace does not attach: {}", self.said.join(" / "));
        Ok(false)
    }

    /// Its last report, once it has ended; `None` while it runs.
    ///
    /// # Errors
    /// When it does not end in time or by itself, or left no last report.
    pub fn report(&mut self) -> Result<Option<Value>> {
        let Some(status) = self.child.try_wait()? else {
            ensure!(self.since.elapsed() < self.duration + 2 * PATIENCE, "memtrace does not end");
            return Ok(None);
        };
        self.said.extend(self.lines.iter());
        ensure!(status.success(), "memtrace ended with {status}: {}", self.said.join(" / "));
        let text = fs::read_to_string(&self.report).context("cannot read the report")?;
        let last = text.lines().last().context("the report is empty")?;
        let last: Value = serde_json::from_str(last).context("the last report is no JSON")?;
        ensure!(last["final"] == true, "the last report is not the final one");
        Ok(Some(last))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
