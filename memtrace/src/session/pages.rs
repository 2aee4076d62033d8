//! Stacks of runtimes that ask the system for pages of their own heaps: no stack of the program's, and for V8 one heap together.

use std::collections::{HashMap, HashSet};

use memtrace_common::{Slot, StackId};

use super::{key::Key, small};
use crate::{
    ledger::{Count, Kind, Ledger, StackTotals},
    object::{mapped, maps::Mapping},
    report::snapshot::{Stack, StackKind},
    runtime::{go, python, v8},
    symbol::Symbolizer,
    target::Pid,
    trend::{Sample, Verdict},
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
}

/// What is known of the stacks that ask for pages.
#[derive(Default)]
pub(super) struct Pages {
    /// Targets that have V8.
    v8: HashSet<Slot>,
    owners: HashMap<Key, Owner>,
}

impl Pages {
    /// Looks whether a target has a runtime whose pages are told from the program's.
    pub(super) fn look(&mut self, slot: Slot, pid: Pid, mappings: &[Mapping]) {
        self.forget(slot);
        if v8::is_in(&mapped::objects(pid, mappings)) {
            self.v8.insert(slot);
        }
    }

    /// The target has ended, or runs another program.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.v8.remove(&slot);
        self.owners.retain(|key, _| key.0 != slot);
    }

    /// Whether a stack asks for pages of a runtime's heap.
    pub(super) fn is_runtime(&mut self, key: Key, has_go_books: bool, symbols: &mut Symbolizer) -> bool {
        self.owner(key, has_go_books, symbols) != Owner::Program && key.2 == Kind::Map
    }

    /// Whether a stack was found to ask for pages of a runtime's heap.
    pub(super) fn is_known_runtime(&self, key: Key) -> bool {
        self.is_known(key) && key.2 == Kind::Map
    }

    /// Whether a stack was found to hold what V8 notes of its pages, in blocks. There are as many as there are pages.
    pub(super) fn is_known_note(&self, key: Key) -> bool {
        self.is_known(key) && key.2 == Kind::Heap
    }

    fn is_known(&self, key: Key) -> bool {
        self.owners.get(&key).is_some_and(|owner| *owner != Owner::Program)
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
        // What V8 notes of its pages is in blocks.
        let may_be = kind == Kind::Map && (has_go_books || has_v8) || kind == Kind::Heap && has_v8;
        if !may_be {
            return Owner::Program;
        }
        *self.owners.entry((slot, id, kind)).or_insert_with(|| {
            let frames = symbols.frames(slot, id).frames;
            let mut named = frames.iter().filter_map(|frame| Some((frame.function.as_deref()?, frame.address)));
            named
                .find_map(|(function, address)| match function {
                    function if kind == Kind::Map && has_go_books && go::asks_for_pages(function) => Some(Owner::Go),
                    function if has_v8 && v8::asks_for_pages(function) => Some(Owner::V8(address)),
                    _ => None,
                })
                .unwrap_or(Owner::Program)
        })
    }
}

/// What reports call the heap that a stack stands for; `None` for all other stacks.
pub(super) fn heap_of((_, id, kind): Key) -> Option<&'static str> {
    match kind {
        Kind::Managed if id == V8_HEAP => Some(v8::HEAP),
        Kind::Small if id == small::NOBODY => Some(python::small::HEAP),
        _ => None,
    }
}

/// The share of what the heap had before that a collection of all of it gives back.
const GIVEN_BACK: f64 = 0.1;

/// By what share what is left after the last collection is more than after the first one, where the heap grows.
const RISE: f64 = 0.1;

/// More than V8 lets a young heap grow without a collection of all of it (`kMaxInitialOldGenerationSize` in src/heap/heap.h).
const UNCOLLECTED_BYTES: u64 = 512 << 20;

/// Takes back that a whole heap grows while that is not what collections leave: garbage that waits for one looks the same.
pub(super) fn wait_for_collections(stack: &mut Stack, series: &[Sample]) {
    if stack.heap.is_none() || stack.kind != StackKind::Managed || !stack.verdict.is_leak() {
        return;
    }
    let left = left_by_collections(series);
    let rises = match left[..] {
        [first, .., last] => last as f64 >= (1.0 + RISE) * first as f64,
        _ => stack.outstanding_bytes >= UNCOLLECTED_BYTES,
    };
    if !rises {
        stack.verdict = Verdict::Undecided;
        stack.confidence *= 0.5;
        stack.evidence += match left.len() {
            0 => "; no collection of the whole heap was seen, and garbage that waits for one looks the same",
            1 => "; one collection of the whole heap was seen, and it takes two to tell",
            _ => ", but collections leave no more than before",
        };
    }
}

/// Takes back that what V8 notes of its pages grows: that is said of the heap.
pub(super) fn leave_to_heap(stack: &mut Stack) {
    if stack.verdict.is_leak() {
        stack.verdict = Verdict::Undecided;
        stack.confidence *= 0.5;
        stack.evidence += "; these are V8's notes of its pages, and go as the JavaScript heap does";
    }
}

/// What a heap held after each collection of all of it, as far as the series shows them: where it had fallen by much, and rose again.
fn left_by_collections(series: &[Sample]) -> Vec<u64> {
    let (mut left, mut most, mut least) = (Vec::new(), 0u64, None::<u64>);
    for bytes in series.iter().map(|sample| sample.bytes) {
        match least {
            // On its way down.
            Some(lowest) if bytes <= lowest => least = Some(bytes),
            Some(lowest) => {
                left.push(lowest);
                (most, least) = (bytes, None);
            }
            None if (bytes as f64) < (1.0 - GIVEN_BACK) * most as f64 => least = Some(bytes),
            None => most = most.max(bytes),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn series(bytes: &[u64]) -> Vec<Sample> {
        let sample = |(at, &bytes): (usize, &u64)| Sample { elapsed_ms: 1000 * at as u64, bytes, blocks: 1 };
        bytes.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn what_collections_leave_is_found() {
        assert!(left_by_collections(&series(&[10, 20, 30, 40, 38, 41])).is_empty());
        assert_eq!(left_by_collections(&series(&[10, 20, 30, 24, 20, 35, 50, 25, 40, 20])), [20, 25]);
    }

    #[test]
    fn a_heap_grows_if_collections_leave_ever_more() {
        let judged = |bytes: &[u64], heap: Option<&str>| {
            let outstanding_bytes = bytes.last().copied().unwrap_or(0);
            let heap = heap.map(str::to_owned);
            let mut stack = Stack {
                heap,
                kind: StackKind::Managed,
                outstanding_bytes,
                verdict: Verdict::Growing,
                ..sample::stack()
            };
            wait_for_collections(&mut stack, &series(bytes));
            stack.verdict
        };
        let (rises, level, waits) = ([10, 30, 20, 50, 30, 60], [10, 30, 20, 50, 20, 60], [10, 20, 30, 40, 50, 60]);
        assert_eq!(judged(&rises, Some(v8::HEAP)), Verdict::Growing);
        assert_eq!(judged(&level, Some(v8::HEAP)), Verdict::Undecided);
        assert_eq!(judged(&waits, Some(v8::HEAP)), Verdict::Undecided);
        assert_eq!(judged(&[1, 100, 600 << 20], Some(v8::HEAP)), Verdict::Growing);
        assert_eq!(judged(&waits, None), Verdict::Growing);
    }
}
