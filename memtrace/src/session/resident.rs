//! How much of what a stack holds is in memory at all: a large block that nobody has written to costs nothing.

use memtrace_common::StackId;

use super::{facts::ProcessFacts, state::State};
use crate::{
    ledger,
    report::snapshot::{Stack, StackKind},
    target::pages::Pages,
};

/// Smaller blocks count as resident: most of them share their pages with others. What glibc maps apart by default.
const LARGE_BYTES: u64 = 128 << 10;

/// The most pages of a process that are looked at for one report, which takes a few milliseconds.
const MOST_PAGES: u64 = 256 << 10;

/// The most large blocks of one process that are looked at.
const MOST_BLOCKS: usize = 4096;

/// What is known of one stack.
#[derive(Clone, Copy, Default)]
struct Known {
    /// Bytes of its large blocks.
    large: u64,
    /// Of those, bytes that were looked at, and those of them that are resident.
    seen: u64,
    resident: u64,
}

/// The resident bytes of each of the stacks of a report.
pub(super) struct Residents {
    known: Vec<Known>,
}

impl Residents {
    /// Of so many stacks.
    pub(super) fn new(stacks: usize) -> Self {
        Self { known: vec![Known::default(); stacks] }
    }

    /// Looks at the large blocks of the `wanted` stacks of one process, each with its place among all.
    pub(super) fn look(
        &mut self,
        process: &ProcessFacts<'_>,
        wanted: &[(StackId, ledger::Kind, usize)],
        state: &State,
    ) {
        let Some(ledger) = state.ledger.process(process.slot).filter(|_| !process.exited) else { return };
        let mut large = Vec::new();
        ledger.large_blocks(wanted, LARGE_BYTES, |place, start, bytes| {
            self.known[place].large = self.known[place].large.saturating_add(bytes);
            if large.len() < MOST_BLOCKS {
                large.push((place, start, bytes));
            }
        });
        let Some(mut pages) = (!large.is_empty()).then(|| Pages::open(process.pid, MOST_PAGES)).flatten() else {
            return;
        };
        let found: Vec<_> = large
            .into_iter()
            .filter_map(|(place, start, bytes)| Some((place, bytes, pages.resident(start, start.checked_add(bytes)?)?)))
            .collect();
        // Had the process ended before, another may have its id.
        if (process.has_ended)() {
            return;
        }
        for (place, bytes, resident) in found {
            let known = &mut self.known[place];
            known.seen += bytes;
            known.resident += resident;
        }
    }

    /// Says it of a stack, where it has large blocks and some were looked at. Of the others the same share is taken.
    pub(super) fn say(&self, place: usize, stack: &mut Stack) {
        let Known { large, seen, resident } = self.known[place];
        if seen == 0 || stack.kind == StackKind::Page {
            return;
        }
        let untouched = large as f64 * (1.0 - resident as f64 / seen as f64);
        stack.resident_bytes = Some(stack.outstanding_bytes.saturating_sub(untouched as u64));
    }
}
