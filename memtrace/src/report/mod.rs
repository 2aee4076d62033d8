//! The `report` room: one [`snapshot::Snapshot`] in, text or JSON out. It keeps no truth of its own.
//!
//! [`rank`] puts the stacks in order, [`json`] is for scripts, [`text`] for people. Names of the target are escaped
//! ([`escape`]) on their way to a terminal; JSON escapes by its own rules.

use std::io::{self, Write};

pub mod escape;
pub mod json;
pub mod number;
pub mod rank;
pub mod snapshot;
pub mod text;

#[cfg(test)]
mod sample;

use snapshot::Snapshot;

use crate::cli::Format;

/// Writes one report. `colour` is for text on a terminal.
///
/// # Errors
/// Those of `out`; a broken pipe is the caller's to judge.
pub fn render(format: Format, snapshot: &Snapshot, colour: bool, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Text => text::render(snapshot, colour, out),
        Format::Json => json::render(snapshot, out),
    }
}
