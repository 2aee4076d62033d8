//! JSON: one object a line, so that a reader can follow a run as it goes.

use std::io::{self, Write};

use super::snapshot::Snapshot;

/// Writes one line.
///
/// # Errors
/// Those of `out`.
pub fn render(snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, snapshot)?;
    out.write_all(b"\n")
}
