//! Finds the row that covers an address.

use super::row::{row_offset, row_rule};

/// Sorted rows, of one table or of many one behind the other.
pub trait Rows {
    /// The row with this index, or `None` if there is none.
    fn row(&self, index: u32) -> Option<u64>;
}

/// Halvings that the largest table needs; a table has fewer than `1 << MAX_STEPS` rows.
pub const MAX_STEPS: u32 = 24;

/// How far an address is behind a table's base, which may wrap around; `None` if no row can be for it.
#[inline(always)]
pub const fn offset(address: u64, base: u64) -> Option<u32> {
    let offset = address.wrapping_sub(base);
    if offset > u32::MAX as u64 { None } else { Some(offset as u32) }
}

/// The packed rule of the last of `count` rows from `first` on that begins at or before `offset`: `None` if the table
/// begins after it, or is damaged.
///
/// One read a step. What depends on the row that was read is a mask; where the compiler makes a branch of it, both ways
/// leave numbers of which the verifier knows equally little, so that it follows one of them only.
#[inline(always)]
pub fn search<R: Rows>(rows: &R, first: u32, count: u32, offset: u32) -> Option<u32> {
    // The row sought is among the `remaining` rows from `low` on, if the first of them is not behind the address.
    let mut low = first;
    let mut remaining = count;
    for _ in 0..MAX_STEPS {
        if remaining <= 1 {
            break;
        }
        let half = remaining >> 1;
        let middle = row_offset(rows.row(low.wrapping_add(half))?);
        // All ones if `middle` lies behind `offset`, else 0.
        let behind = (u64::from(offset).wrapping_sub(u64::from(middle)) as i64 >> 63) as u32;
        low = low.wrapping_add(half & !behind);
        remaining -= half;
    }
    let row = rows.row(low)?;
    if count == 0 || row_offset(row) > offset {
        return None;
    }
    Some(row_rule(row))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::unwind::row::row;

    struct Plain(Vec<u64>);

    impl Rows for Plain {
        fn row(&self, index: u32) -> Option<u64> {
            self.0.get(index as usize).copied()
        }
    }

    #[test]
    fn nothing_is_found_in_an_empty_table_or_before_the_first_row() {
        let rows = Plain(vec![row(10, 1), row(20, 2)]);
        assert_eq!(search(&rows, 0, 0, 15), None);
        assert_eq!(search(&rows, 0, 2, 9), None);
        assert_eq!(search(&rows, 0, 2, 10), Some(1));
        assert_eq!(search(&rows, 0, 2, u32::MAX), Some(2));
        assert_eq!(search(&rows, 1, 5, u32::MAX), None, "a count that lies about the rows is not believed");
    }

    #[test]
    fn the_largest_table_is_searched_within_the_steps() {
        struct Endless;
        impl Rows for Endless {
            fn row(&self, index: u32) -> Option<u64> {
                Some(row(index, index))
            }
        }
        let count = (1 << MAX_STEPS) - 1;
        for offset in [0, 1, count / 3, count - 1] {
            assert_eq!(search(&Endless, 0, count, offset), Some(offset));
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_a_linear_search_finds(
            mut offsets in prop::collection::vec(0u32..3000, 0..300),
            before in 0usize..20,
            wanted in 0u32..3100,
        ) {
            offsets.sort_unstable();
            offsets.dedup();
            let mut rows = vec![row(77, 0); before];
            rows.extend(offsets.iter().map(|&offset| row(offset, offset + 1)));
            rows.push(row(0, 0));
            let expected = offsets.iter().rev().find(|&&offset| offset <= wanted).map(|&offset| offset + 1);
            prop_assert_eq!(search(&Plain(rows), before as u32, offsets.len() as u32, wanted), expected);
        }
    }
}
