//! `run`: builds memtrace in release mode and becomes it, as root.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::process;

/// Does not come back when all is well: memtrace's exit status is the command's.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    let binary = process::build_memtrace()?;
    let error = process::as_root(&binary, "memtrace")?.args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", binary.display()))
}
