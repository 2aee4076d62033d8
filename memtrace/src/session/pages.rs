//! Stacks of runtimes that ask the system for pages of their own heaps: no stack of the program's, and for V8 one heap together.

use std::collections::{HashMap, HashSet};

use memtrace_common::{Slot, StackId};

use super::{
    collections::Collections,
    counts::{is_java_heap, reachable},
    key::Key,
    small,
};
use crate::{
    ledger::{Count, Kind, Ledger, StackTotals},
    object::maps::Mapping,
    report::snapshot::Stack,
    runtime::{ask::jvm, go, python, v8},
    symbol::Symbolizer,
    target::Pid,
};

/// By which id the pages of V8 in a process are one stack.
const V8_HEAP: StackId = StackId(0x7638_6865_6170);

/// Whose pages a stack asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Owner {
    /// The program, as far as is known.
    Program,
    /// Go's runtime, whose own books say what its heap holds.
    Go,
    /// V8: the address at which the stack is in V8's own allocator.
    V8(u64),
    /// V8, for blocks and pages of its own that are not of its heap.
    Inside,
    /// Objects of V8's heap, with which it is freed.
    Collected,
}

/// What is known of the stacks that ask for pages.
#[derive(Default)]
pub(super) struct Pages {
    /// Targets that have V8.
    v8: HashSet<Slot>,
    owners: HashMap<Key, Owner>,
    /// Bytes that could be reached of a target's heap when that was looked at first.
    first_reachable: HashMap<Slot, u64>,
    /// What is known of the collections by which V8's heaps, and what goes with them, are freed.
    pub(super) collections: Collections,
}

impl Pages {
    /// Looks whether a target has a runtime whose pages are told from the program's.
    pub(super) fn look(&mut self, slot: Slot, pid: Pid, mappings: &[Mapping]) {
        self.v8.remove(&slot);
        self.owners.retain(|key, _| key.0 != slot);
        if self.collections.look(slot, pid, mappings) {
            self.v8.insert(slot);
        }
    }

    /// The target has ended, or runs another program.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.v8.remove(&slot);
        self.first_reachable.remove(&slot);
        self.collections.forget(slot);
        self.owners.retain(|key, _| key.0 != slot);
    }

    /// Whether a stack asks for pages of a runtime's heap.
    pub(super) fn is_runtime(&mut self, key: Key, has_go_books: bool, symbols: &mut Symbolizer) -> bool {
        matches!(self.owner(key, has_go_books, symbols), Owner::Go | Owner::V8(_)) && key.2 == Kind::Map
    }

    /// Whether a stack was found to ask for pages of a runtime's heap.
    pub(super) fn is_known_runtime(&self, key: Key) -> bool {
        self.is_known(key) && key.2 == Kind::Map
    }

    /// Whether a stack was found to hold what V8 notes of its pages, its code and its threads.
    pub(super) fn is_known_note(&self, key: Key) -> bool {
        self.is_known(key) && key.2 == Kind::Heap || self.owners.get(&key) == Some(&Owner::Inside)
    }

    /// Whether a stack was found to make memory that only collections free.
    pub(super) fn is_known_collected(&self, key: Key) -> bool {
        self.owners.get(&key) == Some(&Owner::Collected)
    }

    fn is_known(&self, key: Key) -> bool {
        self.owners.get(&key).is_some_and(|owner| matches!(owner, Owner::Go | Owner::V8(_)))
    }

    /// Puts the pages of each V8 heap into the ledger as one stack.
    pub(super) fn sum(&mut self, ledger: &mut Ledger, symbols: &mut Symbolizer) {
        let slots: Vec<Slot> = self.v8.iter().copied().collect();
        for slot in slots {
            let Some(process) = ledger.process(slot) else { continue };
            let mut sum = StackTotals {
                id: V8_HEAP,
                kind: Kind::Managed,
                outstanding_bytes: 0,
                outstanding_blocks: 0,
                allocations: 0,
                allocated_bytes: 0,
                moves: 0,
                moved_bytes: 0,
            };
            for stack in process.stacks().filter(|stack| stack.kind == Kind::Map) {
                let Owner::V8(address) = self.owner((slot, stack.id, stack.kind), false, symbols) else {
                    continue;
                };
                sum.outstanding_bytes = sum.outstanding_bytes.saturating_add(stack.outstanding_bytes);
                sum.outstanding_blocks += stack.outstanding_blocks;
                sum.allocations += stack.allocations;
                sum.allocated_bytes = sum.allocated_bytes.wrapping_add(stack.allocated_bytes);
                if !symbols.contains(slot, V8_HEAP) {
                    let _ = symbols.observe_written(slot, V8_HEAP, &[address]);
                }
            }
            // A heap may grow where it has had room all along.
            let (_, id, kind) = reachable(slot);
            let found = process.counts().find(|count| (count.totals.id, count.totals.kind) == (id, kind));
            if let Some(bytes) = found.map(|found| found.totals.outstanding_bytes) {
                let first = *self.first_reachable.entry(slot).or_insert(bytes);
                sum.outstanding_bytes = sum.outstanding_bytes.max(bytes.saturating_sub(first));
            }
            if sum.outstanding_bytes > 0 {
                ledger.set_count(slot, Count { totals: sum, precision: None });
            }
        }
    }

    /// Whose pages a stack asks for. Only stacks of targets with such a runtime are named for it.
    fn owner(&mut self, (slot, id, kind): Key, has_go_books: bool, symbols: &mut Symbolizer) -> Owner {
        // What was found stays, also when the target has ended.
        if let Some(owner) = self.owners.get(&(slot, id, kind)) {
            return *owner;
        }
        let has_v8 = self.v8.contains(&slot);
        // What V8 notes of its pages, and what objects of its heap hold, is in blocks.
        let may_be = kind == Kind::Map && (has_go_books || has_v8) || kind == Kind::Heap && has_v8;
        if !may_be {
            return Owner::Program;
        }
        *self.owners.entry((slot, id, kind)).or_insert_with(|| {
            let frames = symbols.frames(slot, id).frames;
            let named = || frames.iter().filter_map(|frame| Some((frame.function.as_deref()?, frame.address)));
            let asks = named().find_map(|(function, address)| match function {
                function if kind == Kind::Map && has_go_books && go::asks_for_pages(function) => Some(Owner::Go),
                function if has_v8 && v8::asks_for_pages(function) => Some(Owner::V8(address)),
                _ => None,
            });
            if asks.is_some() || !has_v8 {
                return asks.unwrap_or(Owner::Program);
            }
            let own = frames.iter().map(|frame| (frame.function.as_deref(), frame.module.as_deref()));
            // A thread of V8's frees what is collected as well, and so does not make it.
            if v8::is_own_thread(own) {
                return Owner::Inside;
            }
            let asks = named().map(|(function, _)| function).find(|function| !v8::is_library(function));
            let is_collected = named().any(|(function, _)| v8::makes_collected(function));
            if is_collected || asks.is_some_and(v8::reads_into_buffers) {
                return Owner::Collected;
            }
            if kind == Kind::Heap && asks.is_some_and(v8::is_inside) { Owner::Inside } else { Owner::Program }
        })
    }
}

/// What reports call the heap that a stack stands for; `None` for all other stacks.
pub(super) fn heap_of(key: Key) -> Option<&'static str> {
    let (_, id, kind) = key;
    match kind {
        Kind::Managed if is_java_heap(key) => Some(jvm::HEAP),
        Kind::Managed if id == V8_HEAP => Some(v8::HEAP),
        Kind::Small if id == small::NOBODY => Some(python::small::HEAP),
        _ => None,
    }
}

/// Takes back that what V8 notes for itself grows: that is said of the heap.
pub(super) fn leave_to_heap(stack: &mut Stack) {
    if stack.verdict.is_leak() {
        stack.doubt("; these are V8's own notes, and go as the JavaScript heap and its code do");
    }
}
