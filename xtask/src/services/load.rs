//! Makes a service work in a closed loop, and counts what it did.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::service::{Load, Run, Service};
use crate::process;

/// How much longer than asked for a load may take: its last requests have to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a service did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Done {
    /// Requests or jobs that it completed.
    pub requests: u64,
    /// Those that it failed, did not answer in time, or whose connection broke.
    pub failed: u64,
    /// How long that took.
    pub seconds: f64,
    /// Processor time that all of the service's processes used meanwhile, in user and kernel mode; 0 where it was not measured.
    pub processor_seconds: f64,
}

impl Done {
    /// Requests or jobs per second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// Processor time per request or job, in seconds.
    pub fn each(&self) -> f64 {
        self.processor_seconds / self.requests as f64
    }
}

/// Has the service work for some seconds.
///
/// # Errors
/// When the load generator fails or does not end.
pub fn run(service: &Service, run: &Run, seconds: u64) -> Result<Done> {
    let mut command = match service.load {
        Load::Http(paths) => {
            let mut command = service.shell(
                "exec wrk --threads 1 --connections \"$CONNECTIONS\" --duration \"$SECONDS_OF_LOAD\" --timeout 10s --script \"$SOURCES/load.lua\" \
                 \"http://127.0.0.1:$PORT\"",
                Some(run),
            );
            command.env("PATHS", paths);
            command
        }
        Load::Jobs(script) => service.shell(script, Some(run)),
    };
    command.env("CONNECTIONS", service.connections.to_string()).env("SECONDS_OF_LOAD", seconds.to_string());
    let printed = within(&mut command, Duration::from_secs(seconds) + PATIENCE)?;
    printed.lines().find_map(parse).with_context(|| format!("the load generator said {printed:?}"))
}

/// Runs a command that must end within this time; its standard output.
fn within(command: &mut Command, limit: Duration) -> Result<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    process::ends_with_us(command);
    let mut child = command.spawn().context("cannot run the load generator")?;
    // It says a few lines, which the pipes hold.
    let status = process::end_within(&mut child, limit)?.context("the load generator does not end")?;
    let (mut printed, mut errors) = (String::new(), String::new());
    child.stdout.take().context("standard output is piped")?.read_to_string(&mut printed)?;
    child.stderr.take().context("standard error is piped")?.read_to_string(&mut errors)?;
    anyhow::ensure!(status.success(), "the load generator ended with {status}: {}", errors.trim());
    Ok(printed)
}

/// The line of numbers that `load.lua` prints.
fn parse(line: &str) -> Option<Done> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["load", "requests", requests, "microseconds", microseconds, "failed", failed] = words[..] else {
        return None;
    };
    let microseconds: u64 = microseconds.parse().ok()?;
    Some(Done {
        requests: requests.parse().ok()?,
        failed: failed.parse().ok()?,
        seconds: microseconds as f64 / 1e6,
        ..Done::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_numbers_is_read_and_no_other_one() {
        let done = parse("load requests 300 microseconds 1500000 failed 2").expect("numbers");
        assert_eq!(done, Done { requests: 300, failed: 2, seconds: 1.5, processor_seconds: 0.0 });
        assert!((done.rate() - 200.0).abs() < 1e-9);
        assert_eq!(parse("Requests/sec: 200.00"), None);
        assert_eq!(parse("load requests x microseconds 1 failed 0"), None);
    }
}
