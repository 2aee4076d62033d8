//! Real services under load: installed from public registries at fixed versions, traced for a minute each, measured before, meanwhile and
//! after. Part of the `runtimes` command; `xtask/services/` has the services' sources.
//!
//! `service` is what one is and `table` lists all of them; `server` is one that runs, `load` makes it work, `tracer` is memtrace beside
//! it, `trial` a service's whole trial and `finding` what a report says of it; `markdown` shows the outcomes, which are
//! kept between runs.

mod finding;
mod load;
mod markdown;
mod server;
mod service;
mod table;
mod tracer;
mod trial;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

pub use self::service::Service;
use self::trial::Outcome;
use crate::outcomes::Outcomes;
use crate::{debian, packages, process};

/// The folder of the target folder in which outcomes are kept.
const KEPT: &str = "services";

/// The services whose names this accepts.
pub fn wanted(accepts: impl Fn(&str) -> bool) -> Vec<&'static Service> {
    table::SERVICES.iter().filter(|service| accepts(service.name)).collect()
}

/// Puts one service after the other on trial and prints a line for each as it ends; whether all passed. The documents are written where
/// `is_written`, with earlier results of services that are not among these.
///
/// # Errors
/// When packages of Debian cannot be installed, or results not be kept.
pub fn run(services: &[&'static Service], memtrace: &Path, is_written: bool) -> Result<bool> {
    install(services)?;
    let mut results = Outcomes::read(KEPT)?;
    let mut passed = true;
    for service in services {
        eprintln!("\n{}", service.name);
        let outcome = match ready(service) {
            Ok(()) => trial::run(service, memtrace),
            Err(error) => Outcome { failure: Some(format!("{error:#}")), ..Outcome::default() },
        };
        println!("{:<26} {}", service.name, outcome.line());
        passed &= outcome.failure.is_none();
        results.take(service.name, outcome.row());
        results.keep()?;
    }
    if is_written {
        markdown::write(&results)?;
    }
    Ok(passed)
}

fn install(services: &[&Service]) -> Result<()> {
    let is_needed = |name: &str| name == "wrk" || services.iter().any(|service| service.packages.contains(&name));
    debian::install("The services that are traced under load", &packages::needed(packages::SERVICES, is_needed))
}

/// Installs what a service needs of public registries, unless that was done by the same script, and builds it.
fn ready(service: &Service) -> Result<()> {
    let place = service.place();
    fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
    let done = place.join("installed");
    if !service.install.is_empty() && fs::read_to_string(&done).ok().as_deref() != Some(service.install) {
        process::run(&mut service.shell(service.install, None)).context("its packages")?;
        fs::write(&done, service.install).with_context(|| format!("cannot write {}", done.display()))?;
    }
    if !service.build.is_empty() {
        process::run_quietly(&mut service.shell(service.build, None)).context("it cannot be built")?;
    }
    Ok(())
}
