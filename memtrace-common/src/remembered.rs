//! Remembered walks: most allocations come by a stack that the same thread was on a moment ago.
//!
//! A walk is a function of the registers it starts from, the tables, and the words of memory that it reads. A remembered
//! walk keeps all of these: when the start is the same, the tables are the same, and every word that decided anything
//! still has its value, walking again would give the same frames. So a hit is exact, and a change costs a walk, never a
//! wrong frame. Saved frame pointers decide only where a rule uses them; elsewhere the register holds anything.

use crate::limits::MAX_REMEMBERED_WORDS;

/// A walk that ended in a way that no further word decided.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Remembered {
    /// The return address that it started from.
    pub first: u64,
    /// The caller's stack pointer.
    pub sp: u64,
    /// The caller's frame pointer; compared only if `fp_decides`.
    pub fp: u64,
    /// The tables: where the target's segments were.
    pub range: u64,
    /// The stack's id; 0 while nothing is remembered here.
    pub id: u64,
    /// Which remembered walk came after this one the last time: programs that loop repeat their order.
    pub next: u64,
    /// How many words decided.
    pub count: u32,
    /// Not 0 if a rule used the frame pointer that the walk started with.
    pub fp_decides: u32,
    /// Their values.
    pub values: [u64; MAX_REMEMBERED_WORDS],
    /// Where they are: 8-byte words above `sp`.
    pub places: [u16; MAX_REMEMBERED_WORDS],
}

const _: () = assert!(size_of::<Remembered>() == 56 + 10 * MAX_REMEMBERED_WORDS);
const _: () = assert!(MAX_REMEMBERED_WORDS.is_multiple_of(4));
