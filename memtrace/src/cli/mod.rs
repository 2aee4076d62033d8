//! The `cli` room: flags as typed, and the [`Config`] they resolve to.
//!
//! In: the command line. Out: values that are checked as far as they can be without looking at the machine. Wrong usage
//! ends in [`UsageError`] (exit status 2); nothing is attached by then.

mod again;
mod flags;
pub mod focus;
mod format;
pub mod gate;
pub mod pattern;
mod rate;
mod resolve;
pub mod suppressions;
mod watch;
mod wrapper;

pub use again::{By, DiffConfig, DiffFormat, ReportConfig};
pub use flags::Flags;
pub use format::{Format, Metric};
pub use resolve::{Command, DEFAULT_UNWIND_BYTES, DoctorConfig, Launch, TraceConfig, UsageError, resolve};
pub use watch::{WatchConfig, escalation};
pub use wrapper::{ObjectName, Place, Wrapper};
