//! From flags to checked values.

use std::{path::PathBuf, time::Duration};

use memtrace_common::limits::PAGE_BYTES;
use thiserror::Error;

use super::flags::{Flags, Format, SubcommandFlags};

/// What was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// Trace processes.
    Trace(TraceConfig),
    /// Say whether it can be done and what would be attached.
    Doctor(DoctorConfig),
}

/// How to trace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TraceConfig {
    /// The processes; at least one, none twice.
    pub pids: Vec<u32>,
    /// Time between samples.
    pub interval: Duration,
    /// When to end by itself.
    pub duration: Option<Duration>,
    /// Stacks a report shows; at least one.
    pub top: usize,
    /// The report's form.
    pub format: Format,
    /// Where the report goes instead of standard output.
    pub output: Option<PathBuf>,
    /// Smallest block recorded, in bytes.
    pub min_size: u64,
    /// Largest block recorded, in bytes.
    pub max_size: u64,
    /// Whether a growing stack makes the exit status 3.
    pub fail_on_leak: bool,
    /// Whether mappings come from system-call tracepoints.
    pub syscalls: bool,
    /// Size of the ring in bytes: a power of two, whole pages.
    pub ring_bytes: u32,
    /// Whether remembered stacks are walked all the same and compared, for tests.
    pub verify_stacks: bool,
    /// Whether programs that do nothing are attached, for the benchmark.
    pub empty_programs: bool,
}

/// What to look at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DoctorConfig {
    /// Processes whose probe sites are shown.
    pub pids: Vec<u32>,
}

/// A command line that makes no sense. One line that says what to do.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum UsageError {
    /// No process was named.
    #[error("nothing to trace: name a running process with --pid PID (see memtrace --help)")]
    NoTarget,
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
    /// A ring that the kernel would refuse.
    #[error("--ring-size {value}: use a power of two from 1MiB to 1GiB")]
    Ring {
        /// What was typed.
        value: String,
    },
    /// Nothing would be shown.
    #[error("--top must be from 1 to 100000")]
    Top,
}

const MAX_TOP: usize = 100_000;

/// Checks the flags.
///
/// # Errors
///
/// The first thing that makes no sense.
pub fn resolve(flags: Flags) -> Result<Command, UsageError> {
    if let Some(SubcommandFlags::Doctor { pids }) = flags.subcommand {
        return Ok(Command::Doctor(DoctorConfig { pids: distinct(pids) }));
    }
    if flags.pids.is_empty() {
        return Err(UsageError::NoTarget);
    }
    let interval = time("--interval", &flags.interval)?;
    if !(Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&interval) {
        return Err(UsageError::Interval { value: flags.interval });
    }
    let duration = flags.duration.as_deref().map(|text| time("--duration", text)).transpose()?;
    if duration == Some(Duration::ZERO) {
        return Err(UsageError::Duration);
    }
    if !(1..=MAX_TOP).contains(&flags.top) {
        return Err(UsageError::Top);
    }
    let min_size = flags.min_size.as_deref().map_or(Ok(0), |text| size("--min-size", text))?;
    let max_size = flags.max_size.as_deref().map_or(Ok(u64::MAX), |text| size("--max-size", text))?;
    if min_size > max_size {
        return Err(UsageError::EmptySizeRange);
    }
    Ok(Command::Trace(TraceConfig {
        pids: distinct(flags.pids),
        interval,
        duration,
        top: flags.top,
        format: flags.format,
        output: flags.output,
        min_size,
        max_size,
        fail_on_leak: flags.fail_on_leak,
        syscalls: flags.syscalls,
        ring_bytes: ring_bytes(&flags.ring_size)?,
        verify_stacks: flags.verify_stacks,
        empty_programs: flags.empty_programs,
    }))
}

fn distinct(pids: Vec<u32>) -> Vec<u32> {
    let mut seen = Vec::new();
    for pid in pids {
        if !seen.contains(&pid) {
            seen.push(pid);
        }
    }
    seen
}

fn time(flag: &'static str, value: &str) -> Result<Duration, UsageError> {
    humantime::parse_duration(value).map_err(|_unreadable| UsageError::Time { flag, value: value.to_owned() })
}

fn size(flag: &'static str, value: &str) -> Result<u64, UsageError> {
    parse_size::parse_size(value).map_err(|_unreadable| UsageError::Size { flag, value: value.to_owned() })
}

fn ring_bytes(value: &str) -> Result<u32, UsageError> {
    let refused = || UsageError::Ring { value: value.to_owned() };
    let bytes = size("--ring-size", value)?;
    let allowed = (1 << 20..=1 << 30).contains(&bytes) && bytes.is_power_of_two() && bytes.is_multiple_of(PAGE_BYTES);
    if !allowed {
        return Err(refused());
    }
    u32::try_from(bytes).map_err(|_too_large| refused())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    fn parse(line: &str) -> Result<Command, UsageError> {
        resolve(Flags::try_parse_from(line.split_whitespace()).expect("flags that clap accepts"))
    }

    fn trace(line: &str) -> TraceConfig {
        match parse(line) {
            Ok(Command::Trace(config)) => config,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_flags_are_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let config = trace("memtrace --pid 7 --pid 8 --pid 7");
        assert_eq!(config.pids, [7, 8]);
        assert_eq!(config.interval, Duration::from_secs(5));
        assert_eq!((config.duration, config.top, config.format), (None, 10, Format::Text));
        assert_eq!((config.min_size, config.max_size, config.ring_bytes), (0, u64::MAX, 64 << 20));
    }

    #[test]
    fn units_are_understood() {
        let config =
            trace("memtrace --pid 7 --interval 500ms --duration 2m --min-size 4KiB --max-size 1MB --ring-size 1MiB");
        assert_eq!((config.interval, config.duration), (Duration::from_millis(500), Some(Duration::from_secs(120))));
        assert_eq!((config.min_size, config.max_size, config.ring_bytes), (4096, 1_000_000, 1 << 20));
    }

    #[test]
    fn nonsense_is_one_line_that_says_what_to_do() {
        for line in [
            "memtrace",
            "memtrace --pid 7 --interval soon",
            "memtrace --pid 7 --interval 1ms",
            "memtrace --pid 7 --duration 0s",
            "memtrace --pid 7 --min-size big",
            "memtrace --pid 7 --min-size 2 --max-size 1",
            "memtrace --pid 7 --ring-size 3MiB",
            "memtrace --pid 7 --ring-size 8GiB",
            "memtrace --pid 7 --top 0",
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(!error.is_empty() && !error.contains('\n'), "{line}: {error}");
        }
    }
}
