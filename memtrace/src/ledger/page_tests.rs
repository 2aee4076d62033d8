//! Pages against a model: each is reserved, mapped or touched by one stack, or nothing is there.

use memtrace_common::{Address, Slot, StackId};
use proptest::prelude::*;

use super::{Kind, Ledger};
use crate::event::{Block, Event, Range, What};

const SLOT: Slot = Slot(0);
const PAGE: u64 = 4096;
const PAGES: usize = 32;

/// What a page is, and whose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Page {
    Reserved(u64),
    Mapped(u64),
    Touched(u64),
    /// It was touched, and its contents were given back.
    Discarded,
}

#[derive(Clone, Debug)]
enum Step {
    Map(Range, u64),
    Reserve(Range, u64),
    Commit(Range),
    Touch(usize, u64),
    Discard(Range),
    Unmap(Range),
    Remap(Range, Range, u64),
    Exec,
}

fn range() -> impl Strategy<Value = Range> {
    (0..PAGES, 1..PAGES).prop_map(|(first, count)| Range {
        address: Address(first as u64 * PAGE),
        length: count.min(PAGES - first) as u64 * PAGE,
    })
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let stack = || 1..4u64;
    let step = prop_oneof![
        3 => (range(), stack()).prop_map(|(range, stack)| Step::Map(range, stack)),
        3 => (range(), stack()).prop_map(|(range, stack)| Step::Reserve(range, stack)),
        4 => range().prop_map(Step::Commit),
        12 => (0..PAGES, stack()).prop_map(|(page, stack)| Step::Touch(page, stack)),
        2 => range().prop_map(Step::Discard),
        2 => range().prop_map(Step::Unmap),
        2 => (range(), range(), stack()).prop_map(|(old, new, stack)| Step::Remap(old, new, stack)),
        1 => Just(Step::Exec),
    ];
    // Neighbours that come within a second are joined, others are not.
    prop::collection::vec((0..700_000_000u64, step), 0..120)
}

fn pages(model: &mut [Option<Page>; PAGES], range: Range) -> &mut [Option<Page>] {
    let first = (range.address.0 / PAGE) as usize;
    &mut model[first..first + (range.length / PAGE) as usize]
}

fn block(range: Range, stack: u64) -> Block {
    Block { address: range.address, size: range.length, level: 0, stack: StackId(stack) }
}

/// What the kernel would tell of a step, and what it makes of the pages.
fn take(model: &mut [Option<Page>; PAGES], step: Step) -> Vec<What<'static>> {
    match step {
        Step::Map(range, stack) => {
            pages(model, range).fill(Some(Page::Mapped(stack)));
            vec![What::Map(block(range, stack))]
        }
        Step::Reserve(range, stack) => {
            pages(model, range).fill(Some(Page::Reserved(stack)));
            vec![What::Reserve(block(range, stack))]
        }
        Step::Commit(range) => {
            for page in pages(model, range) {
                if let Some(Page::Reserved(stack)) = *page {
                    *page = Some(Page::Mapped(stack));
                }
            }
            vec![What::Commit(range)]
        }
        Step::Touch(page, stack) => {
            model[page] = match model[page] {
                // No process can, and the reservation is what is told.
                Some(Page::Reserved(_)) => return Vec::new(),
                _ => Some(Page::Touched(stack)),
            };
            let range = Range { address: Address(page as u64 * PAGE), length: PAGE };
            vec![What::Touch(block(range, stack))]
        }
        Step::Discard(range) => {
            for page in pages(model, range) {
                if let Some(Page::Touched(_)) = *page {
                    *page = Some(Page::Discarded);
                }
            }
            vec![What::Discard(range)]
        }
        Step::Unmap(range) => {
            pages(model, range).fill(None);
            vec![What::UnmapBegin(range)]
        }
        Step::Remap(old, new, stack) => {
            let old_pages = pages(model, old);
            let is_reserved = old_pages.iter().flatten().any(|page| matches!(page, Page::Reserved(_)))
                && !old_pages.iter().flatten().any(|page| matches!(page, Page::Mapped(_)));
            old_pages.fill(None);
            let page = if is_reserved { Page::Reserved(stack) } else { Page::Mapped(stack) };
            pages(model, new).fill(Some(page));
            vec![What::RemapBegin(old), What::Remap(block(new, stack))]
        }
        Step::Exec => {
            model.fill(None);
            vec![What::Exec { by_other_thread: false }]
        }
    }
}

proptest! {
    #[test]
    fn each_page_counts_once_and_for_its_stack(steps in steps()) {
        let mut ledger = Ledger::new();
        ledger.add_process(SLOT);
        let mut model = [None; PAGES];
        let mut time_ns = 1;
        for (later, step) in steps {
            time_ns += later;
            for what in take(&mut model, step) {
                ledger.apply(&Event { slot: SLOT, thread: 1, time_ns, what });
            }
            let process = ledger.process(SLOT).unwrap();
            let held = |wanted: &dyn Fn(Page) -> bool| -> u64 {
                PAGE * model.iter().flatten().filter(|&&page| wanted(page)).count() as u64
            };
            for stack in process.stacks() {
                let id = stack.id.0;
                let held = match stack.kind {
                    Kind::Map => held(&|page| page == Page::Mapped(id)),
                    Kind::Touched => held(&|page| page == Page::Touched(id)),
                    _ => 0,
                };
                prop_assert_eq!(stack.outstanding_bytes, held, "{:?} of {}", stack.kind, id);
                prop_assert!(stack.outstanding_blocks * PAGE <= held && (stack.outstanding_blocks > 0) == (held > 0));
            }
            for id in 1..4 {
                prop_assert_eq!(process.reserved_by(StackId(id)), held(&|page| page == Page::Reserved(id)));
            }
            let totals = process.totals();
            prop_assert_eq!(totals.mapped_bytes, held(&|page| matches!(page, Page::Mapped(_))));
            prop_assert_eq!(totals.touched_bytes, held(&|page| matches!(page, Page::Touched(_))));
            prop_assert_eq!(totals.reserved_bytes, held(&|page| matches!(page, Page::Reserved(_))));
        }
    }
}
