//! The subcommands that work on saved runs, without a target: `report` and `diff`.

use std::path::PathBuf;

use clap::Args;

use super::error::UsageError;
use crate::report::{
    diff::{By, DiffFormat},
    form::{ALL, FEW, Format, Metric},
    saved_runs::{DiffConfig, ReportConfig},
};

/// The flags of `memtrace report`, as typed.
#[derive(Args, Clone, Debug)]
pub struct ReportFlags {
    /// A run saved with --format json; `-` is standard input
    #[arg(value_name = "RUN")]
    pub run: PathBuf,

    /// The report's form; by default what the name of --output asks for, or else text
    #[arg(long, value_name = "FORM", value_enum)]
    pub format: Option<Format>,

    /// What weighs a stack in folded, flamegraph, pprof and html
    #[arg(long, value_name = "METRIC", value_enum)]
    pub metric: Option<Metric>,

    /// Write the report to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// How many stacks the report shows
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
}

/// The flags of `memtrace diff`, as typed.
#[derive(Args, Clone, Debug)]
pub struct DiffFlags {
    /// The earlier run, saved with --format json
    #[arg(value_name = "A")]
    pub before: PathBuf,

    /// The later run
    #[arg(value_name = "B")]
    pub after: PathBuf,

    /// What is compared
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = By::Stack)]
    pub by: By,

    /// The comparison's form
    #[arg(long, value_name = "FORM", value_enum, default_value_t = DiffFormat::Text)]
    pub format: DiffFormat,

    /// How many changes are shown: by default 10 in text, all in JSON
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
}

/// The form of a report and the stacks of a run's last report, from what was typed.
///
/// # Errors
///
/// A metric for a form that shows all of them, or a number of stacks out of range.
pub(super) fn look(
    format: Option<Format>,
    metric: Option<Metric>,
    output: Option<&PathBuf>,
    top: Option<usize>,
) -> Result<(Format, Metric, usize), UsageError> {
    let format = format.or_else(|| output.and_then(|path| Format::of_file(path))).unwrap_or_default();
    if metric.is_some() && !format.has_metric() {
        return Err(UsageError::Metric);
    }
    Ok((format, metric.unwrap_or_default(), checked(top, default_top(format, output.is_some()))?))
}

/// How many stacks a run's last report has unless `--top` says it: all where a program reads it, a few for people.
const fn default_top(format: Format, is_file: bool) -> usize {
    match format {
        Format::Text => FEW,
        Format::Json if !is_file => FEW,
        _ => ALL,
    }
}

/// The number of stacks that was asked for, or else `default`.
pub(super) fn checked(top: Option<usize>, default: usize) -> Result<usize, UsageError> {
    match top {
        Some(top) if !(1..=ALL).contains(&top) => Err(UsageError::Top),
        top => Ok(top.unwrap_or(default)),
    }
}

pub(super) fn report(flags: ReportFlags) -> Result<ReportConfig, UsageError> {
    let (format, metric, top) = look(flags.format, flags.metric, flags.output.as_ref(), flags.top)?;
    Ok(ReportConfig { run: flags.run, format, metric, output: flags.output, top })
}

pub(super) fn diff(flags: DiffFlags) -> Result<DiffConfig, UsageError> {
    let default = match flags.format {
        DiffFormat::Text => FEW,
        DiffFormat::Json => ALL,
    };
    let DiffFlags { before, after, by, format, top } = flags;
    Ok(DiffConfig { before, after, by, format, top: checked(top, default)? })
}
