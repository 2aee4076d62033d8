//! `memtrace doctor`: its flags, and what they resolve to.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    error::UsageError,
    flags::WrapperFlags,
    resolve::{distinct, resolve_wrappers, time},
    values::text_or_json,
};
use crate::{report::form::Format, session::DoctorConfig};

/// The flags of `memtrace doctor` as typed.
#[derive(Args, Clone, Debug)]
pub struct DoctorFlags {
    /// Show the probe sites of this running process; may be given more than once
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,

    /// Show those of every process in this cgroup
    #[arg(long = "cgroup", value_name = "DIR")]
    pub cgroups: Vec<PathBuf>,

    /// Show those of every process in this container
    #[arg(long = "container", value_name = "NAME")]
    pub containers: Vec<String>,

    /// Trace the processes for this long to count their calls, and say how much slower that makes them
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "1s")]
    pub measure: Option<String>,

    /// Text, or one object of JSON
    #[arg(long, value_name = "FORM", default_value = "text", value_parser = text_or_json())]
    pub format: Format,

    /// Functions to trace beside those of known allocators
    #[command(flatten)]
    pub wrappers: WrapperFlags,
}

/// Checks the flags.
///
/// # Errors
///
/// The first thing that makes no sense.
pub fn resolve(flags: DoctorFlags) -> Result<DoctorConfig, UsageError> {
    let wrappers = resolve_wrappers(&flags.wrappers)?;
    let measure = flags.measure.as_deref().map(|text| time("--measure", text)).transpose()?;
    if measure.is_some_and(|time| !(Duration::from_millis(200)..=Duration::from_secs(3600)).contains(&time)) {
        return Err(UsageError::Measure);
    }
    if measure.is_some() && flags.pids.is_empty() && flags.cgroups.is_empty() && flags.containers.is_empty() {
        return Err(UsageError::NothingToMeasure);
    }
    Ok(DoctorConfig {
        pids: distinct(flags.pids),
        cgroups: distinct(flags.cgroups),
        containers: distinct(flags.containers),
        measure,
        format: flags.format,
        wrappers,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{self, Command, Flags};

    fn parse(line: &str) -> Result<DoctorConfig, UsageError> {
        let flags = Flags::try_parse_from(line.split_whitespace()).expect("flags that clap accepts");
        cli::resolve(flags).map(|command| match command {
            Command::Doctor(config) => config,
            other => panic!("{line}: {other:?}"),
        })
    }

    #[test]
    fn it_looks_only_unless_it_is_asked_to_count() {
        let config = parse("memtrace doctor --pid 7 --pid 7").expect("enough");
        assert_eq!((config.pids.as_slice(), config.measure, config.format), (&[7][..], None, Format::Text));
        let config = parse("memtrace doctor --cgroup /a --container web --measure --format json").expect("all of it");
        assert_eq!((config.measure, config.format), (Some(Duration::from_secs(1)), Format::Json));
        assert_eq!((config.cgroups.len(), config.containers.len()), (1, 1));
    }

    #[test]
    fn nonsense_is_one_line_that_says_what_to_do() {
        for line in [
            "memtrace doctor --measure",
            "memtrace doctor --pid 7 --measure=1ms",
            "memtrace doctor --pid 7 --measure=soon",
            "memtrace doctor --pid 7 --free libpool.so:give(arg0)",
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(!error.is_empty() && !error.contains('\n'), "{line}: {error}");
        }
    }
}
