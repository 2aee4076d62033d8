//! What the kernel could not send and left in its deferred table: releases and allocations that wait here until their
//! turn in time has come.
//!
//! The ledger relies on three things. (1) The events of one address are in the order of time in the ring. (2) An entry
//! is handed over before any event is applied that the kernel sent after the entry was read *and removed*, in one step
//! (a lookup and a later removal would lose what came between). (3) `settle` comes when everything that stood in the
//! ring after the last entry was read has been applied.
//!
//! **Invariant**: when a waiting change of address A at time t is applied, all changes of A before t have been applied.
//! For when an event of A later than t comes, the ring holds no event of A before it (1); and at `settle`, neither
//! (3); and waiting changes of A are taken in the order of time. So a change is late, behind some later event of A,
//! only if it was handed over late:
//!
//! - An allocation never is. The next thing that happens to its block is a release; while the entry is in the table
//!   the kernel lets the two cancel, and afterwards the entry is here before the release is applied (2). Only a lost
//!   release breaks that, and then the younger live block proves the loss.
//! - A release may be: the block's allocation and the address's next one were both sent, and the second was applied
//!   first and closed the block as if the release had been lost. [`Closings`] remembers such guesses, and the release
//!   that falls between the two allocations corrects the count. If the next allocation has itself been released by
//!   then, or parked by `realloc`, that still holds.

use std::collections::BTreeMap;

use memtrace_common::{Address, StackId, deferred::DeferredBlock, sampling};

/// The most guesses that are remembered between two settlements.
const MAX_CLOSINGS: usize = 1 << 16;

/// A change of an address that waits for its turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// The block there was released.
    Release,
    /// A block appeared there.
    Allocate {
        /// Its size in bytes.
        size: u64,
        /// The level of sampling at which it was seen.
        level: u8,
        /// Its stack.
        stack: StackId,
    },
}

/// Where and when; of two changes at one time the release comes first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Turn {
    /// The address.
    pub address: Address,
    /// When.
    pub time_ns: u64,
    is_allocation: bool,
}

impl Turn {
    const fn release(address: Address, time_ns: u64) -> Self {
        Self { address, time_ns, is_allocation: false }
    }
}

/// The changes that wait until what was sent before them has arrived.
#[derive(Default)]
pub struct Deferred(BTreeMap<Turn, Change>);

impl Deferred {
    /// Takes an entry of the kernel's table apart; an address may have several.
    pub fn push(&mut self, address: Address, block: &DeferredBlock) {
        if block.released_ns != 0 {
            self.0.insert(Turn::release(address, block.released_ns), Change::Release);
        }
        if block.allocated_ns != 0 {
            let turn = Turn { address, time_ns: block.allocated_ns, is_allocation: true };
            let (size, level) = (sampling::bytes(block.size), sampling::level(block.size));
            self.0.insert(turn, Change::Allocate { size, level, stack: StackId(block.stack) });
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the first change of `address` before `time_ns`.
    pub fn take_before(&mut self, address: Address, time_ns: u64) -> Option<(Turn, Change)> {
        let turns = Turn::release(address, 0)..Turn::release(address, time_ns);
        let (&turn, _) = self.0.range(turns).next()?;
        self.0.remove_entry(&turn)
    }

    /// Takes every change out that was made before `time_ns`.
    pub fn take_all_before(&mut self, time_ns: u64) -> BTreeMap<Turn, Change> {
        let (now, later) = std::mem::take(&mut self.0).into_iter().partition(|(turn, _)| turn.time_ns < time_ns);
        self.0 = later;
        now
    }

    /// Takes the first change of all.
    pub fn take_first(&mut self) -> Option<(Turn, Change)> {
        self.0.pop_first()
    }
}

/// Guesses that a release was lost, by address and the time of the allocation that made the guess; the value is the
/// time of the closed block's allocation.
///
/// A release that corrects a guess was in the kernel's table before the guess was made. It may have got there just
/// after the table was read, and then it comes with the next reading: so a guess is kept for two settlements.
#[derive(Default)]
pub struct Closings {
    recent: BTreeMap<(u64, u64), u64>,
    older: BTreeMap<(u64, u64), u64>,
}

impl Closings {
    /// Remembers that the block of `allocated_ns` was closed because another appeared at `closed_ns`.
    pub fn record(&mut self, address: u64, allocated_ns: u64, closed_ns: u64) {
        // Beyond that only the kind of count is at stake (implied or unmatched), not any block.
        if self.recent.len() < MAX_CLOSINGS {
            self.recent.insert((address, closed_ns), allocated_ns);
        }
    }

    /// Forgets the guess that a release at `released_ns` corrects; whether there was one.
    pub fn correct(&mut self, address: u64, released_ns: u64) -> bool {
        [&mut self.recent, &mut self.older].into_iter().any(|closings| {
            let next = closings.range((address, released_ns)..=(address, u64::MAX)).next();
            let guess = next.filter(|&(_, &allocated_ns)| allocated_ns <= released_ns).map(|(&key, _)| key);
            guess.is_some_and(|key| closings.remove(&key).is_some())
        })
    }

    /// Notes that all changes up to now are settled.
    pub fn settle(&mut self) {
        self.older = std::mem::take(&mut self.recent);
    }
}
