//! Where a run's reports go.

use std::{
    cell::RefCell,
    io::{self, Write},
    path::Path,
    rc::Rc,
};

use super::SessionError;
use crate::{
    cli::{Format, TraceConfig},
    report::{Rendering, destination::Destination, snapshot::Snapshot},
};

/// The report's destination.
pub(super) enum Output {
    /// A file, or standard output.
    To(Destination),
    /// Nothing is written; the last report is kept for who started the run.
    Keeping(Kept),
}

/// The last report of a run.
pub(super) type Kept = Rc<RefCell<Option<Snapshot>>>;

impl Output {
    /// Opens the destination, before anything is attached.
    pub(super) fn open(config: &TraceConfig) -> Result<Self, SessionError> {
        let rendering = Rendering { format: config.format, metric: config.metric, colour: false };
        Ok(Self::To(Destination::open(config.output.as_deref(), rendering)?))
    }

    /// A file, or standard output.
    pub(super) fn to(path: Option<&Path>, format: Format) -> Result<Self, SessionError> {
        Ok(Self::To(Destination::open(path, Rendering { format, ..Rendering::default() })?))
    }

    /// Writes nothing, and keeps the last report for who started the run.
    pub(super) fn keeping(kept: Kept) -> Self {
        Self::Keeping(kept)
    }

    /// Whether the report goes where nobody watches it grow.
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::To(destination) if destination.is_file())
    }

    /// Writes one report; false when the reader has gone, which is no error.
    pub(super) fn write(&mut self, snapshot: &Snapshot) -> Result<bool, SessionError> {
        match self {
            Self::To(destination) => Ok(destination.write(snapshot)?),
            Self::Keeping(kept) => {
                kept.replace(Some(snapshot.clone()));
                Ok(true)
            }
        }
    }

    /// Writes what `render` makes; false when the reader has gone, which is no error.
    pub(super) fn write_with(
        &mut self,
        render: impl FnOnce(Format, bool, &mut dyn Write) -> io::Result<()>,
    ) -> Result<bool, SessionError> {
        match self {
            Self::To(destination) => {
                Ok(destination.write_with(|rendering, out| render(rendering.format, rendering.colour, out))?)
            }
            Self::Keeping(_) => Ok(true),
        }
    }
}
