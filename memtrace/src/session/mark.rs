//! `memtrace mark PID`: tells a memtrace that runs to start a new measuring window.

use std::{
    fs, io,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use thiserror::Error;

/// Why no window was started. One line that says what to do.
#[derive(Debug, Error)]
pub enum MarkError {
    /// There is no such process.
    #[error("no process {0}: name the process id of the running memtrace (not of its target)")]
    Gone(u32),
    /// It is another program, which the signal might end.
    #[error("process {0} is no memtrace ({1}): name the process id of the running memtrace (not of its target)")]
    Other(u32, String),
    /// It would not take the signal.
    #[error("process {0} is a memtrace that is not tracing: name the one that is")]
    Idle(u32),
    /// The signal was refused.
    #[error("process {pid} cannot be signalled: {source}; run as its user, or as root")]
    Refused {
        /// The process.
        pid: u32,
        /// Why.
        source: io::Error,
    },
}

/// Starts a new measuring window in the memtrace of this process id. It returns once the signal is sent; that memtrace
/// says on its standard error when the window begins.
///
/// # Errors
///
/// When the process is gone, is no memtrace, does not trace, or cannot be signalled.
pub fn mark(pid: u32) -> Result<(), MarkError> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(MarkError::Gone(pid))?;
    // Held while it is looked at, so that the id cannot become another process's.
    let descriptor = pidfd_open(process, PidfdFlags::empty()).map_err(|_gone| MarkError::Gone(pid))?;
    check(pid)?;
    send(pid, descriptor.as_fd())
}

/// Whether SIGUSR1 is safe to send: to others it is deadly by default.
fn check(pid: u32) -> Result<(), MarkError> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).map_err(|_gone| MarkError::Gone(pid));
    let name = read("comm")?;
    let file = |who: &str| fs::metadata(format!("/proc/{who}/exe")).ok().map(|exe| (exe.dev(), exe.ino()));
    // By the same file, whatever its name, or by the name of the program, whichever build it is.
    let same_file = file("self").is_some_and(|ours| file(&pid.to_string()) == Some(ours));
    if !same_file && name.trim_end() != "memtrace" {
        return Err(MarkError::Other(pid, crate::report::escape::escape(name.trim_end()).into_owned()));
    }
    let status = read("status")?;
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    // The mask's lowest bit is signal 1.
    if caught & 1 << (libc::SIGUSR1 - 1) == 0 {
        return Err(MarkError::Idle(pid));
    }
    Ok(())
}

fn send(pid: u32, descriptor: BorrowedFd<'_>) -> Result<(), MarkError> {
    pidfd_send_signal(descriptor, Signal::USR1)
        .map_err(|error| MarkError::Refused { pid, source: io::Error::from(error) })
}
