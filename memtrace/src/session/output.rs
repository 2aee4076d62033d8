//! Where reports go.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write},
    path::Path,
};

use super::SessionError;
use crate::{
    cli::{Format, TraceConfig},
    report::{self, snapshot::Snapshot},
};

/// The report's destination.
pub(super) struct Output {
    to: Box<dyn Write>,
    path: Option<String>,
    format: Format,
    colour: bool,
}

impl Output {
    /// Opens the destination, before anything is attached.
    pub(super) fn open(config: &TraceConfig) -> Result<Self, SessionError> {
        let Some(path) = &config.output else {
            let stdout = io::stdout();
            // https://no-color.org
            let colour = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            return Ok(Self { to: Box::new(BufWriter::new(stdout)), path: None, format: config.format, colour });
        };
        let file = File::create(path).map_err(|source| SessionError::Output { path: shown(path), source })?;
        Ok(Self { to: Box::new(BufWriter::new(file)), path: Some(shown(path)), format: config.format, colour: false })
    }

    /// Whether the report goes where nobody watches it grow.
    pub(super) fn is_file(&self) -> bool {
        self.path.is_some()
    }

    /// Writes one report; false when the reader has gone, which is no error.
    pub(super) fn write(&mut self, snapshot: &Snapshot) -> Result<bool, SessionError> {
        let written = report::render(self.format, snapshot, self.colour, &mut self.to).and_then(|()| self.to.flush());
        match written {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(source) => {
                let path = self.path.clone().unwrap_or_else(|| "standard output".to_owned());
                Err(SessionError::Output { path, source })
            }
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
