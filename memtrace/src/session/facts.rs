//! What a snapshot takes from the system: plain values, read at one moment.

use std::time::Duration;

use memtrace_common::{Slot, counter::TargetCounters};

use super::footprint::Footprint;
use crate::{
    kernel::{RememberedCounts, tables::Fill},
    target::Pid,
};

/// Of the tracer and of all targets.
pub(super) struct Facts<'a> {
    pub(super) processes: Vec<ProcessFacts<'a>>,
    /// How often stacks did not have to be walked, and results were predicted.
    pub(super) remembered: RememberedCounts,
    /// How full the unwind tables are.
    pub(super) tables: Fill,
}

/// Of one target.
pub(super) struct ProcessFacts<'a> {
    pub(super) slot: Slot,
    pub(super) pid: Pid,
    pub(super) command: &'a str,
    /// Its cgroup's path.
    pub(super) cgroup: &'a str,
    pub(super) exited: bool,
    pub(super) traced_for: Duration,
    /// The signal that ended it, 0 where it ended by itself; `None` where that is not known.
    pub(super) ended_by: Option<u32>,
    /// Whether that is a signal by which probes end processes, and it was probed.
    pub(super) probably_ended_by_probes: bool,
    pub(super) rss_bytes: u64,
    /// When probed code was found to have moved, in milliseconds of the run.
    pub(super) code_moved_ms: Option<u64>,
    /// Since when, in milliseconds of the run, it has no probes though it should.
    pub(super) unprobed_ms: Option<u64>,
    /// How often its probes were gone.
    pub(super) interruptions: u64,
    /// Its memory as a whole.
    pub(super) footprint: &'a Footprint,
    pub(super) counters: TargetCounters,
    /// Whether it has ended by the time of the call.
    pub(super) has_ended: Box<dyn Fn() -> bool + 'a>,
}
