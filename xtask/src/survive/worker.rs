//! One run of a program: started, ready, told to stop, ended.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::program::Program;
use crate::process;

/// How long a program may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a process may look as if it had ended.
const DYING: Duration = Duration::from_secs(2);

/// How a run ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ended {
    /// The exit status.
    pub status: ExitStatus,
    /// What it printed after it was ready.
    pub output: Vec<String>,
}

/// A running program; dropping it ends all of its process group.
pub struct Worker {
    child: Child,
    lines: Receiver<String>,
    /// The processes to trace.
    pub pids: Vec<u32>,
    folder: TempDir,
}

impl Worker {
    /// Starts the program and waits until it is ready.
    ///
    /// # Errors
    /// When it ends, or says something else, or nothing.
    pub fn start(program: &Program, built: &Path) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        // Some run as another user.
        let work = folder.path().join("work");
        fs::create_dir(&work)?;
        for path in [folder.path(), &work] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        let mut command = Program::shell(program.start, built);
        command.env("FOLDER", &work).env("STOP", stop_file(&folder)).current_dir(&work).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(errors_file(&folder))?);
        process::ends_with_us(&mut command);
        let mut child = command.spawn().context("cannot start it")?;
        let (sender, lines) = mpsc::channel();
        let output = child.stdout.take().context("standard output is piped")?;
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
        });
        let mut worker = Self { child, lines, pids: Vec::new(), folder };
        let line = worker.lines.recv_timeout(PATIENCE);
        let line = line.map_err(|_| anyhow::anyhow!("it did not get ready{}", worker.said()))?;
        let ids = line.strip_prefix("ready ").with_context(|| format!("it said {line:?}, not that it is ready"))?;
        worker.pids = ids.split(' ').map(str::parse).collect::<Result<_, _>>().context("ids of processes")?;
        Ok(worker)
    }

    /// Checks that every process that is traced lives.
    ///
    /// # Errors
    /// When one does not: how it ended, as far as that is known.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended with {status}{}", self.said());
        }
        for pid in &self.pids {
            // One whose second thread calls exec is a zombie for a moment.
            let begun = Instant::now();
            while !lives(*pid) {
                ensure!(begun.elapsed() < DYING, "its process {pid} has ended{}", self.said());
                thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// Tells it to stop, and waits for that.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(mut self) -> Result<(Ended, String)> {
        File::create(stop_file(&self.folder)).context("cannot make the file that stops it")?;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(begun.elapsed() < PATIENCE, "it does not end{}", self.said());
            thread::sleep(Duration::from_millis(5));
        };
        let mut output = Vec::new();
        // What it has started may still have the pipe.
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(2)) {
            output.push(line);
        }
        Ok((Ended { status, output }, self.said()))
    }

    /// The end of its standard error, after a colon; nothing when it said nothing.
    fn said(&self) -> String {
        let text = fs::read(errors_file(&self.folder)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let last: Vec<&str> = text.lines().rev().take(5).collect();
        if last.is_empty() {
            return String::new();
        }
        format!(": {}", last.into_iter().rev().collect::<Vec<_>>().join(" / "))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // An error means that all of it has ended.
            let _ = kill_process_group(group, Signal::CONT);
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Whether a process is there and no zombie.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

fn stop_file(folder: &TempDir) -> PathBuf {
    folder.path().join("stop")
}

fn errors_file(folder: &TempDir) -> PathBuf {
    folder.path().join("errors")
}
