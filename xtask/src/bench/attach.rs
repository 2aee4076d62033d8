//! How long memtrace takes from its start until it records, next to an earlier build: it decides what is seen of a process
//! that has just started, or does not live long.
//!
//! What is timed ends with the line that says that memtrace has attached, which is written when recording has begun.
//! Both builds attach in turn to one process, and the ratio is taken of two neighbouring runs.

use std::fmt::Write as _;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::{
    results, table,
    tool::{Tool, attached},
    workload::{self, Size},
};
use crate::{debian, packages, process, procfs};

/// What is attached to.
const WORKLOADS: [&str; 2] = ["loop", "redis"];

/// Which builds are compared, and how often.
#[derive(clap::Args)]
pub struct Options {
    /// The earlier build: a memtrace program, of the same build profile.
    #[arg(long, value_name = "PATH")]
    baseline: PathBuf,
    /// The build that is measured; by default the checkout's, made in release mode.
    #[arg(long, value_name = "PATH")]
    current: Option<PathBuf>,
    /// Rounds; in each, both builds attach once to each process, and medians are reported.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
}

/// Measures, and prints a table.
pub fn run(options: &Options) -> Result<ExitCode> {
    process::as_root("true", "tracing")?;
    debian::install("The benchmark", packages::BENCH)?;
    let current = options.current.clone().map_or_else(process::build_memtrace, Ok)?;
    let mut lines = vec![HEADS.map(str::to_owned).to_vec()];
    for workload in workload::all(Size::Small)?.iter().filter(|workload| WORKLOADS.contains(&workload.name)) {
        let running = workload.start(Tool::Memtrace)?;
        let mut rounds = Vec::new();
        for round in 0..options.rounds {
            super::progress(&format!("attach: {}, round {} of {}", workload.name, round + 1, options.rounds));
            let time = |memtrace: &Path| seconds(memtrace, running.pid());
            // In turn the first one, so that neither always finds what the other has just read.
            let pair = if round % 2 == 0 {
                let baseline = time(&options.baseline)?;
                (baseline, time(&current)?)
            } else {
                let current = time(&current)?;
                (time(&options.baseline)?, current)
            };
            rounds.push(pair);
        }
        lines.push(cells(workload.name, &rounds)?);
    }
    super::progress("");
    print!("{}", table::aligned(&lines));
    Ok(ExitCode::SUCCESS)
}

/// The heads of the table.
const HEADS: [&str; 5] = ["attach to", "baseline", "current", "ratio", "of each round"];

/// A row of what the two builds took in each round.
fn cells(name: &str, rounds: &[(f64, f64)]) -> Result<Vec<String>> {
    let median = |values: Vec<f64>| results::median(values.into_iter()).context("no rounds");
    let ratios: Vec<f64> = rounds.iter().map(|(baseline, current)| current / baseline).collect();
    let mut each = String::new();
    for ratio in &ratios {
        let _ = write!(each, "{ratio:.2} ");
    }
    Ok(vec![
        name.to_owned(),
        format!("{:.0} ms", 1e3 * median(rounds.iter().map(|round| round.0).collect())?),
        format!("{:.0} ms", 1e3 * median(rounds.iter().map(|round| round.1).collect())?),
        format!("{:.2}", median(ratios)?),
        each.trim_end().to_owned(),
    ])
}

/// From memtrace's start until it records.
fn seconds(memtrace: &Path, pid: u32) -> Result<f64> {
    let mut command = process::as_root(memtrace, "tracing")?;
    command.args(["--pid", &pid.to_string(), "--format", "json", "--interval", "1h"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let begun = Instant::now();
    let mut tracer = command.spawn().with_context(|| format!("cannot run {}", memtrace.display()))?;
    let mut errors = BufReader::new(tracer.stderr.take().context("no standard error")?);
    let mut seen = String::new();
    let has_attached = attached::contains_line(&mut errors, &mut seen)?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(has_attached, "{} did not attach: {}", memtrace.display(), seen.trim());
    // Under sudo it is a child. The kernel keeps 15 bytes of a name.
    let name: String = memtrace.file_name().unwrap_or_default().to_string_lossy().chars().take(15).collect();
    let own = procfs::process_named(tracer.id(), &name)?;
    attached::end(tracer, own, Tool::Memtrace)?;
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_taken_within_a_round() {
        let row = cells("loop", &[(1.0, 0.5), (4.0, 1.0), (2.0, 0.2)]).unwrap();
        assert_eq!(row, ["loop", "2000 ms", "500 ms", "0.25", "0.50 0.25 0.10"]);
        assert!(cells("loop", &[]).is_err());
    }
}
