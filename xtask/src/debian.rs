//! Installs Debian packages: says what, why and for how long, and starts none of the services in them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
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
        process::run_timed("package lists", apt_get()?.arg("update"))?;
    }
    let unknown = unknown(&names);
    if !unknown.is_empty() {
        bail!("{purpose} takes packages that this system's apt does not know: {}", unknown.join(", "));
    }
    let _no_services = NoServices::begin()?;
    process::run_timed("packages", apt_get()?.args(["install", "--yes", "--no-install-recommends"]).args(&names))
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
        // Under sudo the file is out of our reach, and a policy that stands already is its owner's choice.
        if !process::is_root() || fs::exists(POLICY).unwrap_or(true) {
            return Ok(Self { ours: false });
        }
        write_policy(Path::new(POLICY))
            .with_context(|| format!("cannot write {POLICY}, which keeps services from starting"))?;
        Ok(Self { ours: true })
    }
}

fn write_policy(file: &Path) -> std::io::Result<()> {
    fs::write(file, POLICY_TEXT)?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if !self.ours {
            return;
        }
        match fs::remove_file(POLICY) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                eprintln!("cannot remove {POLICY}: {error}; remove it yourself")
            }
            _ => {}
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
