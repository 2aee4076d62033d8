//! What is proven of jemalloc's `malloc`, since 5.3.
//!
//! The thread's storage (`struct tsd_s`) has a count of the bytes that the thread has allocated, behind it the threshold at
//! which something is due, and further on the bins (`struct cache_bin_s`), 24 bytes each:
//!
//! | byte | |
//! |---|---|
//! | 0 | address of the pointer to the first block; the pointers to the others follow there, up to where the bin is empty |
//! | 8 | requests, a statistic |
//! | 16 | the lowest 16 bits of that address when there were the fewest blocks lately |
//! | 20 | the lowest 16 bits of that address when the bin is empty |
//!
//! For the smallest and the largest size of each class up to [`MAX_BYTES`], all paths through `malloc` that return have to
//! (`imalloc_fastpath`)
//! - take the class from the byte at `classes + (size + 7) / 8`,
//! - find that the bytes allocated, with the word at `sizes + 8 * class` added, are below the threshold, and count them,
//! - find that the address in the bin of the class is not the one of the fewest blocks, or that it is but not the one of
//!   the empty bin,
//! - replace it by the next one, and return what it pointed to,
//!
//! and nothing may be written, and no way be chosen, but by these. So whatever is not so leads to a function that is not
//! seen. The tables are filled when jemalloc starts: which classes there are is not known from the file. Both kinds that
//! there are on 64-bit machines are tried (`sz_boot_size2index_tab`, `SC_LG_TINY_MIN` 3).

use memtrace_common::prediction::jemalloc::{BIN_BYTES, EMPTY, LOW_WATER, MAX_BYTES, QUANTUM, SMALL_QUANTUM, class};

use super::{
    ThreadCache, ThreadPlace,
    flags::Fact,
    machine::Path,
    memory::Write,
    paths::{Code, ends_of_classes, returning},
    place::Place,
    value::Value,
};

/// Where in a bin the requests are counted.
const REQUESTS: u64 = 8;

/// The most bytes from the count to the bins: 40 with jemalloc 5.3.
pub(super) const MAX_BYTES_BEFORE_BINS: u64 = 1 << 12;

/// What one way through `malloc` shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Layout {
    allocated: ThreadPlace,
    bins: u64,
    classes: u64,
    sizes: u64,
}

/// Finds jemalloc's cache, if this is proven for all classes up to [`MAX_BYTES`].
pub(super) fn find(code: Code<'_>) -> Option<ThreadCache> {
    let mut agreed = None;
    for (size, class) in [QUANTUM, SMALL_QUANTUM].into_iter().flat_map(requests) {
        let layout = only_layout(code, size, class)?;
        if *agreed.get_or_insert(layout) != layout {
            return None;
        }
    }
    let Layout { allocated, bins, classes, .. } = agreed?;
    let may_be = bins.is_multiple_of(8) && (16..=MAX_BYTES_BEFORE_BINS).contains(&bins);
    may_be.then_some(ThreadCache::Jemalloc { allocated, bins, classes })
}

/// The sizes that are tried, with their classes.
fn requests(quantum: u64) -> impl Iterator<Item = (u64, u64)> {
    ends_of_classes(MAX_BYTES, move |size| class(size, quantum).map(|(class, _)| class))
}

/// What all ways that return show: some where the bin has never had fewer blocks lately, and some where it has.
fn only_layout(code: Code<'_>, size: u64, class: u64) -> Option<Layout> {
    let (mut agreed, mut of_both_kinds) = (None, [false; 2]);
    for path in returning(code, size, Some(class))? {
        let (layout, has_fewest) = layout(&path, size, class)?;
        if *agreed.get_or_insert(layout) != layout {
            return None;
        }
        of_both_kinds[usize::from(has_fewest)] = true;
    }
    agreed.filter(|_| of_both_kinds == [true; 2])
}

/// What a way shows, and whether the bin has as few blocks there as lately, if it does all that has to be done and nothing
/// else.
fn layout(path: &Path, size: u64, class: u64) -> Option<(Layout, bool)> {
    let Value::Content { at: Place::Behind { pointer: bin, offset: 0 }, bytes: 8 } = path.result() else { return None };
    let (allocated, slot) = path.facts().iter().find_map(|&fact| match fact {
        Fact::Below(Value::Sum { place, slot }, threshold) if threshold == Value::held_at(place.plus(8)) => {
            Some((place, slot))
        }
        _ => None,
    })?;
    let has_fewest = has_fewest(path.facts(), bin)?;
    writes_what_it_has_to(path.memory().writes(), bin, Value::Sum { place: allocated, slot }, allocated, has_fewest)
        .then_some(())?;
    let layout = Layout {
        allocated,
        bins: bin.bytes_from(allocated)?.checked_sub(BIN_BYTES * class)?,
        classes: path.memory().byte_at()?.wrapping_sub(size.div_ceil(8)),
        sizes: slot.wrapping_sub(8 * class),
    };
    Some((layout, has_fewest))
}

/// Whether the bin has as few blocks as lately, if besides the threshold just this decided and that the bin is not empty.
fn has_fewest(facts: &[Fact], bin: ThreadPlace) -> Option<bool> {
    let address = Value::LowBits(Place::Behind { pointer: bin, offset: 0 });
    let at = |offset| Value::Content { at: Place::Thread(bin.plus(offset)), bytes: 2 };
    let knows = |fact: Fact| facts.contains(&fact) || facts.contains(&fact.swapped());
    match facts.len() {
        2 if knows(Fact::Different(address, at(LOW_WATER))) => Some(false),
        3 if knows(Fact::Equal(address, at(LOW_WATER))) && knows(Fact::Different(address, at(EMPTY))) => Some(true),
        _ => None,
    }
}

/// Whether all is written that has to be, and besides at most the number of requests.
fn writes_what_it_has_to(
    writes: &[Write],
    bin: ThreadPlace,
    counted: Value,
    allocated: ThreadPlace,
    has_fewest: bool,
) -> bool {
    let next = Place::Behind { pointer: bin, offset: 8 };
    let write = |place, bytes, value| Write { place: Some(Place::Thread(place)), bytes, value };
    let mut needed = vec![write(bin, 8, Value::Address(next)), write(allocated, 8, counted)];
    if has_fewest {
        needed.push(write(bin.plus(LOW_WATER), 2, Value::LowBits(next)));
    }
    let requests = Some(Place::Thread(bin.plus(REQUESTS)));
    needed.iter().all(|write| writes.contains(write))
        && writes.iter().all(|write| needed.contains(write) || (write.place == requests && write.bytes == 8))
}
