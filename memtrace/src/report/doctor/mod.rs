//! What `memtrace doctor` found: the data, which is its JSON as well. [`text`] renders it for people.

mod text;

use std::io::{self, Write};

use serde::Serialize;

use crate::report::form::Format;

/// The value of [`Findings::schema`]. Fields may be added under it, never taken away.
pub const SCHEMA: &str = "memtrace-doctor/1";

/// Everything that `memtrace doctor` found out.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Findings {
    /// The form of this data.
    pub schema: &'static str,
    /// Whether a run would work: nothing that is needed is missing, and every process can be traced.
    pub works: bool,
    /// What of the machine a run needs.
    pub checks: Vec<Check>,
    /// The processes that were asked for, and those of the cgroup or container.
    pub processes: Vec<Process>,
    /// The unwind tables of all of them, where there are several: processes share the tables of what they both map.
    pub unwind: Option<Tables>,
    /// What was counted, with `--measure`.
    pub measured: Option<Measured>,
}

/// One thing that a run needs.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Check {
    /// What it is called.
    pub name: &'static str,
    /// What it is needed for.
    pub purpose: &'static str,
    /// Whether every run needs it.
    pub needed: bool,
    /// Why it is not there, and what to do; `None` if it is.
    pub missing: Option<String>,
}

/// What would be attached to one process.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// Why it cannot be traced; `None` if it can.
    pub refused: Option<String>,
    /// Where probes would go, but for the ways out of functions that may throw.
    pub sites: Vec<Site>,
    /// How many of those ways out there are.
    pub ways_out: usize,
    /// C's functions that it has under no name.
    pub absent: Vec<String>,
    /// Allocators beside the C library's.
    pub allocators: Vec<Allocator>,
    /// Functions given with `--alloc` and the like whose file is not loaded.
    pub pending: Vec<String>,
    /// What should be probed and cannot be.
    pub unusable: Vec<Unusable>,
    /// Its unwind tables.
    pub unwind: Option<Tables>,
    /// Code without a table, and why: its stacks go on by frame pointer.
    pub frame_pointer_only: Vec<String>,
}

/// A place that a probe would be put on.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Site {
    /// The file, as the target names it.
    pub object: String,
    /// The function.
    pub function: String,
    /// Bytes from the beginning of the file.
    pub file_offset: u64,
    /// Bytes from the function's entry.
    pub symbol_offset: u64,
    /// The instruction there.
    pub instruction: String,
    /// Whether the kernel emulates it: a hit is one trap, otherwise two.
    pub emulated: bool,
    /// Whether the function branches back there, so that one call may count more than once.
    pub reentered: bool,
    /// Whether the results of most calls are known at the entry, so that their returns are not probed.
    pub predicted: bool,
}

/// An allocator beside the C library's.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Allocator {
    /// Which.
    pub family: String,
    /// The file that it is in.
    pub object: String,
}

/// A function that cannot be probed, and why.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unusable {
    /// The function; `None` for the whole file.
    pub function: Option<String>,
    /// The file.
    pub object: String,
    /// Why.
    pub reason: String,
}

/// How large the unwind tables of the processes are.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tables {
    /// Rows, 8 bytes each.
    pub rows: u64,
    /// Stretches of code that have a table.
    pub stretches: u64,
    /// Kernel memory for them, the spare room included.
    pub kernel_bytes: u64,
    /// What it may be at most, unless `--unwind-memory` says otherwise.
    pub allowed_bytes: u64,
    /// How long it took to make them.
    pub made_in_ms: u64,
}

/// What was counted while the processes were traced for a moment.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Measured {
    /// How long.
    pub elapsed_ms: u64,
    /// What a call of an allocator and the release of its block cost together on this machine, measured on a child of
    /// memtrace's own; in nanoseconds.
    pub pair_ns: f64,
    /// What such a call and release cost together where the call's result is predicted, in nanoseconds.
    pub predicted_pair_ns: f64,
    /// Of the allocations, how many had their result predicted, 0 to 1.
    pub predicted: f64,
    /// Events that were lost.
    pub lost: u64,
    /// Of the allocations, how many had a whole stack, 0 to 1; `None` when there were none.
    pub whole_stacks: Option<f64>,
    /// Each process.
    pub processes: Vec<Rate>,
}

/// How often a process calls its allocator, and what that makes of tracing it.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Rate {
    /// Its process id.
    pub pid: u32,
    /// Blocks that appear in a second.
    pub allocations_per_second: f64,
    /// Blocks that are released in a second.
    pub releases_per_second: f64,
    /// Processors that it kept busy while it was traced.
    pub processors: f64,
    /// How many of those the probes took.
    pub probes: f64,
    /// How many times as long its work takes under the probes; `None` when it did too little to say.
    pub slowdown: Option<f64>,
}

/// What calls cost under probes, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Prices {
    /// A call that makes a block.
    pub allocation_ns: f64,
    /// One that releases a block.
    pub release_ns: f64,
}

impl Prices {
    /// From the measured pairs and the share of results that are predicted. An allocation that is followed to its return is
    /// two hits of probes and a release one, of the three that a pair is.
    pub fn new(pair_ns: f64, predicted_pair_ns: f64, predicted: f64) -> Self {
        let saved = predicted * (pair_ns - predicted_pair_ns).max(0.0);
        Self { allocation_ns: pair_ns * 2.0 / 3.0 - saved, release_ns: pair_ns / 3.0 }
    }
}

impl Rate {
    /// From what was counted in `seconds`: allocations, releases, and seconds of processor time, the probes' included.
    pub fn new(
        pid: u32,
        seconds: f64,
        allocations: u64,
        releases: u64,
        processor_seconds: f64,
        prices: Prices,
    ) -> Rate {
        let probes = (allocations as f64 * prices.allocation_ns + releases as f64 * prices.release_ns) / 1e9;
        // What is left after the probes' part must be more than the error of that part to be divided by.
        let own = processor_seconds - probes;
        let enough = processor_seconds / seconds >= BUSY;
        Rate {
            pid,
            allocations_per_second: allocations as f64 / seconds,
            releases_per_second: releases as f64 / seconds,
            processors: processor_seconds / seconds,
            probes: probes / seconds,
            slowdown: enough.then(|| processor_seconds / own.max(processor_seconds / MAX_SLOWDOWN)),
        }
    }

    /// Whether the slowdown is the most that is said; it may be more.
    pub fn is_beyond(&self) -> bool {
        self.slowdown.is_some_and(|slowdown| slowdown >= MAX_SLOWDOWN)
    }
}

/// A process that keeps less than this of a processor busy does too little to speak of a slowdown.
const BUSY: f64 = 0.01;

/// The largest slowdown that is said: where the probes take nearly all of the time, the rest is within their error.
const MAX_SLOWDOWN: f64 = 10.0;

/// Writes the findings as text or as one line of JSON.
///
/// # Errors
///
/// The errors of writing to `out`.
pub fn render(findings: &Findings, format: Format, out: &mut dyn Write) -> io::Result<()> {
    if format == Format::Json {
        serde_json::to_writer(&mut *out, findings)?;
        return out.write_all(b"\n");
    }
    text::render(findings, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slowdown_is_what_the_probes_leave_of_the_time() {
        // 100,000 pairs at 1 µs are a tenth of the processor that it kept busy.
        let rate = Rate::new(1, 1.0, 100_000, 100_000, 1.0, Prices::new(1000.0, 1000.0, 0.0));
        assert!((rate.probes - 0.1).abs() < 1e-9 && (rate.slowdown.unwrap() - 1.0 / 0.9).abs() < 1e-9, "{rate:?}");
        // Two seconds: half the rate.
        let rate = Rate::new(1, 2.0, 100_000, 0, 1.0, Prices::new(1500.0, 1500.0, 0.0));
        assert!((rate.allocations_per_second - 50_000.0).abs() < 1e-9 && (rate.probes - 0.05).abs() < 1e-9, "{rate:?}");
        assert!(!rate.is_beyond());
    }

    #[test]
    fn a_predicted_result_saves_its_part_of_the_allocation() {
        let followed = Prices::new(1500.0, 1100.0, 0.0);
        assert!((followed.allocation_ns - 1000.0).abs() < 1e-9 && (followed.release_ns - 500.0).abs() < 1e-9);
        let half = Prices::new(1500.0, 1100.0, 0.5);
        assert!((half.allocation_ns - 800.0).abs() < 1e-9 && (half.release_ns - 500.0).abs() < 1e-9, "{half:?}");
    }

    #[test]
    fn a_process_that_sleeps_has_no_slowdown_and_one_that_only_allocates_has_a_bound() {
        assert_eq!(Rate::new(1, 1.0, 3, 3, 0.001, Prices::new(1000.0, 1000.0, 0.0)).slowdown, None);
        assert!(Rate::new(1, 1.0, 1_000_000, 1_000_000, 0.9, Prices::new(1000.0, 1000.0, 0.0)).is_beyond());
    }
}
