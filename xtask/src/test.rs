//! `test`
use std::process::ExitCode;
pub fn run(_fast: bool) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
