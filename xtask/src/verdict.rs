//! `verdict`: how good the verdicts are on the labelled corpus of `verdict-corpus`. That crate is run, not linked: the
//! other commands are not to wait for memtrace to be built.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::process;

/// Runs the measuring program; its exit status says whether the bars were reached.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    let mut measure = process::cargo();
    measure.args(["run", "--quiet", "--package", "verdict-corpus", "--"]).args(arguments);
    let status = measure.status().context("cannot run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
