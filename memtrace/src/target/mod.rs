//! The `target` room: which process is traced, and what the rest of the program needs to know of it.
//!
//! In: a process id. Out: a [`Target`] that holds on to that very process (a pidfd, so that a reused id is noticed),
//! its [`maps`], what its program is [`called`], and the [`object`]s mapped into it, with the [`debug_file`] of each; a [`Held`] one for looking only; how
//! much [`memory`] it uses, and the [`cgroup`] that bounds it; a command that is [`launch`]ed, and the [`members`] of a group or a [`container`].
//! Everything read from `/proc` is the target's to shape: sizes are bounded, malformed text is an error, and what may reach
//! a terminal goes through [`printable`] first.

pub mod called;
pub mod cgroup;
pub mod container;
pub mod debug_file;
pub mod elf;
pub mod exit;
pub mod fork;
pub mod guard;
pub mod launch;
pub mod maps;
pub mod members;
pub mod memory;
pub mod moved;
pub mod object;
pub mod pages;
pub mod patched;
pub mod printable;
pub mod root;
pub mod status;

mod error;
mod held;
mod process;
mod thread;

pub use error::TargetError;
pub use held::Held;
pub use process::Target;

use std::fmt;

use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid as NixPid,
};

/// A process id as the user knows it, in memtrace's own pid namespace.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Pid(pub u32);

impl fmt::Display for Pid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Pid {
    /// Processor time of all its threads so far, in seconds; `None` when it has ended.
    pub fn processor_seconds(self) -> Option<f64> {
        let pid = i32::try_from(self.0).ok()?;
        let clock = clock_getcpuclockid(NixPid::from_raw(pid)).ok()?;
        let time = clock_gettime(clock).ok()?;
        Some(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
    }
}
