//! The pages of V8's heaps: where they are in a process, which of their memory is present, and a bit for each word.
//!
//! V8 takes pages of 256 KiB, at multiples of that, and larger ones for one object each. A page says itself that it is one
//! (src/heap/memory-chunk-layout.h and mutable-page-metadata.h): until V8 12 it begins with its size and where its objects begin and end;
//! since V8 13 with the address of what is noted of it, which has the page's own address and size.

use std::ops::Range;

use crate::{
    object::maps::Mapping,
    runtime::{Memory, memory::word_at},
    target::pages::Pages,
};

/// What pages of a heap begin at multiples of, and the bytes of most.
pub const CHUNK: u64 = 1 << 18;

/// Bytes of memory of which it is known whether they are present.
pub const PAGE: u64 = 4096;

/// The most bytes of pages that are looked at: as much as V8 takes by default at most.
const MAX_BYTES: u64 = 4 << 30;

/// Bytes of a page among which it says where its objects are.
const HEAD: usize = 96;
/// Bytes of what is noted of a page among which its address and size are.
const NOTES: usize = 24;
/// The most bytes of a page before its first object.
const MAX_HEAD: u64 = 1 << 14;

/// How often it is asked what is present of a page. The program goes on to fill pages that were empty when this was asked first.
const RENEWALS: u8 = 5;

/// Words of bits for the words of a page.
const BITS: usize = (CHUNK / 8 / 64) as usize;

/// One page of a heap of V8's, with a bit for each of its words.
#[derive(Debug)]
pub struct Chunk {
    /// Where it begins.
    pub base: u64,
    /// Where its first object is.
    pub begin: u64,
    /// Where it ends; further than [`CHUNK`] behind its begin only where it has a single object.
    pub end: u64,
    /// Whether it waits to be looked at.
    pub is_queued: bool,
    /// How often what is present of it may still be asked for.
    renewals: u8,
    /// A bit for each [`PAGE`] of it: whether it is in memory.
    present: Box<[u64]>,
    /// A bit for each word of the first [`CHUNK`] of it: whether an object begins there that has been reached.
    reached: Box<[u64; BITS]>,
    /// Likewise: whether what it refers to is still to be looked at.
    pending: Box<[u64; BITS]>,
}

impl Chunk {
    fn new(base: u64, begin: u64, end: u64) -> Chunk {
        let pages = (end - base).div_ceil(PAGE).div_ceil(64) as usize;
        let bits = || Box::new([0; BITS]);
        Chunk {
            base,
            begin,
            end,
            is_queued: false,
            renewals: RENEWALS,
            present: vec![0; pages].into(),
            reached: bits(),
            pending: bits(),
        }
    }

    /// Asks what of it is present now. `None` if that cannot be told, or was asked often enough.
    pub fn renew(&mut self, pages: &mut Pages) -> Option<()> {
        self.renewals = self.renewals.checked_sub(1)?;
        let (base, present) = (self.base, &mut self.present);
        present.fill(0);
        pages.present(base..self.end, PAGE, |address| {
            let page = ((address - base) / PAGE) as usize;
            present[page / 64] |= 1 << (page % 64);
        })
    }

    /// An object at this address has been reached. Whether it had not been before.
    pub fn reach(&mut self, address: u64) -> bool {
        let word = ((address - self.base) / 8) as usize;
        let (at, bit) = (word / 64, 1 << (word % 64));
        if address < self.begin || at >= BITS || self.reached[at] & bit != 0 {
            return false;
        }
        self.reached[at] |= bit;
        self.pending[at] |= bit;
        true
    }

    /// Whether an object at this address has been reached.
    pub fn has_reached(&self, address: u64) -> bool {
        let word = ((address - self.base) / 8) as usize;
        self.reached.get(word / 64).is_some_and(|bits| bits >> (word % 64) & 1 != 0)
    }

    /// The next object from this word on that is still to be looked at, as the number of its word. It is not from now on.
    pub fn next_pending(&mut self, from: usize) -> Option<usize> {
        let at = (from / 64..BITS).find(|&at| self.pending[at] != 0)?;
        let bits = &mut self.pending[at];
        let bit = bits.trailing_zeros() as usize;
        *bits &= *bits - 1;
        Some(64 * at + bit)
    }

    /// Whether all of these bytes are in memory.
    pub fn is_present(&self, range: &Range<u64>) -> bool {
        let page = |address: u64| ((address - self.base) / PAGE) as usize;
        (page(range.start)..=page(range.end - 1))
            .all(|page| self.present.get(page / 64).is_some_and(|bits| bits >> (page % 64) & 1 != 0))
    }
}

/// Where one page of a heap is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extent {
    base: u64,
    begin: u64,
    end: u64,
}

/// The pages of a process at these places, with which of their memory is present. `None` when they cannot be read.
pub fn at(extents: &[Extent], pages: &mut Pages) -> Option<Vec<Chunk>> {
    let mut chunks: Vec<Chunk> =
        extents.iter().map(|&Extent { base, begin, end }| Chunk::new(base, begin, end)).collect();
    chunks.iter_mut().try_for_each(|chunk| chunk.renew(pages))?;
    Some(chunks)
}

/// Where the pages of all heaps of V8 in a process are, by their addresses. `None` when they cannot be read, or are more than is looked at.
pub fn find(memory: &Memory, mappings: &[Mapping], pages: &mut Pages) -> Option<Vec<Extent>> {
    let mut extents: Vec<Extent> = Vec::new();
    let mut total = 0;
    for mapping in mappings.iter().filter(|mapping| may_have_chunks(mapping)) {
        let mut places: Vec<u64> = Vec::new();
        pages.present(mapping.start..mapping.end, CHUNK, |address| places.push(address))?;
        for base in places {
            let is_inside = extents.last().is_some_and(|last| base < last.end);
            let Some((begin, end)) = (!is_inside).then(|| extent(memory, base, mapping.end)).flatten() else {
                continue;
            };
            total += end - base;
            if total > MAX_BYTES {
                return None;
            }
            extents.push(Extent { base, begin, end });
        }
    }
    Some(extents)
}

/// Where the objects of a page begin and where it ends, if there is one at this address; it has to end by `last`.
fn extent(memory: &Memory, base: u64, last: u64) -> Option<(u64, u64)> {
    let head = memory.bytes::<HEAD>(base)?;
    let word = |index: usize| word_at(&head, 8 * index);
    let is_end = |end: u64| end > base + MAX_HEAD && end <= last && end.is_multiple_of(PAGE);
    // The one object of a larger page need not fill it.
    let own = (3..=4).find_map(|index| {
        let (begin, end) = (word(index)?, word(index + 1)?);
        let is_begin = begin > base && begin <= base + MAX_HEAD && begin.is_multiple_of(8);
        let whole = (0..3).filter_map(|index| base.checked_add(word(index)?)).find(|&whole| is_end(whole));
        (is_begin && begin < end).then_some(()).and(whole).filter(|whole| *whole >= end).map(|whole| (begin, whole))
    });
    own.or_else(|| {
        let notes = memory.bytes::<NOTES>(word(1).filter(|notes| notes.is_multiple_of(8))?)?;
        let end = base.checked_add(word_at(&notes, 16)?)?;
        (word_at(&notes, 8) == Some(base) && is_end(end)).then_some((base + 16, end))
    })
}

/// Whether pages of a heap may be in a mapping: anonymous memory, not that of `malloc` from the program's end on.
fn may_have_chunks(mapping: &Mapping) -> bool {
    mapping.is_anonymous() && mapping.readable && mapping.writable && !mapping.executable
}

/// Which of these pages, which are in order, an address lies in.
pub fn index_of(chunks: &[Chunk], address: u64) -> Option<usize> {
    let index = chunks.partition_point(|chunk| chunk.end <= address);
    chunks.get(index).is_some_and(|chunk| chunk.base <= address).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_is_looked_at_once() {
        let base = 7 * CHUNK;
        let mut chunk = Chunk::new(base, base + 0x140, base + CHUNK);
        assert!(!chunk.reach(base + 8), "that is the head of the page");
        assert!(chunk.reach(base + 0x140) && !chunk.reach(base + 0x140));
        assert!(chunk.reach(base + CHUNK - 8));
        assert!(chunk.has_reached(base + 0x140) && !chunk.has_reached(base + 0x148));
        assert_eq!(chunk.next_pending(0), Some(0x140 / 8));
        assert_eq!(chunk.next_pending(0), Some(CHUNK as usize / 8 - 1));
        assert_eq!(chunk.next_pending(0), None);
    }

    #[test]
    fn bytes_are_present_when_all_of_their_pages_are() {
        let base = 7 * CHUNK;
        let mut chunk = Chunk::new(base, base + 16, base + 3 * CHUNK);
        chunk.present[0] = 0b101;
        assert!(chunk.is_present(&(base..base + PAGE)) && chunk.is_present(&(base + 2 * PAGE + 1..base + 3 * PAGE)));
        assert!(!chunk.is_present(&(base..base + PAGE + 1)));
        assert!(!chunk.is_present(&(base + 2 * CHUNK..base + 2 * CHUNK + 8)));
    }

    #[test]
    fn pages_are_found_by_any_address_in_them() {
        let chunk = |number: u64, count: u64| Chunk::new(number * CHUNK, number * CHUNK + 16, (number + count) * CHUNK);
        let chunks = [chunk(2, 1), chunk(4, 3)];
        let index = |address| index_of(&chunks, address);
        assert_eq!(
            (index(0), index(2 * CHUNK), index(3 * CHUNK - 1), index(3 * CHUNK)),
            (None, Some(0), Some(0), None)
        );
        assert_eq!((index(6 * CHUNK), index(7 * CHUNK)), (Some(1), None));
    }
}
