//! A profile for `go tool pprof`: protobuf, compressed with gzip.
//!
//! Each stack is a sample with five values ([`Metric::ALL`]) and the labels `pid`, `verdict` and `kind`. Names are escaped,
//! since pprof prints them to terminals. Modules have no address range: it is not needed, as every name is there, and with
//! one pprof would look for the files of the machine that it runs on.

mod build;
mod proto;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use flate2::{Compression, GzBuilder};
use prost::Message as _;

use super::snapshot::Snapshot;
use crate::report::form::Metric;

/// Writes the profile; `metric` is what pprof shows when it is not asked for another.
///
/// # Errors
/// The errors of writing to `out`.
pub fn render(snapshot: &Snapshot, metric: Metric, out: &mut dyn Write) -> io::Result<()> {
    let profile = build::profile(snapshot, metric);
    // Without a time of its own, so that the same snapshot is the same file.
    let mut packed = GzBuilder::new().write(out, Compression::default());
    packed.write_all(&profile.encode_to_vec())?;
    packed.finish()?.flush()
}
