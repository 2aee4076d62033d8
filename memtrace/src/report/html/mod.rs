//! One page with everything, for a browser: it loads nothing, reads without scripts, and follows light and dark.
//!
//! Every text that is not ours goes through [`Text`]. Should one get past it all the same, the page's content security
//! policy allows no network, and no style or script but the two whose hashes it names. [`process`] is the memory footprint,
//! [`chart`] the series, [`stacks`] the table, [`flame`] the flame graph, [`losses`] what was not seen.

mod chart;
mod flame;
mod losses;
mod process;
mod stacks;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    io::{self, Write},
};

use super::{escape::escape, focus, gate, headline::headline, name::moment, number::duration, snapshot::Snapshot};
use crate::report::form::Metric;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// SHA-256 of [`STYLE`] in base 64; a test computes it.
const STYLE_HASH: &str = "JiXnAOOgs3maTPJhGs/6MBJLquWPmOXtx9Jwx9JAhik=";
/// SHA-256 of [`SCRIPT`] in base 64.
const SCRIPT_HASH: &str = "1srSPA8GdsFCnvmO7uP9tcr2RaV5xinOzN1ziQAJeGg=";

/// Writes the page; `metric` is what the flame graph is drawn by.
///
/// # Errors
/// The errors of writing to `out`.
pub fn render(snapshot: &Snapshot, metric: Metric, out: &mut dyn Write) -> io::Result<()> {
    let headline = headline(snapshot);
    let headline = Text(&headline);
    let class = if gate::any_grows(snapshot) { "growing" } else { "calm" };
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; \
         script-src 'sha256-{SCRIPT_HASH}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>memtrace: {headline}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <header class=\"{class}\">\n<h1>{headline}</h1>\n<p>Traced for {} until {}, by memtrace {}.</p>\n</header>\n<main>\n",
        duration(snapshot.elapsed_ms),
        Text(&moment(&snapshot.at)),
        env!("CARGO_PKG_VERSION"),
    )?;
    for note in focus::notes(snapshot).into_iter().chain(snapshot.gate.notes()) {
        writeln!(out, "<p class=\"note\">{}</p>", Text(&note))?;
    }
    process::section(snapshot, out)?;
    stacks::section(snapshot, out)?;
    chart::section(snapshot, out)?;
    flame::section(snapshot, metric, out)?;
    losses::section(snapshot, out)?;
    write!(out, "</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n")
}

/// Text of the target, or of anybody, for between tags and in quoted attributes.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = escape(self.0);
        let mut rest = &*escaped;
        while let Some(position) = rest.find(['&', '<', '>', '"', '\'', '`']) {
            to.write_str(&rest[..position])?;
            to.write_str(match rest.as_bytes()[position] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                b'\'' => "&#39;",
                _ => "&#96;",
            })?;
            rest = &rest[position + 1..];
        }
        to.write_str(rest)
    }
}
