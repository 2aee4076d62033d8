//! The mapped ranges of one process: disjoint pieces by start. Unmapping the middle of a piece leaves two.

use std::collections::BTreeMap;

use super::stacks::Stacks;

/// A mapped range, or what is left of one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Piece {
    /// Its first byte.
    pub start: u64,
    /// The byte after its last one.
    pub end: u64,
    /// The index of its stack.
    pub stack: u32,
    /// When it was mapped.
    pub time_ns: u64,
}

impl Piece {
    /// The length of the piece in bytes.
    pub const fn length(&self) -> u64 {
        self.end - self.start
    }
}

/// What stands behind a start.
#[derive(Clone, Copy)]
struct Rest {
    end: u64,
    stack: u32,
    time_ns: u64,
}

/// The mapped ranges; they keep the outstanding totals of their stacks.
#[derive(Default)]
pub struct Ranges {
    pieces: BTreeMap<u64, Rest>,
    bytes: u64,
}

impl Ranges {
    /// How many pieces there are.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The lengths of all pieces together, in bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Every piece, in the order of addresses.
    pub fn iter(&self) -> impl Iterator<Item = Piece> {
        self.pieces.iter().map(|(&start, &rest)| piece(start, rest))
    }

    /// Adds a piece where nothing is mapped.
    pub fn add(&mut self, piece: Piece, stacks: &mut Stacks) {
        stacks.holds(piece.stack, piece.length(), 0);
        self.bytes += piece.length();
        self.pieces.insert(piece.start, Rest { end: piece.end, stack: piece.stack, time_ns: piece.time_ns });
    }

    /// Adds a piece in place of what is there, as [`extend`](Self::extend) does.
    pub fn touch(&mut self, added: Piece, most_ns: u64, stacks: &mut Stacks) {
        self.cut(added.start, added.end, stacks, |_| ());
        self.extend(added, most_ns, stacks);
    }

    /// Adds a piece where nothing is, and joins it with the neighbour before it that is of the same stack and not older by
    /// more than `most_ns`; both count as that old.
    pub fn extend(&mut self, added: Piece, most_ns: u64, stacks: &mut Stacks) {
        let before = self.pieces.range(..added.start).next_back();
        let near = |rest: &Rest| {
            rest.stack == added.stack
                && rest.end == added.start
                && added.time_ns.saturating_sub(rest.time_ns) <= most_ns
        };
        match before.filter(|(_, rest)| near(rest)).map(|(&start, &rest)| piece(start, rest)) {
            Some(before) => {
                self.remove(before, stacks);
                self.add(Piece { end: added.end, ..before }, stacks);
            }
            None => self.add(added, stacks),
        }
    }

    /// Removes what is mapped from `start` to `end` and hands it out in order, cut to those bounds.
    pub fn cut(&mut self, start: u64, end: u64, stacks: &mut Stacks, mut removed: impl FnMut(Piece)) {
        let mut from = match self.pieces.range(..start).next_back() {
            Some((&before, rest)) if rest.end > start => before,
            _ => start,
        };
        while let Some((&first, &rest)) = self.pieces.range(from..end).next() {
            let whole = piece(first, rest);
            self.remove(whole, stacks);
            if whole.start < start {
                self.add(Piece { end: start, ..whole }, stacks);
            }
            if whole.end > end {
                self.add(Piece { start: end, ..whole }, stacks);
            }
            removed(Piece { start: whole.start.max(start), end: whole.end.min(end), ..whole });
            from = whole.end.min(end);
            if from == end {
                break;
            }
        }
    }

    /// Puts back a piece that was cut out. What has been mapped there since stays. Parts of one range that meet again
    /// become one piece again.
    pub fn restore(&mut self, piece: Piece, stacks: &mut Stacks) {
        let mut at = match self.pieces.range(..=piece.start).next_back() {
            Some((_, rest)) => rest.end.max(piece.start),
            None => piece.start,
        };
        while at < piece.end {
            let (gap_end, next) = match self.pieces.range(at..piece.end).next() {
                Some((&start, rest)) => (start, rest.end),
                None => (piece.end, piece.end),
            };
            if gap_end > at {
                self.add_joined(Piece { start: at, end: gap_end, ..piece }, stacks);
            }
            at = next;
        }
    }

    /// Forgets every piece; the caller sees to the stacks.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.bytes = 0;
    }

    fn remove(&mut self, piece: Piece, stacks: &mut Stacks) {
        stacks.released(piece.stack, piece.length(), 0);
        self.bytes -= piece.length();
        self.pieces.remove(&piece.start);
    }

    /// Adds a piece and joins it with its neighbours if they were one range: no two mappings of one stack have the
    /// same time and also meet.
    fn add_joined(&mut self, mut added: Piece, stacks: &mut Stacks) {
        let same = |rest: &Rest| (rest.stack, rest.time_ns) == (added.stack, added.time_ns);
        let before = self.pieces.range(..added.start).next_back();
        let before = before.filter(|(_, rest)| rest.end == added.start && same(rest));
        let before = before.map(|(&start, &rest)| piece(start, rest));
        let after = self.pieces.get(&added.end).filter(|rest| same(rest)).map(|&rest| piece(added.end, rest));
        for neighbour in before.into_iter().chain(after) {
            self.remove(neighbour, stacks);
            added.start = added.start.min(neighbour.start);
            added.end = added.end.max(neighbour.end);
        }
        self.add(added, stacks);
    }
}

const fn piece(start: u64, rest: Rest) -> Piece {
    Piece { start, end: rest.end, stack: rest.stack, time_ns: rest.time_ns }
}
