//! `bench`: what tracing costs, as ratios of added time. Every round runs each workload under each tool once, so that a
//! machine whose speed drifts slows all of them alike; ratios are taken within a round, and their median is shown.
//!
//! `workload` is what runs, `tool` what watches, `measurement` one run of the one under the other; `results` makes numbers
//! of the measurements, `attach` compares how long two builds take to begin, `scale` is about memtrace itself when there is much to watch, `table`, `markdown` and `plot` show them, `machine` says where they were made. A run of everything
//! replaces `docs/performance/results.*`.

mod attach;
mod machine;
mod markdown;
mod measurement;
mod plot;
mod results;
mod scale;
mod table;
mod tool;
mod workload;

use std::fs;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};

use self::{
    results::{Results, Row},
    workload::{Size, Workload},
};
use crate::{debian, packages, process, tree};

/// What is measured, and how often.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    alone: Option<Alone>,
    /// Rounds; each runs every tool once, and medians are reported.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Only the workloads with this in their short names.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Small workloads: whether everything runs, not what it costs.
    #[arg(long)]
    quick: bool,
}

/// What is measured by itself.
#[derive(clap::Subcommand)]
enum Alone {
    /// How long an attach takes, next to an earlier build.
    Attach(attach::Options),
}

impl Options {
    /// Whether the workload of this name is to run.
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// Whether the results are fit to be kept.
    fn complete(&self) -> bool {
        self.only.is_none() && !self.quick
    }
}

/// The name of what is measured of memtrace itself.
const SCALE: &str = "scale";

/// A workload with the rows of its table.
struct Section {
    workload: Workload,
    rows: Vec<Row>,
}

/// Runs the benchmark, prints its tables and, after a run of everything, writes them into the documentation.
pub fn run(options: &Options) -> Result<ExitCode> {
    if let Some(Alone::Attach(options)) = &options.alone {
        return attach::run(options);
    }
    process::as_root("true", "tracing")?;
    debian::install("The benchmark", packages::BENCH)?;
    let memtrace = process::build_memtrace()?;
    // Now, as long as the checkout is what was built.
    let facts = machine::facts()?;
    let size = if options.quick { Size::Small } else { Size::Full };
    let workloads = chosen(workload::all(size)?, options)?;
    let (tools, missing) = tool::present()?;
    let mut sections = Vec::new();
    for workload in workloads {
        println!("\n{}: {}", workload.name, workload.title);
        let mut results = Results::default();
        for round in 1..=options.rounds {
            for &tool in tools.iter().filter(|&&tool| workload.is_seen_by(tool)) {
                progress(&format!("{}, round {round} of {}: {}", workload.name, options.rounds, tool.name()));
                let measurement = measurement::make(&workload, tool, &memtrace);
                results.add(tool, measurement.with_context(|| format!("{} under {}", workload.name, tool.name()))?);
            }
        }
        progress("");
        let rows = results.rows().into_iter().filter(|row| workload.is_seen_by(row.tool)).collect::<Vec<_>>();
        print!("{}", table::render(&rows, workload.pairs));
        sections.push(Section { workload, rows });
    }
    let scale = if options.wants(SCALE) { scale::run(size, &memtrace, progress)? } else { Vec::new() };
    progress("");
    if !scale.is_empty() {
        println!("\nscale: what memtrace itself takes");
        print!("{}", scale::render(&scale));
    }
    println!("\n{}", tool::MARKS);
    missing.iter().for_each(|note| println!("{note}"));
    println!("Ratios hold from run to run; times do not: compare within one table.");
    if options.complete() {
        publish(&sections, &scale, &facts, &missing, options.rounds)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn chosen(mut workloads: Vec<Workload>, options: &Options) -> Result<Vec<Workload>> {
    let names: Vec<_> = workloads.iter().map(|workload| workload.name).collect();
    workloads.retain(|workload| options.wants(workload.name));
    let only = options.only.as_deref().unwrap_or_default();
    ensure!(
        !workloads.is_empty() || options.wants(SCALE),
        "no workload has `{only}` in its name; there are {} and {SCALE}",
        names.join(", ")
    );
    Ok(workloads)
}

/// Replaces the line that says what runs; only where someone watches.
fn progress(line: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{line:<78}\r");
    }
}

/// Writes the results into the documentation, in place of those of the last run.
fn publish(
    sections: &[Section],
    scale: &[scale::Took],
    facts: &[(&str, String)],
    missing: &[String],
    rounds: u32,
) -> Result<()> {
    let folder = tree::root().join("docs/performance");
    fs::create_dir_all(&folder).context("cannot create docs/performance")?;
    let markdown = markdown::render(sections, scale, facts, missing, rounds);
    for (name, text) in [("results.md", markdown), ("results.svg", plot::render(sections)?)] {
        fs::write(folder.join(name), text).with_context(|| format!("cannot write docs/performance/{name}"))?;
        println!("written: docs/performance/{name}");
    }
    Ok(())
}
