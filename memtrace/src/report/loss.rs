//! What the counts of lost and deferred events mean to a reader, by the names that they have in reports.

use std::{borrow::Cow, collections::BTreeMap};

use memtrace_common::counter::Counter;
pub use memtrace_common::counter::Harm;

/// A record of the ring that could not be decoded.
pub const RECORDS_UNDECODABLE: &str = "records_undecodable";

/// A stack whose id another stack has as well.
pub const STACK_COLLISIONS: &str = "stack_collisions";

/// A stack whose frames found no room in memtrace's memory.
pub const STACKS_NOT_STORED: &str = "stacks_not_stored";

/// A process that was let go before it could be attached to.
pub const STARTS_UNSEEN: &str = "starts_unseen";

/// A time when a process had lost its probes, as it may after its first thread has ended.
pub const PROBES_REMOVED: &str = "probes_removed";

/// What memtrace counts itself, beside the counters of the BPF programs.
const OWN: [(&str, Harm, &str); 5] = [
    (
        PROBES_REMOVED,
        Harm::Wrong,
        "times that a process was not probed for a while after its first thread had ended: what was called then is missing.",
    ),
    (RECORDS_UNDECODABLE, Harm::Wrong, "records of the kernel that could not be decoded: numbers may be off."),
    (
        STACK_COLLISIONS,
        Harm::Missing,
        "stacks with the id of another stack: their blocks are counted with the other's.",
    ),
    (
        STACKS_NOT_STORED,
        Harm::Missing,
        "stacks for whose frames there was no room: their blocks are counted without them.",
    ),
    (
        STARTS_UNSEEN,
        Harm::Missing,
        "processes that waited too long at their start and were let go: what they did first is missing.",
    ),
];

/// What a count does to the other numbers, and what it means in a sentence that goes on from the number. A name that is not
/// known, as a saved run of another version may have, is taken for a loss.
pub fn meaning(name: &str) -> (Harm, &'static str) {
    let counter = || Counter::ALL.iter().find(|counter| counter.name() == name);
    let own = OWN.iter().find(|(own, ..)| *own == name).map(|&(_, harm, sentence)| (harm, sentence));
    own.or_else(|| counter().map(|counter| (counter.harm(), counter.meaning())))
        .unwrap_or((Harm::Missing, "events that were not seen; numbers may be off."))
}

/// Whether the report's numbers lack something because of a count, or are wrong.
pub fn is_loss(harm: Harm) -> bool {
    matches!(harm, Harm::Wrong | Harm::Missing)
}

/// How many events were lost after which a block may seem to live that does not, or the other way round.
pub fn wrong(losses: &BTreeMap<Cow<'static, str>, u64>) -> u64 {
    losses.iter().filter(|(name, _)| meaning(name).0 == Harm::Wrong).map(|(_, count)| count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_says_whether_it_is_a_loss_and_no_sentence_contradicts_that() {
        for counter in Counter::ALL {
            let (harm, sentence) = meaning(counter.name());
            assert_eq!(harm, counter.harm());
            assert!(sentence.ends_with(['.', '?']), "{sentence}");
            assert!(
                !is_loss(harm) || !sentence.contains("not a loss") && !sentence.contains("nothing is lost"),
                "{sentence}"
            );
        }
    }

    #[test]
    fn what_is_not_known_counts_as_a_loss() {
        assert!(is_loss(meaning("no such counter").0));
    }
}
