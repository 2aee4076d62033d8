//! Which table covers an address: the target's executable mappings, sorted.

/// An executable mapping of a target and the rows of its object's table.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Segment {
    /// The first address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Where the table's base is in the target: row offsets count from here.
    pub base: u64,
    /// Index of the table's first row.
    pub first_row: u32,
    /// How many rows the table has; 0 for code without a table, [`TRAMPOLINE`] for the kernel's return-probe page.
    pub rows: u32,
}

/// `rows` of the page to which return probes of any tool send a function's return.
pub const TRAMPOLINE: u32 = u32::MAX;

impl Segment {
    /// Whether the address lies in it.
    #[inline(always)]
    pub const fn contains(&self, address: u64) -> bool {
        self.start <= address && address < self.end
    }
}

/// Segments of all targets, one target's behind the other's, each sorted by address.
pub trait Segments {
    /// The segment with this index, or `None` if there is none.
    fn segment(&self, index: u32) -> Option<Segment>;
}

/// Halvings that the longest list needs; a target has fewer than `1 << MAX_STEPS` segments.
pub const MAX_STEPS: u32 = 13;

/// The segment that `address` lies in, of `count` from `first` on.
#[inline(always)]
pub fn find<S: Segments>(segments: &S, first: u32, count: u32, address: u64) -> Option<Segment> {
    let mut low = first;
    let mut remaining = count;
    for _ in 0..MAX_STEPS {
        if remaining <= 1 {
            break;
        }
        let half = remaining >> 1;
        let middle = segments.segment(low.wrapping_add(half))?;
        if middle.start <= address {
            low = low.wrapping_add(half);
        }
        remaining -= half;
    }
    let found = segments.segment(low)?;
    if count != 0 && found.contains(address) { Some(found) } else { None }
}

/// Where a target's segments are: packed into one word, so that programs see all of a change or nothing.
pub const fn pack_range(first: u32, count: u32) -> u64 {
    (first as u64) << 32 | count as u64
}

/// The index of a target's first segment, and how many it has.
#[inline(always)]
pub const fn unpack_range(range: u64) -> (u32, u32) {
    ((range >> 32) as u32, range as u32)
}

const _: () = assert!(size_of::<Segment>() == 32);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Plain(Vec<Segment>);

    impl Segments for Plain {
        fn segment(&self, index: u32) -> Option<Segment> {
            self.0.get(index as usize).copied()
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_a_linear_search_finds(
            lengths in prop::collection::vec((0u64..50, 1u64..50), 0..200),
            before in 0usize..5,
            wanted in 0u64..12_000,
        ) {
            let mut segments = vec![Segment { start: 5, end: 6, ..Segment::default() }; before];
            let mut at = 10;
            for (gap, length) in lengths {
                segments.push(Segment { start: at + gap, end: at + gap + length, base: at, ..Segment::default() });
                at += gap + length;
            }
            let own = &segments[before..];
            let expected = own.iter().copied().find(|segment| segment.contains(wanted));
            let count = own.len() as u32;
            prop_assert_eq!(find(&Plain(segments.clone()), before as u32, count, wanted), expected);
        }
    }

    #[test]
    fn a_range_survives_packing() {
        for range in [(0, 0), (1, 2), (u32::MAX, 7), (7, u32::MAX)] {
            assert_eq!(unpack_range(pack_range(range.0, range.1)), range);
        }
    }
}
