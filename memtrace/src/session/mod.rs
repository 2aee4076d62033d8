//! The `session` room: one run from attach to final report. It wires the other rooms together, and owns the clock and
//! the shutdown.
//!
//! In: the checked configuration ([`config`]). Out: reports, and whether a stack is growing at the end.
//!
//! [`start`] begins a run for a user, and [`run`] is its loop. [`candidate`] looks at a process and attaches, [`traced`] is one that is
//! attached, with its [`probes`]. [`feed`] drains the kernel's events into [`state`], which is all that is known of the targets'
//! memory; [`facts`] are what the system says of them at a moment; [`snapshot`] makes a report of the two, without root or BPF, and
//! [`output`] writes it. [`watch`], [`doctor`] and [`mark`] are subcommands. What is said on standard error is in [`notice`]. The
//! modules depend on each other in no circle, which a test checks (`rooms`).

mod asks;
mod blind;
mod budget;
mod candidate;
mod censuses;
mod clock;
mod code;
mod collections;
mod completeness;
mod config;
mod counts;
mod describe;
mod doctor;
#[cfg(test)]
mod documented;
mod error;
mod facts;
mod feed;
mod focus;
mod footprint;
mod gate;
mod grouping;
mod key;
mod mark;
mod members;
mod notice;
mod output;
mod pages;
mod plan;
mod probes;
mod resident;
mod run;
mod runtimes;
mod self_usage;
mod siblings;
mod signals;
mod small;
mod snapshot;
mod start;
mod state;
mod traced;
mod tree;
mod tui;
mod unwinding;
mod watch;

pub use config::{
    DoctorConfig, FocusConfig, GateConfig, InternalConfig, LEAST_INTERVAL, Launch, MemoryConfig, NamesConfig,
    OutputConfig, ProbesConfig, SamplingConfig, TargetsConfig, Times, TraceConfig, WatchConfig,
};
pub use doctor::{ALLOCATION_LOOP, allocation_loop, doctor};
pub use error::SessionError;
pub use mark::mark;
pub use run::{Outcome, shell_status};
pub use start::run;
pub use watch::watch;
