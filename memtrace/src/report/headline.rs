//! The answer first.

use super::{
    name::{holds, place},
    number::{count, of, rate},
    snapshot::Stack,
};
use crate::trend::Verdict;

/// The answer in a sentence.
pub fn headline(stacks: &[Stack]) -> String {
    let with = |verdict: Verdict| {
        // A suppressed stack is a known one: no news.
        stacks.iter().filter(move |stack| holds(stack) && stack.verdict == verdict && stack.suppressed.is_none())
    };
    let growing: Vec<&Stack> = with(Verdict::Growing).collect();
    if let Some(first) = growing.first() {
        let place = first.frames.first().map_or_else(|| "an unknown place".to_owned(), place);
        let total = rate(growing.iter().map(|stack| stack.growth_bytes_per_hour).sum());
        return match growing.len() {
            1 => format!("1 stack keeps growing: {total} in {place}"),
            many => format!("{} stacks keep growing: {total} together, first in {place}", count(many as u64)),
        };
    }
    let undecided = with(Verdict::Undecided).count();
    let held = stacks.iter().filter(|stack| holds(stack)).count();
    match (undecided, held) {
        (0, 0) => "No stack keeps growing: nothing is held that was allocated since the attach.".to_owned(),
        (0, _) => "No stack keeps growing.".to_owned(),
        (some, all) if some == all => {
            format!("Too early to tell: {} undecided.", of(some as u64, "stack is", "stacks are"))
        }
        (some, all) => {
            let are = if some == 1 { "is" } else { "are" };
            format!("No stack is known to grow; {} of {} {are} undecided.", count(some as u64), count(all as u64))
        }
    }
}
