//! Keeps the kernel's unwind tables true to what the targets have mapped, and to which of it they use.

use std::{collections::HashMap, path::Path};

use memtrace_common::{Address, Slot, unwind::StackEnd};

use super::SessionError;
use crate::{
    kernel::tables::{Fill, Tables},
    ledger::Ledger,
    object::{Pid, maps::Mapping},
    symbol::Symbolizer,
    unwind::{Cache, segments},
};

/// Rows that there is room for beyond what small targets need at first, for what they load later: 1 MiB.
const SPARE_ROWS: usize = 128 << 10;

/// Rows that are expected of processes that join later: what node and its libraries have.
pub(super) const ROWS_TO_COME: usize = 500_000;

/// The most stacks of a target whose frames one look goes through; the others' turn comes with the next looks.
const MAX_STACKS_A_LOOK: usize = 1 << 16;

/// How many rows the kernel's array gets when the targets need `needed` at first, and `bytes` is the most it may take.
pub(super) fn capacity(needed: usize, bytes: u64) -> u32 {
    // Large targets get an eighth more: nine bytes of memory a row.
    let wanted = needed + (needed / 8).max(SPARE_ROWS.saturating_sub(needed / 4));
    let most = bytes / size_of::<u64>() as u64;
    u32::try_from(most.min(wanted as u64)).unwrap_or(u32::MAX)
}

/// The tables in user space and in the kernel.
pub(super) struct Unwinding {
    cache: Cache,
    tables: Tables,
    looks: HashMap<Slot, Look>,
}

/// How far a target's stacks have been looked at.
#[derive(Default)]
struct Look {
    /// Their allocations when last looked at, in the ledger's order.
    allocations: Vec<u64>,
    /// Where the next look begins.
    from: usize,
}

impl Unwinding {
    pub(super) fn new(cache: Cache, tables: Tables) -> Self {
        Self { cache, tables, looks: HashMap::new() }
    }

    /// What is in the kernel.
    pub(super) fn fill(&self) -> Fill {
        self.tables.fill()
    }

    /// The process maps this now.
    pub(super) fn update(&mut self, slot: Slot, pid: Pid, mappings: &[Mapping]) -> Result<(), SessionError> {
        // Code without a table is walked by its frame pointers, and its stacks say so where that fails.
        let (segments, _skipped) = segments(pid, mappings, &mut self.cache);
        let trampoline = mappings.iter().find(|mapping| mapping.path.as_deref() == Some(Path::new("[uprobes]")));
        self.tables.set(slot, segments, trampoline.map(|mapping| (mapping.start, mapping.end)))?;
        Ok(())
    }

    /// The process has ended.
    pub(super) fn remove(&mut self, slot: Slot) -> Result<(), SessionError> {
        self.looks.remove(&slot);
        Ok(self.tables.remove(slot)?)
    }

    /// How a stack with these frames really ends. Where a table has no room, its code is walked by frame pointers; what
    /// looks like the outermost frame there is more likely a register that happens to be 0.
    pub(super) fn end(&self, slot: Slot, mut frames: impl Iterator<Item = Address>, end: StackEnd) -> StackEnd {
        if end != StackEnd::Complete || self.tables.fill().left_out == 0 {
            return end;
        }
        let is_left_out = frames.any(|address| self.tables.is_left_out(slot, address.0));
        if is_left_out { StackEnd::NoTable } else { end }
    }

    /// Finds out which tables are used: those that the frames of the stacks lie in that have allocated since the last
    /// look. Used ones that had no room get it if others are used less.
    pub(super) fn look(&mut self, ledger: &Ledger, symbols: &Symbolizer) -> Result<(), SessionError> {
        let Self { tables, looks, .. } = self;
        tables.begin_look();
        for (slot, process) in ledger.processes() {
            let Look { allocations, from } = looks.entry(slot).or_default();
            allocations.resize(process.stacks().len(), 0);
            let mut looked_at = 0;
            let start = *from;
            let stacks = process.stacks().enumerate().skip(start).chain(process.stacks().enumerate().take(start));
            for (index, stack) in stacks {
                if allocations[index] == stack.allocations {
                    continue;
                }
                if looked_at == MAX_STACKS_A_LOOK {
                    *from = index;
                    break;
                }
                looked_at += 1;
                allocations[index] = stack.allocations;
                for address in symbols.addresses(slot, stack.id) {
                    tables.used(slot, address.0);
                }
            }
        }
        Ok(self.tables.readmit()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_what_is_needed_and_some_more_but_never_above_the_budget() {
        assert_eq!(capacity(0, 64 << 20), 128 << 10);
        assert_eq!(capacity(100_000, 64 << 20), 100_000 + (128 << 10) - 25_000);
        assert_eq!(capacity(4_000_000, 64 << 20), 4_500_000);
        assert_eq!(capacity(40_000_000, 64 << 20), 8 << 20);
        assert_eq!(capacity(0, 1 << 20), 128 << 10);
        assert_eq!(capacity(usize::MAX / 2, u64::MAX), u32::MAX);
    }
}
