//! `survive`: real programs work while memtrace comes and goes, and must end with the output and the exit status that they have
//! without it. `xtask/survive/` has the programs that are not Debian's.
//!
//! `program` is what runs and `table` lists all of it, `worker` is one run, `visit` one attach and its end, `trial` a program's
//! whole trial, and `markdown` shows the outcomes, which are kept between runs.

mod markdown;
mod program;
mod table;
mod trial;
mod visit;
mod worker;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};

use self::program::Program;
use crate::outcomes::Outcomes;
use crate::{debian, packages, process, tree};

/// The folder of the target folder in which outcomes are kept, and what is built.
const KEPT: &str = "survive";

/// How often memtrace comes and goes where nobody says.
const ROUNDS: u32 = 200;

/// How often it does so in `cargo xtask test`.
const QUICK_ROUNDS: u32 = 4;

/// What runs, and how often memtrace comes and goes.
#[derive(clap::Args)]
pub struct Options {
    /// How often memtrace attaches to each program and lets go of it.
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only the programs that `cargo xtask test` runs, for a few rounds.
    #[arg(long, conflicts_with_all = ["rounds", "only", "write"])]
    quick: bool,
    /// Only the programs with these names.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// List the programs and end.
    #[arg(long)]
    list: bool,
    /// The memtrace that is used; without it one is built in release mode.
    #[arg(long, value_name = "PATH")]
    memtrace: Option<PathBuf>,
    /// Write docs/survive.md from the results of this run and earlier ones.
    #[arg(long)]
    write: bool,
}

/// Runs the trials, and prints a line for each as it ends.
pub fn run(options: &Options) -> Result<ExitCode> {
    let programs = options.wanted()?;
    if options.list {
        programs.iter().for_each(|program| println!("{:<18} {}", program.name, program.what));
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(process::is_root(), "the programs change users and cgroups: run this as root");
    install(&programs)?;
    let memtrace = process::memtrace(options.memtrace.as_deref())?;
    if options.quick {
        let survived = each(&programs, &memtrace, QUICK_ROUNDS, &mut Outcomes::none(KEPT))?;
        return Ok(if survived { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let mut results = Outcomes::read(KEPT)?;
    let survived = each(&programs, &memtrace, options.rounds, &mut results)?;
    results.keep()?;
    if options.write {
        markdown::write(&results)?;
    }
    Ok(if survived { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Options {
    fn wants(&self, program: &Program) -> bool {
        let is_named = self.only.is_empty() || self.only.iter().any(|name| name == program.name);
        is_named && (program.is_quick || !self.quick)
    }

    fn wanted(&self) -> Result<Vec<&'static Program>> {
        for name in &self.only {
            ensure!(
                table::PROGRAMS.iter().any(|program| program.name == name),
                "no program is called {name}: see --list"
            );
        }
        Ok(table::PROGRAMS.iter().filter(|program| self.wants(program)).collect())
    }
}

fn install(programs: &[&Program]) -> Result<()> {
    let is_needed = |name: &str| programs.iter().any(|program| program.packages.contains(&name));
    debian::install("The programs that have to survive", &packages::needed(packages::SURVIVE, is_needed))
}

/// Tries one program after the other; whether all survived.
fn each(programs: &[&'static Program], memtrace: &Path, rounds: u32, results: &mut Outcomes) -> Result<bool> {
    let built = tree::target().join(KEPT);
    fs::create_dir_all(&built).with_context(|| format!("cannot create {}", built.display()))?;
    let mut survived = true;
    for program in programs {
        let outcome = trial::run(program, memtrace, rounds, &built);
        println!("{:<18} {outcome}", program.name);
        survived &= outcome.survived();
        results.take(program.name, outcome.row());
    }
    Ok(survived)
}
