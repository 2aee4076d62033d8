//! The `report` room: one [`snapshot::Snapshot`] in, a report of any form out. It keeps no truth of its own.
//!
//! [`headline`] is the answer, [`rank`] puts the stacks in order, [`group`] is what several of them are together; [`text`] is for people, [`tui`] for people who watch, [`json`] for scripts,
//! [`form`] names the forms; [`folded`], [`flamegraph`] and [`pprof`] for the tools of those names, [`html`] for a browser. [`ending`] is how a process ended, [`memory`] and [`footprint`]
//! are the whole process's memory and its words. [`destination`] is where reports go. [`rules`] say which stacks are meant. [`saved`] reads a run back, for
//! [`saved_runs`], which shows it once more or compares it with another ([`diff`]). Names of the target are escaped
//! ([`escape`]) on their way to a terminal or a page; JSON escapes by its own rules.

use std::io::{self, Write};

pub mod asked;
pub mod budget;
mod completeness;
pub mod destination;
pub mod diff;
pub mod doctor;
pub mod ending;
pub mod enlarged;
pub mod escape;
mod fingerprint;
pub mod flamegraph;
pub mod focus;
pub mod folded;
pub mod footprint;
pub mod form;
pub mod gate;
pub mod group;
pub mod headline;
pub mod html;
pub mod json;
pub mod junit;
pub mod loss;
pub mod memory;
pub mod name;
pub mod number;
pub mod place;
pub mod pprof;
pub mod rank;
pub mod rules;
pub mod runtime;
pub mod sampling;
pub mod sarif;
pub mod saved;
pub mod saved_runs;
pub mod snapshot;
mod stream;
pub mod text;
pub mod tree;
pub mod tui;
mod verdict;
pub mod watch;

#[cfg(test)]
mod hostile;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
pub(crate) mod schema;

use form::{Format, Metric};
use snapshot::Snapshot;

/// How a report is written: form, weight and colours.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rendering {
    /// The form.
    pub format: Format,
    /// What weighs a stack where the form has one weight.
    pub metric: Metric,
    /// Whether text has colours, for a terminal.
    pub colour: bool,
}

/// Writes one report.
///
/// # Errors
/// The errors of writing to `out`; a broken pipe is the caller's to judge.
pub fn render(rendering: Rendering, snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    let Rendering { format, metric, colour } = rendering;
    match format {
        Format::Text => text::render(snapshot, colour, out),
        Format::Json => json::render(snapshot, out),
        Format::Folded => folded::render(snapshot, metric, out),
        Format::Flamegraph => flamegraph::render(snapshot, metric, out),
        Format::Pprof => pprof::render(snapshot, metric, out),
        Format::Html => html::render(snapshot, metric, out),
    }
}
