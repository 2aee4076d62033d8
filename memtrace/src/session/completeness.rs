//! How many allocations have a whole stack, and why the others have not.

use std::{borrow::Cow, collections::BTreeMap};

use memtrace_common::unwind::StackEnd;

use super::pages::Pages;
use crate::{ledger::Ledger, symbol::Symbolizer, unwind::end};

/// Sums over all stacks of all targets but those of runtimes that ask for pages: allocations whose stack is whole, and the others by the reason's name.
pub(super) fn count(ledger: &Ledger, symbols: &Symbolizer, pages: &Pages) -> (u64, BTreeMap<Cow<'static, str>, u64>) {
    let mut complete = 0;
    let mut not_stored = 0;
    let mut short = [0_u64; StackEnd::ALL.len()];
    for (slot, process) in ledger.processes() {
        for stack in process.stacks().filter(|stack| !pages.is_known_runtime((slot, stack.id, stack.kind))) {
            match symbols.end(slot, stack.id) {
                Some(StackEnd::Complete) => complete += stack.allocations,
                Some(end) => short[end as usize] += stack.allocations,
                None => not_stored += stack.allocations,
            }
        }
    }
    let named = StackEnd::ALL.iter().filter_map(|&end| Some((end.short()?.name, short[end as usize])));
    let named = named.chain([(end::NOT_STORED, not_stored)]).filter(|&(_, count)| count > 0);
    (complete, named.map(|(name, count)| (name.into(), count)).collect())
}
