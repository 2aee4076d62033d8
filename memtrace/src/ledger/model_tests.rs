//! The ledger against a model that is too simple to be wrong: any events in any order, compared after each.

use std::collections::BTreeMap;

use memtrace_common::{Address, Slot, StackId};
use proptest::prelude::*;

use super::{Kind, Ledger, StackTotals, Totals};
use crate::event::{Block, Event, Range, What};

const SLOT: Slot = Slot(0);
const PAGE: u64 = 4096;
const PAGES: usize = 24;

/// A block, or the mapping that a page belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Live {
    size: u64,
    stack: u64,
    time_ns: u64,
    /// The stacks that it had, one after the other, until it settled.
    past: Past,
}

/// The stack of the birth, and how often the stack changed.
type Past = Option<(u64, u32)>;

#[derive(Clone, Debug)]
enum Parked {
    Block(u64, Live),
    UnknownBlock,
    /// Whether by `mremap`, and the pages.
    Pages(bool, Vec<(usize, Live)>),
}

#[derive(Default)]
struct Model {
    blocks: BTreeMap<u64, Live>,
    pages: [Option<Live>; PAGES],
    parked: BTreeMap<u32, Parked>,
    totals: Totals,
    /// By stack and kind: allocations and their bytes.
    ever: BTreeMap<(u64, Kind), (u64, u64)>,
    /// By stacks of birth and caller.
    enlarged: BTreeMap<(u64, u64), u64>,
    /// By the caller's stack: blocks that stayed with another, or their own, and their bytes.
    moved: BTreeMap<u64, (u64, u64)>,
}

impl Model {
    fn apply(&mut self, event: &Event<'_>) {
        let Event { thread, time_ns, .. } = *event;
        match event.what {
            What::Allocate(block) => self.allocate(block, time_ns),
            What::Reallocate(block) => {
                let parked = self.parked.remove(&thread);
                self.allocate(block, time_ns);
                if let Some(Parked::Block(_, old)) = parked {
                    self.follow(block, old);
                }
            }
            What::Release(address) => {
                self.release(address.0);
            }
            What::ReallocBegin(address) => {
                let parked = self.release(address.0);
                self.parked.insert(thread, parked);
            }
            What::ReallocFailed => match self.parked.remove(&thread) {
                Some(Parked::UnknownBlock) => self.totals.frees_unmatched -= 1,
                Some(Parked::Block(address, live)) if !self.blocks.contains_key(&address) => {
                    self.blocks.insert(address, live);
                    self.totals.frees -= 1;
                    self.totals.freed_bytes -= live.size;
                }
                _ => {}
            },
            What::Map(block) => self.map(block, time_ns),
            What::Remap(block) => {
                self.parked.remove(&thread);
                self.map(block, time_ns);
            }
            What::UnmapBegin(range) => self.unmap(thread, range, false),
            What::RemapBegin(range) => self.unmap(thread, range, true),
            What::UnmapFailed => self.restore_pages(thread, false),
            What::RemapFailed => self.restore_pages(thread, true),
            What::Exec { .. } => {
                self.totals.execs += 1;
                self.totals.blocks_dropped_by_exec += self.blocks.len() as u64;
                self.totals.bytes_dropped_by_exec += self.blocks.values().map(|live| live.size).sum::<u64>();
                let pieces = self.pieces();
                self.totals.ranges_dropped_by_exec += pieces.len() as u64;
                self.totals.mapped_bytes_dropped_by_exec += pieces.iter().map(|piece| piece.1).sum::<u64>();
                self.blocks.clear();
                self.enlarged.clear();
                self.pages = [None; PAGES];
                self.parked.clear();
            }
            // Of these see page_tests.
            What::Touch(_)
            | What::Discard(_)
            | What::Reserve(_)
            | What::Commit(_)
            | What::Stack { .. }
            | What::Chain { .. }
            | What::Pool(_) => {}
        }
    }

    fn allocate(&mut self, block: Block, time_ns: u64) {
        let live = Live { size: block.size, stack: block.stack.0, time_ns, past: None };
        self.totals.allocations += 1;
        self.totals.allocated_bytes += block.size;
        self.count(block, Kind::Heap);
        if let Some(old) = self.blocks.insert(block.address.0, live) {
            self.totals.frees += 1;
            self.totals.frees_implied += 1;
            self.totals.freed_bytes += old.size;
        }
    }

    /// The block is the old one, by another name.
    fn follow(&mut self, block: Block, old: Live) {
        let caller = block.stack.0;
        let (birth, moves) = old.past.unwrap_or((old.stack, 0));
        let moves = moves + u32::from(moves < 3 && old.stack != caller);
        let Some(live) = self.blocks.get_mut(&block.address.0) else { return };
        live.past = (moves > 0).then_some((birth, moves));
        if moves >= 3 {
            live.stack = birth;
            let moved = self.moved.entry(caller).or_default();
            *moved = (moved.0 + 1, moved.1 + block.size);
            let enlarged = self.enlarged.entry((birth, caller)).or_default();
            if block.size > old.size {
                *enlarged += block.size - old.size;
            }
        }
    }

    fn release(&mut self, address: u64) -> Parked {
        let Some(live) = self.blocks.remove(&address) else {
            self.totals.frees_unmatched += 1;
            return Parked::UnknownBlock;
        };
        self.totals.frees += 1;
        self.totals.freed_bytes += live.size;
        Parked::Block(address, live)
    }

    fn map(&mut self, block: Block, time_ns: u64) {
        let live = Live { size: block.size, stack: block.stack.0, time_ns, past: None };
        self.totals.maps += 1;
        self.count(block, Kind::Map);
        let (first, end) = page_bounds(block.address, block.size);
        // Pieces, not mappings: one mapping can lie there in several.
        let mut before = None;
        for page in &self.pages[first..end] {
            self.totals.ranges_replaced += u64::from(page.is_some() && *page != before);
            before = *page;
        }
        self.pages[first..end].fill(Some(live));
    }

    fn unmap(&mut self, thread: u32, range: Range, by_remap: bool) {
        let (first, end) = page_bounds(range.address, range.length);
        let taken: Vec<_> = (first..end).filter_map(|page| Some((page, self.pages[page].take()?))).collect();
        self.parked.remove(&thread);
        if !taken.is_empty() {
            self.totals.unmaps += 1;
            self.parked.insert(thread, Parked::Pages(by_remap, taken));
        }
    }

    fn restore_pages(&mut self, thread: u32, by_remap: bool) {
        if let Some(Parked::Pages(by, taken)) = self.parked.remove(&thread)
            && by == by_remap
        {
            self.totals.unmaps -= 1;
            for (page, live) in taken {
                self.pages[page].get_or_insert(live);
            }
        }
    }

    fn count(&mut self, block: Block, kind: Kind) {
        let ever = self.ever.entry((block.stack.0, kind)).or_default();
        ever.0 += 1;
        ever.1 += block.size;
    }

    /// Maximal runs of pages of one mapping: stack and bytes.
    fn pieces(&self) -> Vec<(u64, u64)> {
        let mut pieces: Vec<(u64, u64)> = Vec::new();
        let mut before = None;
        for page in self.pages {
            match (page, pieces.last_mut()) {
                (Some(_), Some(piece)) if page == before => piece.1 += PAGE,
                (Some(live), _) => pieces.push((live.stack, PAGE)),
                (None, _) => {}
            }
            before = page;
        }
        pieces
    }

    fn totals(&self) -> Totals {
        let pieces = self.pieces();
        Totals {
            outstanding_blocks: self.blocks.len() as u64,
            outstanding_bytes: self.blocks.values().map(|live| live.size).sum(),
            mapped_ranges: pieces.len() as u64,
            mapped_bytes: pieces.iter().map(|piece| piece.1).sum(),
            ..self.totals
        }
    }

    fn stacks(&self) -> Vec<StackTotals> {
        let pieces = self.pieces();
        let of_stack = |&(&(id, kind), &(allocations, allocated_bytes)): &(&(u64, Kind), &(u64, u64))| {
            let held: Vec<u64> = match kind {
                Kind::Heap => self.blocks.values().filter(|live| live.stack == id).map(|live| live.size).collect(),
                Kind::Map => pieces.iter().filter(|piece| piece.0 == id).map(|piece| piece.1).collect(),
                // See page_tests.
                _ => Vec::new(),
            };
            let moved = self.moved.get(&id).copied().filter(|_| kind == Kind::Heap).unwrap_or_default();
            StackTotals {
                id: StackId(id),
                kind,
                outstanding_bytes: held.iter().sum(),
                outstanding_blocks: held.len() as u64,
                allocations,
                allocated_bytes,
                moves: moved.0,
                moved_bytes: moved.1,
            }
        };
        self.ever.iter().map(|ever| of_stack(&ever)).collect()
    }
}

fn page_bounds(address: Address, length: u64) -> (usize, usize) {
    ((address.0 / PAGE) as usize, ((address.0 + length) / PAGE) as usize)
}

fn any_block() -> impl Strategy<Value = Block> {
    let size = prop_oneof![1..1000u64, (1 << 44) - 3..(1 << 44) + 3u64];
    (0..12u64, size, 1..5u64).prop_map(|(address, size, stack)| Block {
        level: 0,
        address: Address(address * 16),
        size,
        stack: StackId(stack),
    })
}

fn any_range() -> impl Strategy<Value = Range> {
    (0..PAGES, 1..=PAGES / 2).prop_map(|(first, count)| Range {
        address: Address(first as u64 * PAGE),
        length: count.min(PAGES - first) as u64 * PAGE,
    })
}

fn any_mapping() -> impl Strategy<Value = Block> {
    (any_range(), 1..5u64).prop_map(|(range, stack)| Block {
        level: 0,
        address: range.address,
        size: range.length,
        stack: StackId(stack),
    })
}

fn any_what() -> impl Strategy<Value = What<'static>> {
    let address = || (0..12u64).prop_map(|address| Address(address * 16));
    prop_oneof![
        8 => any_block().prop_map(What::Allocate),
        6 => address().prop_map(What::Release),
        4 => address().prop_map(What::ReallocBegin),
        2 => any_block().prop_map(What::Reallocate),
        3 => Just(What::ReallocFailed),
        8 => any_mapping().prop_map(What::Map),
        6 => any_range().prop_map(What::UnmapBegin),
        4 => Just(What::UnmapFailed),
        4 => any_range().prop_map(What::RemapBegin),
        2 => any_mapping().prop_map(What::Remap),
        2 => Just(What::RemapFailed),
        1 => Just(What::Exec { by_other_thread: false }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_events_leave_what_the_model_leaves(events in prop::collection::vec((1..4u32, any_what()), 0..150)) {
        let (mut ledger, mut model) = (Ledger::new(), Model::default());
        ledger.add_process(SLOT);
        for (number, (thread, what)) in events.into_iter().enumerate() {
            let event = Event { slot: SLOT, thread, time_ns: 1 + number as u64, what };
            ledger.apply(&event);
            model.apply(&event);

            let process = ledger.process(SLOT).expect("added");
            let totals = process.totals();
            prop_assert_eq!(totals, model.totals(), "after {:?}", event);
            prop_assert_eq!(
                totals.allocations,
                totals.frees + totals.outstanding_blocks + totals.blocks_dropped_by_exec
            );
            prop_assert_eq!(
                totals.allocated_bytes,
                totals.freed_bytes + totals.outstanding_bytes + totals.bytes_dropped_by_exec
            );
            let mut stacks: Vec<_> = process.stacks().collect();
            stacks.sort_by_key(|stack| (stack.id, stack.kind));
            prop_assert_eq!(stacks, model.stacks(), "after {:?}", event);
            let live = model.blocks.iter();
            let live = live.map(|(&address, live)| (address, live.size, StackId(live.stack), live.time_ns));
            prop_assert_eq!(process.live_blocks(), live.collect::<Vec<_>>());
            for stack in process.stacks() {
                let found = process.enlargers(stack.id, stack.kind).callers;
                let mut found: Vec<_> = found.iter().map(|(id, enlarged)| (id.0, enlarged.bytes)).collect();
                found.sort_unstable();
                let wanted = model.enlarged.iter().filter(|&(&(birth, _), &bytes)| {
                    birth == stack.id.0 && stack.kind == Kind::Heap && bytes > 0
                });
                prop_assert_eq!(found, wanted.map(|(&(_, caller), &bytes)| (caller, bytes)).collect::<Vec<_>>());
            }
        }
    }
}
