//! The order of stacks: what an on-call person has to look at first comes first.

use std::cmp::Ordering;

use super::snapshot::Stack;
use crate::trend::Verdict;

/// Orders by: holds anything, verdict (growing, undecided, plateau), growth, size, then id, so that it is total.
pub fn compare(a: &Stack, b: &Stack) -> Ordering {
    let key = |stack: &Stack| (stack.outstanding_bytes == 0 && stack.outstanding_blocks == 0, place(stack.verdict));
    key(a)
        .cmp(&key(b))
        .then_with(|| finite(b.growth_bytes_per_hour).total_cmp(&finite(a.growth_bytes_per_hour)))
        .then_with(|| b.outstanding_bytes.cmp(&a.outstanding_bytes))
        .then_with(|| b.allocations.cmp(&a.allocations))
        .then_with(|| (a.pid, &a.id, a.kind).cmp(&(b.pid, &b.id, b.kind)))
}

/// Sorts the stacks and keeps the first `top`.
pub fn rank(stacks: &mut Vec<Stack>, top: usize) {
    stacks.sort_unstable_by(compare);
    stacks.truncate(top);
}

fn place(verdict: &str) -> u8 {
    if verdict == Verdict::Growing.as_str() {
        0
    } else if verdict == Verdict::Plateau.as_str() {
        2
    } else {
        1
    }
}

fn finite(rate: f64) -> f64 {
    if rate.is_finite() { rate } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::sample;

    fn stack(id: &str, verdict: &'static str, growth: f64, bytes: u64) -> Stack {
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
    fn verdict_then_growth_then_size_and_the_empty_last() {
        let mut stacks = vec![
            stack("level and huge", "plateau", 0.0, 1 << 40),
            stack("gone", "growing", 9e9, 0),
            stack("slow leak", "growing", 10.0, 100),
            stack("early", "undecided", 5e6, 1000),
            stack("fast leak", "growing", 1e6, 50),
            stack("level and small", "plateau", 0.0, 10),
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
            let verdicts = ["growing", "undecided", "plateau"];
            let mut stacks: Vec<Stack> =
                all.iter().map(|&(v, growth, bytes, id)| stack(&id.to_string(), verdicts[v], growth, bytes)).collect();
            rank(&mut stacks, usize::MAX);
            prop_assert!(stacks.is_sorted_by(|a, b| compare(a, b) != Ordering::Greater));
        }
    }
}
