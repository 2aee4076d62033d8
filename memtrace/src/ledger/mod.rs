//! The `ledger` room: events in, exact live blocks out.
//!
//! In: decoded events in the order of the ring, and what the kernel left in its deferred table. Out, per process: the
//! live heap blocks and mapped ranges, what each stack holds, and totals that add up. Every allocation ends in exactly
//! one of: outstanding, freed, dropped by exec; what cannot be matched is counted, never guessed at. Plain memory: no
//! clock, no I/O, no BPF; the same events give the same ledger.

mod blocks;
mod cohorts;
mod counted;
mod deferred;
mod distribution;
mod estimate;
mod inherited;
mod lineage;
mod parked;
mod process;
mod ranges;
mod stacks;
mod totals;
mod window;

#[cfg(test)]
mod deferral_tests;
#[cfg(test)]
mod inherit_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod page_tests;
#[cfg(test)]
mod rule_tests;

use memtrace_common::{
    Address, Slot,
    deferred::{DeferredBlock, DeferredKey},
};

pub use self::{
    counted::Count,
    distribution::{Cohort, Distributions},
    estimate::{Distances, Precision, Weight},
    lineage::{Enlarged, Enlargers},
    process::ProcessLedger,
    stacks::StackTotals,
    totals::Totals,
    window::Held,
};
use crate::event::{Event, What};

/// What kind of memory a stack holds.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Blocks of an allocator.
    Heap,
    /// Ranges of pages.
    Map,
    /// Pages that were written to; only where they are asked for.
    Touched,
    /// Objects of a heap that a runtime manages, by the runtime's own books.
    Managed,
    /// Goroutines, by the runtime's own books.
    Goroutine,
    /// Small objects in pools that the stack made ready, as the pools' own heads say.
    Small,
    /// Objects of a heap that a runtime manages, as a sample says that the runtime draws on request.
    Profiled,
    /// All that a runtime's heap holds, by the runtime's own books; it is no stack.
    WholeHeap,
    /// Objects of one type, by the runtime's own memory; it is no stack.
    Type,
}

impl Kind {
    /// Whether each block is in the ledger, and not only what all of them come to.
    pub const fn has_blocks(self) -> bool {
        match self {
            Kind::Heap | Kind::Map | Kind::Touched => true,
            Kind::Managed | Kind::Goroutine | Kind::Small | Kind::Profiled | Kind::WholeHeap | Kind::Type => false,
        }
    }

    /// Whether what it holds is counted from the attach on, and nothing that was there before.
    pub const fn begins_at_attach(self) -> bool {
        match self {
            Kind::Heap | Kind::Map | Kind::Touched | Kind::Small | Kind::Profiled => true,
            Kind::Managed | Kind::Goroutine | Kind::WholeHeap | Kind::Type => false,
        }
    }

    /// Whether it is what one stack holds, which no other kind holds as well.
    pub const fn is_stack(self) -> bool {
        !matches!(self, Kind::WholeHeap | Kind::Type)
    }
}

/// The ledgers of all targets, by slot.
#[derive(Default)]
pub struct Ledger {
    processes: Vec<Option<Box<ProcessLedger>>>,
    events_of_unknown_slots: u64,
    follows_forks: bool,
    /// What the levels of sampling mean; `None` where every block is seen.
    distances: Option<Distances>,
}

impl Ledger {
    /// A ledger without targets.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts the ledger of a target; one that is there already stays as it is.
    pub fn add_process(&mut self, slot: Slot) {
        let index = usize::from(slot.0);
        if self.processes.len() <= index {
            self.processes.resize_with(index + 1, || None);
        }
        let process = self.processes[index].get_or_insert_default();
        if self.follows_forks {
            process.keep_recent();
        }
        if let Some(distances) = self.distances {
            process.sample(distances);
        }
    }

    /// Blocks of these levels are a sample from now on, and sums of processes and stacks are estimates.
    pub fn sample(&mut self, distances: Distances) {
        self.distances = Some(distances);
        self.processes.iter_mut().flatten().for_each(|process| process.sample(distances));
    }

    /// From now on targets that are added keep what [`inherit`](Self::inherit) needs.
    pub fn follow_forks(&mut self) {
        self.follows_forks = true;
    }

    /// The target in `child` was forked at `at_ns` from the one in `parent`: what that held then is its heap as well, and
    /// none of it is the child's doing.
    pub fn inherit(&mut self, child: Slot, parent: Slot, at_ns: u64) {
        let held: u64 = self.processes().map(|(_, process)| process.totals().inherited_blocks).sum();
        let most = inherited::MAX_BLOCKS.saturating_sub(held);
        let inherited = self.process(parent).map(|parent| parent.heap_at(at_ns, most));
        if let (Some(inherited), Some(child)) = (inherited, self.find(child)) {
            child.set_inherited(inherited);
        }
    }

    /// Ends the ledger of a target and hands it out, so that its slot can be given to another.
    pub fn remove_process(&mut self, slot: Slot) -> Option<Box<ProcessLedger>> {
        self.processes.get_mut(usize::from(slot.0))?.take()
    }

    /// Takes over what the runtime of the target in a slot says that a place holds now.
    pub fn set_count(&mut self, slot: Slot, count: Count) {
        if let Some(process) = self.find(slot) {
            process.set_count(count);
        }
    }

    /// The ledger of the target in a slot; `None` when there is none.
    pub fn process(&self, slot: Slot) -> Option<&ProcessLedger> {
        self.processes.get(usize::from(slot.0))?.as_deref()
    }

    /// The ledger of every target, with its slot.
    pub fn processes(&self) -> impl Iterator<Item = (Slot, &ProcessLedger)> {
        // Slots are 16 bits wide, so the index does not truncate.
        let slots = self.processes.iter().enumerate();
        slots.filter_map(|(index, process)| Some((Slot(index as u16), process.as_deref()?)))
    }

    /// Applies one event. The frames of stacks are no business of the ledger.
    pub fn apply(&mut self, event: &Event<'_>) {
        if matches!(event.what, What::Stack { .. } | What::Chain { .. }) {
            return;
        }
        match self.find(event.slot) {
            Some(process) => process.apply(event),
            None => self.events_of_unknown_slots += 1,
        }
    }

    /// Takes over an entry of the kernel's deferred table, which its reader has removed from there in the same step.
    ///
    /// Then: apply every event that stood in the ring after the last entry was read, and call
    /// [`settle_deferred`](Self::settle_deferred).
    pub fn defer(&mut self, key: DeferredKey, block: DeferredBlock) {
        match u16::try_from(key.slot).ok().and_then(|slot| self.find(Slot(slot))) {
            Some(process) => process.defer(Address(key.address), &block),
            None => self.events_of_unknown_slots += 1,
        }
    }

    /// Applies what is left of the deferred entries. To be called after each reading of the kernel's table, also when
    /// it was empty.
    pub fn settle_deferred(&mut self) {
        for process in self.processes.iter_mut().flatten() {
            process.settle_deferred();
        }
    }

    /// Counts blocks that were both allocated and released while deferred: only the kernel saw them. The numbers are
    /// added to those of earlier calls.
    pub fn add_settled(&mut self, slot: Slot, blocks: u64, bytes: u64) {
        match self.find(slot) {
            Some(process) => process.add_settled(blocks, bytes),
            None => self.events_of_unknown_slots += 1,
        }
    }

    /// Events and deferred entries that name no target; 0 unless the session and the kernel disagree.
    #[cfg(test)]
    pub const fn events_of_unknown_slots(&self) -> u64 {
        self.events_of_unknown_slots
    }

    fn find(&mut self, slot: Slot) -> Option<&mut ProcessLedger> {
        self.processes.get_mut(usize::from(slot.0))?.as_deref_mut()
    }
}
