//! Where reports go: standard output, or a file.
//!
//! Text and JSON are written as the run goes. The other forms are written once, to a file beside the one that was asked
//! for, which takes its place when it is whole: a run that is killed leaves no half of a report, and an older report stays
//! until there is a new one. A path that leads to something else than a file (a pipe, `/dev/null`) is written to directly.

use std::{
    fs::{self, File, Permissions},
    io::{self, BufWriter, IsTerminal as _, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile};
use thiserror::Error;

use super::{Rendering, render, snapshot::Snapshot, stream::Stream};

/// A report that cannot be written.
#[derive(Debug, Error)]
#[error("cannot write the report to {path}: {source}; name another file with --output")]
pub struct WriteError {
    /// Where.
    pub path: String,
    /// Why.
    pub source: io::Error,
}

/// Where reports are written: standard output or a file.
pub struct Destination {
    to: To,
    path: Option<PathBuf>,
    rendering: Rendering,
}

enum To {
    /// Written to as the run goes.
    Stream(Stream),
    /// Replaced as a whole by the last report.
    File(PathBuf),
}

impl Destination {
    /// Opens it, or checks that it can be written. Colour is chosen here: for text on a terminal.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn open(output: Option<&Path>, rendering: Rendering) -> Result<Self, WriteError> {
        let Some(path) = output else {
            let stdout = io::stdout();
            // https://no-color.org
            let colour = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let to = To::Stream(Stream::new(stdout));
            return Ok(Self { to, path: None, rendering: Rendering { colour, ..rendering } });
        };
        let to = Self::open_file(path, rendering).map_err(|source| WriteError { path: shown(path), source })?;
        Ok(Self { to, path: Some(path.to_owned()), rendering: Rendering { colour: false, ..rendering } })
    }

    fn open_file(path: &Path, rendering: Rendering) -> io::Result<To> {
        let is_file = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) => metadata.is_file(),
            Err(_) => true,
        };
        if rendering.format.is_written_once() && is_file {
            // Made only to see that it can be, and removed: whoever kills the run finds nothing to clean up.
            beside(path)?;
            return Ok(To::File(path.to_owned()));
        }
        Ok(To::Stream(Stream::new(File::create(path)?)))
    }

    /// Whether the report goes where nobody watches it grow.
    pub fn is_file(&self) -> bool {
        self.path.is_some()
    }

    /// Reports that were left out because their reader did not read.
    pub fn left_out(&self) -> u64 {
        match &self.to {
            To::Stream(stream) => stream.left_out(),
            To::File(_) => 0,
        }
    }

    /// Writes one report of a run; false when the reader has gone, which is no error. Of a form that is written once only
    /// the last one is; of the others all for which the reader has time, and the last one.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&mut self, snapshot: &Snapshot) -> Result<bool, WriteError> {
        if self.rendering.format.is_written_once() && !snapshot.is_final {
            return Ok(true);
        }
        match &mut self.to {
            To::Stream(stream) if !snapshot.is_final => {
                let written = stream.offer(|out| render(self.rendering, snapshot, out));
                self.outcome(written)
            }
            _ => self.write_with(|rendering, out| render(rendering, snapshot, out)),
        }
    }

    /// Writes what `render` makes; false when the reader has gone, which is no error.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_with(
        &mut self,
        render: impl FnOnce(Rendering, &mut dyn Write) -> io::Result<()>,
    ) -> Result<bool, WriteError> {
        let written = match &mut self.to {
            To::Stream(stream) => stream.write(|out| render(self.rendering, out)),
            To::File(path) => replace(path, |out| render(self.rendering, out)),
        };
        self.outcome(written)
    }

    fn outcome(&self, written: io::Result<()>) -> Result<bool, WriteError> {
        match written {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(source) => {
                let path = self.path.as_deref().map_or_else(|| "standard output".to_owned(), shown);
                Err(WriteError { path, source })
            }
        }
    }
}

/// A new file in the same folder, with the permissions that any new file has. A link is not followed: what replaces it is
/// a file, whoever made the link.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut prefix = std::ffi::OsString::from(".");
    // Names have an end, and the random part needs room.
    prefix.push(if name.len() <= 200 { name } else { "memtrace".as_ref() });
    Builder::new().prefix(&prefix).suffix(".part").permissions(Permissions::from_mode(0o666)).tempfile_in(folder)
}

fn replace(path: &Path, render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(beside(path)?);
    render(&mut out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn shown(path: &Path) -> String {
    super::escape::escape(&path.to_string_lossy()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::form::{Format, Metric},
        report::sample,
    };

    fn rendering(format: Format) -> Rendering {
        Rendering { format, metric: Metric::default(), colour: false }
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn until_the_last_report_the_old_file_stays_and_nothing_lies_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leak.svg");
        fs::write(&path, "old").unwrap();
        let mut destination = Destination::open(Some(&path), rendering(Format::Flamegraph)).unwrap();
        let mut snapshot = sample::snapshot();
        snapshot.is_final = false;
        assert!(destination.write(&snapshot).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(folder.path()), ["leak.svg"]);
        snapshot.is_final = true;
        assert!(destination.write(&snapshot).unwrap());
        assert!(fs::read_to_string(&path).unwrap().contains("leak_here"));
        assert_eq!(names(folder.path()), ["leak.svg"]);
    }

    #[test]
    fn json_is_written_as_the_run_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        let mut destination = Destination::open(Some(&path), rendering(Format::Json)).unwrap();
        let mut snapshot = sample::snapshot();
        for (is_final, lines) in [(false, 1), (false, 2), (true, 3)] {
            snapshot.is_final = is_final;
            destination.write(&snapshot).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), lines);
        }
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let mut destination = Destination::open(Some(Path::new("/dev/null")), rendering(Format::Html)).unwrap();
        assert!(destination.write(&sample::snapshot()).unwrap());
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_link_is_replaced_and_what_it_led_to_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (link, aim) = (folder.path().join("page.html"), folder.path().join("aim"));
        fs::write(&aim, "precious").unwrap();
        std::os::unix::fs::symlink(&aim, &link).unwrap();
        let mut destination = Destination::open(Some(&link), rendering(Format::Html)).unwrap();
        destination.write(&sample::snapshot()).unwrap();
        assert_eq!(fs::read_to_string(&aim).unwrap(), "precious");
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
    }

    #[test]
    fn what_cannot_be_written_is_said_before_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("no/such/folder.svg");
        for (path, format) in
            [(inside.as_path(), Format::Pprof), (folder.path(), Format::Html), (&inside, Format::Text)]
        {
            let error = Destination::open(Some(path), rendering(format)).err().unwrap().to_string();
            assert!(error.starts_with("cannot write the report to ") && error.ends_with("--output"), "{error}");
        }
    }
}
