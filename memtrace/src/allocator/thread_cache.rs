//! The thread's cache: where glibc's `malloc` finds the block that it is about to return.
//!
//! glibc keeps for each thread a cache of free blocks, sorted by size into bins (`struct tcache_perthread_struct` in
//! malloc/malloc.c): a count for each bin, then a pointer to each bin's first block. Where it is and how it is laid out
//! is no interface, and changes with versions: counts of one byte up to glibc 2.29 and of two since, 64 bins up to 2.41
//! and 76 since. So it is read from the code of `malloc`, and it is proven rather than recognised: the code is run on
//! values of which only the argument is known, as far as it goes without calling anything. For the smallest and the
//! largest size of each of the first 64 bins it has to
//! - take the pointer to the cache from the thread's storage,
//! - find by the bin's count, or by its first block, that the bin is not empty,
//! - read the count of just that bin,
//! - replace the bin's first block, and return it.
//!
//! The bin of a size is the same in all versions: a block has 8 bytes more than was asked for, is a multiple of 16 and at
//! least 32, and the bins are 16 bytes apart (`csize2tidx`). If anything differs for one of these sizes, nothing is found.
//!
//! What the code alone does not show: whether the word that holds the offset from the thread pointer is one that the
//! dynamic linker fills, and whether a hook (`__malloc_hook`, up to glibc 2.33) takes the call over.

use std::collections::HashSet;

use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction, InstructionInfoFactory};

use self::machine::{Next, Path, Request, Taken};

/// Where glibc keeps a thread's cache of free blocks.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ThreadCache {
    /// Where the pointer to it is.
    pub pointer: CachePointer,
    /// Bytes from its beginning to the pointer to the first bin's first block (128 with glibc 2.30 to 2.41). Those of the
    /// other bins follow, 8 bytes each.
    pub bins: u64,
}

/// Where in a thread's storage the pointer to its cache is, by the models of access that "ELF Handling For Thread-Local
/// Storage" (U. Drepper) describes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CachePointer {
    /// The word at this address, as linked, holds its offset from the thread pointer (initial-exec).
    Slot(u64),
    /// Its offset from the thread pointer (local-exec, in static programs).
    Offset(i64),
}

/// The bins that are proven: those of 16 bytes each. glibc 2.42 has further ones for larger blocks.
const BINS: u64 = 64;

/// The most bytes before the bins: 152 with glibc 2.42.
const MAX_COUNTS_BYTES: u64 = 1 << 10;

/// The most instructions that are looked at for one size, on all paths. glibc's take some hundred.
const MAX_STEPS: usize = 4096;

/// Finds the cache of the calling thread from which `malloc` takes a block.
///
/// `code` is what the file holds from the function's entry on, `address` the entry's address as linked, and `size` the
/// size of the function in bytes if it is known. `None` if this is not proven for all sizes up to 1,032 bytes, as with
/// other allocators and with a `malloc` that hands its work on to a function outside of `code`.
pub fn find(code: &[u8], address: u64, size: Option<u64>) -> Option<ThreadCache> {
    let length = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX);
    let code = code.get(..length).unwrap_or(code);
    let mut agreed = None;
    for request in requests() {
        let taken = only_taken(code, address, request)?;
        let bins = taken.offset.checked_sub(8 * request.bin)?;
        let layout = (ThreadCache { pointer: taken.pointer, bins }, taken.count_bytes);
        if *agreed.get_or_insert(layout) != layout {
            return None;
        }
    }
    let (cache, count_bytes) = agreed?;
    let may_be = cache.bins.is_multiple_of(8) && (BINS * count_bytes..=MAX_COUNTS_BYTES).contains(&cache.bins);
    may_be.then_some(cache)
}

/// The smallest and the largest size of each bin.
fn requests() -> impl Iterator<Item = Request> {
    (0..BINS).flat_map(|bin| {
        let smallest = if bin == 0 { 0 } else { 16 * bin + 9 };
        [smallest, 16 * bin + 24].map(|size| Request { size, bin })
    })
}

/// What a call for this size takes from a cache: the same on every path that takes something, of which there is one.
fn only_taken(code: &[u8], address: u64, request: Request) -> Option<Taken> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut information = InstructionInfoFactory::new();
    let mut steps = MAX_STEPS;
    let mut seen = HashSet::new();
    let mut open = vec![Path::at_entry(address, request)];
    let mut only = None;
    while let Some(mut path) = open.pop() {
        while let Some(instruction) = instruction_at(&mut decoder, address, path.address()) {
            // When it takes longer, not all of it has been seen.
            steps = steps.checked_sub(1)?;
            match path.step(&instruction, &mut information) {
                Next::Onward => {}
                Next::Either(taken) => {
                    if seen.insert(Path::clone(&taken)) {
                        open.push(*taken);
                    }
                    if !seen.insert(path.clone()) {
                        break;
                    }
                }
                Next::Returns => {
                    if path.returns_from_cache() {
                        let taken = path.taken()?;
                        if *only.get_or_insert(taken) != taken {
                            return None;
                        }
                    }
                    break;
                }
                Next::OutOfSight => break,
            }
        }
    }
    only
}

/// The instruction at an address within the code.
fn instruction_at(decoder: &mut Decoder<'_>, start: u64, address: u64) -> Option<Instruction> {
    decoder.set_position(usize::try_from(address.wrapping_sub(start)).ok()?).ok()?;
    decoder.set_ip(address);
    let instruction = decoder.can_decode().then(|| decoder.decode())?;
    (decoder.last_error() == DecoderError::None).then_some(instruction)
}

mod flags;
mod machine;
mod registers;
mod value;

#[cfg(test)]
mod tests;
