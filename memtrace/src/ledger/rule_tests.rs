//! One test for each rule of the ledger.

use memtrace_common::{
    Address, Slot, StackId,
    deferred::{DeferredBlock, DeferredKey},
    unwind::StackEnd,
};

use super::{Distributions, Kind, Ledger, StackTotals, Totals, distribution::Distribution};
use crate::event::{Block, Event, Frames, Range, What};

const SLOT: Slot = Slot(3);
const PAGE: u64 = 4096;

/// A ledger of one process and the time of its next event.
struct Run {
    ledger: Ledger,
    now_ns: u64,
}

impl Run {
    fn new() -> Self {
        let mut ledger = Ledger::new();
        ledger.add_process(SLOT);
        Self { ledger, now_ns: 0 }
    }

    /// Applies an event of `thread`, ten nanoseconds after the one before.
    fn by(&mut self, thread: u32, what: What<'_>) -> &mut Self {
        self.now_ns += 10;
        self.at(self.now_ns, thread, what)
    }

    fn at(&mut self, time_ns: u64, thread: u32, what: What<'_>) -> &mut Self {
        self.now_ns = time_ns;
        self.ledger.apply(&Event { slot: SLOT, thread, time_ns, what });
        self
    }

    fn defer(&mut self, address: u64, released_ns: u64, allocated_ns: u64, size: u64) -> &mut Self {
        let key = DeferredKey { address, slot: u64::from(SLOT.0) };
        self.ledger.defer(key, DeferredBlock { released_ns, allocated_ns, size, stack: 9 });
        self
    }

    fn settle(&mut self) -> &mut Self {
        self.ledger.settle_deferred();
        self
    }

    fn totals(&self) -> Totals {
        let totals = self.ledger.process(SLOT).expect("added").totals();
        assert_eq!(totals.allocations, totals.frees + totals.outstanding_blocks + totals.blocks_dropped_by_exec);
        let bytes =
            totals.freed_bytes.wrapping_add(totals.outstanding_bytes).wrapping_add(totals.bytes_dropped_by_exec);
        assert_eq!(totals.allocated_bytes, bytes);
        totals
    }

    /// Allocations, frees, implied frees, unmatched frees, outstanding bytes.
    fn heap(&self) -> [u64; 5] {
        let totals = self.totals();
        let Totals { allocations, frees, frees_implied, frees_unmatched, outstanding_bytes, .. } = totals;
        [allocations, frees, frees_implied, frees_unmatched, outstanding_bytes]
    }

    /// Maps, unmaps, replaced pieces, mapped bytes in pages, pieces.
    fn mapped(&self) -> [u64; 5] {
        let Totals { maps, unmaps, ranges_replaced, mapped_bytes, mapped_ranges, .. } = self.totals();
        [maps, unmaps, ranges_replaced, mapped_bytes / PAGE, mapped_ranges]
    }

    fn distributions(&self, wanted: &[(StackId, Kind)], now_ns: u64) -> Vec<Distribution> {
        let wanted: Vec<_> = wanted.iter().enumerate().map(|(group, &(id, kind))| (id, kind, group)).collect();
        let mut distributions = Distributions::new(wanted.len(), now_ns);
        self.ledger.process(SLOT).expect("added").distribute(&wanted, &mut distributions);
        let mut found = vec![Distribution::new(); wanted.len()];
        distributions.each(|group, distribution| found[group] = distribution.clone());
        found
    }

    fn stack(&self, id: u64, kind: Kind) -> StackTotals {
        let mut stacks = self.ledger.process(SLOT).expect("added").stacks();
        stacks.find(|stack| (stack.id, stack.kind) == (StackId(id), kind)).expect("a known stack")
    }
}

fn block(address: u64, size: u64, stack: u64) -> Block {
    Block { address: Address(address), size, level: 0, stack: StackId(stack) }
}

fn allocate(address: u64, size: u64) -> What<'static> {
    What::Allocate(block(address, size, 1))
}

fn release(address: u64) -> What<'static> {
    What::Release(Address(address))
}

fn realloc_begin(address: u64) -> What<'static> {
    What::ReallocBegin(Address(address))
}

fn reallocate(address: u64, size: u64) -> What<'static> {
    What::Reallocate(block(address, size, 2))
}

fn pages(first: u64, count: u64) -> Range {
    Range { address: Address(first * PAGE), length: count * PAGE }
}

fn map(first: u64, count: u64, stack: u64) -> What<'static> {
    What::Map(block(first * PAGE, count * PAGE, stack))
}

#[test]
fn a_block_lives_until_it_is_released() {
    let mut run = Run::new();
    run.by(1, allocate(0x10, 100)).by(1, allocate(0x20, 50));
    assert_eq!(run.heap(), [2, 0, 0, 0, 150]);
    run.by(2, release(0x10));
    assert_eq!(run.heap(), [2, 1, 0, 0, 50]);
    let stack = run.stack(1, Kind::Heap);
    assert_eq!((stack.allocations, stack.allocated_bytes), (2, 150));
    assert_eq!((stack.outstanding_blocks, stack.outstanding_bytes), (1, 50));
}

#[test]
fn a_release_of_an_unknown_block_is_counted_apart() {
    let mut run = Run::new();
    run.by(1, release(0x10)).by(1, allocate(0x10, 1)).by(1, release(0x10)).by(1, release(0x10));
    assert_eq!(run.heap(), [1, 1, 0, 2, 0]);
}

#[test]
fn a_second_allocation_at_an_address_proves_a_lost_release() {
    let mut run = Run::new();
    run.by(1, allocate(0x10, 100)).by(1, allocate(0x10, 7));
    assert_eq!(run.heap(), [2, 1, 1, 0, 7]);
}

#[test]
fn a_realloc_that_succeeds_is_a_free_and_an_allocation() {
    let mut run = Run::new();
    run.by(1, allocate(0x10, 100)).by(1, realloc_begin(0x10));
    assert_eq!(run.heap(), [1, 1, 0, 0, 0]);
    run.by(1, reallocate(0x10, 200)).by(1, realloc_begin(0x10)).by(1, reallocate(0x90, 300));
    assert_eq!(run.heap(), [3, 2, 0, 0, 300]);
    assert_eq!(run.stack(1, Kind::Heap).outstanding_bytes, 0);
    assert_eq!(run.stack(2, Kind::Heap).outstanding_bytes, 300);
    // Nothing is parked any more.
    run.by(1, What::ReallocFailed);
    assert_eq!(run.heap(), [3, 2, 0, 0, 300]);
}

#[test]
fn a_block_that_realloc_hands_to_and_fro_stays_where_it_was_born() {
    let mut run = Run::new();
    let hand = |run: &mut Run, from, to, size, stack| {
        run.by(1, realloc_begin(from)).by(1, What::Reallocate(block(to, size, stack)));
    };
    run.by(1, allocate(0x10, 100));
    hand(&mut run, 0x10, 0x90, 200, 2);
    hand(&mut run, 0x90, 0x10, 300, 1);
    assert_eq!((run.stack(1, Kind::Heap).outstanding_bytes, run.stack(2, Kind::Heap).outstanding_bytes), (300, 0));
    hand(&mut run, 0x10, 0x50, 400, 3);
    hand(&mut run, 0x50, 0x50, 600, 2);
    hand(&mut run, 0x50, 0x50, 500, 3);
    assert_eq!(run.stack(1, Kind::Heap).outstanding_bytes, 500);
    assert_eq!(run.heap(), [6, 5, 0, 0, 500]);
    let enlargers = run.ledger.process(SLOT).expect("added").enlargers(StackId(1), Kind::Heap);
    let found: Vec<_> = enlargers.callers.iter().map(|(id, by)| (id.0, by.calls, by.bytes)).collect();
    assert_eq!((found, enlargers.all.bytes), (vec![(2, 1, 200), (3, 1, 100)], 300));
    let caller = run.stack(3, Kind::Heap);
    assert_eq!((caller.allocations, caller.moves, caller.moved_bytes), (2, 2, 900));

    // A call that fails does not end that, and a new block at the address is another one.
    run.by(1, realloc_begin(0x50)).by(1, What::ReallocFailed);
    hand(&mut run, 0x50, 0x50, 700, 2);
    assert_eq!(run.stack(1, Kind::Heap).outstanding_bytes, 700);
    run.by(1, release(0x50)).by(1, What::Allocate(block(0x50, 5, 4)));
    hand(&mut run, 0x50, 0x50, 6, 2);
    assert_eq!((run.stack(1, Kind::Heap).outstanding_bytes, run.stack(2, Kind::Heap).outstanding_bytes), (0, 6));
}

#[test]
fn a_realloc_that_fails_leaves_the_block_as_it_was() {
    let mut run = Run::new();
    run.by(1, allocate(0x10, 100));
    let before = (run.totals(), run.stack(1, Kind::Heap));
    let process = |run: &Run| run.distributions(&[(StackId(1), Kind::Heap)], 1 << 40);
    let distribution = process(&run);
    run.by(1, realloc_begin(0x10)).by(2, What::ReallocFailed).by(1, What::ReallocFailed);
    assert_eq!((run.totals(), run.stack(1, Kind::Heap)), before);
    assert_eq!(process(&run), distribution);
}

#[test]
fn a_realloc_of_an_unknown_block_that_fails_leaves_no_trace() {
    let mut run = Run::new();
    run.by(1, realloc_begin(0x10));
    assert_eq!(run.heap(), [0, 0, 0, 1, 0]);
    run.by(1, What::ReallocFailed);
    assert_eq!(run.heap(), [0; 5]);
}

#[test]
fn a_second_begin_of_a_thread_closes_the_first() {
    let mut run = Run::new();
    run.by(1, allocate(0x10, 100)).by(1, allocate(0x20, 10));
    run.by(1, realloc_begin(0x10)).by(1, realloc_begin(0x20)).by(1, What::ReallocFailed).by(1, What::ReallocFailed);
    assert_eq!(run.heap(), [2, 1, 0, 0, 10]);
}

#[test]
fn a_failure_of_another_kind_of_call_restores_nothing() {
    let mut run = Run::new();
    run.by(1, allocate(0x10, 100)).by(1, realloc_begin(0x10)).by(1, What::UnmapFailed).by(1, What::ReallocFailed);
    assert_eq!(run.heap(), [1, 1, 0, 0, 0]);
    run.by(1, map(1, 1, 5)).by(1, What::UnmapBegin(pages(1, 1))).by(1, What::RemapFailed);
    assert_eq!(run.mapped(), [1, 1, 0, 0, 0]);
}

#[test]
fn a_block_is_not_restored_over_a_younger_one() {
    let mut run = Run::new();
    run.by(1, allocate(0x10, 100)).by(1, realloc_begin(0x10)).by(2, allocate(0x10, 7)).by(1, What::ReallocFailed);
    assert_eq!(run.heap(), [2, 1, 0, 0, 7]);
}

#[test]
fn threads_park_apart() {
    let mut run = Run::new();
    run.by(1, allocate(0x10, 100)).by(1, allocate(0x20, 10)).by(1, realloc_begin(0x10)).by(2, realloc_begin(0x20));
    run.by(1, reallocate(0x30, 1)).by(2, What::ReallocFailed);
    assert_eq!(run.heap(), [3, 1, 0, 0, 11]);
}

#[test]
fn unmapping_the_middle_leaves_two_pieces_and_a_failure_joins_them() {
    let mut run = Run::new();
    run.by(1, map(10, 10, 5));
    assert_eq!(run.mapped(), [1, 0, 0, 10, 1]);
    run.by(1, What::UnmapBegin(pages(13, 4)));
    assert_eq!(run.mapped(), [1, 1, 0, 6, 2]);
    assert_eq!(run.stack(5, Kind::Map).outstanding_blocks, 2);
    run.by(1, What::UnmapFailed);
    assert_eq!(run.mapped(), [1, 0, 0, 10, 1]);
    run.by(1, What::UnmapBegin(pages(0, 12))).by(1, What::UnmapBegin(pages(18, 100)));
    assert_eq!(run.mapped(), [1, 2, 0, 6, 1]);
    assert_eq!(run.stack(5, Kind::Map).outstanding_bytes, 6 * PAGE);
    assert_eq!(run.stack(5, Kind::Map).allocated_bytes, 10 * PAGE);
}

#[test]
fn one_unmap_can_take_many_ranges_and_give_them_back() {
    let mut run = Run::new();
    for first in 0..5 {
        run.by(1, map(2 * first, 1, first));
    }
    run.by(1, What::UnmapBegin(pages(1, 7)));
    assert_eq!(run.mapped(), [5, 1, 0, 2, 2]);
    run.by(1, What::UnmapFailed);
    assert_eq!(run.mapped(), [5, 0, 0, 5, 5]);
    assert_eq!(run.stack(3, Kind::Map).outstanding_bytes, PAGE);
}

#[test]
fn a_mapping_replaces_what_is_in_its_place() {
    let mut run = Run::new();
    run.by(1, map(10, 10, 5)).by(1, map(12, 2, 6));
    assert_eq!(run.mapped(), [2, 0, 1, 10, 3]);
    assert_eq!(run.stack(5, Kind::Map).outstanding_bytes, 8 * PAGE);
    run.by(1, map(0, 100, 7));
    assert_eq!(run.mapped(), [3, 0, 4, 100, 1]);
    assert_eq!(run.totals().allocations, 0);
}

#[test]
fn a_range_is_not_restored_over_a_younger_one() {
    let mut run = Run::new();
    run.by(1, map(10, 10, 5)).by(1, What::UnmapBegin(pages(10, 10))).by(2, map(12, 3, 6)).by(1, What::UnmapFailed);
    assert_eq!(run.mapped(), [2, 0, 0, 10, 3]);
    assert_eq!(run.stack(5, Kind::Map).outstanding_bytes, 7 * PAGE);
    assert_eq!(run.stack(6, Kind::Map).outstanding_bytes, 3 * PAGE);
}

#[test]
fn a_remap_moves_a_range_to_its_new_stack_unless_it_fails() {
    let mut run = Run::new();
    run.by(1, map(10, 10, 5)).by(1, What::RemapBegin(pages(10, 10))).by(1, What::RemapFailed);
    assert_eq!(run.mapped(), [1, 0, 0, 10, 1]);
    run.by(1, What::RemapBegin(pages(10, 10))).by(1, What::Remap(block(50 * PAGE, 30 * PAGE, 6)));
    assert_eq!(run.mapped(), [2, 1, 0, 30, 1]);
    assert_eq!(run.stack(5, Kind::Map).outstanding_bytes, 0);
    assert_eq!(run.stack(6, Kind::Map).outstanding_bytes, 30 * PAGE);
}

#[test]
fn exec_drops_everything_and_fork_nothing() {
    let mut run = Run::new();
    run.by(1, allocate(0x10, 100)).by(1, allocate(0x20, 10)).by(1, map(1, 2, 5)).by(1, realloc_begin(0x20));
    run.by(1, What::Exec { by_other_thread: false }).by(1, What::ReallocFailed);
    let totals = run.totals();
    assert_eq!((totals.blocks_dropped_by_exec, totals.bytes_dropped_by_exec), (1, 100));
    assert_eq!((totals.ranges_dropped_by_exec, totals.mapped_bytes_dropped_by_exec), (1, 2 * PAGE));
    assert_eq!(totals.execs, 1);
    assert_eq!(run.heap(), [2, 1, 0, 0, 0]);
    assert_eq!(run.stack(1, Kind::Heap).outstanding_bytes, 0);
    assert_eq!(run.stack(5, Kind::Map).outstanding_blocks, 0);
    run.by(1, allocate(0x10, 3));
    assert_eq!(run.heap(), [3, 1, 0, 0, 3]);
}

#[test]
fn impossible_addresses_and_sizes_break_nothing() {
    let mut run = Run::new();
    run.by(1, allocate(u64::MAX, 1)).by(1, release(1 << 48)).by(1, realloc_begin(1 << 60)).by(1, What::ReallocFailed);
    run.by(1, What::Map(block(u64::MAX - 1, u64::MAX, 1))).by(1, What::UnmapBegin(pages(1 << 50, 1)));
    run.defer(u64::MAX, 1, 2, 3).settle();
    assert_eq!(run.totals(), Totals { addresses_impossible: 6, ..Totals::default() });
    run.by(1, map(5, 0, 1)).by(1, What::UnmapBegin(pages(5, 0))).by(1, What::Map(block(PAGE, u64::MAX, 1)));
    assert_eq!(run.totals().mapped_bytes, (1 << 48) - PAGE);
    run.by(1, allocate((1 << 48) - 1, u64::MAX)).by(1, allocate(0, (1 << 44) - 1)).by(1, release((1 << 48) - 1));
    assert_eq!(run.totals().outstanding_bytes, (1 << 44) - 1);
}

#[test]
fn processes_are_apart_and_unknown_slots_are_counted() {
    let mut run = Run::new();
    run.ledger.add_process(Slot(900));
    let event = |slot, what| Event { slot: Slot(slot), thread: 1, time_ns: 1, what };
    run.by(1, allocate(0x10, 100));
    run.ledger.apply(&event(900, release(0x10)));
    run.ledger.apply(&event(4, release(0x10)));
    run.ledger.apply(&event(5, What::Stack { id: StackId(1), end: StackEnd::TooDeep, frames: Frames::new(&[]) }));
    run.ledger.defer(DeferredKey { address: 1, slot: 1 << 40 }, DeferredBlock::default());
    run.ledger.add_settled(Slot(u16::MAX), 1, 1);
    assert_eq!(run.ledger.events_of_unknown_slots(), 3);
    assert_eq!(run.heap(), [1, 0, 0, 0, 100]);
    assert_eq!(run.ledger.processes().map(|(slot, _)| slot).collect::<Vec<_>>(), [SLOT, Slot(900)]);
    assert!(run.ledger.process(Slot(4)).is_none() && run.ledger.process(Slot(1000)).is_none());
    assert!(run.ledger.remove_process(Slot(900)).is_some_and(|process| process.totals().frees_unmatched == 1));
    assert!(run.ledger.process(Slot(900)).is_none());
}

#[test]
fn settled_blocks_are_only_counted() {
    let mut run = Run::new();
    run.ledger.add_settled(SLOT, 3, 300);
    run.ledger.add_settled(SLOT, 1, 50);
    assert_eq!(run.heap(), [4, 4, 0, 0, 0]);
    assert_eq!(run.totals().freed_bytes, 350);
}

#[test]
fn distributions_hold_the_ages_and_sizes_of_the_wanted_stacks() {
    let mut run = Run::new();
    let second = 1_000_000_000;
    run.at(second, 1, allocate(0x10, 100)).at(2 * second, 1, allocate(0x20, u64::MAX)).at(3 * second, 1, map(1, 2, 1));
    run.at(3 * second, 1, reallocate(0x30, 5));
    let wanted = [(StackId(1), Kind::Map), (StackId(77), Kind::Heap), (StackId(1), Kind::Heap)];
    let found = run.distributions(&wanted, 11 * second);
    assert_eq!(found.iter().map(|found| found.sizes.len()).collect::<Vec<_>>(), [1, 0, 2]);
    assert!(found[0].ages_ms.equivalent(found[0].ages_ms.max(), 8000));
    assert!(found[0].sizes.equivalent(found[0].sizes.max(), 2 * PAGE));
    assert!(found[2].ages_ms.equivalent(found[2].ages_ms.min(), 9000));
    assert!(found[2].ages_ms.equivalent(found[2].ages_ms.max(), 10_000));
    assert!(found[2].sizes.equivalent(found[2].sizes.min(), 100));
}

#[test]
fn a_deferred_release_waits_for_its_allocation() {
    let mut run = Run::new();
    run.defer(0x10, 20, 0, 0).at(10, 1, allocate(0x10, 100));
    assert_eq!(run.heap(), [1, 0, 0, 0, 100]);
    run.settle();
    assert_eq!(run.heap(), [1, 1, 0, 0, 0]);
}

#[test]
fn a_deferred_release_comes_before_a_later_event() {
    let mut run = Run::new();
    run.at(10, 1, allocate(0x10, 100)).defer(0x10, 20, 0, 0).at(30, 1, allocate(0x10, 7)).settle();
    assert_eq!(run.heap(), [2, 1, 0, 0, 7]);
}

#[test]
fn a_deferred_release_that_comes_late_was_not_lost() {
    let mut run = Run::new();
    run.at(10, 1, allocate(0x10, 100)).at(30, 1, allocate(0x10, 7));
    assert_eq!(run.heap(), [2, 1, 1, 0, 7]);
    run.defer(0x10, 20, 0, 0).settle();
    assert_eq!(run.heap(), [2, 1, 0, 0, 7]);
}

#[test]
fn a_deferred_release_may_come_one_settlement_late_and_after_its_successor_went() {
    let mut run = Run::new();
    run.at(10, 1, allocate(0x10, 100)).at(30, 1, allocate(0x10, 7)).settle().at(40, 1, realloc_begin(0x10));
    run.defer(0x10, 20, 0, 0).at(50, 1, What::ReallocFailed).settle();
    assert_eq!(run.heap(), [2, 1, 0, 0, 7]);
}

#[test]
fn a_late_release_of_an_unknown_block_is_unmatched() {
    let mut run = Run::new();
    run.at(30, 1, allocate(0x10, 7)).at(50, 1, allocate(0x10, 8)).defer(0x10, 20, 0, 0).settle();
    assert_eq!(run.heap(), [2, 1, 1, 1, 8]);
}

#[test]
fn an_entry_can_release_one_block_and_hold_the_next() {
    let mut run = Run::new();
    run.at(10, 1, allocate(0x10, 100)).defer(0x10, 20, 30, 7);
    // Removed from the kernel's table, so the release of the new block goes to the ring.
    run.at(40, 1, release(0x10));
    assert_eq!(run.heap(), [2, 2, 0, 0, 0]);
    run.defer(0x10, 0, 60, 8).at(55, 1, release(0x10)).settle();
    assert_eq!(run.heap(), [3, 2, 0, 1, 8]);
}

#[test]
fn an_address_can_have_several_entries() {
    let mut run = Run::new();
    run.at(10, 1, allocate(0x10, 100)).defer(0x10, 20, 30, 7).defer(0x10, 40, 50, 8).settle();
    assert_eq!(run.heap(), [3, 2, 0, 0, 8]);
    assert_eq!(run.stack(9, Kind::Heap).allocated_bytes, 15);
}

#[test]
fn a_deferred_allocation_behind_a_younger_block_lost_its_release() {
    let mut run = Run::new();
    run.at(30, 1, allocate(0x10, 7)).defer(0x10, 0, 20, 100).settle();
    assert_eq!(run.heap(), [2, 1, 1, 0, 7]);
    assert_eq!(run.stack(9, Kind::Heap).outstanding_blocks, 0);
}

#[test]
fn exec_comes_between_deferred_changes_by_time() {
    let mut run = Run::new();
    run.at(10, 1, allocate(0x10, 100)).at(11, 1, allocate(0x20, 50));
    run.defer(0x10, 20, 40, 7).defer(0x30, 0, 25, 1).at(30, 1, What::Exec { by_other_thread: false });
    assert_eq!(run.heap(), [3, 1, 0, 0, 0]);
    assert_eq!(run.totals().bytes_dropped_by_exec, 51);
    // Read after the exec was applied: of a block that is dropped already, and of one that nobody saw.
    run.defer(0x20, 22, 0, 0).defer(0x40, 0, 23, 5).settle();
    assert_eq!(run.heap(), [5, 1, 0, 0, 7]);
    assert_eq!(run.totals().bytes_dropped_by_exec, 56);
}
