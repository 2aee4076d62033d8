//! The `cli` room: flags as typed, and the [`Command`] that they resolve to. It is the only one that knows clap.
//!
//! In: the command line. Out: values that are checked as far as they can be without looking at the machine. Wrong usage
//! ends in [`UsageError`] (exit status 2); nothing is attached by then.

mod doctor;
mod error;
mod flags;
mod focus;
mod gate;
mod rate;
mod resolve;
mod saved_runs;
mod values;
mod watch;

#[cfg(test)]
mod generated;

pub use error::UsageError;
pub use flags::Flags;
pub use resolve::{Command, resolve};
