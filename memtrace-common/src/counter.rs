//! One counter for each way an event can be lost, deferred or left out, kept per target.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $number:literal => $text:literal,)+) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u32)]
        pub enum Counter { $($(#[$doc])* $name = $number,)+ }

        impl Counter {
            /// Every counter, in the order of their numbers.
            pub const ALL: &[Counter] = &[$(Counter::$name,)+];

            /// The counter's name in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Counter::$name => $text,)+ }
            }
        }
    };
}

counters! {
    /// Allocations that found neither room in the ring nor in the deferred table.
    AllocationsDropped = 0 => "allocations_dropped",
    /// Bytes of those.
    AllocatedBytesDropped = 1 => "allocated_bytes_dropped",
    /// Allocations kept in the deferred table while the ring was above its fill mark; nothing is lost.
    AllocationsDeferred = 2 => "allocations_deferred",
    /// Releases kept in the deferred table; nothing is lost.
    ReleasesDeferred = 3 => "releases_deferred",
    /// Releases that found no room anywhere.
    ReleasesDropped = 4 => "releases_dropped",
    /// Blocks both allocated and released while deferred: counted in the totals, never sent.
    SettledBlocks = 5 => "settled_blocks",
    /// Bytes of those.
    SettledBytes = 6 => "settled_bytes",
    /// Mapping events that found no room in the ring.
    MappingsDropped = 7 => "mappings_dropped",
    /// Allocator calls that returned failure; not a loss.
    FailedAllocations = 8 => "failed_allocations",
    /// Allocations left out by `--min-size` or `--max-size`; not a loss.
    AllocationsFiltered = 9 => "allocations_filtered",
    /// Calls that could not be followed because the kernel gave no storage for the thread.
    ThreadStateMissing = 10 => "thread_state_missing",
    /// Calls that were entered and never seen to return: longjmp, thread exit, return-probe limit.
    CallsAbandoned = 11 => "calls_abandoned",
    /// `posix_memalign` results that could not be read.
    ResultReadFault = 12 => "result_read_fault",
    /// Stacks that could not be sent for want of room; they are sent again with a later event.
    StacksDeferred = 13 => "stacks_deferred",
    /// `realloc` calls that failed after the release of their old block had already been taken from the deferred table.
    RestoresDropped = 14 => "restores_dropped",
    /// Allocations that `--sample` did not draw; not a loss.
    AllocationsUnsampled = 15 => "allocations_unsampled",
    /// Bytes of those.
    AllocatedBytesUnsampled = 16 => "allocated_bytes_unsampled",
    /// Releases of blocks that were not drawn, or not seen to appear; not a loss.
    ReleasesUnsampled = 17 => "releases_unsampled",
    /// Results of `malloc` that turned out other than predicted. Then nothing is predicted any more.
    PredictionsWrong = 18 => "predictions_wrong",
    /// Calls made while the thread was in an allocator call on another stack (a signal handler on an alternate stack, a
    /// coroutine): a return probe there would end the target.
    CallsOnOtherStacks = 19 => "calls_on_other_stacks",
    /// Blocks larger than a process's address space: the traced function has its size elsewhere.
    ImplausibleSizes = 20 => "implausible_sizes",
}

/// How many counters there are.
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
    /// The value of one counter.
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
