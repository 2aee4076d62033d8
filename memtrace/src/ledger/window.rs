//! What each stack holds of the blocks that appeared in a window of time: since a mark, or before the youngest that count.

use std::ops::RangeInclusive;

use super::{StackTotals, Weight, process::ProcessLedger};

/// The live blocks of one stack that were born in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Held {
    /// Their bytes; they wrap as those of [`StackTotals`] do.
    pub bytes: u64,
    /// Blocks, or pieces of mapped ranges.
    pub blocks: u64,
    /// The blocks or pieces that were seen; all of them unless blocks are sampled.
    pub seen: u64,
    /// The variance of the bytes; 0 unless blocks are sampled.
    pub variance: f64,
}

impl ProcessLedger {
    /// Every stack with what it holds of the blocks that appeared in `born_ns` (nanoseconds of the events' clock, both ends
    /// included), in the order of [`stacks`](Self::stacks): one pass over all blocks and ranges.
    pub fn held_of(&self, born_ns: &RangeInclusive<u64>) -> impl Iterator<Item = (StackTotals, Held)> + '_ {
        let mut held = vec![(Weight::default(), 0); self.stacks().len()];
        self.for_each_live(|stack, weight, time_ns| {
            if born_ns.contains(&time_ns) {
                let (sum, seen) = &mut held[stack as usize];
                sum.add(weight);
                *seen += 1;
            }
        });
        self.stacks().zip(held.into_iter().map(|(sum, seen)| Held {
            bytes: sum.bytes(),
            blocks: sum.blocks(),
            seen,
            variance: sum.variance(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use memtrace_common::{Address, Slot, StackId};

    use super::*;
    use crate::{
        event::{Block, Event, Range, What},
        ledger::{Kind, Ledger},
    };

    const SLOT: Slot = Slot(0);

    fn ledger(events: &[(u64, What<'static>)]) -> Ledger {
        let mut ledger = Ledger::new();
        ledger.add_process(SLOT);
        for (time_ns, what) in events {
            ledger.apply(&Event { slot: SLOT, thread: 1, time_ns: *time_ns, what: *what });
        }
        ledger
    }

    fn block(address: u64, size: u64, stack: u64) -> Block {
        Block { address: Address(address), size, level: 0, stack: StackId(stack) }
    }

    fn held(ledger: &Ledger, born_ns: RangeInclusive<u64>) -> Vec<(u64, Kind, u64, u64)> {
        let process = ledger.process(SLOT).unwrap();
        process.held_of(&born_ns).map(|(stack, held)| (stack.id.0, stack.kind, held.bytes, held.blocks)).collect()
    }

    #[test]
    fn only_live_blocks_of_the_window_count_for_their_stack() {
        let ledger = ledger(&[
            (10, What::Allocate(block(0x1000, 100, 1))),
            (20, What::Allocate(block(0x2000, 200, 1))),
            (30, What::Allocate(block(0x3000, 400, 2))),
            (40, What::Allocate(block(0x4000, 800, 1))),
            (50, What::Release(Address(0x4000))),
        ]);
        assert_eq!(held(&ledger, 20..=u64::MAX), [(1, Kind::Heap, 200, 1), (2, Kind::Heap, 400, 1)]);
        assert_eq!(held(&ledger, 0..=19), [(1, Kind::Heap, 100, 1), (2, Kind::Heap, 0, 0)]);
        assert_eq!(held(&ledger, 0..=u64::MAX), [(1, Kind::Heap, 300, 2), (2, Kind::Heap, 400, 1)]);
    }

    #[test]
    fn what_is_left_of_a_mapped_range_counts_from_when_it_was_mapped() {
        let ledger = ledger(&[
            (10, What::Map(block(0x10_0000, 0x4000, 7))),
            (20, What::UnmapBegin(Range { address: Address(0x10_1000), length: 0x1000 })),
        ]);
        assert_eq!(held(&ledger, 10..=10), [(7, Kind::Map, 0x3000, 2)]);
        assert_eq!(held(&ledger, 11..=99), [(7, Kind::Map, 0, 0)]);
    }
}
