//! A cgroup with a memory limit, in whichever hierarchy this machine has its memory controller; removed when dropped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{Build, Target};

/// Declare it before the targets in it: it can only be removed after they have ended.
pub struct LimitedCgroup {
    directory: PathBuf,
}

impl LimitedCgroup {
    /// Makes one; needs root.
    ///
    /// # Errors
    /// When this machine has no memory controller, or it cannot be used.
    pub fn new(limit_bytes: u64) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let membership = fs::read_to_string("/proc/self/cgroup").context("reading our own cgroup")?;
        let version_1 = membership.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|name| name == "memory").then(|| path.trim_start_matches('/').to_owned())
        });
        let name = format!("memtrace-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (parent, limit) = match version_1 {
            Some(path) => (Path::new("/sys/fs/cgroup/memory").join(path), "memory.limit_in_bytes"),
            None => {
                // Controllers reach the groups below only where they are handed down, and the root may do so.
                fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory").context("handing down the controller")?;
                (PathBuf::from("/sys/fs/cgroup"), "memory.max")
            }
        };
        let directory = parent.join(name);
        fs::create_dir(&directory).with_context(|| format!("making the cgroup {}", directory.display()))?;
        let group = Self { directory };
        fs::write(group.directory.join(limit), limit_bytes.to_string()).context("setting the limit")?;
        Ok(group)
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A program that runs in it from its first instruction on.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ > "$0" && exec "$@""#]).arg(self.directory.join("cgroup.procs")).arg(program);
        command
    }

    /// Starts a fixture in it and waits until it is ready.
    ///
    /// # Errors
    /// As for [`Target::start`].
    pub fn start(&self, build: &Build, arguments: &[&str]) -> Result<Target> {
        let mut target = Target::spawn(self.command(&build.compile()?).args(arguments))?;
        let line = target.hear()?;
        if !line.starts_with("ready ") {
            bail!("the fixture said {line:?}, not that it is ready");
        }
        Ok(target)
    }

    /// Removes it; it must be empty, or become so soon.
    ///
    /// # Errors
    /// When it does not.
    pub fn remove(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            match fs::remove_dir(&self.directory) {
                Err(error) if begun.elapsed() > Duration::from_secs(5) => {
                    return Err(error).with_context(|| format!("removing the cgroup {}", self.directory.display()));
                }
                Err(_) if self.directory.exists() => std::thread::sleep(Duration::from_millis(20)),
                _ => return Ok(()),
            }
        }
    }
}

impl Drop for LimitedCgroup {
    fn drop(&mut self) {
        // What is left behind is empty and harmless.
        let _ = self.remove();
    }
}
