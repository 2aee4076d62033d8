//! What runtimes say of their own memory: nothing of it is an event, it is asked for now and then and replaces what was said before.

use std::collections::BTreeMap;

use memtrace_common::StackId;

use super::{Kind, Precision, StackTotals, process::ProcessLedger};

/// The most places of a process that are kept.
const MAX_COUNTS: usize = 1 << 16;

/// What a place of a program holds by the books of its runtime.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Count {
    /// Which place, what is counted there, and how much of it there is.
    pub totals: StackTotals,
    /// How well that is known where it is an estimate.
    pub precision: Option<Precision>,
}

/// All counts that the runtime of one process has told.
#[derive(Debug, Default)]
pub struct Counts {
    all: BTreeMap<(Kind, StackId), Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    count: Count,
    /// What it held when it was first told of.
    first_bytes: u64,
}

impl ProcessLedger {
    /// Takes over what a place holds now.
    pub(super) fn set_count(&mut self, count: Count) {
        let all = &mut self.counts.all;
        let key = (count.totals.kind, count.totals.id);
        if let Some(known) = all.get_mut(&key) {
            known.count = count;
        } else if all.len() < MAX_COUNTS {
            all.insert(key, Known { count, first_bytes: count.totals.outstanding_bytes });
        }
    }

    /// What each place holds by the runtime's own books.
    pub fn counts(&self) -> impl Iterator<Item = Count> + '_ {
        self.counts.all.values().map(|known| known.count)
    }

    /// Bytes of small objects that were allocated since the attach, and how many they are.
    pub fn small_objects(&self) -> (u64, u64) {
        let small =
            self.counts.all.values().map(|known| known.count.totals).filter(|totals| totals.kind == Kind::Small);
        small.fold((0, 0), |(bytes, objects), totals| {
            (bytes.saturating_add(totals.outstanding_bytes), objects.saturating_add(totals.outstanding_blocks))
        })
    }

    /// By how many bytes other counts hold more than when they were first told of; 0 if they hold less.
    pub fn counts_grew_by(&self) -> u64 {
        let is_meant = |kind: Kind| kind.is_stack() && !kind.begins_at_attach();
        let stacks = || self.counts.all.iter().filter(|((kind, _), _)| is_meant(*kind)).map(|(_, known)| known);
        let sum = |bytes: fn(&Known) -> u64| stacks().map(bytes).fold(0, u64::saturating_add);
        sum(|known| known.count.totals.outstanding_bytes).saturating_sub(sum(|known| known.first_bytes))
    }
}
