//! A runtime, where it is from, and how the tests are told of it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{node, sid};
use crate::process;

/// Have a Python say its version, and whether its compiler is at work.
const VERSION: &str = "import platform; print(platform.python_version())";
const COMPILER: &str = "import sys; print(sys._jit.is_enabled())";

/// A runtime with the tests that it has to pass.
pub struct Runtime {
    /// What it is called.
    pub name: &'static str,
    /// Where it is from.
    pub origin: Origin,
    /// Parts of the names of the tests.
    pub tests: &'static [&'static str],
}

/// Where a runtime is from.
pub enum Origin {
    /// A Python among Debian's newest packages, with or without its compiler.
    Python { package: &'static str, with_compiler: bool },
    /// A Node of this version from npm.
    Node(&'static str),
    /// A Go among Debian's newest packages, and the folder of its programs below `/usr`.
    Go { package: &'static str, programs: &'static str },
}

impl Origin {
    /// The package of Debian's newest ones that it is in.
    pub fn sid_package(&self) -> Option<&'static str> {
        match self {
            Origin::Python { package, .. } | Origin::Go { package, .. } => Some(package),
            Origin::Node(_) => None,
        }
    }
}

/// A runtime that is there.
pub struct Ready {
    /// Its version.
    pub version: String,
    /// What the tests' environment says of it.
    pub variables: Vec<(&'static str, OsString)>,
}

impl Runtime {
    /// Fetches it, unless that was done, and asks for its version. `sid` is where Debian's newest packages are unpacked.
    ///
    /// # Errors
    /// When it cannot be fetched or does not run.
    pub fn ready(&self, sid: Option<&Path>, folder: &Path) -> Result<Ready> {
        let unpacked = || sid.context("Debian's newest packages are not unpacked");
        match self.origin {
            Origin::Python { package, with_compiler } => {
                let python = sid::launcher(unpacked()?, package, with_compiler, folder)?;
                let version = process::output(Command::new(&python).args(["-c", VERSION]))?;
                if with_compiler {
                    let is_at_work = process::output(Command::new(&python).args(["-c", COMPILER]))?;
                    ensure!(is_at_work == "True", "{package} of Debian sid has no compiler of its own any more");
                }
                Ok(Ready { version, variables: vec![("MEMTRACE_TEST_ONLY_PYTHON", python.into())] })
            }
            Origin::Node(version) => {
                let programs = node::fetch(version, folder)?;
                let version = process::output(Command::new(programs.join("node")).arg("--version"))?;
                let version = version.trim_start_matches('v').to_owned();
                Ok(Ready { version, variables: vec![("PATH", first_on_path(programs)?)] })
            }
            Origin::Go { programs, .. } => {
                let programs = unpacked()?.join("usr").join(programs);
                let said = process::output(Command::new(programs.join("go")).args(["env", "GOVERSION"]))?;
                let version = said.trim_start_matches("go").to_owned();
                // Otherwise a program might be built by a newer one that is fetched for it.
                let variables = vec![("PATH", first_on_path(programs)?), ("GOTOOLCHAIN", "local".into())];
                Ok(Ready { version, variables })
            }
        }
    }
}

/// The path on which programs are looked for, with this folder as the first.
fn first_on_path(folder: PathBuf) -> Result<OsString> {
    let others = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(folder).chain(env::split_paths(&others))).context("a folder's name has a colon")
}
