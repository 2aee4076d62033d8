//! Touched pages against a model: each page belongs to the stack that touched it last, until it is discarded or unmapped.

use std::collections::BTreeMap;

use memtrace_common::{Address, Slot, StackId};
use proptest::prelude::*;

use super::{Kind, Ledger};
use crate::kernel::event::{Block, Event, Range, What};

const SLOT: Slot = Slot(0);
const PAGE: u64 = 4096;
const PAGES: usize = 32;

#[derive(Clone, Debug)]
enum Step {
    Touch(usize, u64),
    Discard(usize, usize),
    Unmap(usize, usize),
    UnmapFails,
    Exec,
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let range = (0..PAGES, 1..PAGES);
    let step = prop_oneof![
        12 => (0..PAGES, 1..4u64).prop_map(|(page, stack)| Step::Touch(page, stack)),
        2 => range.clone().prop_map(|(first, count)| Step::Discard(first, count)),
        2 => range.prop_map(|(first, count)| Step::Unmap(first, count)),
        1 => Just(Step::UnmapFails),
        1 => Just(Step::Exec),
    ];
    // Neighbours that are touched within a second are joined, others are not.
    prop::collection::vec((0..700_000_000u64, step), 0..120)
}

fn range(first: usize, count: usize) -> Range {
    Range { address: Address(first as u64 * PAGE), length: count as u64 * PAGE }
}

proptest! {
    #[test]
    fn each_page_is_its_last_stacks(steps in steps()) {
        let mut ledger = Ledger::new();
        ledger.add_process(SLOT);
        let (mut owners, mut touched) = ([None; PAGES], BTreeMap::<u64, u64>::new());
        let mut time_ns = 1;
        for (later, step) in steps {
            time_ns += later;
            let what = match step {
                Step::Touch(page, stack) => {
                    owners[page] = Some(stack);
                    *touched.entry(stack).or_default() += 1;
                    let address = Address(page as u64 * PAGE);
                    What::Touch(Block { address, size: PAGE, level: 0, stack: StackId(stack) })
                }
                Step::Discard(first, count) | Step::Unmap(first, count) => {
                    owners[first..(first + count).min(PAGES)].fill(None);
                    let range = range(first, count);
                    if matches!(step, Step::Discard(..)) { What::Discard(range) } else { What::UnmapBegin(range) }
                }
                // Nothing was mapped that could come back, and pages do not: they would be touched anew.
                Step::UnmapFails => What::UnmapFailed,
                Step::Exec => {
                    owners.fill(None);
                    What::Exec { by_other_thread: false }
                }
            };
            ledger.apply(&Event { slot: SLOT, thread: 1, time_ns, what });
            let process = ledger.process(SLOT).unwrap();
            for stack in process.stacks() {
                prop_assert_eq!(stack.kind, Kind::Touched);
                let held = owners.iter().filter(|owner| **owner == Some(stack.id.0)).count() as u64;
                prop_assert_eq!(stack.outstanding_bytes, held * PAGE);
                prop_assert!(stack.outstanding_blocks <= held && (stack.outstanding_blocks > 0) == (held > 0));
                prop_assert_eq!(stack.allocations, touched[&stack.id.0]);
            }
            prop_assert_eq!(process.totals().mapped_bytes, 0);
        }
    }
}
