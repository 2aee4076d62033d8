//! `memtrace report` and `memtrace diff`: saved runs in, reports out, no target needed.

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{
    Rendering,
    destination::{Destination, WriteError},
    diff::{self, By, DiffFormat},
    form::{Format, Metric},
    rank, saved,
    saved::{Saved, SavedError},
};

/// How a saved run is rendered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportConfig {
    /// The saved run; `-` is standard input.
    pub run: PathBuf,
    /// The report's form.
    pub format: Format,
    /// What weighs a stack where a form has one weight.
    pub metric: Metric,
    /// Where the report goes instead of standard output.
    pub output: Option<PathBuf>,
    /// Stacks that the report shows; at least one.
    pub top: usize,
}

/// How two saved runs are compared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DiffConfig {
    /// The earlier run.
    pub before: PathBuf,
    /// The later run.
    pub after: PathBuf,
    /// What is compared.
    pub by: By,
    /// The comparison's form.
    pub format: DiffFormat,
    /// Changes that are shown; at least one.
    pub top: usize,
}

/// Why a saved run is not shown or compared.
#[derive(Debug, Error)]
pub enum SavedRunError {
    /// A saved run cannot be used.
    #[error(transparent)]
    Saved(#[from] SavedError),
    /// The report cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Shows a saved run again.
///
/// # Errors
///
/// When the run cannot be read or the report cannot be written.
pub fn report(config: &ReportConfig) -> Result<(), SavedRunError> {
    let mut snapshot = load(&config.run)?.snapshot;
    if !snapshot.is_final {
        note(&config.run, "the run did not come to its end; this is its last report");
        // It is the last one that there is. A script has to see that it was not meant to be.
        snapshot.is_final = config.format != Format::Json;
    }
    rank::rank(&mut snapshot.stacks, config.top);
    let rendering = Rendering { format: config.format, metric: config.metric, colour: false };
    Destination::open(config.output.as_deref(), rendering)?.write(&snapshot)?;
    Ok(())
}

/// Says what changed from one saved run to another.
///
/// # Errors
///
/// When a run cannot be read or the comparison cannot be written.
pub fn diff(config: &DiffConfig) -> Result<(), SavedRunError> {
    let (before, after) = (load(&config.before)?.snapshot, load(&config.after)?.snapshot);
    let diff = diff::Diff::of(&before, &after, config.by, config.top);
    let mut out = BufWriter::new(io::stdout());
    match diff::render(&diff, config.format, &mut out).and_then(|()| out.flush()) {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
            Err(WriteError { path: "standard output".to_owned(), source }.into())
        }
        _ => Ok(()),
    }
}

fn load(path: &Path) -> Result<Saved, SavedError> {
    let saved = saved::load(path)?;
    if saved.cut_short {
        note(path, "the last line is not complete and is left out");
    }
    Ok(saved)
}

#[expect(clippy::print_stderr, reason = "standard error is where warnings go")]
fn note(path: &Path, what: &str) {
    eprintln!("memtrace: {}: {what}", super::escape::escape(&path.to_string_lossy()));
}
