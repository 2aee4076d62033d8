//! The `cli` room: flags as typed, and the [`Config`] they resolve to.
//!
//! In: the command line. Out: values that are checked as far as they can be without looking at the machine. Wrong usage
//! ends in [`UsageError`] (exit status 2); nothing is attached by then.

mod doctor;
mod error;
mod flags;
pub mod focus;
mod format;
pub mod gate;
pub mod pattern;
mod rate;
mod resolve;
mod saved_runs;
mod short;
pub mod suppressions;
mod watch;
mod wrapper;

pub use doctor::DoctorConfig;
pub use error::UsageError;
pub use flags::{ALLOCATION_LOOP, CODE_GUARD, Flags};
pub use format::{Format, Metric};
pub use resolve::{Command, DEFAULT_UNWIND_BYTES, Launch, TraceConfig, resolve};
pub use saved_runs::{By, DiffConfig, DiffFormat, ReportConfig};
pub use short::trace_for;
pub use watch::WatchConfig;
pub use wrapper::{ObjectName, Place, Wrapper};
