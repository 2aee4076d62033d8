//! Which stacks are listed, in which order, and what a stack keeps from one update to the next.

use std::{cmp::Reverse, collections::HashMap};

use crate::report::{
    rank,
    snapshot::{Frame, Stack, StackKind},
};

/// The order of the rows; the largest comes first.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sort {
    /// By verdict, then growth, then size.
    #[default]
    Verdict,
    /// By outstanding bytes.
    Size,
    /// By outstanding blocks.
    Blocks,
    /// By blocks that ever appeared.
    Allocations,
    /// By the median age of the living blocks.
    Age,
}

impl Sort {
    /// Every order, in the order of the keys 1 to 5.
    pub const ALL: [Self; 5] = [Self::Verdict, Self::Size, Self::Blocks, Self::Allocations, Self::Age];

    /// The column after this one, and the first after the last.
    pub fn next(self) -> Self {
        let place = Self::ALL.iter().position(|&sort| sort == self).unwrap_or(0);
        Self::ALL[(place + 1) % Self::ALL.len()]
    }
}

/// What a stack is known by from update to update.
pub(super) type Key = (u32, String, StackKind);

pub(super) fn key(stack: &Stack) -> Key {
    (stack.pid, stack.id.clone(), stack.kind)
}

/// Indices of the stacks that `filter` lets through, sorted.
pub(super) fn listed(stacks: &[Stack], sort: Sort, filter: &str) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..stacks.len()).collect();
    rows.retain(|&index| filter.is_empty() || stacks[index].frames.iter().any(|frame| matches(frame, filter)));
    let order = rank::Order::of(stacks);
    rows.sort_by(|&a, &b| order.compare(&stacks[a], &stacks[b]));
    let largest = |rows: &mut Vec<usize>, value: fn(&Stack) -> u64| {
        rows.sort_by_key(|&index| Reverse(value(&stacks[index])));
    };
    match sort {
        Sort::Verdict => {}
        Sort::Size => largest(&mut rows, |stack| stack.outstanding_bytes),
        Sort::Blocks => largest(&mut rows, |stack| stack.outstanding_blocks),
        Sort::Allocations => largest(&mut rows, |stack| stack.allocations),
        Sort::Age => largest(&mut rows, |stack| stack.age_ms.map_or(0, |age| age.p50.saturating_add(1))),
    }
    rows
}

/// Whether a name in the frame contains `filter`; ASCII letters match in either case.
fn matches(frame: &Frame, filter: &str) -> bool {
    let names = [&frame.function, &frame.module, &frame.file];
    names.into_iter().flatten().any(|name| contains(name, filter))
}

fn contains(text: &str, part: &str) -> bool {
    text.as_bytes().windows(part.len().max(1)).any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}

/// Only the stacks at the top and some others have frames and ages in each update; the rest keep those they had.
pub(super) fn carry_over(old: Vec<Stack>, new: &mut [Stack]) {
    let mut old: HashMap<Key, Stack> = old.into_iter().map(|stack| (key(&stack), stack)).collect();
    for stack in new.iter_mut().filter(|stack| stack.frames.is_empty()) {
        let Some(known) = old.remove(&key(stack)) else { continue };
        stack.frames = known.frames;
        stack.truncated = known.truncated;
        if stack.outstanding_blocks > 0 && stack.age_ms.is_none() {
            stack.age_ms = known.age_ms;
            stack.size_bytes = known.size_bytes;
        }
    }
}
