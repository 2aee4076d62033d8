//! Which entry of the table of lines an instruction of Ruby belongs to: a table that says for each place how many entries begin up to it, kept
//! in few bits (`succ_index_table` in iseq.c of Ruby 3.1).
//!
//! The first places are in words of nine numbers of seven bits. Those behind are in blocks of 512: the number of entries before the block, the
//! numbers within it before each of its words but the first, nine bits each, and a bit for each place at which an entry begins.

use crate::runtime::memory::{half_word_at, word_at};

/// How many places are in the first part, and how many of them in a word.
const FIRST: usize = 54;
const IN_WORD: usize = 9;
/// Places of a block, and of a word of it.
const IN_BLOCK: usize = 512;
const BITS: usize = 64;
/// In a block: the numbers before its words, and the words; and how many bytes it has.
const RANKS: usize = 8;
const WORDS: usize = 16;
const BLOCK_BYTES: usize = WORDS + IN_BLOCK / 8;
/// Bytes of the first part where there are more.
const FIRST_BYTES: usize = FIRST / IN_WORD * 8;

/// Bytes of the table for so many places.
pub const fn table_bytes(places: usize) -> usize {
    if places < FIRST {
        return (places + 8) / IN_WORD * 8;
    }
    FIRST_BYTES + (places - FIRST).div_ceil(IN_BLOCK) * BLOCK_BYTES
}

/// How many entries begin at this place or before it; `None` if the table is shorter.
pub fn entries_up_to(table: &[u8], place: usize) -> Option<usize> {
    if place < FIRST {
        let word = word_at(table, place / IN_WORD * 8)?;
        return Some((word >> (place % IN_WORD * 7)) as usize & 0x7f);
    }
    let place = place - FIRST;
    let block = table.get(FIRST_BYTES + place / IN_BLOCK * BLOCK_BYTES..)?;
    let (word, bit) = (place % IN_BLOCK / BITS, place % BITS);
    let before = match word {
        0 => 0,
        _ => (word_at(block, RANKS)? >> ((word - 1) * 9)) as usize & 0x1ff,
    };
    let begun = word_at(block, WORDS + 8 * word)? << (BITS - 1 - bit);
    (half_word_at(block, 0)? as usize).checked_add(before)?.checked_add(begun.count_ones() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of entries that begin at these places, of so many places.
    fn table(begin: &[usize], places: usize) -> Vec<u8> {
        let up_to = |place: usize| begin.iter().filter(|&&at| at <= place).count() as u64;
        let mut words: Vec<u64> = (0..FIRST / IN_WORD)
            .map(|word| (0..IN_WORD).map(|at| up_to(word * IN_WORD + at) << (7 * at)).fold(0, |word, part| word | part))
            .collect();
        for block in 0..places.saturating_sub(FIRST).div_ceil(IN_BLOCK) {
            let first = FIRST + block * IN_BLOCK;
            let before = up_to(first - 1);
            words.push(before);
            let ranks = (1..8).map(|word| (up_to(first + word * BITS - 1) - before) << (9 * (word - 1)));
            words.push(ranks.fold(0, |word, part| word | part));
            for word in 0..8 {
                let bits = (0..BITS).filter(|bit| begin.contains(&(first + word * BITS + bit)));
                words.push(bits.fold(0, |word, bit| word | 1 << bit));
            }
        }
        words.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    #[test]
    fn each_place_has_the_entries_that_begin_up_to_it() {
        let begin = [0, 3, 8, 9, 53, 54, 117, 118, 300, 565, 566, 567, 1400];
        let table = table(&begin, 1500);
        assert_eq!(table.len(), table_bytes(1500));
        for place in 0..1500 {
            let expected = begin.iter().filter(|&&at| at <= place).count();
            assert_eq!(entries_up_to(&table, place), Some(expected), "{place}");
        }
        assert_eq!(entries_up_to(&table[..80], 200), None);
        assert_eq!((table_bytes(1), table_bytes(10), table_bytes(53), table_bytes(55)), (8, 16, 48, 48 + 80));
    }

    proptest::proptest! {
        #[test]
        fn any_table_has_an_answer_or_none(table in proptest::collection::vec(proptest::num::u8::ANY, 0..300), place in 0usize..5000) {
            let _ = entries_up_to(&table, place);
        }
    }
}
