//! The trial of one program: once without memtrace, and once with memtrace that comes and goes.

use std::fmt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::program::Program;
use super::visit::{self, Visit};
use super::worker::{Ended, Worker};
use crate::process;

/// How long the program works without memtrace.
const ALONE: Duration = Duration::from_millis(100);

/// The status of a program that has found all of its work right.
const RIGHT: i32 = 7;

/// What came of a trial.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The program's version.
    pub version: String,
    /// Visits that were made.
    pub rounds: u32,
    /// Those in which all probes were in place.
    pub attached: u32,
    /// Those in which memtrace was killed before that.
    pub cut_short: u32,
    /// How long the visits took.
    pub seconds: f64,
    /// Why the program did not survive, or was not put on trial.
    pub failure: Option<String>,
    /// What memtrace said, the last time that it did not attach.
    pub refusal: Option<String>,
}

impl Outcome {
    /// Whether the program ended as it does without memtrace.
    pub fn survived(&self) -> bool {
        self.failure.is_none()
    }

    /// It as a row of results.
    pub fn row(&self) -> Value {
        json!({
            "version": self.version,
            "rounds": self.rounds,
            "attached": self.attached,
            "cut_short": self.cut_short,
            "refused": self.refused(),
            "failure": self.failure,
        })
    }

    /// Visits in which memtrace did not attach and said why.
    pub fn refused(&self) -> u32 {
        self.rounds.saturating_sub(self.attached + self.cut_short)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, attached, cut_short, seconds, .. } = self;
        write!(out, "{rounds} rounds in {seconds:.0} s, {attached} attached, {cut_short} cut short")?;
        if self.refused() > 0 {
            write!(out, ", {} refused ({})", self.refused(), self.refusal.as_deref().unwrap_or_default())?;
        }
        match &self.failure {
            None => write!(out, ": survived"),
            Some(why) => write!(out, ": FAILED: {why}"),
        }
    }
}

/// Puts a program on trial.
pub fn run(program: &Program, memtrace: &Path, rounds: u32, built: &Path) -> Outcome {
    let mut outcome = Outcome::default();
    if let Err(error) = attempt(program, memtrace, rounds, built, &mut outcome) {
        outcome.failure = Some(format!("{error:#}"));
    }
    outcome
}

fn attempt(program: &Program, memtrace: &Path, rounds: u32, built: &Path, outcome: &mut Outcome) -> Result<()> {
    if !program.build.is_empty() {
        process::run_quietly(&mut Program::shell(program.build, built)).context("it cannot be built")?;
    }
    let version = process::output(&mut Program::shell(program.version, built)).context("its version")?;
    outcome.version = version.lines().next().unwrap_or_default().trim().to_owned();
    let alone = alone(program, built).context("without memtrace")?;
    let mut worker = Worker::start(program, built)?;
    let begun = Instant::now();
    for round in 0..rounds {
        let flags = program.flags[round as usize % program.flags.len()];
        // That the program has ended says more than what memtrace made of it.
        let visit = visit::pay(memtrace, &worker.pids, flags, round);
        let visit = visit.or_else(|error| worker.check().and(Err(error)))?;
        outcome.rounds += 1;
        outcome.seconds = begun.elapsed().as_secs_f64();
        match visit {
            Visit::Attached => outcome.attached += 1,
            Visit::CutShort => outcome.cut_short += 1,
            Visit::Refused(why) => outcome.refusal = Some(why),
        }
        worker.check().with_context(|| format!("after round {}", round + 1))?;
    }
    let (traced, said) = worker.end()?;
    ensure!(
        traced == alone,
        "it ended with {} and {:?}, without memtrace with {} and {:?}{said}",
        traced.status,
        traced.output,
        alone.status,
        alone.output
    );
    ensure!(outcome.attached > 0, "memtrace never attached: {}", outcome.refusal.as_deref().unwrap_or_default());
    Ok(())
}

/// Runs it without memtrace.
fn alone(program: &Program, built: &Path) -> Result<Ended> {
    let worker = Worker::start(program, built)?;
    thread::sleep(ALONE);
    let (ended, said) = worker.end()?;
    let is_right = ended.status.code() == Some(RIGHT) && ended.output.len() == 1;
    ensure!(is_right, "it ended with {} and {:?}{said}", ended.status, ended.output);
    Ok(ended)
}
