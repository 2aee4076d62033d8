//! What a thread's call has taken away while its outcome is open: `realloc`'s old block, `munmap`'s and `mremap`'s old
//! range. It counts as released unless the call fails; at most one call a thread.

use hashbrown::HashMap;

use super::{blocks::LiveBlock, lineage::Lineage, ranges::Piece};

/// The most threads that are remembered with an open call.
const MAX_THREADS: usize = 1 << 14;

/// The most pieces of ranges that are remembered, unless one call alone took more.
const MAX_PIECES: usize = 1 << 16;

/// The calls whose failure gives back what they took.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpenCall {
    /// `realloc`.
    Realloc,
    /// `munmap`.
    Munmap,
    /// `mremap`.
    Mremap,
}

/// What a call had put aside, and is taken back at its end.
#[derive(Debug, Eq, PartialEq)]
pub enum Taken {
    /// A block, and its past if it changed its stack before.
    Block(LiveBlock, Option<Lineage>),
    /// A block that came from the parent by fork: address and size.
    Inherited(u64, u64),
    /// A block that the ledger does not know.
    UnknownBlock,
    /// Address space that may not be accessed, and nothing else.
    Reservation,
    /// Pieces of ranges. The first stands by itself so that the usual single piece takes no allocation.
    Pieces {
        /// The one with the lowest address.
        first: Piece,
        /// The pieces behind the first, in the order of their addresses.
        rest: Vec<Piece>,
    },
}

struct Parked {
    call: OpenCall,
    began_ns: u64,
    taken: Taken,
}

impl Parked {
    fn pieces(&self) -> usize {
        if let Taken::Pieces { rest, .. } = &self.taken { 1 + rest.len() } else { 0 }
    }
}

/// The open calls of a process, by thread.
///
/// A call that succeeds need not say so (`munmap`, `realloc(p, 0)`), and a thread can end without another call: so
/// entries go stale, and when there are too many the older half is forgotten, as if those calls had succeeded.
#[derive(Default)]
pub struct OpenCalls {
    threads: HashMap<u32, Parked>,
    pieces: usize,
}

impl OpenCalls {
    /// Remembers what the call of a thread took, and forgets what its call before took.
    pub fn park(&mut self, thread: u32, call: OpenCall, began_ns: u64, taken: Taken) {
        self.close(thread);
        let parked = Parked { call, began_ns, taken };
        while !self.threads.is_empty()
            && (self.threads.len() >= MAX_THREADS || self.pieces + parked.pieces() > MAX_PIECES)
        {
            self.forget_older_half();
        }
        self.pieces += parked.pieces();
        self.threads.insert(thread, parked);
    }

    /// The thread's call is over for good.
    pub fn close(&mut self, thread: u32) {
        if let Some(parked) = self.threads.remove(&thread) {
            self.pieces -= parked.pieces();
        }
    }

    /// The thread's call is over: what it took. `None` when another call's outcome was open: an event was lost.
    pub fn end(&mut self, thread: u32, call: OpenCall) -> Option<Taken> {
        let parked = self.threads.remove(&thread)?;
        self.pieces -= parked.pieces();
        (parked.call == call).then_some(parked.taken)
    }

    /// Forgets what calls have put aside: all of them are over.
    pub fn clear(&mut self) {
        self.threads.clear();
        self.pieces = 0;
    }

    fn forget_older_half(&mut self) {
        let mut times: Vec<u64> = self.threads.values().map(|parked| parked.began_ns).collect();
        let middle = times.len() / 2;
        let (_, &mut median, _) = times.select_nth_unstable(middle);
        let pieces = &mut self.pieces;
        self.threads.retain(|_, parked| {
            let keep = parked.began_ns > median;
            if !keep {
                *pieces -= parked.pieces();
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_never_return_do_not_pile_up() {
        let mut calls = OpenCalls::default();
        for thread in 0..200_000 {
            calls.park(thread, OpenCall::Realloc, u64::from(thread), Taken::UnknownBlock);
            assert!(calls.threads.len() <= MAX_THREADS);
        }
        assert_eq!(calls.end(199_999, OpenCall::Realloc), Some(Taken::UnknownBlock));
        assert_eq!(calls.end(0, OpenCall::Realloc), None);
    }

    #[test]
    fn pieces_that_never_return_do_not_pile_up() {
        let piece = Piece { start: 0, end: 1, stack: 0, time_ns: 0 };
        let many = |count: usize| Taken::Pieces { first: piece, rest: vec![piece; count - 1] };
        let mut calls = OpenCalls::default();
        for thread in 0..100 {
            calls.park(thread, OpenCall::Munmap, u64::from(thread), many(10_000));
            assert!(calls.pieces <= MAX_PIECES);
        }
        calls.park(100, OpenCall::Munmap, 100, many(MAX_PIECES + 1));
        assert_eq!(calls.threads.len(), 1);
        assert_eq!(calls.end(100, OpenCall::Munmap), Some(many(MAX_PIECES + 1)));
        assert_eq!(calls.pieces, 0);
    }
}
