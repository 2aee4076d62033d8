//! The `cli` room: flags as typed, and the [`Config`] they resolve to.
//!
//! In: the command line. Out: values that are checked as far as they can be without looking at the machine. Wrong usage
//! ends in [`UsageError`] (exit status 2); nothing is attached by then.

mod flags;
mod resolve;

pub use flags::{Flags, Format};
pub use resolve::{Command, DoctorConfig, TraceConfig, UsageError, resolve};
