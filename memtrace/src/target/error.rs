//! Why a process cannot be traced, one variant a reason; each message says what is wrong and what to do.

use std::io;

use thiserror::Error;

use super::Pid;
use crate::object::maps::MapsError;

/// Why a process cannot be traced.
#[derive(Debug, Error)]
pub enum TargetError {
    /// Nothing has the id.
    #[error("there is no process {pid}; list the running ones with: ps -e")]
    NoSuchProcess {
        /// As asked.
        pid: Pid,
    },
    /// The id is that of a thread.
    #[error("{pid} is a thread of process {process}, not a process; trace the whole process with: --pid {process}")]
    ThreadId {
        /// As asked.
        pid: Pid,
        /// Its process.
        process: Pid,
    },
    /// It has no user memory.
    #[error("{pid} is a kernel thread and has no user-space heap to trace; give the id of a user process")]
    KernelThread {
        /// As asked.
        pid: Pid,
    },
    /// It has ended, and its parent has not taken note.
    #[error("process {pid} is a zombie: it has ended and holds no memory; trace it while it runs")]
    Zombie {
        /// As asked.
        pid: Pid,
    },
    /// It is us.
    #[error("{pid} is memtrace itself, which cannot trace itself; give the id of another process")]
    Itself {
        /// As asked.
        pid: Pid,
    },
    /// A 32-bit program (or one with 32-bit pointers).
    #[error("process {pid} runs a 32-bit program; memtrace traces 64-bit programs only: trace a 64-bit build of it")]
    ThirtyTwoBit {
        /// As asked.
        pid: Pid,
    },
    /// The kernel does not let us look.
    #[error(
        "no permission to read process {pid} ({path}): that takes CAP_SYS_PTRACE; run memtrace as root of the host"
    )]
    Permission {
        /// As asked.
        pid: Pid,
        /// What was refused.
        path: String,
    },
    /// It ended while we looked at it.
    #[error("process {pid} exited while being attached; start it again and give its new id")]
    Exited {
        /// As asked.
        pid: Pid,
    },
    /// The kernel has no pidfd_open.
    #[error("cannot hold on to process {pid} (pidfd_open: {source}); memtrace needs Linux 5.17 or later")]
    PidFd {
        /// As asked.
        pid: Pid,
        /// Why.
        source: io::Error,
    },
    /// A file of /proc that cannot be read for another reason.
    #[error("cannot read {path} of process {pid}: {source}; is /proc mounted, with the target's pid namespace in it?")]
    Read {
        /// As asked.
        pid: Pid,
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Its memory maps do not parse.
    #[error("process {pid}: {source}; please report this with the output of: memtrace doctor --pid {pid}")]
    Maps {
        /// As asked.
        pid: Pid,
        /// Why.
        source: MapsError,
    },
}
