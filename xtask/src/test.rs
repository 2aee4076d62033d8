//! `test`: every test of the workspace, after setting the machine up for them. Nothing is skipped: what a test needs
//! is installed, and where that cannot be the run fails and says so.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::{debian, packages, process};

/// The package of the end-to-end tests.
const END_TO_END: &str = "memtrace-tests";
const TRACEFS: &str = "/sys/kernel/tracing";

/// Runs the tests; with `fast` those that do not trace. Cargo's own lines come last.
pub fn run(fast: bool) -> Result<ExitCode> {
    let mut tests = process::cargo();
    tests.args(["test", "--workspace", "--no-fail-fast"]);
    if !fast {
        // Checked first: a machine where the tests cannot run is not set up for them.
        process::as_root("true", "the end-to-end tests: `cargo xtask test --fast` leaves them out; all the rest")?;
    }
    // The tests of probe sites and of unwind tables read the programs and libraries, too.
    debian::install("The tests", packages::TESTS)?;
    if process::find("node").is_none() {
        debian::install("The tests of runtimes' code", packages::NODE)?;
    }
    let mut survived = true;
    if fast {
        tests.args(["--exclude", END_TO_END]);
    } else {
        mount_tracefs()?;
        let memtrace = process::build_memtrace()?;
        survived = survive(&memtrace)?;
        tests.env("MEMTRACE_BIN", memtrace);
        if !process::is_root() {
            // Built as the user who calls, run as root.
            tests.args(["--config", r#"target."cfg(unix)".runner = ["sudo", "-E"]"#]);
        }
    }
    let status = tests.status().context("cannot run cargo test")?;
    Ok(if status.success() && survived { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
