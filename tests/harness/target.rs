//! A process for memtrace to look at: a fixture, which speaks a line protocol, or any other program.
//!
//! A fixture prints `ready PID` when memtrace may attach and waits for `go`; what follows is its own (see the comment at
//! the top of its source). The end of its standard input ends it.

use std::{
    io::Write,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

use crate::{Build, lines::Lines, wait};

/// A running program; killed and reaped when dropped.
pub struct Target {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines,
    heard: usize,
}

/// Has the kernel end the program that is started by this command when the thread that starts it ends, however that comes: a
/// run of the tests that is killed leaves nothing behind.
pub fn ends_with_us(command: &mut Command) -> &mut Command {
    let ask = || Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: between fork and exec the closure makes one system call; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(ask) }
}

impl Target {
    /// Starts any program with piped standard input and output.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = ends_with_us(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let input = child.stdin.take();
        let output = Lines::of(child.stdout.take().context("standard output is piped")?);
        Ok(Self { child, input, output, heard: 0 })
    }

    /// Starts a fixture and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be built or started, or does not say that it is ready.
    pub fn start(build: &Build, arguments: &[&str]) -> Result<Self> {
        Self::start_file(&build.compile()?, arguments)
    }

    /// Starts a compiled fixture and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be started, or does not say that it is ready.
    pub fn start_file(file: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_command(Command::new(file).args(arguments))
    }

    /// Starts a fixture with a library preloaded and waits until it is ready.
    ///
    /// # Errors
    /// When the library is missing, or as for [`start`](Self::start).
    pub fn start_preloaded(build: &Build, arguments: &[&str], library: &str) -> Result<Self> {
        // The dynamic linker only warns of a missing one.
        if !Path::new(library).exists() {
            bail!("{library} is missing: `cargo xtask test` installs it");
        }
        Self::start_with(build, arguments, "LD_PRELOAD", library)
    }

    /// Starts a fixture with a variable in its environment and waits until it is ready.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_with(build: &Build, arguments: &[&str], variable: &str, value: &str) -> Result<Self> {
        Self::start_command(Command::new(build.compile()?).args(arguments).env(variable, value))
    }

    fn start_command(command: &mut Command) -> Result<Self> {
        let mut target = Self::spawn(command)?;
        let line = target.hear()?;
        if !line.starts_with("ready ") {
            bail!("{command:?} said {line:?}, not that it is ready");
        }
        Ok(target)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes one line to its standard input.
    ///
    /// # Errors
    /// When it no longer listens.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("standard input was closed")?;
        // In one piece: a fixture that ends at the first byte does not read the second.
        input.write_all(format!("{line}\n").as_bytes()).with_context(|| format!("telling the target {line:?}"))
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// The next line of its standard output.
    ///
    /// # Errors
    /// When there is none by the deadline.
    pub fn hear(&mut self) -> Result<String> {
        let (line, heard) = self
            .output
            .wait_for(self.heard, wait::DEADLINE, |_| true)
            .with_context(|| format!("the target {} said nothing more", self.child.id()))?;
        self.heard = heard;
        Ok(line)
    }

    /// The next line of its standard output, as JSON.
    ///
    /// # Errors
    /// When there is none by the deadline, or it says something else.
    pub fn hear_json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let line = self.hear()?;
        serde_json::from_str(&line).with_context(|| format!("reading the target's {line:?}"))
    }

    /// Asks a fixture for its count.
    ///
    /// # Errors
    /// When it does not answer with one.
    pub fn count<T: DeserializeOwned>(&mut self) -> Result<T> {
        self.tell("count")?;
        self.hear_json()
    }

    /// Asks a fixture for its count when that is not JSON.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn count_line(&mut self) -> Result<String> {
        self.tell("count")?;
        self.hear()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).with_context(|| format!("sending {signal:?} to the target"))
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().context("asking whether the target runs")?.is_none())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended by the deadline.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        wait::until("the target's end", || Ok(self.child.try_wait()?))
    }

    /// Tells a fixture to end, and checks that it was unharmed.
    ///
    /// # Errors
    /// When it does not end with status 0.
    pub fn exit(mut self) -> Result<()> {
        self.tell("exit")?;
        let status = self.ended()?;
        if !status.success() {
            bail!("the target ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
