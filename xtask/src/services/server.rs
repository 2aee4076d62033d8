//! A service that runs, with the program beside it.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::load::{self, Done};
use super::service::{Run, Service, Traced};
use crate::process;
use crate::procfs::Usage;

/// How long a service may take until it answers.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long after that it may still start processes.
const SETTLED: Duration = Duration::from_secs(2);

/// A running service; dropping it ends all of its processes.
pub struct Server {
    service: &'static Service,
    folder: TempDir,
    port: u16,
    main: Group,
    _beside: Option<Group>,
    /// All of its processes when it was ready.
    processes: Vec<u32>,
}

impl Server {
    /// Starts a service and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not answer in time: with the last that it said.
    pub fn start(service: &'static Service) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let port =
            TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr()).context("no port")?.port();
        let run = Run { folder: folder.path(), port };
        let beside = match service.beside {
            "" => None,
            script => Some(Group::start(service, script, &run, "beside")?),
        };
        let main = Group::start(service, service.start, &run, "service")?;
        let mut server = Self { service, folder, port, main, _beside: beside, processes: Vec::new() };
        server.wait()?;
        server.processes = server.tree();
        Ok(server)
    }

    fn wait(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.main.child.try_wait()? {
                bail!("it ended with {status}{}", self.said());
            }
            let answered = load::run(self.service, &self.run(), 1);
            if answered.is_ok_and(|done| done.requests > 0 && done.failed == 0) {
                thread::sleep(SETTLED);
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "it does not answer{}", self.said());
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Has it work for some seconds, and measures that.
    ///
    /// # Errors
    /// When the load generator fails, or the service ended.
    pub fn work(&mut self, seconds: u64) -> Result<Done> {
        let before = self.processor_seconds()?;
        let done = load::run(self.service, &self.run(), seconds)?;
        self.check()?;
        Ok(Done { processor_seconds: self.processor_seconds()? - before, ..done })
    }

    /// Processor time of the processes that it had when it was ready.
    fn processor_seconds(&self) -> Result<f64> {
        let used = self.processes.iter().map(|pid| Ok(Usage::of(*pid)?.processor_seconds));
        used.sum::<Result<f64>>().with_context(|| format!("its processor time{}", self.said()))
    }

    /// What its scripts and its load are told of this run.
    fn run(&self) -> Run<'_> {
        Run { folder: self.folder.path(), port: self.port }
    }

    /// memtrace's flags for the processes that are traced.
    pub fn target(&self) -> Result<Vec<String>> {
        let main = self.main.child.id();
        let pid = match self.service.traced {
            Traced::Itself | Traced::WithChildren => main,
            Traced::Worker => *children(main).first().context("it has started no process")?,
        };
        let mut flags = vec!["--pid".to_owned(), pid.to_string()];
        if self.service.traced == Traced::WithChildren {
            flags.push("--follow".to_owned());
        }
        Ok(flags)
    }

    /// Checks that it runs, by the processes that it had when it was ready.
    ///
    /// # Errors
    /// When a process ended, or was replaced by another.
    fn check(&mut self) -> Result<()> {
        if let Some(status) = self.main.child.try_wait()? {
            bail!("it ended with {status}{}", self.said());
        }
        let now = self.tree();
        let gone: Vec<String> =
            self.processes.iter().filter(|pid| !now.contains(pid)).map(ToString::to_string).collect();
        ensure!(gone.is_empty(), "its processes {} ended{}", gone.join(", "), self.said());
        Ok(())
    }

    /// Its processes.
    fn tree(&self) -> Vec<u32> {
        let mut all = vec![self.main.child.id()];
        let mut at = 0;
        while at < all.len() {
            all.extend(children(all[at]));
            at += 1;
        }
        all
    }

    /// The end of what it said, after a colon; nothing when it said nothing.
    fn said(&self) -> String {
        let text = fs::read(log(self.folder.path(), "service")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let last: Vec<&str> = text.lines().rev().take(5).collect();
        if last.is_empty() {
            return String::new();
        }
        format!(": {}", last.into_iter().rev().collect::<Vec<_>>().join(" / "))
    }
}

/// A process group that ends when this is dropped.
struct Group {
    child: Child,
}

impl Group {
    fn start(service: &Service, script: &str, run: &Run, name: &str) -> Result<Self> {
        let log = File::create(log(run.folder, name)).context("cannot make a log")?;
        let mut command = service.shell(script, Some(run));
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        process::ends_with_us(&mut command);
        Ok(Self { child: command.spawn().with_context(|| format!("cannot start the {name}"))? })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // An error means that all of it has ended.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

fn log(folder: &Path, name: &str) -> std::path::PathBuf {
    folder.join(format!("{name}.log"))
}

/// The processes that any thread of a process started and that are still its children.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let listed = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    listed.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}
