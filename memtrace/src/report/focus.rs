//! What a report leaves out on request, and the measuring window that it is about.

use serde::{Deserialize, Serialize};

use super::{
    number,
    snapshot::{Snapshot, Stack, StackKind},
};

/// Which stacks and blocks are shown and judged.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Focus {
    /// Patterns of which a stack needs one.
    pub include: Vec<String>,
    /// Patterns that hide a stack.
    pub exclude: Vec<String>,
    /// The least age of the blocks that count in what a stack holds; `None` when all count.
    pub older_than_ms: Option<u64>,
    /// Stacks that hold something and are hidden by the patterns.
    pub hidden_stacks: u64,
    /// What those hold, in bytes.
    pub hidden_bytes: u64,
}

/// The start of a measuring window.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Mark {
    /// Milliseconds since the attach.
    pub elapsed_ms: u64,
}

/// What a stack holds of the blocks that appeared since the last mark.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SinceMark {
    /// How long ago that mark was, in milliseconds.
    pub window_ms: u64,
    /// Bytes that live.
    pub outstanding_bytes: u64,
    /// Blocks (or mapped ranges) that live.
    pub outstanding_blocks: u64,
}

/// What the reader has to know before the numbers, in sentences.
pub(super) fn notes(snapshot: &Snapshot) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(mark) = snapshot.marks.last() {
        let ago = number::duration(snapshot.elapsed_ms.saturating_sub(mark.elapsed_ms));
        notes.push(format!("Verdicts and rates are those since the mark {ago} ago."));
    }
    if let Some(least) = snapshot.focus.older_than_ms {
        notes.push(format!("Only blocks older than {} count in what a stack holds.", number::duration(least)));
    }
    if snapshot.focus.hidden_stacks > 0 {
        let stacks = number::of(snapshot.focus.hidden_stacks, "stack", "stacks");
        let held = number::bytes(snapshot.focus.hidden_bytes);
        notes.push(format!("{stacks} hidden by --include or --exclude, {held}."));
    }
    notes
}

/// `1.20 MB in 300 blocks since the mark 40 s ago`; `None` before a mark.
pub(super) fn since_mark(stack: &Stack) -> Option<String> {
    let since = stack.since_mark?;
    let (one, many) = match stack.kind {
        StackKind::Heap => ("block", "blocks"),
        StackKind::Map => ("mapped range", "mapped ranges"),
        StackKind::Page => ("touched range", "touched ranges"),
        StackKind::Managed | StackKind::Small => ("object", "objects"),
        StackKind::Profiled => ("sampled object", "sampled objects"),
        StackKind::Goroutine => ("goroutine", "goroutines"),
    };
    let blocks = number::of(since.outstanding_blocks, one, many);
    let ago = number::duration(since.window_ms);
    Some(format!("{} in {blocks} of it since the mark {ago} ago", number::bytes(since.outstanding_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_plain_run_has_no_notes() {
        assert!(notes(&sample::snapshot()).is_empty());
        assert_eq!(since_mark(&sample::stack()), None);
    }

    #[test]
    fn what_is_left_out_and_the_window_are_said() {
        let mut snapshot = sample::snapshot();
        snapshot.marks = vec![Mark { elapsed_ms: 1000 }, Mark { elapsed_ms: 20_000 }];
        snapshot.focus =
            Focus { older_than_ms: Some(30_000), hidden_stacks: 2, hidden_bytes: 3_200_000, ..Focus::default() };
        assert_eq!(
            notes(&snapshot),
            [
                "Verdicts and rates are those since the mark 40 s ago.",
                "Only blocks older than 30 s count in what a stack holds.",
                "2 stacks hidden by --include or --exclude, 3.20 MB.",
            ]
        );
        let since = SinceMark { window_ms: 40_000, outstanding_bytes: 1200, outstanding_blocks: 1 };
        let stack = Stack { since_mark: Some(since), ..sample::stack() };
        assert_eq!(since_mark(&stack).as_deref(), Some("1.20 kB in 1 block of it since the mark 40 s ago"));
    }
}
