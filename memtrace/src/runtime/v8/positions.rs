//! Which place in the source text an instruction is of: V8's tables of source positions (src/codegen/source-position-table.cc), and the
//! lines of a text.

use std::rc::Rc;

/// The most bytes of a table.
pub const MAX_TABLE_BYTES: u64 = 256 << 10;

/// How the steps in the code are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Form {
    /// As a signed number, whose sign says whether a statement begins.
    #[default]
    Signed,
    /// As a number, behind two bits about the entry: V8 14.
    Tagged,
}

/// A place in source text, and in which of the functions that were inlined.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Position {
    /// Characters from the beginning of the script.
    pub character: u32,
    /// The index among the places at which functions were inlined; `None` in the function itself.
    pub inlined: Option<u16>,
}

impl Position {
    /// The position that a number of V8's stands for (src/codegen/source-position.h); `None` for one that is none, or in no script.
    pub fn of(raw: i64) -> Option<Position> {
        let raw = raw.cast_unsigned();
        let character = (raw >> 1 & 0x3fff_ffff) as u32;
        let inlined = (raw >> 31) as u16;
        (raw & 1 == 0 && character > 0).then(|| Position { character: character - 1, inlined: inlined.checked_sub(1) })
    }
}

/// An entry of a table: from which offset on it holds, which is -1 for the function as a whole, and a position.
pub type Entry = (i64, i64);

/// The entries of a table; ends where it is damaged.
pub fn entries(table: &[u8], form: Form) -> impl Iterator<Item = Entry> + '_ {
    let (mut offset, mut position) = (-1i64, 0i64);
    let mut rest = table;
    std::iter::from_fn(move || {
        let step = number(&mut rest)?;
        let by = match form {
            Form::Signed => match signed(step) {
                step @ 0.. => step,
                step => -(step + 1),
            },
            Form::Tagged => (step >> 2).cast_signed(),
        };
        offset = offset.checked_add(by)?;
        position = position.checked_add(signed(number(&mut rest)?))?;
        Some((offset, position))
    })
}

/// The position of the instruction at an offset: that of the last entry that does not come behind it.
pub fn at(table: &[u8], form: Form, offset: i64) -> Option<Position> {
    let raw = entries(table, form).take_while(|&(at, _)| at <= offset).last()?.1;
    Position::of(raw)
}

fn signed(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// A number of seven bits a byte, the lowest first.
pub fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// The lines of one function's script, and where the function begins.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lines {
    /// The character at which each line but the first begins.
    pub begins: Rc<[u32]>,
    /// The line of the file at which the script begins; 0 for the first one.
    pub first: u32,
    /// Where the function begins, in characters.
    pub function: Option<u32>,
}

impl Lines {
    /// The line of a place, counted from 1. A place is a character and 1; 0 is the function's beginning.
    pub fn line(&self, place: u32) -> Option<u32> {
        let character = place.checked_sub(1).or(self.function)?;
        let before = self.begins.partition_point(|&begin| begin <= character);
        u32::try_from(before).ok()?.checked_add(self.first)?.checked_add(1)
    }

    /// The memory that the lines take which are this function's own, in bytes.
    pub fn bytes(&self) -> usize {
        64
    }
}

/// Where lines begin in a text of characters of so many bytes each, but for the first one.
pub fn begins(text: &[u8], width: usize) -> Vec<u32> {
    let ends = text
        .chunks_exact(width.max(1))
        .enumerate()
        .filter(|(_, character)| character[0] == b'\n' && character[1..].iter().all(|&byte| byte == 0));
    ends.map_while(|(at, _)| u32::try_from(at + 1).ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_place_in_the_source_is_that_of_the_last_entry_before() {
        let table = [0x00, 0x64, 0x02, 0x28, 0x07, 0x0c];
        let found: Vec<Entry> = entries(&table, Form::Signed).collect();
        assert_eq!(found, [(-1, 50), (0, 70), (3, 76)]);
        let character = |offset| at(&table, Form::Signed, offset).map(|position| position.character);
        assert_eq!((character(-1), character(0), character(2), character(3)), (Some(24), Some(34), Some(34), Some(37)));
    }

    #[test]
    fn two_bits_stand_before_the_steps_of_newer_tables() {
        let table = [0x02, 0xac, 0x02, 0x07, 0x44];
        assert_eq!(entries(&table, Form::Tagged).collect::<Vec<_>>(), [(-1, 150), (0, 184)]);
        assert_eq!(at(&table, Form::Tagged, 7), Some(Position { character: 91, inlined: None }));
    }

    #[test]
    fn a_position_says_which_inlined_function_it_is_in() {
        let raw = |character: i64, inlined: i64| (character + 1) << 1 | (inlined + 1) << 31;
        assert_eq!(Position::of(raw(7, 2)), Some(Position { character: 7, inlined: Some(2) }));
        assert_eq!(Position::of(raw(7, -1)), Some(Position { character: 7, inlined: None }));
        assert_eq!((Position::of(0), Position::of(raw(7, 0) | 1)), (None, None));
    }

    #[test]
    fn lines_are_counted_from_one_and_from_where_the_script_begins() {
        let begins: Rc<[u32]> = begins(b"ab\n\ncd\n", 1).into();
        assert_eq!(*begins, [3, 4, 7]);
        let lines = Lines { begins, first: 0, function: Some(4) };
        assert_eq!([1, 3, 4, 5, 6, 0].map(|place| lines.line(place)), [1, 1, 2, 3, 3, 3].map(Some));
        assert_eq!(Lines { first: 10, function: None, ..lines }.line(0), None);
        assert_eq!(super::begins(&[b'a', 0, b'\n', 0, b'\n', 1], 2), [2]);
    }

    proptest! {
        #[test]
        fn any_table_is_read(table in prop::collection::vec(any::<u8>(), 0..100), offset in any::<i64>()) {
            let _ = (at(&table, Form::Signed, offset), at(&table, Form::Tagged, offset));
        }
    }
}
