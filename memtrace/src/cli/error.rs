//! What can be wrong with a command line.

use thiserror::Error;

use crate::{allocator::wrapper::WrapperError, debuginfod::EnvironmentError};

/// A command line that makes no sense. One line that says what to do.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum UsageError {
    /// No process was named.
    #[error(
        "nothing to trace: name a running process with --pid PID, a container with --container NAME, a cgroup with \
         --cgroup DIR, or a command after -- (see memtrace --help)"
    )]
    NoTarget,
    /// A flag that only a command has a use for.
    #[error("{0} applies to a command that memtrace runs: write the command after --, as in: memtrace {0} -- COMMAND")]
    NoCommand(&'static str),
    /// A time of counting that is too short or too long.
    #[error("--measure takes a time from 200ms to 1h; without a time it measures for 1s")]
    Measure,
    /// No process to count.
    #[error("nothing to measure: name a running process with --pid PID, or a cgroup or container")]
    NothingToMeasure,
    /// Neither process nor cgroup was named.
    #[error(
        "nothing to watch: name a running process with --pid PID, a container with --container NAME, or a cgroup with --cgroup DIR"
    )]
    NothingToWatch,
    /// A window too short for a rate, or longer than anything.
    #[error("--window {value}: use at least 8 times --interval, and at most 30d")]
    Window {
        /// What was typed.
        value: String,
    },
    /// A time of nothing.
    #[error("{flag} must be longer than 0")]
    Zero {
        /// The flag.
        flag: &'static str,
    },
    /// A trace too short or too long.
    #[error("--escalate: use at least 1s and at most 1h, such as --escalate=60s")]
    Escalate,
    /// What depends on alerts, without any.
    #[error("{flag} needs an alert to wait for: add --alert-growth RATE or --alert-size SIZE")]
    NothingAlerts {
        /// The flag.
        flag: &'static str,
    },
    /// A rate that cannot be read.
    #[error("{flag} {value}: not a rate; write a size and a time (s, min, h or d), such as 50MB/h")]
    Rate {
        /// The flag.
        flag: &'static str,
        /// What was typed.
        value: String,
    },
    /// A time that cannot be read.
    #[error("{flag} {value}: not a time; write a number with a unit, such as 500ms, 5s or 10m")]
    Time {
        /// The flag.
        flag: &'static str,
        /// What was typed.
        value: String,
    },
    /// A time out of range.
    #[error("--interval {value}: use at least 100ms and at most 1h")]
    Interval {
        /// What was typed.
        value: String,
    },
    /// A run shorter than nothing.
    #[error("--duration must be longer than 0")]
    Duration,
    /// A size that cannot be read.
    #[error("{flag} {value}: not a size; write bytes or a number with a unit, such as 4096 or 4KiB")]
    Size {
        /// The flag.
        flag: &'static str,
        /// What was typed.
        value: String,
    },
    /// No size fits.
    #[error("--min-size is larger than --max-size: no block would be recorded")]
    EmptySizeRange,
    /// A distance at which next to every block is drawn, or none.
    #[error("--sample {value}: use a size from 1KiB to 1GiB")]
    Sample {
        /// What was typed.
        value: String,
    },
    /// A budget of nothing, or of more than everything.
    #[error("--max-overhead {value}: use a percentage from 0.1% to 100%, such as 5%")]
    MaxOverhead {
        /// What was typed.
        value: String,
    },
    /// A flag about probes that are not there.
    #[error("{0} applies to probes on allocations, and --mode growth has none: leave one of them out")]
    NoProbes(&'static str),
    /// What runtimes say of their heaps, besides the pages of these heaps.
    #[error(
        "--ask says who allocates in a heap and --mode growth who touches its pages, which is the same memory: leave one of them out"
    )]
    AskGrowth,
    /// A ring that the kernel would refuse.
    #[error("--ring-size {value}: use a power of two from 1MiB to 1GiB")]
    Ring {
        /// What was typed.
        value: String,
    },
    /// Room for next to no table, or for more than is ever made.
    #[error("--unwind-memory {value}: use a size from 64KiB to 256MiB")]
    UnwindMemory {
        /// What was typed.
        value: String,
    },
    /// A suppressions file that cannot be read or understood.
    #[error("{reason}")]
    Suppressions {
        /// The flag, the file, the line and what is wrong.
        reason: String,
    },
    /// A pattern that makes no sense.
    #[error("{flag} {value}: {reason}")]
    Pattern {
        /// The flag.
        flag: &'static str,
        /// What was typed.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Too many patterns.
    #[error("{flag}: more than {most} patterns; use wildcards")]
    Patterns {
        /// The flag.
        flag: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// A function that cannot be read.
    #[error(transparent)]
    Wrapper(#[from] WrapperError),
    /// Debug files that nobody can be asked for, or that cannot be kept.
    #[error(transparent)]
    Debuginfod(#[from] EnvironmentError),
    /// Nothing would be shown.
    #[error("--top must be from 1 to 100000")]
    Top,
    /// A weight for a form that has room for all.
    #[error(
        "--metric applies to folded, flamegraph, pprof and html: choose one of these with --format, or leave it out"
    )]
    Metric,
    /// Bytes that would spoil a terminal.
    #[error("pprof is binary and standard output is a terminal: name a file, such as --output heap.pb.gz")]
    Binary,
}
