//! One counter for each way an event can be lost, deferred or left out, kept per target.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $number:literal => $text:literal, $harm:ident, $meaning:literal;)+) => {
        /// What the BPF programs count for each target.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u32)]
        pub enum Counter { $($(#[$doc])* $name = $number,)+ }

        impl Counter {
            /// Every counter, in the order of their numbers.
            pub const ALL: &[Counter] = &[$(Counter::$name,)+];

            /// The counter's name as reports write it, in snake case.
            pub const fn name(self) -> &'static str {
                match self { $(Counter::$name => $text,)+ }
            }

            /// What the count does to a report's other numbers.
            pub const fn harm(self) -> Harm {
                match self { $(Counter::$name => Harm::$harm,)+ }
            }

            /// What the count means to the reader of a report, in a sentence that goes on from the number.
            pub const fn meaning(self) -> &'static str {
                match self { $(Counter::$name => $meaning,)+ }
            }
        }
    };
}

/// What a count does to a report's other numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Harm {
    /// A block may seem to live that does not, or the other way round.
    Wrong,
    /// Something is not in the numbers; what is there is right.
    Missing,
    /// Nothing is lost.
    None,
    /// Nothing is lost, and the totals show the count by itself.
    Shown,
}

counters! {
    /// Allocations that found neither room in the ring nor in the deferred table.
    AllocationsDropped = 0 => "allocations_dropped", Wrong,
        "these allocations are missing: growth may be larger than shown.";
    /// Bytes of the allocations that found neither room in the ring nor in the deferred table.
    AllocatedBytesDropped = 1 => "allocated_bytes_dropped", Missing,
        "bytes of the allocations that are missing.";
    /// Allocations kept in the deferred table while the ring was above its fill mark; nothing is lost.
    AllocationsDeferred = 2 => "allocations_deferred", None,
        "waited while the ring was full; nothing is lost.";
    /// Releases kept in the deferred table; nothing is lost.
    ReleasesDeferred = 3 => "releases_deferred", None,
        "waited while the ring was full; nothing is lost.";
    /// Releases that found no room anywhere.
    ReleasesDropped = 4 => "releases_dropped", Wrong,
        "these frees are missing: some blocks shown as held may be free.";
    /// Blocks both allocated and released while deferred: counted in the totals, never sent.
    SettledBlocks = 5 => "settled_blocks", None,
        "allocated and freed while the ring was full; in the totals, not in stacks.";
    /// Bytes of the blocks both allocated and released while deferred.
    SettledBytes = 6 => "settled_bytes", None,
        "bytes that were allocated and freed while the ring was full; in the totals, not in stacks.";
    /// Mapping events that found no room in the ring.
    MappingsDropped = 7 => "mappings_dropped", Wrong,
        "these mmap or munmap calls are missing: mapped bytes may be off.";
    /// Allocator calls that returned failure.
    FailedAllocations = 8 => "failed_allocations", Shown,
        "allocator calls that failed; not a loss.";
    /// Allocations left out by `--min-size` or `--max-size`.
    AllocationsFiltered = 9 => "allocations_filtered", Shown,
        "left out by --min-size or --max-size; not a loss.";
    /// Calls that could not be followed because the kernel gave no storage for the thread.
    ThreadStateMissing = 10 => "thread_state_missing", Wrong,
        "the kernel had no room for a thread's state: these calls are missing.";
    /// Calls that were entered and never seen to return: longjmp, thread exit, return-probe limit.
    CallsAbandoned = 11 => "calls_abandoned", Missing,
        "these calls were not seen to return (longjmp, thread exit): not counted.";
    /// `posix_memalign` results that could not be read.
    ResultReadFault = 12 => "result_read_fault", Wrong,
        "the address could not be read: these blocks are missing.";
    /// Stacks that could not be sent for want of room; they are sent again with a later event.
    StacksDeferred = 13 => "stacks_deferred", None,
        "stacks that had to be sent again; nothing is lost.";
    /// `realloc` calls that failed after the release of their old block had already been taken from the deferred table.
    RestoresDropped = 14 => "restores_dropped", Wrong,
        "blocks kept by a failed realloc that are no longer counted.";
    /// Allocations that `--sample` did not draw.
    AllocationsUnsampled = 15 => "allocations_unsampled", Shown,
        "left out by sampling; not a loss.";
    /// Bytes of the allocations that `--sample` did not draw.
    AllocatedBytesUnsampled = 16 => "allocated_bytes_unsampled", Shown,
        "bytes that sampling left out; not a loss.";
    /// Releases of blocks that were not drawn, or not seen to appear.
    ReleasesUnsampled = 17 => "releases_unsampled", Shown,
        "frees of blocks that sampling left out, or from before the attach.";
    /// Results of `malloc` that turned out other than predicted. Then nothing is predicted any more.
    PredictionsWrong = 18 => "predictions_wrong", Wrong,
        "malloc returned other blocks than predicted: a few addresses may be wrong.";
    /// Calls made while the thread was in an allocator call on another stack (a signal handler on an alternate stack, a
    /// coroutine): a return probe there would end the target.
    CallsOnOtherStacks = 19 => "calls_on_other_stacks", Missing,
        "calls on a second stack within another allocator call; their returns cannot be probed safely.";
    /// Blocks larger than a process's address space: the traced function has its size elsewhere.
    ImplausibleSizes = 20 => "implausible_sizes", Missing,
        "blocks larger than any address space are not counted: is the size in another argument?";
}

/// How many counters each target has.
pub const COUNTERS: usize = Counter::ALL.len();

/// The counters of one target: a value of the kernel's `COUNTERS` array, which the slot indexes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct TargetCounters {
    /// Indexed by [`Counter`].
    pub values: [u64; COUNTERS],
}

impl Default for TargetCounters {
    fn default() -> Self {
        Self { values: [0; COUNTERS] }
    }
}

impl TargetCounters {
    /// The value of one counter; it only ever rises.
    pub const fn get(&self, counter: Counter) -> u64 {
        self.values[counter as usize]
    }
}

const _: () = assert!(size_of::<TargetCounters>() == 8 * COUNTERS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_index_the_values() {
        for (index, &counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(counter as usize, index);
        }
    }
}
