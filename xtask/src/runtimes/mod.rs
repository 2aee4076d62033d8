//! `runtimes`: the tests of interpreters and runtimes, on versions that the machine does not have. What is needed is fetched and unpacked below
//! Cargo's target folder, not installed. Then the services of `services`.
//!
//! `runtime` is one of them with its tests and `table` lists all of them; `sid` fetches what Debian's newest packages have, `node` what
//! npm has; `trial` runs the tests of one, and `markdown` shows what came of them.

mod markdown;
mod node;
mod runtime;
mod sid;
mod table;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};

use self::{runtime::Runtime, trial::Outcome};
use crate::{process, services, tree};

/// What runs, and with which memtrace.
#[derive(clap::Args)]
pub struct Options {
    /// Only the runtimes whose names contain one of these, and the services with these names; the documents stay as they are.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// Only services under load.
    #[arg(long)]
    services: bool,
    /// With --only: write docs/services.md all the same, with earlier results of the other services.
    #[arg(long, requires = "only")]
    write: bool,
    /// List the runtimes and the services, and end.
    #[arg(long)]
    list: bool,
    /// The memtrace that is used; without it one is built in release mode.
    #[arg(long, value_name = "PATH")]
    memtrace: Option<PathBuf>,
}

/// Runs the tests of each runtime and puts each service on trial, prints a line for each as it ends, and writes the tables of all of them.
pub fn run(options: &Options) -> Result<ExitCode> {
    let is_all = options.only.is_empty();
    let is_wanted = |runtime: &&Runtime| {
        !options.services && (is_all || options.only.iter().any(|name| runtime.name.contains(name)))
    };
    let runtimes: Vec<&Runtime> = table::RUNTIMES.iter().filter(is_wanted).collect();
    let services = services::wanted(|service| is_all || options.only.iter().any(|name| name == service));
    ensure!(
        !runtimes.is_empty() || !services.is_empty(),
        "no runtime or service is called {}: see --list",
        options.only.join(" or ")
    );
    if options.list {
        let names = runtimes.iter().map(|runtime| runtime.name).chain(services.iter().map(|service| service.name));
        names.for_each(|name| println!("{name}"));
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(process::is_root(), "the tests trace, and runtimes get a file system of their own: run this as root");
    let memtrace = process::memtrace(options.memtrace.as_deref())?;
    let mut is_well = runtimes.is_empty() || tested(&runtimes, &memtrace, is_all)?;
    if !services.is_empty() {
        is_well &= services::run(&services, &memtrace, is_all || options.write)?;
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the tests of these runtimes; whether all passed. Writes their table where `is_written`.
fn tested(runtimes: &[&Runtime], memtrace: &Path, is_written: bool) -> Result<bool> {
    let folder = tree::target().join("runtimes");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let outcomes = each(runtimes, memtrace, &folder)?;
    for (runtime, outcome) in &outcomes {
        println!("{:<26} {:<10} {outcome}", runtime.name, outcome.version);
    }
    if is_written {
        markdown::write(&outcomes)?;
    }
    Ok(outcomes.iter().all(|(_, outcome)| outcome.is_passed()))
}

/// What came of each runtime. One that cannot be fetched is an outcome as well, so that the others still run.
fn each<'a>(runtimes: &[&'a Runtime], memtrace: &Path, folder: &Path) -> Result<Vec<(&'a Runtime, Outcome)>> {
    let packages: Vec<&str> = runtimes.iter().filter_map(|runtime| runtime.origin.sid_package()).collect();
    let sid = if packages.is_empty() { None } else { Some(sid::unpack(&packages, folder)?) };
    let trial = |runtime: &&'a Runtime| {
        eprintln!("\n{}", runtime.name);
        let outcome = runtime
            .ready(sid.as_deref(), folder)
            .and_then(|ready| trial::run(runtime, &ready, memtrace))
            .unwrap_or_else(|error| Outcome::impossible(&error));
        (*runtime, outcome)
    };
    Ok(runtimes.iter().map(trial).collect())
}
