//! Installs Debian packages: says what, why and for how long, starts none of the services in them, and makes no database
//! for them. Also finds and downloads packages that are not to be installed.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};

use crate::packages::Package;
use crate::process;

/// A file that packages' install scripts read.
struct Told {
    path: &'static str,
    mode: &'static str,
    text: &'static str,
    /// The package that it is for, where it is not for all.
    package: Option<&'static str>,
}

const TOLD: &[Told] = &[
    // 101 forbids starting a service.
    Told {
        path: "/usr/sbin/policy-rc.d",
        mode: "755",
        text: "#!/bin/sh\n# memtrace's xtask installs packages and starts no services; removed when it is done.\nexit 101\n",
        package: None,
    },
    // PostgreSQL would make a database of the machine's own, which every later start of the machine would run.
    Told {
        path: "/etc/postgresql-common/createcluster.d/memtrace.conf",
        mode: "644",
        text: "# memtrace's xtask installs PostgreSQL and makes no database; removed when it is done.\n\
               create_main_cluster = false\n",
        package: Some("postgresql"),
    },
];

/// Installs those of the packages that are not there yet.
///
/// # Errors
/// Not a Debian-like system: the message names what `purpose` is missing. Or apt-get failed.
pub fn install(purpose: &str, packages: &[Package]) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() { Ok(()) } else { install_newest(purpose, &missing) }
}

/// Installs the packages, or newer versions of those that are there.
///
/// # Errors
/// As [`install`].
pub fn install_newest(purpose: &str, packages: &[Package]) -> Result<()> {
    let names: Vec<_> = packages.iter().map(|package| package.name).collect();
    if process::find("apt-get").is_none() {
        bail!(
            "{purpose}: needed is what Debian packages as {}; install these with your system's tools",
            names.join(", ")
        );
    }
    eprintln!("{purpose}: these packages are missing or too old, and are installed now:");
    packages.iter().for_each(|package| eprintln!("  {:<22} {}", package.name, package.why));
    // Old lists name versions that are too old, or gone from the servers.
    if !LISTS_ARE_NEW.swap(true, Ordering::Relaxed) {
        update()?;
    }
    let unknown = unknown(&names);
    if !unknown.is_empty() {
        bail!("{purpose}: this system's apt does not know these packages, which are needed: {}", unknown.join(", "));
    }
    let _restraint = Restraint::begin(&names)?;
    process::run_timed("packages", apt_get()?.args(["install", "--yes", "--no-install-recommends"]).args(&names))
}

/// Whether this process has fetched the lists of packages.
static LISTS_ARE_NEW: AtomicBool = AtomicBool::new(false);

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

/// Files that stand while it lives, and keep packages from more than being installed.
struct Restraint {
    ours: Vec<&'static str>,
}

impl Restraint {
    fn begin(packages: &[&str]) -> Result<Self> {
        let mut restraint = Self { ours: Vec::new() };
        let concerned = |told: &&Told| told.package.is_none_or(|package| packages.contains(&package));
        for &Told { path, mode, text, .. } in TOLD.iter().filter(concerned) {
            // A file that stands already is its owner's choice; one of ours is left from a run that was killed.
            let ours = fs::read_to_string(path)
                .map_or_else(|error| error.kind() == ErrorKind::NotFound, |present| present == text);
            if !ours {
                continue;
            }
            let mut draft = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
            draft.write_all(text.as_bytes()).context("cannot write a temporary file")?;
            let mut install = process::as_root("install", "installing packages")?;
            restraint.ours.push(path);
            process::run(install.args(["-D", "--mode", mode]).arg(draft.path()).arg(path))?;
        }
        Ok(restraint)
    }
}

impl Drop for Restraint {
    fn drop(&mut self) {
        for path in &self.ours {
            let removed =
                process::as_root("rm", "removing it").and_then(|mut rm| process::run(rm.args(["--force", path])));
            if let Err(error) = removed {
                eprintln!("{path} restrains the installing of packages, and stays: {error:#}; remove it yourself");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_a_candidate_is_unknown() {
        assert!(has_candidate("gdb:\n  Installed: (none)\n  Candidate: 13.1-3\n"));
        assert!(!has_candidate("gdb:\n  Installed: (none)\n  Candidate: (none)\n"));
        assert!(!has_candidate(""));
    }
}
