//! The `target` room: which process is traced, and what the rest of the program needs to know of it.
//!
//! In: a process id. Out: a [`Target`] that holds on to that very process (a pidfd, so that a reused id is noticed),
//! what its program is [`called`], and the objects mapped into it ([`crate::object`]); a [`Held`] one for looking only; how
//! much [`memory`] it uses, and the [`cgroup`] that bounds it; a command that is [`launch`]ed, and the [`members`] of a group or a [`container`].
//! Everything read from `/proc` is the target's to shape: sizes are bounded, malformed text is an error, and what may reach
//! a terminal goes through [`printable`](crate::object::printable) first.

pub mod called;
pub mod cgroup;
pub mod container;
pub mod exit;
pub mod fork;
pub mod guard;
pub mod launch;
pub mod members;
pub mod memory;
pub mod pages;
pub mod status;

mod error;
mod held;
mod process;

pub use error::TargetError;
pub use held::Held;
pub use process::Target;

pub use crate::object::Pid;
