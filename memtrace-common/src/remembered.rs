//! Remembered walks: most allocations come by a stack that the same thread was on a moment ago.
//!
//! A walk is a function of the registers it starts from, the tables, and the words of memory that it reads. A remembered
//! walk keeps all of these: when the start is the same, the tables are the same, and every word that decided anything
//! still has its value, walking again would give the same frames. So a hit is exact, and a change costs a walk, never a
//! wrong frame. Saved frame pointers decide only where a rule uses them; elsewhere the register holds anything.

use crate::limits::{MAX_PIECES, MAX_REMEMBERED_WORDS, PIECE_GAP, WINDOW_WORDS};

/// Words that are compared before the outcome is looked at.
pub const GROUP: usize = 4;
const _: () = assert!(MAX_REMEMBERED_WORDS.is_multiple_of(GROUP));
const _: () = assert!(MAX_PIECES.is_power_of_two());

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
    /// How many words are compared.
    pub count: u32,
    /// The first of the pieces that are on the goroutine's stack, from which Go called C; 0 if there is none.
    pub second: u16,
    /// The place in the window of the word that says how deep that stack is. The next word is the goroutine.
    pub depth_place: u16,
    /// How many of them come before a second piece of the stack must be read.
    pub near: u16,
    /// Not 0 if a rule used the frame pointer that the walk started with.
    pub fp_decides: u16,
    /// How many pieces of the stack hold the words.
    pub pieces: u16,
    /// How many words the pieces have together.
    pub total: u16,
    /// The pieces, one behind the other in the window ([`Window`]).
    pub piece: [Piece; MAX_PIECES],
    /// The words that decided: each one's place in the window and its value ([`pack`]).
    pub words: [u64; MAX_REMEMBERED_WORDS],
}

/// A piece of the stack that holds words which decide a walk.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Piece {
    /// Where it begins: words above the return address that the walk started from, or of the second stack above the word below the
    /// one that the goroutine left its stack with.
    pub above: u16,
    /// Its place in the window; it ends where the next one begins.
    pub place: u16,
}

const _: () = assert!(size_of::<Remembered>() == 56 + 4 * MAX_PIECES + 8 * MAX_REMEMBERED_WORDS);
const _: () = assert!(WINDOW_WORDS <= u16::MAX as usize);

impl Remembered {
    /// Forgets the walk, and begins to note one that starts from this return address.
    #[inline(always)]
    pub fn begin(&mut self, first: u64) {
        self.id = 0;
        self.first = first;
        self.count = 0;
        self.near = 0;
        self.fp_decides = 0;
        self.pieces = 1;
        self.total = 1;
        self.second = 0;
        self.piece[0] = Piece { above: 0, place: 0 };
    }

    /// Notes that a word decides the walk: how many words it is above the return address, and its value. `false` if there
    /// is no room for it.
    #[inline(always)]
    pub fn add(&mut self, above: u64, value: u64) -> bool {
        let Some(place) = self.place(above) else { return false };
        let Some(packed) = pack(place, value) else { return false };
        self.push(packed)
    }

    /// Notes that the walk goes on to the goroutine's stack, by two words: how many words the first of them is above the return address,
    /// and its value, which says how deep that stack is; the second is the goroutine, which may be another one the next time. What is
    /// noted from here on is on that stack, and each word above the one before. `false` if there is no room, or the walk has done so
    /// before.
    #[inline(always)]
    pub fn change(&mut self, above: u64, depth: u64) -> bool {
        if self.second != 0 {
            return false;
        }
        // Just above the return address that was noted last, and so in the last piece.
        let last = usize::from(self.pieces).wrapping_sub(1);
        let Some(piece) = self.piece.get(last) else { return false };
        let place = u64::from(piece.place).wrapping_add(above.wrapping_sub(u64::from(piece.above)));
        let ends = place.max(u64::from(self.total)) + 3;
        if place >= u64::from(self.total) + PIECE_GAP || ends > WINDOW_WORDS as u64 || last + 1 >= MAX_PIECES {
            return false;
        }
        let Some(packed) = pack(place, depth) else { return false };
        if !self.push(packed) || (last == 0 && !self.fill()) {
            return false;
        }
        if last == 0 {
            self.near = self.count as u16;
        }
        // The goroutine's word is to be in the window as well. Behind it the first piece of the second stack begins.
        self.total = self.total.max(place as u16 + 2);
        self.depth_place = place as u16;
        self.second = self.pieces;
        // A number of which the compiler knows nothing: it leaves the mask in place that the verifier needs.
        let next = core::hint::black_box(last + 1) & (MAX_PIECES - 1);
        self.piece[next] = Piece { above: 0, place: self.total };
        self.pieces += 1;
        self.total += 1;
        true
    }

    /// The walk is noted. False if there is no room.
    #[inline(always)]
    pub fn end(&mut self, id: u64) -> bool {
        let filled = self.fill();
        if filled {
            self.id = id;
        }
        filled
    }

    /// The place in the window of a word of the stack, for which a piece may have to begin. Pieces begin one word early:
    /// a saved frame pointer lies just below its return address, and often comes after it.
    #[inline(always)]
    fn place(&mut self, above: u64) -> Option<u64> {
        let last = usize::from(self.pieces).wrapping_sub(1);
        let piece = *self.piece.get(last)?;
        let total = u64::from(self.total);
        if above < u64::from(piece.above) {
            return self.place_in_earlier(last, above);
        }
        let place = u64::from(piece.place) + (above - u64::from(piece.above));
        if place < total + PIECE_GAP && place < WINDOW_WORDS as u64 {
            self.total = self.total.max(place as u16 + 1);
            return Some(place);
        }
        if above > u64::from(u16::MAX) || total + 2 > WINDOW_WORDS as u64 {
            return None;
        }
        *self.piece.get_mut(last + 1)? = Piece { above: (above - 1) as u16, place: self.total };
        if last == 0 {
            if !self.fill() {
                return None;
            }
            self.near = self.count as u16;
        }
        self.pieces += 1;
        self.total += 2;
        Some(total + 1)
    }

    #[inline(always)]
    fn place_in_earlier(&self, last: usize, above: u64) -> Option<u64> {
        let mut found = None;
        for index in 0..MAX_PIECES - 1 {
            if index >= last {
                break;
            }
            let piece = self.piece[index];
            let inside = above.wrapping_sub(u64::from(piece.above));
            if inside < self.piece_words(index) {
                found = Some(u64::from(piece.place) + inside);
            }
        }
        found
    }

    /// How many words a piece has.
    #[inline(always)]
    pub const fn piece_words(&self, index: usize) -> u64 {
        let next = index + 1;
        let end = if next < self.pieces as usize && next < MAX_PIECES { self.piece[next].place } else { self.total };
        (end as u64).wrapping_sub(self.piece[index & (MAX_PIECES - 1)].place as u64)
    }

    /// Fills up the last group with the return address, which is compared anyhow.
    #[inline(always)]
    fn fill(&mut self) -> bool {
        let first = value(self.first);
        for _ in 0..GROUP - 1 {
            if (self.count as usize).is_multiple_of(GROUP) {
                break;
            }
            if !self.push(first) {
                return false;
            }
        }
        true
    }

    #[inline(always)]
    fn push(&mut self, packed: u64) -> bool {
        let Some(word) = self.words.get_mut(self.count as usize) else { return false };
        *word = packed;
        self.count += 1;
        true
    }

    /// The differences between the words of a group and those in the window; 0 if there is none.
    #[inline(always)]
    pub fn differences(&self, group: usize, window: &[u64; 2 * WINDOW_WORDS]) -> u64 {
        // A number of which the compiler knows nothing: it leaves the check in place that the verifier needs.
        let group = core::hint::black_box(group);
        if group >= MAX_REMEMBERED_WORDS / GROUP {
            return u64::MAX;
        }
        let mut differences = 0;
        for index in 0..GROUP {
            let packed = self.words[group * GROUP + index];
            differences |= window[place(packed) as usize & (WINDOW_WORDS - 1)] ^ value(packed);
        }
        differences
    }
}

/// Bits of a value: what decides a walk is an address of user space, or the walk would have ended.
const VALUE_BITS: u32 = 48;

/// A word and its place; `None` if one is too large.
#[inline(always)]
pub const fn pack(place: u64, value: u64) -> Option<u64> {
    if place > u16::MAX as u64 || value >> VALUE_BITS != 0 { None } else { Some(place << VALUE_BITS | value) }
}

/// The place of a packed word.
#[inline(always)]
pub const fn place(packed: u64) -> u64 {
    packed >> VALUE_BITS
}

/// The value of a packed word.
#[inline(always)]
pub const fn value(packed: u64) -> u64 {
    packed & ((1 << VALUE_BITS) - 1)
}

/// Pieces of the running thread's stack, one behind the other.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Window {
    /// Not 0 while a program uses it.
    pub busy: u64,
    /// How many words of the first piece it holds.
    pub near: u64,
    /// The words; twice as many as are used, so that no sum of a place and a length is outside.
    pub words: [u64; 2 * WINDOW_WORDS],
}

const _: () = assert!(size_of::<Window>() == 16 + 16 * WINDOW_WORDS);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: u64 = 0x5555_5555_1234;

    fn empty() -> Remembered {
        let mut entry = Remembered {
            first: 0,
            sp: 0,
            fp: 0,
            range: 0,
            id: 0,
            count: 0,
            near: 0,
            fp_decides: 0,
            pieces: 0,
            total: 0,
            second: 0,
            depth_place: 0,
            piece: [Piece { above: 0, place: 0 }; MAX_PIECES],
            words: [0; MAX_REMEMBERED_WORDS],
        };
        entry.begin(FIRST);
        entry
    }

    /// Reads the pieces as the programs do, and compares all words.
    fn stands(entry: &Remembered, stack: &[u64]) -> bool {
        let mut window = [u64::MAX; 2 * WINDOW_WORDS];
        let mut read = |index: usize| {
            let Piece { above, place } = entry.piece[index];
            for word in 0..entry.piece_words(index) as usize {
                window[usize::from(place) + word] = stack[usize::from(above) + word];
            }
        };
        (0..usize::from(entry.pieces)).for_each(&mut read);
        (0..entry.count as usize / GROUP).all(|group| entry.differences(group, &window) == 0)
    }

    proptest! {
        #[test]
        fn every_noted_word_counts_and_no_other(
            gaps in prop::collection::vec((prop_oneof![1u64..40, 200u64..300, 1000u64..3000], any::<bool>()), 1..40),
            other in 0usize..60_000,
        ) {
            let mut entry = empty();
            let mut stack: Vec<u64> = (0..u64::from(u16::MAX) + 1).map(|at| at << 8 | 0x7f00_0000_0000).collect();
            stack[0] = FIRST;
            let mut noted = Vec::new();
            let mut above = 0;
            for (gap, pointer) in gaps {
                above += gap;
                let whole = entry.add(above, stack[above as usize]);
                if !whole {
                    break;
                }
                noted.push(above as usize);
                // The saved frame pointer below it.
                if pointer && gap > 1 && entry.add(above - 1, stack[above as usize - 1]) {
                    noted.push(above as usize - 1);
                }
            }
            prop_assume!(entry.end(7));
            prop_assert!(usize::from(entry.total) <= WINDOW_WORDS);
            prop_assert!(stands(&entry, &stack));
            for &at in &noted {
                let before = std::mem::replace(&mut stack[at], 1);
                prop_assert!(!stands(&entry, &stack), "word {at} does not count");
                stack[at] = before;
            }
            if !noted.contains(&other) && other != 0 {
                stack[other] = 1;
                prop_assert!(stands(&entry, &stack), "word {other} counts");
            }
        }
    }

    #[test]
    fn near_words_need_one_piece_and_far_ones_another() {
        let mut entry = empty();
        assert!(entry.add(3, 1) && entry.add(10, 2) && entry.add(10 + PIECE_GAP, 3));
        assert_eq!((entry.pieces, u64::from(entry.total)), (1, 11 + PIECE_GAP));
        assert!(entry.add(5000, 4) && entry.add(4999, 5) && entry.add(9, 6));
        assert_eq!((entry.pieces, u64::from(entry.total), entry.near), (2, 13 + PIECE_GAP, 4));
        assert_eq!((entry.piece[1].above, u64::from(entry.piece[1].place)), (4999, 11 + PIECE_GAP));
        assert!(entry.end(1));
        assert_eq!(entry.count, 8);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let mut entry = empty();
        assert!(!entry.add(3, 1 << 48), "a value that is no address of user space");
        assert!(!entry.add(1 << 16, 1), "too far up");
        let words = (0..100).take_while(|&word| entry.add(word + 1, 1)).count();
        assert_eq!(words, MAX_REMEMBERED_WORDS);
        let mut entry = empty();
        let pieces = (1..100).take_while(|&piece| entry.add(piece * 600, 1)).count();
        assert_eq!(pieces, MAX_PIECES - 1);
    }

    #[test]
    fn a_word_survives_packing() {
        for (at, word) in [(0, 0), (1, 0x7fff_ffff_ffff), (65_535, 1), (7, (1 << 48) - 1)] {
            let packed = pack(at, word).unwrap();
            assert_eq!((place(packed), value(packed)), (at, word));
        }
        assert_eq!(pack(65_536, 1), None);
        assert_eq!(pack(1, 1 << 48), None);
    }
}
