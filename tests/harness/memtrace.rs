//! The program under test: builds it once, runs it, signals it, and reads its report.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::{Report, lines::Lines, target::ends_with_us, wait};

/// The path of the program under test: `MEMTRACE_BIN`, or else a release build of this workspace.
///
/// # Errors
/// When it cannot be built.
pub fn program() -> Result<PathBuf> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    if let Some(path) = env::var_os("MEMTRACE_BIN") {
        return Ok(path.into());
    }
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = &*built {
        return Ok(path.clone());
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace holds this package")?;
    let result = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--package", "memtrace", "--message-format", "json-render-diagnostics"])
        .current_dir(workspace)
        .stderr(Stdio::inherit())
        .output()
        .context("running cargo to build memtrace")?;
    if !result.status.success() {
        bail!("memtrace does not build");
    }
    let path = String::from_utf8_lossy(&result.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "memtrace")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo names memtrace's executable")?;
    *built = Some(path.clone());
    Ok(path)
}

/// Refuses to go on without root: a test that cannot trace must not look as if it had passed.
///
/// # Errors
/// When not root.
pub fn require_root() -> Result<()> {
    if !geteuid().is_root() {
        bail!("the end-to-end tests need root: run `cargo xtask test`");
    }
    Ok(())
}

/// A run of memtrace that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// The lines of its standard output.
    pub output: Vec<String>,
    /// The lines of its standard error.
    pub errors: Vec<String>,
    /// From the signal that ended it, or from the call of `finish`, to its end.
    pub took: Duration,
}

impl Finished {
    /// Its exit status.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The reports in JSON on its standard output.
    ///
    /// # Errors
    /// When a line is anything else.
    pub fn reports(&self) -> Result<Vec<Report>> {
        self.output.iter().map(|line| Report::parse(line)).collect()
    }

    /// The last report, which alone must say that it is the last.
    ///
    /// # Errors
    /// When the run did not end well, or its last report is not the only final one.
    pub fn final_report(&self) -> Result<Report> {
        if !matches!(self.code(), Some(0 | 3)) {
            bail!("memtrace ended with {}: {}", self.status, self.errors.join("\n"));
        }
        let mut reports = self.reports()?;
        let last = reports.pop().context("memtrace printed no report")?;
        if !last.is_final || reports.iter().any(|report| report.is_final) {
            bail!("the last report and no other must be the final one: {}", self.output.join("\n"));
        }
        Ok(last)
    }
}

/// A running memtrace; killed and reaped when dropped.
pub struct Memtrace {
    child: Child,
    output: Lines,
    errors: Lines,
    heard: usize,
    started: Instant,
    attached_after: Option<Duration>,
}

impl Memtrace {
    /// Starts it with these arguments.
    ///
    /// # Errors
    /// When not root, or it cannot be built or started.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        Self::spawn(Command::new(program()?).args(arguments))
    }

    /// Starts it by a command that becomes memtrace in the end.
    ///
    /// # Errors
    /// When not root, or it cannot be started.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        require_root()?;
        let started = Instant::now();
        let mut child = ends_with_us(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let output = Lines::of(child.stdout.take().context("standard output is piped")?);
        let errors = Lines::of(child.stderr.take().context("standard error is piped")?);
        Ok(Self { child, output, errors, heard: 0, started, attached_after: None })
    }

    /// Attaches to a process with reports in JSON every second, all stacks in them, and waits until it is attached.
    ///
    /// # Errors
    /// When it does not attach.
    pub fn attach(pid: u32, more: &[&str]) -> Result<Self> {
        let pid = pid.to_string();
        let mut arguments = vec!["--pid", &pid, "--format", "json", "--interval", "1s", "--top", "100000"];
        arguments.extend(more);
        let mut memtrace = Self::start(&arguments)?;
        memtrace.attached()?;
        Ok(memtrace)
    }

    /// Waits until all probes are in place; the time it took since the start.
    ///
    /// # Errors
    /// When it does not say so by the deadline.
    pub fn attached(&mut self) -> Result<Duration> {
        if let Some(time) = self.attached_after {
            return Ok(time);
        }
        if self.errors.wait_for(0, wait::DEADLINE, |line| line.contains("attached to ")).is_none() {
            bail!("memtrace did not attach; it said: {}", self.errors.so_far().join("\n"));
        }
        Ok(*self.attached_after.insert(self.started.elapsed()))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its standard output that has not been asked for yet.
    ///
    /// # Errors
    /// When there is none by the deadline.
    pub fn next_line(&mut self) -> Result<String> {
        let Some((line, heard)) = self.output.wait_for(self.heard, wait::DEADLINE, |_| true) else {
            bail!("memtrace reports no more; it said: {}", self.errors.so_far().join("\n"));
        };
        self.heard = heard;
        Ok(line)
    }

    /// The next report that has not been asked for yet.
    ///
    /// # Errors
    /// When there is none by the deadline, or it is not a report.
    pub fn next_report(&mut self) -> Result<Report> {
        Report::parse(&self.next_line()?)
    }

    /// The first report from now on that `wanted` accepts.
    ///
    /// # Errors
    /// When there is none by the deadline; the last one is shown.
    pub fn report_where(&mut self, what: &str, wanted: impl Fn(&Report) -> bool) -> Result<Report> {
        let start = Instant::now();
        loop {
            let report = self.next_report()?;
            if wanted(&report) {
                return Ok(report);
            }
            if start.elapsed() > wait::DEADLINE {
                bail!(
                    "waited in vain for a report with {what}; totals and losses of the last: {:?} {:?}",
                    report.processes,
                    report.loss
                );
            }
        }
    }

    /// Waits until its standard error so far is as `wanted` has it.
    ///
    /// # Errors
    /// When it is not by the deadline.
    pub fn errors_where(&self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Result<()> {
        wait::until(what, || Ok(wanted(&self.errors.so_far()).then_some(())))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).with_context(|| format!("sending {signal:?} to memtrace"))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended by the deadline.
    pub fn finish(mut self) -> Result<Finished> {
        let start = Instant::now();
        let status = wait::until("memtrace's end", || Ok(self.child.try_wait()?))?;
        Ok(Finished { status, took: start.elapsed(), output: self.output.rest(), errors: self.errors.rest() })
    }

    /// Interrupts it, as Ctrl-C does, and waits for its end.
    ///
    /// # Errors
    /// When it is gone, or has not ended by the deadline.
    pub fn interrupt(self) -> Result<Finished> {
        self.signal(Signal::INT)?;
        self.finish()
    }
}

impl Drop for Memtrace {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
