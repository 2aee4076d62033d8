//! The rings: memory that the programs write records to and user space reads them from, some processors to a ring.
//!
//! Positions count the bytes ever written, gaps included; a place is a position's lowest bits. Records are whole words. The
//! first one, the head, is never 0 and is written last, and user space clears all it has read: where 0 stands, a program has
//! reserved room and not yet filled it. A record lies in one page: none begins so late in a page that the largest would
//! not fit, and both sides leave out what is left of it.
//!
//! Each ring has its records in the order in which room was reserved, and user space merges the rings by the records'
//! times. That keeps every order that matters: docs/design/rings.md.

use crate::arch::PAGE_BYTES;

/// How far a ring has been written and read; each on a cache line of its own.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct RingPositions {
    /// Where the next record goes. Only programs write it.
    pub written: u64,
    _far: [u64; 7],
    /// Where the first record stands that user space has not read yet. Only user space writes it.
    pub read: u64,
    _farther: [u64; 7],
}

const _: () = assert!(size_of::<RingPositions>() == 128);

/// The bytes of the largest record.
pub const MAX_RECORD_BYTES: u64 = 40;

/// The most rings; with more processors, several share one.
pub const MAX_RINGS: usize = 64;

/// One page of a ring, as words.
pub type RingPage = [u64; PAGE_BYTES as usize / 8];

/// Where a record stands that comes next after `position`.
#[inline(always)]
pub const fn record_begin(position: u64) -> u64 {
    let place = position & (PAGE_BYTES - 1);
    if place > PAGE_BYTES - MAX_RECORD_BYTES { position - place + PAGE_BYTES } else { position }
}

/// How many rings of how many bytes each `bytes` are divided into, for so many processors; both are powers of two, as
/// `bytes` must be.
pub const fn divide(bytes: u64, processors: usize) -> (usize, u64) {
    let mut rings = 1;
    while rings < processors && rings < MAX_RINGS && bytes / (2 * rings as u64) >= PAGE_BYTES {
        rings *= 2;
    }
    (rings, bytes / rings as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_record_crosses_a_page() {
        for position in (0..3 * PAGE_BYTES).step_by(8) {
            let begin = record_begin(position);
            assert!(begin >= position && begin - position < MAX_RECORD_BYTES);
            assert_eq!(begin / PAGE_BYTES, (begin + MAX_RECORD_BYTES - 1) / PAGE_BYTES);
            assert_eq!(record_begin(begin), begin);
        }
    }

    #[test]
    fn processors_share_rings_where_they_are_many() {
        assert_eq!(divide(64 << 20, 1), (1, 64 << 20));
        assert_eq!(divide(64 << 20, 2), (2, 32 << 20));
        assert_eq!(divide(64 << 20, 3), (4, 16 << 20));
        assert_eq!(divide(1 << 20, 1000), (64, 16 << 10));
        assert_eq!(divide(4096, 8), (1, 4096));
    }
}
