//! The order of stacks: what an on-call person has to look at first comes first.

use std::cmp::Ordering;

use super::snapshot::Stack;

/// What rises and holds less than one part in this of what the largest rising stack holds is not what anybody looks for.
const SMALL: u64 = 500;

/// By what the stacks of one report are put in order.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Order {
    /// A stack that holds less is small.
    small_bytes: u64,
}

impl Order {
    /// The order for these stacks, which depends on the largest of them.
    pub fn of<'a>(stacks: impl IntoIterator<Item = &'a Stack>) -> Self {
        let rising = |stack: &&Stack| stack.growth_bytes_per_hour > 0.0 && stack.suppressed.is_none();
        let largest = stacks.into_iter().filter(rising).map(|stack| stack.outstanding_bytes).max().unwrap_or(0);
        Self { small_bytes: largest / SMALL }
    }

    /// Orders by: holds anything, not suppressed, not small against what rises or shown as part of a group, verdict (in the order of
    /// [`Verdict`](crate::trend::Verdict)), growth, size, then id, so that it is total.
    pub fn compare(&self, a: &Stack, b: &Stack) -> Ordering {
        let empty = |stack: &Stack| stack.outstanding_bytes == 0 && stack.outstanding_blocks == 0;
        // What only grows together with others is shown as their group.
        let in_group = |stack: &Stack| stack.group.is_some() && !stack.verdict.is_leak();
        let small = |stack: &Stack| stack.outstanding_bytes < self.small_bytes || in_group(stack);
        let key = |stack: &Stack| (empty(stack), stack.suppressed.is_some(), small(stack), stack.verdict);
        key(a)
            .cmp(&key(b))
            .then_with(|| finite(b.growth_bytes_per_hour).total_cmp(&finite(a.growth_bytes_per_hour)))
            .then_with(|| b.outstanding_bytes.cmp(&a.outstanding_bytes))
            .then_with(|| b.allocations.cmp(&a.allocations))
            .then_with(|| (a.pid, &a.id, a.kind).cmp(&(b.pid, &b.id, b.kind)))
    }
}

/// Sorts the stacks and keeps the first `top`.
pub fn rank(stacks: &mut Vec<Stack>, top: usize) {
    let order = Order::of(stacks.iter());
    stacks.sort_unstable_by(|a, b| order.compare(a, b));
    stacks.truncate(top);
}

fn finite(rate: f64) -> f64 {
    if rate.is_finite() { rate } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{report::sample, trend::Verdict};

    fn stack(id: &str, verdict: Verdict, growth: f64, bytes: u64) -> Stack {
        Stack {
            id: id.to_owned(),
            verdict,
            growth_bytes_per_hour: growth,
            outstanding_bytes: bytes,
            outstanding_blocks: bytes.min(1),
            ..sample::stack()
        }
    }

    #[test]
    fn a_suppressed_stack_comes_after_all_that_hold_something() {
        let suppressed = Some("leak:x".to_owned());
        let mut stacks = vec![
            Stack { suppressed, ..stack("known", Verdict::Growing, 9e9, 1 << 40) },
            stack("gone", Verdict::Plateau, 0.0, 0),
            stack("small", Verdict::Plateau, 0.0, 1),
        ];
        rank(&mut stacks, 10);
        assert_eq!(stacks.iter().map(|stack| stack.id.as_str()).collect::<Vec<_>>(), ["small", "known", "gone"]);
    }

    #[test]
    fn what_holds_a_thousandth_of_the_growth_comes_after_what_holds_most_of_it() {
        let mut stacks = vec![
            stack("crumb", Verdict::Growing, 1e6, 100_000),
            stack("most of it", Verdict::Undecided, 1e9, 100_000_000),
            stack("a leak", Verdict::Growing, 1e7, 1_000_000),
            stack("level", Verdict::Plateau, 0.0, 1 << 40),
        ];
        rank(&mut stacks, 10);
        assert_eq!(
            stacks.iter().map(|stack| stack.id.as_str()).collect::<Vec<_>>(),
            ["a leak", "most of it", "level", "crumb"]
        );
    }

    #[test]
    fn verdict_then_growth_then_size_and_the_empty_last() {
        let mut stacks = vec![
            stack("level and huge", Verdict::Plateau, 0.0, 1 << 40),
            stack("gone", Verdict::Growing, 9e9, 0),
            stack("slow leak", Verdict::Growing, 10.0, 100),
            stack("early", Verdict::Undecided, 5e6, 1000),
            stack("fast leak", Verdict::Growing, 1e6, 50),
            stack("level and small", Verdict::Plateau, 0.0, 10),
        ];
        rank(&mut stacks, 10);
        let order: Vec<&str> = stacks.iter().map(|stack| stack.id.as_str()).collect();
        assert_eq!(order, ["fast leak", "slow leak", "early", "level and huge", "level and small", "gone"]);
        rank(&mut stacks, 2);
        assert_eq!(stacks.len(), 2);
    }

    proptest! {
        #[test]
        fn the_order_is_total(
            all in proptest::collection::vec((0usize..3, any::<f64>(), 0u64..4, 0u8..3), 0..40)
        ) {
            let verdicts = [Verdict::Growing, Verdict::Undecided, Verdict::Plateau];
            let mut stacks: Vec<Stack> =
                all.iter().map(|&(v, growth, bytes, id)| stack(&id.to_string(), verdicts[v], growth, bytes)).collect();
            rank(&mut stacks, usize::MAX);
            let order = Order::of(&stacks);
            prop_assert!(stacks.is_sorted_by(|a, b| order.compare(a, b) != Ordering::Greater));
        }
    }
}
