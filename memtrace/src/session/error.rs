//! What can go wrong in a run.

use std::io;

use thiserror::Error;

use crate::{
    allocator::AllocatorError,
    kernel::{KernelError, features::FeatureError},
    report::destination::WriteError,
    target::{Pid, TargetError, cgroup::CgroupError, container::ContainerError, launch::LaunchError},
};

/// Why there was no run, or why it broke off. Each is one line that says what to do.
#[derive(Debug, Error)]
pub enum SessionError {
    /// A process cannot be traced.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// No such container.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The command cannot be run.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A cgroup cannot be watched.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Nothing to attach to.
    #[error("process {pid}: {source}")]
    Allocator {
        /// The process.
        pid: Pid,
        /// What was looked for.
        source: AllocatorError,
    },
    /// What would be probed is in no file any more.
    #[error(
        "process {0} has moved its own code, its allocator with it, to memory without a file (huge pages), which no probe can \
         be in; use --mode growth, or start the process without that"
    )]
    Moved(Pid),
    /// This machine or user cannot.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A return probe might kill the target.
    #[error(
        "process {0} is confined by seccomp, and on this kernel that may kill it at the first return probe; \
         use Linux 6.14 or later, or --no-return-probes, with which a call costs eight to nine times as much"
    )]
    Seccomp(Pid),
    /// Nobody could watch.
    #[error("--tui needs a terminal for input and output; leave it out, and the report is printed as text")]
    NoTerminal,
    /// The report cannot be written.
    #[error(transparent)]
    Output(#[from] WriteError),
    /// A file besides the report cannot be written.
    #[error("cannot write {path}: {source}; name another file with {flag}")]
    Artifact {
        /// By which flag it was asked for.
        flag: &'static str,
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Something that a run needs from the system.
    #[error("{action}: {source}")]
    System {
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl SessionError {
    /// Whether a file that was to be probed is not where it was: the process runs another program.
    pub(super) fn is_vanished_file(&self) -> bool {
        matches!(self, Self::Kernel(error) if error.is_not_found())
    }

    /// Whether the process is gone, which is no fault of a run that looks for processes by itself.
    pub(super) fn is_ended_target(&self) -> bool {
        use TargetError::{Exited, NoSuchProcess, Zombie};
        matches!(self, Self::Target(Exited { .. } | NoSuchProcess { .. } | Zombie { .. }))
    }
}
