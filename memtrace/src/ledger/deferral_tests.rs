//! The ledger against a simulated kernel whose ring fills up, and a reader that is interrupted anywhere: in the end the
//! ledger must hold exactly the blocks that live.

use std::collections::{BTreeMap, VecDeque};

use memtrace_common::{
    Address, Slot, StackId,
    deferred::{DeferredBlock, DeferredKey},
};
use proptest::{prelude::*, sample::Index};

use super::Ledger;
use crate::event::{Block, Event, What};

const SLOT: Slot = Slot(0);
const ADDRESSES: u64 = 6;

/// How much room the ring has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ring {
    Open,
    /// Above the fill mark: allocations go to the table.
    Marked,
    /// Releases do so too.
    Full,
}

#[derive(Clone, Debug)]
enum Step {
    Ring(Ring),
    Allocate(Index, u64),
    /// An allocation that nobody records, as when the table is full too.
    AllocateUnseen(Index),
    Release(Index),
    /// A thread enters `realloc`; whether it will fail.
    ReallocBegin(u32, Index, bool),
    ReallocEnd(u32, Index, u64),
    /// The reader applies the ring's next event.
    Drain,
    /// The reader goes on with its reading of the table, or begins one.
    Read,
}

/// What truly lives at an address.
#[derive(Clone, Copy, Debug)]
struct Live {
    size: u64,
    stack: u64,
    time_ns: u64,
    /// Whether its allocation was recorded.
    seen: bool,
    /// By `realloc`, so that its stack depends on what the ledger saw of the old block; see `model_tests`.
    moved: bool,
}

/// A `realloc` that has not returned.
struct Open {
    address: u64,
    /// What lives there if the call fails.
    fails_with: Option<Live>,
    /// Not 0 if the release of the old block went to the table.
    deferred_ns: u64,
}

/// What the reader does.
enum Reader {
    Idle,
    /// Addresses of the table still to be read.
    Reading(Vec<u64>),
    /// Events to be applied before the settlement, counted from the first of all.
    Draining(u64),
}

struct World {
    now_ns: u64,
    // The target.
    live: BTreeMap<u64, Live>,
    threads: BTreeMap<u32, Open>,
    allocations: u64,
    frees: u64,
    frees_unmatched: u64,
    allocated_bytes: u64,
    // The kernel.
    keeps_to_entries: bool,
    ring: Ring,
    events: VecDeque<Event<'static>>,
    sent: u64,
    table: BTreeMap<u64, DeferredBlock>,
    settled: (u64, u64),
    overwritten: u64,
    // The reader.
    reader: Reader,
    drained: u64,
    ledger: Ledger,
}

impl World {
    fn new(keeps_to_entries: bool) -> Self {
        let mut ledger = Ledger::new();
        ledger.add_process(SLOT);
        // From before the attach.
        let old = Live { size: 0, stack: 0, time_ns: 0, seen: false, moved: false };
        Self {
            now_ns: 0,
            live: (0..ADDRESSES / 2).map(|address| (address, old)).collect(),
            threads: BTreeMap::new(),
            allocations: 0,
            frees: 0,
            frees_unmatched: 0,
            allocated_bytes: 0,
            keeps_to_entries,
            ring: Ring::Open,
            events: VecDeque::new(),
            sent: 0,
            table: BTreeMap::new(),
            settled: (0, 0),
            overwritten: 0,
            reader: Reader::Idle,
            drained: 0,
            ledger,
        }
    }

    fn step(&mut self, step: Step) {
        self.now_ns += 1;
        match step {
            Step::Ring(ring) => self.ring = ring,
            Step::Allocate(index, size) => {
                if let Some(address) = self.free_address(index) {
                    self.allocate(address, size, 1, What::Allocate);
                }
            }
            Step::AllocateUnseen(index) => {
                let address = self.free_address(index).filter(|address| !self.table.contains_key(address));
                if let Some(address) = address {
                    self.live
                        .insert(address, Live { size: 0, stack: 0, time_ns: self.now_ns, seen: false, moved: false });
                }
            }
            Step::Release(index) => {
                if let Some((address, live)) = self.take_live(index) {
                    self.count_release(live);
                    self.release(address, 1, What::Release);
                }
            }
            Step::ReallocBegin(thread, index, fails) => self.realloc_begin(thread, index, fails),
            Step::ReallocEnd(thread, index, size) => self.realloc_end(thread, index, size),
            Step::Drain => self.drain(),
            Step::Read => self.read(),
        }
    }

    fn free_address(&self, index: Index) -> Option<u64> {
        let held =
            |address: &u64| self.threads.values().any(|open| open.address == *address && open.fails_with.is_some());
        let free = (0..ADDRESSES).filter(|address| !self.live.contains_key(address) && !held(address));
        let free: Vec<u64> = free.collect();
        (!free.is_empty()).then(|| *index.get(&free))
    }

    fn take_live(&mut self, index: Index) -> Option<(u64, Live)> {
        let addresses: Vec<u64> = self.live.keys().copied().collect();
        let address = (!addresses.is_empty()).then(|| *index.get(&addresses))?;
        self.live.remove_entry(&address)
    }

    fn count_release(&mut self, live: Live) {
        self.frees += u64::from(live.seen);
        self.frees_unmatched += u64::from(!live.seen);
    }

    fn send(&mut self, thread: u32, what: What<'static>) {
        self.events.push_back(Event { slot: SLOT, thread, time_ns: self.now_ns, what });
        self.sent += 1;
    }

    /// The kernel's rule for an allocation.
    fn allocate(&mut self, address: u64, size: u64, thread: u32, what: fn(Block) -> What<'static>) {
        let stack = size % 3 + 1;
        let moved =
            matches!(what(Block { address: Address(0), size, level: 0, stack: StackId(0) }), What::Reallocate(_));
        self.live.insert(address, Live { size, stack, time_ns: self.now_ns, seen: true, moved });
        self.allocations += 1;
        self.allocated_bytes += size;
        let stays = self.keeps_to_entries && self.table.contains_key(&address);
        if self.ring == Ring::Open && !stays {
            return self.send(thread, what(Block { address: Address(address), size, level: 0, stack: StackId(stack) }));
        }
        let entry = self.table.entry(address).or_default();
        assert_eq!(entry.allocated_ns, 0);
        *entry = DeferredBlock { released_ns: entry.released_ns, allocated_ns: self.now_ns, size, stack };
    }

    /// The kernel's rule for a release: the time with which it went to the table, 0 if it was sent, `None` if it and the
    /// block's allocation cancelled.
    fn release(&mut self, address: u64, thread: u32, what: fn(Address) -> What<'static>) -> Option<u64> {
        if let Some(entry) = self.table.get_mut(&address).filter(|entry| entry.allocated_ns != 0) {
            self.settled = (self.settled.0 + 1, self.settled.1 + entry.size);
            *entry = DeferredBlock { released_ns: entry.released_ns, ..DeferredBlock::default() };
            if entry.released_ns == 0 {
                self.table.remove(&address);
            }
            return None;
        }
        if self.ring != Ring::Full {
            self.send(thread, what(Address(address)));
            return Some(0);
        }
        let entry = self.table.entry(address).or_default();
        self.overwritten += u64::from(entry.released_ns != 0);
        entry.released_ns = self.now_ns;
        Some(self.now_ns)
    }

    fn realloc_begin(&mut self, thread: u32, index: Index, fails: bool) {
        if self.threads.contains_key(&thread) {
            return;
        }
        let Some((address, live)) = self.take_live(index) else { return };
        let released = self.release(address, thread, What::ReallocBegin);
        let fails = fails && released.is_some();
        if !fails {
            self.count_release(live);
        }
        let open = Open { address, fails_with: fails.then_some(live), deferred_ns: released.unwrap_or(0) };
        self.threads.insert(thread, open);
    }

    fn realloc_end(&mut self, thread: u32, index: Index, size: u64) {
        let Some(Open { address, fails_with, deferred_ns }) = self.threads.remove(&thread) else { return };
        let entry_is_there =
            self.table.get(&address).is_some_and(|entry| deferred_ns != 0 && entry.released_ns == deferred_ns);
        match fails_with {
            Some(live) if deferred_ns == 0 => {
                self.send(thread, What::ReallocFailed);
                self.live.insert(address, live);
            }
            Some(live) if entry_is_there => {
                self.table.remove(&address);
                self.live.insert(address, live);
            }
            // The release is beyond recall, which a counter of the kernel tells: as if the call had succeeded.
            Some(live) => self.count_release(live),
            None => {
                if let Some(address) = self.free_address(index) {
                    self.allocate(address, size, thread, What::Reallocate);
                }
            }
        }
    }

    fn drain(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.drained += 1;
            self.ledger.apply(&event);
        }
    }

    fn read(&mut self) {
        match &mut self.reader {
            Reader::Idle => self.reader = Reader::Reading(self.table.keys().copied().collect()),
            Reader::Reading(addresses) => match addresses.pop() {
                Some(address) => {
                    if let Some(entry) = self.table.remove(&address) {
                        self.ledger.defer(DeferredKey { address, slot: u64::from(SLOT.0) }, entry);
                    }
                }
                None => self.reader = Reader::Draining(self.sent),
            },
            Reader::Draining(until) if self.drained < *until => self.drain(),
            Reader::Draining(_) => {
                self.ledger.settle_deferred();
                self.reader = Reader::Idle;
            }
        }
    }

    /// Ends the reading that is under way, if any.
    fn finish_reading(&mut self) {
        while !matches!(self.reader, Reader::Idle) {
            self.read();
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let process = self.ledger.process(SLOT).expect("added");
        let held = self.threads.values().filter_map(|open| Some((open.address, open.fails_with?)));
        prop_assert_eq!(held.count(), 0);
        let live = self.live.iter().filter(|(_, live)| live.seen);
        let stack = |live: &Live, stack| if live.moved { StackId(0) } else { stack };
        let held = process.live_blocks().into_iter().map(|(address, size, id, time_ns)| {
            let live = self.live.get(&address);
            (address, size, live.map_or(id, |live| stack(live, id)), time_ns)
        });
        let live = live.map(|(&address, live)| (address, live.size, stack(live, StackId(live.stack)), live.time_ns));
        prop_assert_eq!(held.collect::<Vec<_>>(), live.collect::<Vec<_>>());

        let totals = process.totals();
        prop_assert_eq!((totals.allocations, totals.frees), (self.allocations, self.frees));
        prop_assert_eq!(totals.allocated_bytes, self.allocated_bytes);
        prop_assert_eq!(totals.allocated_bytes, totals.freed_bytes + totals.outstanding_bytes);
        prop_assert_eq!(totals.outstanding_blocks, totals.allocations - totals.frees);
        prop_assert!(!self.keeps_to_entries || self.overwritten == 0);
        if self.overwritten == 0 {
            prop_assert_eq!((totals.frees_implied, totals.frees_unmatched), (0, self.frees_unmatched));
        }
        Ok(())
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    prop_oneof![
        2 => prop_oneof![Just(Ring::Open), Just(Ring::Marked), Just(Ring::Full)].prop_map(Step::Ring),
        8 => (index(), 1..100u64).prop_map(|(index, size)| Step::Allocate(index, size)),
        1 => index().prop_map(Step::AllocateUnseen),
        8 => index().prop_map(Step::Release),
        3 => (1..4u32, index(), any::<bool>()).prop_map(|(thread, index, fails)| Step::ReallocBegin(thread, index, fails)),
        3 => (1..4u32, index(), 1..100u64).prop_map(|(thread, index, size)| Step::ReallocEnd(thread, index, size)),
        8 => Just(Step::Drain),
        12 => Just(Step::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// With `keeps_to_entries` the kernel sends an allocation to the table whenever its address has an entry there.
    #[test]
    fn whatever_the_kernel_defers_the_ledger_ends_exact(
        keeps_to_entries in any::<bool>(),
        steps in prop::collection::vec(any_step(), 0..200),
        last in any::<Index>(),
    ) {
        let mut world = World::new(keeps_to_entries);
        for step in steps {
            world.step(step);
        }
        for thread in 1..4 {
            world.step(Step::ReallocEnd(thread, last, 1));
        }
        world.finish_reading();
        world.read();
        world.finish_reading();
        world.ledger.add_settled(SLOT, world.settled.0, world.settled.1);
        world.check()?;
    }
}
