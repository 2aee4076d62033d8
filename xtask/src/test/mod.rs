//! `test`: every test of the workspace, after setting the machine up for them. Nothing is skipped: what a test needs
//! is installed, and where that cannot be the run fails and says so.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::{debian, packages, process};

mod suites;

const TRACEFS: &str = "/sys/kernel/tracing";

/// Runs the tests; with `quick` those that neither trace nor need root.
pub fn run(quick: bool) -> Result<ExitCode> {
    if !quick {
        // Checked first: a machine where the tests cannot run is not set up for them.
        process::as_root("true", "the end-to-end tests: `cargo xtask test --quick` leaves them out; all the rest")?;
    }
    // The tests of probe sites and of unwind tables read the programs and libraries, too.
    debian::install("The tests", packages::TESTS)?;
    if process::find("node").is_none() {
        debian::install("The tests of runtimes' code", packages::NODE)?;
    }
    let suites: Vec<_> = suites::all()?.into_iter().filter(|suite| !quick || !suite.needs_root()).collect();
    let mut failed = Vec::new();
    let mut memtrace = None;
    if !quick {
        mount_tracefs()?;
        let built = process::build_memtrace()?;
        if !survive(&built)? {
            failed.push("survive");
        }
        memtrace = Some(built);
    }
    for (number, suite) in (1..).zip(&suites) {
        let user = if suite.needs_root() { "as root" } else { "without root" };
        eprintln!("\nsuite {number} of {}, {user}: {}", suites.len(), suite.name);
        let mut tests = process::cargo();
        tests.args(["test", "--workspace", "--no-fail-fast"]).args(&suite.arguments);
        tests.envs(memtrace.iter().map(|memtrace| ("MEMTRACE_BIN", memtrace)));
        if suite.needs_root() && !process::is_root() {
            // Built as the user who calls, run as root.
            tests.args(["--config", r#"target."cfg(unix)".runner = ["sudo", "-E"]"#]);
        }
        if !tests.status().context("cannot run cargo test")?.success() {
            failed.push(suite.name.as_str());
        }
    }
    if failed.is_empty() {
        eprintln!("\nall {} suites passed", suites.len());
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("\nfailed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// Lets memtrace come and go while a few real programs work; whether all of them survived.
fn survive(memtrace: &Path) -> Result<bool> {
    let this = std::env::current_exe().context("asking for this program's own path")?;
    let mut trial = process::as_root(this, "tracing the programs")?;
    trial.args(["survive", "--quick", "--memtrace"]).arg(memtrace);
    Ok(trial.status().context("cannot run the trial of the programs that must survive")?.success())
}

/// memtrace reads the ids of tracepoints there; a container or a small image may not have it mounted.
fn mount_tracefs() -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    if is_mounted(&mounts, TRACEFS) {
        return Ok(());
    }
    eprintln!("{TRACEFS} is not mounted; mounting it, since tracepoints are found there");
    let mut mount = process::as_root("mount", "mounting tracefs")?;
    process::run(mount.args(["-t", "tracefs", "tracefs"]).arg(Path::new(TRACEFS)))
}

fn is_mounted(mounts: &str, place: &str) -> bool {
    mounts.lines().any(|line| line.split(' ').nth(1) == Some(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_whole_path() {
        let mounts = "sysfs /sys sysfs rw 0 0\ntracefs /sys/kernel/tracing tracefs rw 0 0\n";
        assert!(is_mounted(mounts, TRACEFS));
        assert!(!is_mounted(mounts, "/sys/kernel"));
        assert!(!is_mounted("", TRACEFS));
    }
}
