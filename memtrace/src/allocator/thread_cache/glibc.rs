//! What is proven of glibc's `malloc`.
//!
//! The cache (`struct tcache_perthread_struct` in malloc/malloc.c) has a count for each bin, then a pointer to each bin's
//! first block: counts of one byte up to glibc 2.29 and of two since, 64 bins up to 2.41 and 76 since. For the smallest and
//! the largest size of each of the first 64 bins `malloc` has to
//! - take the pointer to the cache from the thread's storage,
//! - find by the bin's count, or by its first block, that the bin is not empty,
//! - read the count of just that bin,
//! - replace the bin's first block, and return it.
//!
//! The bin of a size is the same in all versions: a block has 8 bytes more than was asked for, is a multiple of 16 and at
//! least 32, and the bins are 16 bytes apart (`csize2tidx`).
//!
//! What the code alone does not show: whether a hook (`__malloc_hook`, up to glibc 2.33) takes the call over.

use memtrace_common::prediction::glibc::{BINS, MAX_BYTES, bin};

use super::{
    ThreadCache, ThreadPlace,
    flags::Fact,
    machine::Path,
    paths::{Code, ends_of_classes, returning},
    place::Place,
    value::Value,
};

/// The most bytes before the bins: 152 with glibc 2.42.
pub(super) const MAX_COUNTS_BYTES: u64 = 1 << 10;

/// What `malloc` took from a cache.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Taken {
    pointer: ThreadPlace,
    /// Where in the cache the block was the first of its bin.
    offset: u64,
    /// The size of the bin's count.
    count_bytes: u64,
}

/// Finds glibc's cache, if this is proven for all sizes up to 1,032 bytes.
pub(super) fn find(code: Code<'_>) -> Option<ThreadCache> {
    let mut agreed = None;
    for (size, bin) in ends_of_classes(MAX_BYTES, bin) {
        let Taken { pointer, offset, count_bytes } = only_taken(code, size, bin)?;
        let layout = (pointer, offset.checked_sub(8 * bin)?, count_bytes);
        if *agreed.get_or_insert(layout) != layout {
            return None;
        }
    }
    let (pointer, bins, count_bytes) = agreed?;
    let may_be = bins.is_multiple_of(8) && (BINS * count_bytes..=MAX_COUNTS_BYTES).contains(&bins);
    may_be.then_some(ThreadCache::Glibc { pointer, bins })
}

/// What a call for this size takes from a cache: the same on every way that takes something, of which there is one.
fn only_taken(code: Code<'_>, size: u64, bin: u64) -> Option<Taken> {
    let mut only = None;
    for path in returning(code, size, None)? {
        if let Value::Content { at: Place::Behind { pointer, offset }, bytes: 8 } = path.result() {
            let taken = taken(&path, pointer, offset, bin)?;
            if *only.get_or_insert(taken) != taken {
                return None;
            }
        }
    }
    only
}

/// What was taken at this offset of a cache, if the call is seen to have done all that this takes.
fn taken(path: &Path, pointer: ThreadPlace, offset: u64, bin: u64) -> Option<Taken> {
    let is_count = |place, bytes| {
        matches!(bytes, 1 | 2) && matches!(place, Place::Behind { offset, .. } if offset == bin.wrapping_mul(bytes))
    };
    let (counted, count_bytes) = path.memory().reads().iter().copied().rfind(|read| is_count(read.0, read.1))?;
    let count = Place::Behind { pointer, offset: bin.wrapping_mul(count_bytes) };
    let block = Place::Behind { pointer, offset };
    let is_not_empty = [(count, count_bytes), (block, 8)]
        .iter()
        .any(|&(at, bytes)| path.facts().contains(&Fact::Different(Value::Content { at, bytes }, Value::Number(0))));
    let mut writes = path.memory().writes().iter();
    let replaced = writes.rfind(|write| write.bytes == 8 && matches!(write.place, Some(Place::Behind { .. })));
    let is_taken = counted == count && is_not_empty && replaced.is_some_and(|write| write.place == Some(block));
    is_taken.then_some(Taken { pointer, offset, count_bytes })
}
