//! Where a run's reports go.

use std::{
    io::{self, Write},
    path::Path,
};

use super::{SessionError, notice};
use crate::{
    report::form::Format,
    report::{Rendering, destination::Destination, snapshot::Snapshot},
    session::TraceConfig,
};

/// The report's destination.
pub(super) enum Output {
    /// A file, or standard output.
    To(Destination),
    /// Nothing is written; who started the run is told of each report.
    Telling(Box<dyn FnMut(&Snapshot)>),
}

impl Output {
    /// Opens the destination, before anything is attached.
    pub(super) fn open(config: &TraceConfig) -> Result<Self, SessionError> {
        let rendering = Rendering { format: config.output.format, metric: config.output.metric, colour: false };
        Ok(Self::To(Destination::open(config.output.file.as_deref(), rendering)?))
    }

    /// A file, or standard output.
    pub(super) fn to(path: Option<&Path>, format: Format) -> Result<Self, SessionError> {
        Ok(Self::To(Destination::open(path, Rendering { format, ..Rendering::default() })?))
    }

    /// Writes nothing, and tells who started the run of each report.
    pub(super) fn telling(tell: impl FnMut(&Snapshot) + 'static) -> Self {
        Self::Telling(Box::new(tell))
    }

    /// Whether nothing comes after its final report: it is not a run within another's.
    pub(super) fn is_the_last(&self) -> bool {
        matches!(self, Self::To(_))
    }

    /// Whether the report goes where nobody watches it grow.
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::To(destination) if destination.is_file())
    }

    /// Writes one report; false when the reader has gone, which is no error.
    pub(super) fn write(&mut self, snapshot: &Snapshot) -> Result<bool, SessionError> {
        match self {
            Self::To(destination) => {
                let before = destination.left_out();
                let is_read = destination.write(snapshot)?;
                match destination.left_out() {
                    0 => {}
                    _ if before == 0 => notice::unread(),
                    left_out if snapshot.is_final => notice::left_out(left_out),
                    _ => {}
                }
                Ok(is_read)
            }
            Self::Telling(tell) => {
                tell(snapshot);
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
            Self::Telling(_) => Ok(true),
        }
    }
}
