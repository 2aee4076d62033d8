//! Allocators that are seen to release and never to allocate: the compiler has put their allocating functions into the
//! callers, where no probe can be. What such a process holds is not known, and must not be called nothing.

use std::collections::HashMap;

use memtrace_common::Slot;

/// So many intervals in a row have to say so: what frees blocks from before the attach comes to an end.
const LEAST_INTERVALS: u32 = 5;

/// An interval with fewer releases of unknown blocks says nothing.
const LEAST_RELEASES: u64 = 100;

/// Allocations are as good as not seen when they are fewer than one in this many of those releases.
const RELEASES_PER_ALLOCATION: u64 = 100;

/// What is known of a process at one moment, since the attach.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Allocations, those that filters left out included.
    pub(super) allocations: u64,
    /// Releases of blocks that were not seen to appear.
    pub(super) frees_unmatched: u64,
    /// Resident bytes.
    pub(super) rss_bytes: u64,
}

/// One process's intervals.
#[derive(Clone, Copy, Debug, Default)]
struct Streak {
    last: Seen,
    intervals: u32,
    /// Resident bytes when the streak began.
    rss_bytes: u64,
}

/// The processes that may have such an allocator.
#[derive(Debug, Default)]
pub(super) struct BlindSpots(HashMap<Slot, Streak>);

impl BlindSpots {
    /// Takes what is known after an interval; whether the process has an allocator that is not seen to allocate.
    pub(super) fn observe(&mut self, slot: Slot, now: Seen) -> bool {
        let streak = self.0.entry(slot).or_default();
        let releases = now.frees_unmatched.saturating_sub(streak.last.frees_unmatched);
        let allocations = now.allocations.saturating_sub(streak.last.allocations);
        streak.last = now;
        if releases >= LEAST_RELEASES && allocations.saturating_mul(RELEASES_PER_ALLOCATION) < releases {
            if streak.intervals == 0 {
                streak.rss_bytes = now.rss_bytes;
            }
            streak.intervals += 1;
        } else if releases > 0 || allocations > 0 {
            streak.intervals = 0;
        }
        // A program that only gives back what it had becomes smaller.
        streak.intervals >= LEAST_INTERVALS && now.rss_bytes >= streak.rss_bytes - streak.rss_bytes / 50
    }

    /// What follows is not compared with what was: allocations were not looked at, or the process runs another program.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.0.remove(&slot);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOT: Slot = Slot(3);

    fn judged(intervals: impl IntoIterator<Item = (u64, u64, u64)>) -> Vec<bool> {
        let (mut spots, mut now) = (BlindSpots::default(), Seen::default());
        let mut observe = |(allocations, releases, rss_bytes)| {
            now.allocations += allocations;
            now.frees_unmatched += releases;
            now.rss_bytes = rss_bytes;
            spots.observe(SLOT, now)
        };
        intervals.into_iter().map(&mut observe).collect()
    }

    #[test]
    fn releases_without_allocations_are_told_after_a_few_intervals() {
        let inlined = judged((0..8).map(|step| (3, 100_000, 50_000_000 + step * 1_000_000)));
        assert_eq!(inlined, [false, false, false, false, true, true, true, true]);
    }

    #[test]
    fn a_program_that_gives_back_what_it_had_is_seen_well() {
        let emptied = judged((0..20).map(|step| (0, 10_000, 100_000_000 - step * 5_000_000)));
        assert!(emptied.iter().all(|&blind| !blind));
        let stops = judged((0..20).map(|step| (0, if step < 4 { 10_000 } else { 0 }, 100_000_000)));
        assert!(stops.iter().all(|&blind| !blind));
        let replaces = judged((0..20).map(|_| (5000, 5000, 100_000_000)));
        assert!(replaces.iter().all(|&blind| !blind));
    }

    proptest! {
        #[test]
        fn who_is_seen_to_allocate_as_much_as_it_frees_is_never_blind(
            steps in proptest::collection::vec((0u64..1_000_000, 0u64..1 << 40), 0..50)
        ) {
            let all = judged(steps.into_iter().map(|(calls, rss)| (calls, calls, rss)));
            prop_assert!(all.iter().all(|&blind| !blind));
        }
    }
}
