//! The flags that say which stacks and blocks a report is about.

use clap::Args;

use super::{error::UsageError, resolve::time};
use crate::{report::rules::Rule, session::FocusConfig};

/// The most patterns of one flag: each stack is compared with each.
const MAX_PATTERNS: usize = 256;

/// The flags that say which stacks a report is about, as typed.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Focus")]
pub struct FocusFlags {
    /// Show and judge only stacks with a function, module or source file that this is found in (* any text, ^ and $ the
    /// ends), or by function:, module:, file:, stack:a;b;c; may be given more than once
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<String>,

    /// Hide stacks that match this pattern, written as for --include, and do not judge them; may be given more than once
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,

    /// Count only blocks older than this, such as 30s, to leave out those of requests in flight; verdicts are still made of all
    /// blocks
    #[arg(long, value_name = "AGE")]
    pub older: Option<String>,

    /// Say on standard error how a new measuring window is started: by SIGUSR1, or `memtrace mark PID`
    #[arg(long)]
    pub mark: bool,
}

impl FocusFlags {
    /// Checks the flags.
    pub(super) fn resolve(self) -> Result<FocusConfig, UsageError> {
        let rules = |flag, texts: Vec<String>| {
            let read = |text: String| {
                Rule::parse(&text).map_err(|error| UsageError::Pattern { flag, value: text, reason: error.to_string() })
            };
            if texts.len() > MAX_PATTERNS {
                return Err(UsageError::Patterns { flag, most: MAX_PATTERNS });
            }
            texts.into_iter().map(read).collect::<Result<Vec<_>, _>>()
        };
        Ok(FocusConfig {
            include: rules("--include", self.include)?,
            exclude: rules("--exclude", self.exclude)?,
            older: self.older.as_deref().map(|text| time("--older", text)).transpose()?,
            mark: self.mark,
        })
    }
}
