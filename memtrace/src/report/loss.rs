//! What the counters of lost and deferred events mean to a reader.

/// Whether a count stands for something that the numbers lack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Harm {
    /// Numbers may be off.
    Some,
    /// Nothing is lost.
    None,
}

/// What a counter means to the reader; the names are those of `memtrace_common::counter`.
pub fn meaning(name: &str) -> (Harm, &'static str) {
    match name {
        "allocations_dropped" => (Harm::Some, "these allocations are missing: growth may be larger than shown."),
        "allocated_bytes_dropped" => (Harm::Some, "bytes of the allocations that are missing."),
        "releases_dropped" => (Harm::Some, "these frees are missing: some blocks shown as held may be free."),
        "mappings_dropped" => (Harm::Some, "these mmap or munmap calls are missing: mapped bytes may be off."),
        "thread_state_missing" => (Harm::Some, "the kernel had no room for a thread's state: these calls are missing."),
        "calls_abandoned" => (Harm::Some, "these calls were not seen to return (longjmp, thread exit): not counted."),
        "result_read_fault" => (Harm::Some, "the address could not be read: these blocks are missing."),
        "restores_dropped" => (Harm::Some, "blocks kept by a failed realloc that are no longer counted."),
        "predictions_wrong" => {
            (Harm::Some, "malloc returned other blocks than predicted: a few addresses may be wrong.")
        }
        "calls_on_other_stacks" => (
            Harm::Some,
            "calls on a second stack within another allocator call; their returns cannot be probed safely.",
        ),
        "implausible_sizes" => {
            (Harm::Some, "blocks larger than any address space are not counted: is the size in another argument?")
        }
        "starts_unseen" => (
            Harm::Some,
            "processes that waited too long at their start and were let go: what they did first is missing.",
        ),
        "allocations_deferred" => (Harm::None, "waited while the ring was full; nothing is lost."),
        "releases_deferred" => (Harm::None, "waited while the ring was full; nothing is lost."),
        "settled_blocks" => (Harm::None, "allocated and freed while the ring was full; in the totals, not in stacks."),
        "settled_bytes" => {
            (Harm::None, "bytes that were allocated and freed while the ring was full; in the totals, not in stacks.")
        }
        "stacks_deferred" => (Harm::None, "stacks that had to be sent again; nothing is lost."),
        "failed_allocations" => (Harm::None, "allocator calls that failed; not a loss."),
        "allocations_filtered" => (Harm::None, "left out by --min-size or --max-size; not a loss."),
        "allocations_unsampled" => (Harm::None, "left out by sampling; not a loss."),
        "allocated_bytes_unsampled" => (Harm::None, "bytes that sampling left out; not a loss."),
        "releases_unsampled" => (Harm::None, "frees of blocks that sampling left out, or from before the attach."),
        _ => (Harm::Some, "events that were not seen; numbers may be off."),
    }
}

#[cfg(test)]
mod tests {
    use memtrace_common::counter::Counter;

    use super::*;

    #[test]
    fn every_counter_has_its_sentence() {
        let unknown = meaning("no such counter");
        for counter in Counter::ALL {
            assert_ne!(meaning(counter.name()), unknown, "{} needs a sentence in `meaning`", counter.name());
        }
    }
}
