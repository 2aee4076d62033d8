//! A server of several processes: its first one ends the others when it is told to, and not when it is killed.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::Target;

/// How long a server may take to end its processes before it is killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server; told to end when dropped, and killed if it does not.
pub struct Service {
    first: Target,
    end: Signal,
}

impl Service {
    /// Starts a server that ends with all of its processes on the signal `end`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command, end: Signal) -> Result<Self> {
        Ok(Self { first: Target::spawn(command)?, end })
    }

    /// The first process.
    pub fn pid(&self) -> u32 {
        self.first.pid()
    }

    /// Whether the first process still runs.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn runs(&mut self) -> Result<bool> {
        self.first.runs()
    }

    /// The processes that the first one has started and that still run.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub fn children(&self) -> Result<Vec<u32>> {
        let mut children = Vec::new();
        for entry in fs::read_dir("/proc").context("listing /proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // One that has ended meanwhile is none.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            // The name, in parentheses, may hold anything; state and parent follow it (proc(5)).
            let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            let mut fields = after_name.split_whitespace();
            let (state, parent) = (fields.next(), fields.next());
            if state != Some("Z") && parent.and_then(|parent| parent.parse().ok()) == Some(self.pid()) {
                children.push(pid);
            }
        }
        Ok(children)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let start = Instant::now();
        // Fails only when it has ended already.
        let _ = self.first.signal(self.end);
        while matches!(self.first.runs(), Ok(true)) && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
