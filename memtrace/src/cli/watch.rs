//! `memtrace watch`: its flags, and what they resolve to.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    error::UsageError,
    rate::rate,
    resolve::{distinct, size, time},
    values::text_or_json,
};
use crate::{
    report::form::Format,
    session::{LEAST_INTERVAL, WatchConfig},
};

/// The flags of `memtrace watch` as typed.
#[derive(Args, Clone, Debug)]
pub struct WatchFlags {
    /// Watch this running process; may be given more than once
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,

    /// Watch this cgroup as a whole and its largest processes: its directory, or its path in the hierarchy
    #[arg(long, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,

    /// Watch this container as a whole and its largest processes: its name or id
    #[arg(long, value_name = "NAME", conflicts_with = "cgroup")]
    pub container: Option<String>,

    /// How often to look, such as 10s or 500ms
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub interval: String,

    /// How far back the growth rate looks
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub window: String,

    /// Alert when the lower end of the growth rate's 95% interval is above this, such as 50MB/h
    #[arg(long, value_name = "RATE")]
    pub alert_growth: Option<String>,

    /// Alert when RSS and swap of a process, or the working set of a cgroup, pass this, such as 2GB
    #[arg(long, value_name = "SIZE")]
    pub alert_size: Option<String>,

    /// When an alert begins, trace the process for this long and report the stacks behind it
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "60s")]
    pub escalate: Option<String>,

    /// End the watch after this long
    #[arg(long, value_name = "TIME")]
    pub duration: Option<String>,

    /// The form of the lines
    #[arg(long, value_name = "FORM", default_value = "text", value_parser = text_or_json())]
    pub format: Format,

    /// Write the lines to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Exit with status 3 when there was an alert
    #[arg(long)]
    pub fail_on_alert: bool,
}

/// The fewest intervals of a window: fewer samples are no rate.
const LEAST_INTERVALS: u32 = 8;

/// Checks the flags.
///
/// # Errors
///
/// The first thing that makes no sense.
pub fn resolve(flags: WatchFlags) -> Result<WatchConfig, UsageError> {
    if flags.pids.is_empty() && flags.cgroup.is_none() && flags.container.is_none() {
        return Err(UsageError::NothingToWatch);
    }
    let interval = time("--interval", &flags.interval)?;
    if !(LEAST_INTERVAL..=Duration::from_secs(3600)).contains(&interval) {
        return Err(UsageError::Interval { value: flags.interval });
    }
    let window = time("--window", &flags.window)?;
    if window < interval * LEAST_INTERVALS || window > Duration::from_secs(30 * 24 * 3600) {
        return Err(UsageError::Window { value: flags.window });
    }
    let optional = |flag, text: Option<&str>| match text.map(|text| time(flag, text)).transpose()? {
        Some(Duration::ZERO) => Err(UsageError::Zero { flag }),
        other => Ok(other),
    };
    let escalate = optional("--escalate", flags.escalate.as_deref())?;
    if escalate.is_some_and(|time| !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&time)) {
        return Err(UsageError::Escalate);
    }
    if escalate.is_some() && flags.alert_growth.is_none() && flags.alert_size.is_none() {
        return Err(UsageError::NothingAlerts { flag: "--escalate" });
    }
    if flags.fail_on_alert && flags.alert_growth.is_none() && flags.alert_size.is_none() {
        return Err(UsageError::NothingAlerts { flag: "--fail-on-alert" });
    }
    Ok(WatchConfig {
        pids: distinct(flags.pids),
        cgroup: flags.cgroup,
        container: flags.container,
        interval,
        window,
        alert_growth: flags.alert_growth.as_deref().map(growth).transpose()?,
        alert_size: flags.alert_size.as_deref().map(|text| size("--alert-size", text)).transpose()?,
        escalate,
        duration: optional("--duration", flags.duration.as_deref())?,
        format: flags.format,
        output: flags.output,
        fail_on_alert: flags.fail_on_alert,
    })
}

/// A rate that is not 0: every process grows by that.
fn growth(value: &str) -> Result<f64, UsageError> {
    let growth = rate("--alert-growth", value)?;
    if growth > 0.0 { Ok(growth) } else { Err(UsageError::Rate { flag: "--alert-growth", value: value.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{self, Command, Flags};

    fn parse(line: &str) -> Result<WatchConfig, UsageError> {
        let flags = Flags::try_parse_from(line.split_whitespace()).expect("flags that clap accepts");
        cli::resolve(flags).map(|command| match command {
            Command::Watch(config) => config,
            other => panic!("{line}: {other:?}"),
        })
    }

    #[test]
    fn defaults_and_units() {
        let config = parse("memtrace watch --pid 7 --pid 7").expect("enough");
        assert_eq!((config.pids.as_slice(), config.interval, config.window), (&[7][..], secs(10), secs(600)));
        assert_eq!((config.alert_growth, config.alert_size, config.escalate), (None, None, None));
        let line =
            "memtrace watch --cgroup /a --interval 1s --window 1m --alert-growth 50MB/h --alert-size 2GiB --escalate";
        let config = parse(line).expect("all of it");
        assert_eq!((config.alert_growth, config.alert_size), (Some(50e6), Some(2 << 30)));
        assert_eq!((config.escalate, config.pids.is_empty()), (Some(secs(60)), true));
        let config = parse("memtrace watch --pid 1 --alert-growth 1kB/s --escalate=5s").expect("the same");
        assert_eq!((config.alert_growth, config.escalate), (Some(3.6e6), Some(secs(5))));
    }

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn nonsense_is_one_line_that_says_what_to_do() {
        for line in [
            "memtrace watch",
            "memtrace watch --pid 7 --interval 10s --window 30s",
            "memtrace watch --pid 7 --interval 1ms",
            "memtrace watch --pid 7 --alert-growth 50MB",
            "memtrace watch --pid 7 --alert-growth 0/h",
            "memtrace watch --pid 7 --alert-growth 5MB/year",
            "memtrace watch --pid 7 --alert-size much",
            "memtrace watch --pid 7 --escalate",
            "memtrace watch --pid 7 --fail-on-alert",
            "memtrace watch --pid 7 --alert-size 1 --escalate=0s",
            "memtrace watch --pid 7 --duration 0s",
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(!error.is_empty() && !error.contains('\n'), "{line}: {error}");
        }
    }
}
