//! Which line an instruction of Python code is of: the tables of the compiler, in the three forms that they have had.
//!
//! Sources: Objects/lnotab_notes.txt of CPython 3.8 (pairs of bytes), Objects/lnotab_notes.txt of 3.10 (PEP 626), and
//! Objects/locations.md of 3.11 (PEP 657).

use crate::runtime::chain::BEFORE;

/// The table of one piece of code.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lines {
    /// In which form it is.
    pub form: Form,
    /// The line at which the code begins.
    pub first: u32,
    /// The bytes of the table.
    pub table: Vec<u8>,
}

/// The forms that tables of lines have had.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Form {
    /// Up to 3.9: pairs of steps in the code and in the lines.
    Pairs,
    /// 3.10: pairs of lengths of code and steps in the lines.
    Ranges,
    /// From 3.11 on: entries with columns.
    #[default]
    Locations,
}

impl Lines {
    /// The line of the instruction at this offset from the first one, in bytes, or of a frame before its first one; `None` if it belongs to
    /// none, or the table is damaged.
    pub fn line(&self, offset: u32) -> Option<u32> {
        if offset == BEFORE {
            return Some(self.first);
        }
        let line = match self.form {
            Form::Pairs => self.of_pairs(offset),
            Form::Ranges => self.of_ranges(offset),
            Form::Locations => self.of_locations(offset),
        }?;
        u32::try_from(line).ok()
    }

    /// The length of the table in bytes.
    pub fn bytes(&self) -> usize {
        self.table.len()
    }

    fn of_pairs(&self, offset: u32) -> Option<i64> {
        let (mut line, mut address) = (i64::from(self.first), 0u64);
        for pair in self.table.chunks_exact(2) {
            address += u64::from(pair[0]);
            if address > offset.into() {
                break;
            }
            line += i64::from(pair[1].cast_signed());
        }
        Some(line)
    }

    fn of_ranges(&self, offset: u32) -> Option<i64> {
        /// The code has no line.
        const NONE: i8 = -128;
        let (mut line, mut end) = (i64::from(self.first), 0u64);
        for pair in self.table.chunks_exact(2) {
            let step = pair[1].cast_signed();
            if step != NONE {
                line += i64::from(step);
            }
            end += u64::from(pair[0]);
            if u64::from(offset) < end {
                return (step != NONE).then_some(line);
            }
        }
        None
    }

    fn of_locations(&self, offset: u32) -> Option<i64> {
        /// Bytes of a unit of code.
        const UNIT: u32 = 2;
        let wanted = u64::from(offset / UNIT);
        let (mut line, mut end) = (i64::from(self.first), 0u64);
        let mut bytes = self.table.iter().copied();
        while let Some(head) = bytes.next() {
            // The first byte of an entry has its highest bit set.
            if head & 0x80 == 0 {
                return None;
            }
            let code = head >> 3 & 15;
            match code {
                0..=9 => _ = bytes.next()?,
                10..=12 => {
                    line = line.checked_add(i64::from(code - 10))?;
                    bytes.next()?;
                    bytes.next()?;
                }
                13 => line = line.checked_add(signed(&mut bytes)?)?,
                14 => {
                    line = line.checked_add(signed(&mut bytes)?)?;
                    for _ in 0..3 {
                        unsigned(&mut bytes)?;
                    }
                }
                _ => {}
            }
            end += u64::from(head & 7) + 1;
            if wanted < end {
                return (code != 15).then_some(line);
            }
        }
        None
    }
}

/// A number in pieces of six bits, the lowest first; bit 6 says that another follows.
fn unsigned(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = bytes.next()?;
        value |= u64::from(byte & 63).checked_shl(shift)?;
        if byte & 64 == 0 {
            return Some(value);
        }
        shift += 6;
        // More than any line has.
        if shift > 48 {
            return None;
        }
    }
}

/// The same with the sign in the lowest bit.
fn signed(bytes: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let value = unsigned(bytes)?;
    let magnitude = i64::try_from(value >> 1).ok()?;
    Some(if value & 1 == 0 { magnitude } else { -magnitude })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(form: Form, first: u32, table: &[u8]) -> Lines {
        Lines { form, first, table: table.to_vec() }
    }

    #[test]
    fn pairs_step_through_code_and_lines() {
        let lines = lines(Form::Pairs, 10, &[4, 1, 6, 0xff, 2, 100]);
        let of: Vec<_> = [0, 3, 4, 9, 10, 11, 12, 500].map(|offset| lines.line(offset)).to_vec();
        assert_eq!(of, [10, 10, 11, 11, 10, 10, 110, 110].map(Some));
    }

    #[test]
    fn ranges_say_how_long_a_line_is_and_that_there_is_none() {
        let lines = lines(Form::Ranges, 10, &[4, 1, 6, 0x80, 2, 0xfe]);
        assert_eq!(
            [0, 3, 4, 9, 10, 11, 12].map(|offset| lines.line(offset)),
            [Some(11), Some(11), None, None, Some(9), Some(9), None]
        );
        assert_eq!(lines.line(BEFORE), Some(10));
    }

    #[test]
    fn locations_have_short_and_long_forms() {
        let entry = |code: u8, length: u8| 0x80 | code << 3 | (length - 1);
        // On the same line; two lines on; five lines back; 64 lines on with columns; none.
        let table = [
            &[entry(3, 2), 0x11][..],
            &[entry(12, 1), 1, 2],
            &[entry(13, 8), 5 << 1 | 1],
            &[entry(14, 1), 0x40, 2, 0, 1, 1],
            &[entry(15, 3)],
        ]
        .concat();
        let lines = lines(Form::Locations, 20, &table);
        let of = |unit: u32| lines.line(2 * unit);
        assert_eq!([0, 1, 2, 3, 10].map(of), [20, 20, 22, 17, 17].map(Some));
        assert_eq!((of(11), of(12), of(14), of(15)), (Some(17 + 64), None, None, None));
        assert_eq!(lines.line(3), Some(20), "an offset within an instruction");
    }

    #[test]
    fn a_damaged_table_has_no_lines() {
        for table in [
            &[0x10u8][..],
            &[0x80 | 14 << 3, 0x40],
            &[0x80 | 13 << 3, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f],
            &[],
        ] {
            assert_eq!(lines(Form::Locations, 1, table).line(0), None, "{table:?}");
        }
    }

    proptest! {
        #[test]
        fn any_table_is_a_line_or_none(
            table in prop::collection::vec(any::<u8>(), 0..300),
            first in any::<u32>(),
            offset in any::<u32>(),
        ) {
            for form in [Form::Pairs, Form::Ranges, Form::Locations] {
                let _ = lines(form, first, &table).line(offset);
            }
        }
    }
}
