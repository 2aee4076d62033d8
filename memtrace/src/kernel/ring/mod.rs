//! The reading end of all rings and of the stacks: one stream of events in the order of their times.
//!
//! Each ring has its records in the order in which programs reserved room. A call that depends on another (the release
//! of a block, its next allocation) begins after the other's program has ended, so its record has a later time, and is
//! reserved later. So what was there when a drain began, less what is younger than the drain, merged by time, breaks no such
//! order (docs/design/rings.md has the proof). A record that a preempted program has not finished ends the drain.

mod merge;
mod reader;
mod stacks;
#[cfg(test)]
mod tests;

use aya::maps::{Array, Map, MapData};
use memtrace_common::{
    arch::PAGE_BYTES,
    ring::{self, RingPage, RingPositions},
};
use rustix::time::{ClockId, clock_gettime};

use self::{
    merge::{Merge, Outcome},
    reader::Reader,
    stacks::Stacks,
};
use super::{
    error::{KernelError, access},
    mapped::Mapped,
};
use crate::event::{DecodeError, Event, decode};

/// The rings, drained by one reader.
pub struct Ring {
    merge: Merge<Stacks>,
    woken: Array<MapData, u64>,
    reached: Position,
    /// What the readers read.
    _memory: (Mapped<RingPage>, Mapped<RingPositions>),
}

/// What one call of [`Ring::drain`] did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Drained {
    /// Events handed out.
    pub events: u64,
    /// Records that could not be decoded.
    pub undecodable: u64,
}

/// The maps of the rings.
pub(super) struct Maps {
    pub(super) events: Map,
    pub(super) positions: Map,
    pub(super) stacks: Map,
    pub(super) woken: Map,
}

/// How many rings of how many bytes this machine's processors get, of so many bytes together.
pub(super) fn division(bytes: u32) -> (usize, u64) {
    let processors = aya::util::online_cpus().map_or(1, |processors| processors.len());
    ring::divide(bytes.into(), processors)
}

impl Ring {
    pub(super) fn new(maps: Maps) -> Result<Self, KernelError> {
        let pages: Mapped<RingPage> = Mapped::new(maps.events, "EVENTS")?;
        let positions: Mapped<RingPositions> = Mapped::new(maps.positions, "POSITIONS")?;
        let ring_bytes = pages.length as u64 * PAGE_BYTES / positions.length as u64;
        let readers = (0..positions.length).map(|ring| {
            // SAFETY: each ring's positions, and its share of the pages. The mappings live as long as the readers.
            unsafe {
                let start = pages.start().cast::<u64>().byte_add(ring * ring_bytes as usize);
                Reader::new(positions.start().add(ring), start, ring_bytes)
            }
        });
        Ok(Self {
            merge: Merge::new(readers.collect(), Stacks::new(maps.stacks)?),
            woken: Array::try_from(maps.woken).map_err(access("WOKEN"))?,
            reached: Position(0),
            _memory: (pages, positions),
        })
    }

    /// Waits until the kernel says that a ring is filling up.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be polled any more.
    pub async fn filling(&mut self) -> Result<(), KernelError> {
        self.merge.stacks.filling().await
    }

    /// Hands out what happened before now, in order.
    ///
    /// # Errors
    ///
    /// When the wake-up flag cannot be reset.
    pub fn drain(&mut self, mut on_event: impl FnMut(&Event<'_>)) -> Result<Drained, KernelError> {
        self.woken.set(0, 0, 0).map_err(access("WOKEN"))?;
        let mut drained = Drained::default();
        let Position(now) = self.written();
        let outcome = self.merge.run(now, |record| match decode(record) {
            Ok(event) => {
                drained.events += 1;
                on_event(&event);
            }
            Err(DecodeError::TooShort { .. } | DecodeError::UnknownKind(_) | DecodeError::UnknownStackEnd(_)) => {
                drained.undecodable += 1;
            }
        });
        if outcome == Outcome::Complete {
            self.reached = Position(now);
        }
        Ok(drained)
    }

    /// Now: everything sent before lies below it.
    pub fn written(&self) -> Position {
        let now = clock_gettime(ClockId::Monotonic);
        Position(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
    }

    /// Whether everything below `position` has been handed out. A record that a preempted program has reserved and not
    /// yet filled holds up all behind it, so an ended drain alone does not say so.
    pub fn has_reached(&self, position: Position) -> bool {
        self.reached.0 >= position.0
    }
}

/// A place in the stream of events: nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug)]
pub struct Position(u64);
