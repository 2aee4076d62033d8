//! Installs Debian packages: says what, why and for how long, and starts none of the services in them. Also finds and
//! downloads packages that are not to be installed.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::packages::Package;
use crate::process;

/// Read by the packages' install scripts: 101 forbids starting a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str =
    "#!/bin/sh\n# memtrace's xtask installs packages and starts no services; removed when it is done.\nexit 101\n";

/// Installs those of the packages that are not there yet.
///
/// # Errors
/// Not a Debian-like system: the message names what `purpose` is missing. Or apt-get failed.
pub fn install(purpose: &str, packages: &[Package]) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    if process::find("apt-get").is_none() {
        bail!("{purpose} takes what Debian packages as {}: install these with your system's tools", names.join(", "));
    }
    eprintln!("{purpose} takes packages that are not installed:");
    missing.iter().for_each(|package| eprintln!("  {:<22} {}", package.name, package.why));
    if !unknown(&names).is_empty() {
        update()?;
    }
    let unknown = unknown(&names);
    if !unknown.is_empty() {
        bail!("{purpose} takes packages that this system's apt does not know: {}", unknown.join(", "));
    }
    let _no_services = NoServices::begin()?;
    process::run_timed("packages", apt_get()?.args(["install", "--yes", "--no-install-recommends"]).args(&names))
}

/// Fetches the lists of packages.
pub fn update() -> Result<()> {
    process::run_timed("package lists", apt_get()?.arg("update"))
}

/// The packages whose names match the extended regular expression.
pub fn search(names: &str) -> Result<Vec<String>> {
    let lines = process::output(Command::new("apt-cache").args(["search", "--names-only", names]))?;
    Ok(lines.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// Puts the package's file into the folder without installing it; takes no root.
pub fn download(name: &str, folder: &Path) -> Result<()> {
    let mut command = Command::new("apt-get");
    // As root, apt would hand the download to a user who may not write there.
    command.args(["--quiet", "--quiet", "-o", "APT::Sandbox::User=root", "download", name]).current_dir(folder);
    process::run(&mut command)
}

fn missing(packages: &[Package]) -> Vec<Package> {
    packages.iter().filter(|package| !is_installed(package.name)).copied().collect()
}

fn is_installed(name: &str) -> bool {
    process::output(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", name]))
        .is_ok_and(|status| status == "installed")
}

fn unknown<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let known = |name: &str| {
        process::output(Command::new("apt-cache").args(["policy", name])).is_ok_and(|text| has_candidate(&text))
    };
    names.iter().copied().filter(|name| !known(name)).collect()
}

fn has_candidate(policy: &str) -> bool {
    policy.lines().filter_map(|line| line.trim().strip_prefix("Candidate:")).any(|version| version.trim() != "(none)")
}

fn apt_get() -> Result<Command> {
    let mut command = process::as_root("env", "installing packages")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "--quiet"]);
    // Another apt-get may be at work on a machine that has just started.
    command.args(["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]);
    Ok(command)
}

/// While it lives, packages start no services on being installed.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        // Another policy that stands already is its owner's choice; one of ours is left from a run that was killed.
        let ours = fs::read_to_string(POLICY)
            .map_or_else(|error| error.kind() == ErrorKind::NotFound, |text| text == POLICY_TEXT);
        if ours {
            let mut draft = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
            draft.write_all(POLICY_TEXT.as_bytes()).context("cannot write a temporary file")?;
            let mut install = process::as_root("install", "installing packages")?;
            process::run(install.args(["--mode", "755"]).arg(draft.path()).arg(POLICY))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if !self.ours {
            return;
        }
        let removed =
            process::as_root("rm", "removing it").and_then(|mut rm| process::run(rm.args(["--force", POLICY])));
        if let Err(error) = removed {
            eprintln!("{POLICY} keeps services from starting, and stays: {error:#}; remove it yourself");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_a_candidate_calls_for_new_lists() {
        assert!(has_candidate("gdb:\n  Installed: (none)\n  Candidate: 13.1-3\n"));
        assert!(!has_candidate("gdb:\n  Installed: (none)\n  Candidate: (none)\n"));
        assert!(!has_candidate(""));
    }
}
