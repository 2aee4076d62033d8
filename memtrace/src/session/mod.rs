//! The `session` room: one run from attach to final report. It wires the other rooms together, and owns the clock and
//! the shutdown.
//!
//! In: the checked configuration. Out: reports, and whether a stack is growing at the end. [`traced`] opens processes and
//! attaches; [`pump`] moves events from the kernel into ledger and symbols; [`snapshot`] says how things stand;
//! [`output`] writes it, [`tui`] shows it while it goes on; [`footprint`] is the memory as a whole; [`doctor`] only looks, or
//! counts for a moment, and [`watch`] looks again and again.

mod blind;
mod budget;
mod candidate;
mod code;
mod completeness;
mod config;
mod describe;
mod doctor;
mod error;
mod focus;
mod footprint;
mod gate;
mod grouping;
mod key;
mod mark;
mod members;
mod notice;
mod output;
mod plan;
mod probes;
mod pump;
mod resident;
mod run;
mod self_usage;
mod siblings;
mod signals;
mod snapshot;
mod start;
mod traced;
mod tree;
mod tui;
mod unwinding;
mod watch;

pub use config::{
    DoctorConfig, FocusConfig, GateConfig, InternalConfig, LEAST_INTERVAL, Launch, MemoryConfig, OutputConfig,
    ProbesConfig, SamplingConfig, TargetsConfig, Times, TraceConfig, WatchConfig,
};
pub use doctor::{ALLOCATION_LOOP, allocation_loop, doctor};
pub use error::SessionError;
pub use mark::{MarkError, mark};
pub use run::{Outcome, shell_status};
pub use start::run;
pub use watch::{Watched, watch};
