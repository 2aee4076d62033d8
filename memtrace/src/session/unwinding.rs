//! Keeps the kernel's unwind tables true to what the targets have mapped.

use std::{collections::HashMap, path::Path};

use memtrace_common::Slot;

use super::SessionError;
use crate::{
    kernel::tables::Tables,
    target::{Pid, maps::Mapping},
    unwind::{Cache, segments},
};

/// Rows that there is room for beyond what small targets need at first, for what they load later: 1 MiB.
const SPARE_ROWS: usize = 128 << 10;

/// How many rows the kernel's array gets when the targets need `needed` at first.
pub(super) fn capacity(needed: usize) -> u32 {
    // Large targets get an eighth more: nine bytes of memory a row.
    let spare = (needed / 8).max(SPARE_ROWS.saturating_sub(needed / 4));
    u32::try_from(needed + spare).unwrap_or(u32::MAX)
}

/// The tables in user space and in the kernel.
pub(super) struct Unwinding {
    cache: Cache,
    tables: Tables,
    /// Segments without room, by target, when they were last set.
    left_out: HashMap<Slot, usize>,
}

impl Unwinding {
    pub(super) fn new(cache: Cache, tables: Tables) -> Self {
        Self { cache, tables, left_out: HashMap::new() }
    }

    /// Rows in the kernel, and how many there is room for.
    pub(super) fn rows(&self) -> (usize, usize) {
        self.tables.rows()
    }

    /// Segments of all targets for which there was no room.
    pub(super) fn left_out(&self) -> usize {
        self.left_out.values().sum()
    }

    /// The process maps this now.
    pub(super) fn update(&mut self, slot: Slot, pid: Pid, mappings: &[Mapping]) -> Result<(), SessionError> {
        // Code without a table is walked by its frame pointers, and its stacks say so where that fails.
        let (segments, _skipped) = segments(pid, mappings, &mut self.cache);
        let trampoline = mappings.iter().find(|mapping| mapping.path.as_deref() == Some(Path::new("[uprobes]")));
        let coverage = self.tables.set(slot, &segments, trampoline.map(|mapping| (mapping.start, mapping.end)))?;
        self.left_out.insert(slot, coverage.left_out);
        Ok(())
    }
}
