//! Measures the verdict by the corpus; run by `cargo xtask verdict`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for terminals")]

use std::{
    io,
    process::ExitCode,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use verdict_corpus::{
    gate::ask,
    leaks::watch,
    measure::measure,
    recorded::{record, replay_all},
    run::{Effort, generated},
};

/// Judges the labelled corpus and prints how good the verdicts were; fails when they are below the bar.
#[derive(Parser)]
struct Options {
    /// Of what the generated part is made [default: the time].
    #[arg(long)]
    seed: Option<u64>,
    /// How many of each kind, in units of the usual.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    effort: u64,
    /// Show every kind of case by itself.
    #[arg(long)]
    details: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Make a recording of the JSON reports on standard input.
    Record {
        /// What ran.
        program: String,
        /// A part of the name of a function in the stacks that leak.
        #[arg(long)]
        leak: Option<String>,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.command {
        Some(Command::Record { program, leak }) => record(program, leak.as_deref(), io::stdin().lock()).map(|text| {
            print!("{text}");
            ExitCode::SUCCESS
        }),
        None => measured(&options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

/// Judges everything and says how good it was.
fn measured(options: &Options) -> Result<ExitCode> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let seed = options.seed.unwrap_or(clock);
    println!("seed {seed}");
    let start = Instant::now();
    let times = options.effort as usize;
    let outcomes = generated(Effort { seed, series: 12 * times, programs: 16 * times, watched: 2 * times });
    let replayed = replay_all()?;
    let mut measured = measure(&outcomes, options.details);
    measured.recorded(&replayed);
    measured.stability(&watch(seed, 100 * times));
    measured.gate(&ask(seed, 20 * times), options.details);
    print!("{}", measured.text);
    println!("{} cases in {:.0} s", outcomes.len(), start.elapsed().as_secs_f64());
    for failure in &measured.failures {
        eprintln!("below the bar: {failure}; `cargo xtask verdict --seed {seed} --details` shows the same again");
    }
    Ok(if measured.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
