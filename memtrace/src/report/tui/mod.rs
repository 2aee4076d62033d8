//! The terminal view: one [`Update`] after another in, a screen out. Nothing here knows a clock, a terminal or a thread.
//!
//! [`state`] holds what the person chose (sort, filter, selection) and the update that is shown; [`keys`] turns key
//! presses into the [`state::Action`]s that change it; [`view`] draws it into a buffer of cells. The session owns the
//! terminal, hands updates over and carries out what [`state::State::apply`] asks for.

mod detail;
mod fit;
pub mod keys;
mod place;
mod rows;
pub mod state;
pub mod theme;
pub mod view;

use super::snapshot::Snapshot;

/// What a snapshot brings to the screen.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Every stack that is listed, ranked. Stacks without frames keep those that an earlier update had.
    pub snapshot: Snapshot,
    /// What memtrace itself takes.
    pub cost: Cost,
}

/// What memtrace's own process takes; the probes' time is the target's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Processor time since the update before, as a share of one processor.
    pub cpu_share: f64,
    /// Resident bytes.
    pub rss_bytes: u64,
}
