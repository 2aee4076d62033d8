//! What the targets' runtimes say of their own memory: asked at each interval, and put into the ledger as what stacks hold.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use memtrace_common::{Slot, StackId};

use super::key::Key;
use crate::{
    ledger::{self, Kind, Ledger, Precision, StackTotals},
    object::maps::Mapping,
    runtime::{
        count::{Count, Counted, Sampled, State},
        go,
    },
    symbol::Symbolizer,
    target::Pid,
};

/// The runtimes of the targets that keep books.
#[derive(Default)]
pub(super) struct Counts {
    programs: HashMap<Slot, Program>,
    /// Whether heaps are left out, whose pages are watched.
    without_heaps: bool,
    /// What goroutines of a place do, as of the last look.
    states: HashMap<Key, State>,
}

struct Program {
    go: Box<go::Program>,
    /// Whether it has been asked before: what it holds the first time it may have held for long.
    was_asked: bool,
    is_first: bool,
}

impl Counts {
    /// Looks whether a target's runtime keeps books that can be read. Returned is what of them cannot, as a sentence.
    pub(super) fn look(&mut self, slot: Slot, pid: Pid, mappings: &[Mapping]) -> Option<String> {
        self.forget(slot);
        match go::find(pid, mappings) {
            go::Finding::Nothing => None,
            go::Finding::Refused(why) => Some(why),
            go::Finding::Found(go) => {
                let unread = go.heap_is_unknown().filter(|_| !self.without_heaps).map(|why| {
                    format!(
                        "{why}: who allocates in it is not known; --mode growth shows who touches its memory first."
                    )
                });
                self.programs.insert(slot, Program { go, was_asked: false, is_first: false });
                unread
            }
        }
    }

    /// What a target maps from now on.
    pub(super) fn confine(&mut self, slot: Slot, mappings: &[Mapping]) {
        if let Some(program) = self.programs.get_mut(&slot) {
            program.go.confine(mappings);
        }
    }

    /// The target has ended, or runs another program.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.programs.remove(&slot);
        self.states.retain(|key, _| key.0 != slot);
    }

    /// From now on heaps are left out: who touches their pages is asked in another way.
    pub(super) fn leave_out_heaps(&mut self) {
        self.without_heaps = true;
    }

    /// Asks all runtimes, and puts what they say into the ledger. `now_ns` is by the monotonic clock.
    pub(super) fn ask(&mut self, now_ns: u64, ledger: &mut Ledger, symbols: &mut Symbolizer) {
        for (&slot, program) in &mut self.programs {
            program.is_first = !std::mem::replace(&mut program.was_asked, true);
            let is_wanted = |count: &&Count| !self.without_heaps || count.counted == Counted::Goroutines;
            for count in program.go.count(now_ns).iter().filter(is_wanted) {
                let key = key(slot, count);
                if !count.place.is_empty() && !symbols.contains(slot, key.1) {
                    // What lies in no known module is code that has no name.
                    let _ = symbols.observe_written(slot, key.1, &count.place);
                }
                match &count.state {
                    Some(state) => _ = self.states.insert(key, state.clone()),
                    None => _ = self.states.remove(&key),
                }
                ledger.set_count(slot, entry(key, count));
            }
        }
    }

    /// Whether what a target holds by its runtime's books was asked for the first time just now.
    pub(super) fn is_first(&self, slot: Slot) -> bool {
        self.programs.get(&slot).is_some_and(|program| program.is_first)
    }

    /// Whether a target's runtime keeps books that are read.
    pub(super) fn has(&self, slot: Slot) -> bool {
        self.programs.contains_key(&slot)
    }

    /// What goroutines do of the stack that reports know by this id.
    pub(super) fn state_of(&self, id: &str) -> Option<&State> {
        let id = StackId(u64::from_str_radix(id, 16).ok()?);
        self.states.iter().find(|((_, known, _), _)| *known == id).map(|(_, state)| state)
    }

    /// What goroutines of a place do; `None` for other stacks.
    pub(super) fn state(&self, key: Key) -> Option<&State> {
        self.states.get(&key)
    }
}

/// What tells a place from all others.
fn key(slot: Slot, count: &Count) -> Key {
    let kind = match count.counted {
        Counted::Objects => Kind::Managed,
        Counted::Goroutines => Kind::Goroutine,
        Counted::Heap => Kind::WholeHeap,
    };
    let mut hasher = DefaultHasher::new();
    (kind, &count.place).hash(&mut hasher);
    (slot, StackId(hasher.finish()), kind)
}

fn entry((_, id, kind): Key, count: &Count) -> ledger::Count {
    ledger::Count {
        totals: StackTotals {
            id,
            kind,
            outstanding_bytes: count.bytes,
            outstanding_blocks: count.objects,
            allocations: count.ever,
            allocated_bytes: count.ever_bytes,
            moves: 0,
            moved_bytes: 0,
        },
        precision: count.sampled.map(|Sampled { held, ever, held_variance, ever_variance }| Precision {
            live_seen: held,
            ever_seen: ever,
            live: held_variance,
            turnover: (2.0 * ever_variance - held_variance).max(held_variance),
        }),
    }
}
