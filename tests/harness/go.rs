//! Builds programs in Go.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

use crate::fixture;

/// Builds the Go program in the folder `source` of the fixtures as `name`, with these flags, with or without C.
///
/// # Errors
/// When go is not there or does not build it.
pub fn build(source: &str, name: &str, flags: &[&str], cgo: bool) -> Result<PathBuf> {
    let folder = fixture::built()?;
    let program = folder.join(name);
    // Made aside and renamed: tests that run side by side both build it, and it cannot be written while it runs.
    let aside = tempfile::tempdir_in(&folder)?;
    let built = aside.path().join(name);
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&built).args(flags).arg(".").current_dir(fixture::sources().join(source));
    go.env("GOCACHE", folder.join("go-cache")).env("GOFLAGS", "-mod=mod").env("GO111MODULE", "on");
    go.env("CGO_ENABLED", if cgo { "1" } else { "0" });
    let output = go.output().context("running go")?;
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&built, &program)?;
    Ok(program)
}
