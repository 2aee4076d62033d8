//! The reading end of one ring.

use std::{
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use memtrace_common::{
    arch::PAGE_BYTES,
    event::Kind,
    ring::{RingPositions, record_begin},
};

/// What stands next in a source of records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// A record with this time.
    At(u64),
    /// No record that was there when the drain began.
    Nothing,
    /// A program has reserved room, and not yet filled it.
    Unfinished,
}

/// The reading end of one ring.
pub(super) struct Reader {
    positions: NonNull<RingPositions>,
    start: NonNull<u64>,
    /// The ring's bytes, a power of two.
    bytes: u64,
    /// Where the next record stands.
    next: u64,
    /// Where the programs had come to when the drain began.
    end: u64,
    /// How far the ring is cleared and the programs' again.
    given_back: u64,
}

impl Reader {
    /// A reader of a ring that nobody has read yet.
    ///
    /// # Safety
    ///
    /// For as long as the reader lives, `positions` and `bytes` bytes from `start` on must be mapped, no other reader must
    /// use them, and they must be written only as `memtrace_common::ring` says. `bytes` must be a power of two and whole
    /// pages.
    pub(super) unsafe fn new(positions: NonNull<RingPositions>, start: NonNull<u64>, bytes: u64) -> Self {
        Self { positions, start, bytes, next: 0, end: 0, given_back: 0 }
    }

    /// A drain begins: what is written from now on is not for it.
    pub(super) fn begin(&mut self) {
        // SAFETY: mapped, and written by others at any moment.
        let written = unsafe { AtomicU64::from_ptr(&raw mut (*self.positions.as_ptr()).written) };
        self.end = written.load(Ordering::Acquire);
    }

    /// What stands next.
    pub(super) fn peek(&mut self) -> Next {
        let begin = record_begin(self.next);
        if begin.wrapping_sub(self.end) as i64 >= 0 {
            return Next::Nothing;
        }
        self.next = begin;
        let record = self.word(begin);
        // SAFETY: within the ring; a program may write it right now. What it wrote before is seen as well.
        if unsafe { AtomicU64::from_ptr(record) }.load(Ordering::Acquire) == 0 {
            return Next::Unfinished;
        }
        // SAFETY: records have at least two words.
        Next::At(unsafe { record.add(1).read() })
    }

    /// Hands out the record that [`peek`](Self::peek) found, and goes on behind it.
    pub(super) fn take(&mut self, on_record: impl FnOnce(&[u8])) {
        let record = self.word(self.next).cast::<u8>();
        // SAFETY: the head is there, and its first byte is the kind.
        let kind = Kind::from_number(unsafe { record.read() });
        // Of a kind that nobody knows the end is not known either: the rest is let go with it.
        let length = kind.map_or(self.end - self.next, |kind| kind.record_bytes() as u64);
        let shown = kind.map_or(8, Kind::record_bytes);
        // SAFETY: a whole record, which lies in one page and is written no more.
        on_record(unsafe { slice::from_raw_parts(record, shown) });
        self.next += length;
        if self.next / PAGE_BYTES != self.given_back / PAGE_BYTES {
            self.give_back();
        }
    }

    /// Clears what was read, while the cache still has it, and gives it back to the programs.
    pub(super) fn give_back(&mut self) {
        while self.given_back < self.next {
            let whole = (self.given_back / PAGE_BYTES + 1) * PAGE_BYTES;
            let end = whole.min(self.next);
            // SAFETY: within one page of the ring, and all of it was read. No program writes there before it sees `read`.
            unsafe { self.word(self.given_back).write_bytes(0, ((end - self.given_back) / 8) as usize) };
            self.given_back = end;
        }
        // SAFETY: mapped, and written by nobody else.
        let read = unsafe { AtomicU64::from_ptr(&raw mut (*self.positions.as_ptr()).read) };
        read.store(self.given_back, Ordering::Release);
    }

    fn word(&self, position: u64) -> *mut u64 {
        // SAFETY: the mask keeps it within the ring.
        unsafe { self.start.as_ptr().byte_add((position & (self.bytes - 1)) as usize) }
    }
}
