//! The flags by which a run decides whether a build passes.

use std::path::PathBuf;

use clap::Args;

use super::{error::UsageError, rate::rate};
use crate::{report::rules, session::GateConfig};

/// The flags by which a run decides whether a build passes, as typed.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "As a gate")]
pub struct GateFlags {
    /// Exit with status 3 when a stack or a group of stacks is growing at the end, or 4 when an allocator in use cannot be seen
    #[arg(long)]
    pub fail_on_leak: bool,

    /// Let growing stacks pass whose estimated rate is below this, such as 1MB/h or 64KiB/s (per s, min, h or d)
    #[arg(long, value_name = "RATE")]
    pub leak_threshold: Option<String>,

    /// Known leaks that pass: a file with a rule a line, as LeakSanitizer has them (leak:PATTERN), or function:, module:,
    /// file:, stack:a;b;c; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub suppressions: Vec<PathBuf>,

    /// Also write the result to this file as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,

    /// Also write the result to this file as SARIF 2.1.0
    #[arg(long, value_name = "FILE")]
    pub sarif: Option<PathBuf>,
}

impl GateFlags {
    /// Checks the flags and reads the suppressions.
    pub(super) fn resolve(self) -> Result<GateConfig, UsageError> {
        let threshold = self.leak_threshold.map(|text| rate("--leak-threshold", &text));
        let suppressions = rules::read(&self.suppressions)
            .map_err(|error| UsageError::Suppressions { reason: error.to_string().replace('\n', " ") })?;
        Ok(GateConfig {
            fail_on_leak: self.fail_on_leak,
            threshold_bytes_per_hour: threshold.transpose()?,
            suppressions,
            junit: self.junit,
            sarif: self.sarif,
        })
    }
}
