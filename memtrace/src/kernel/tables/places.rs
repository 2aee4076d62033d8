//! Places for lists in an array: never where a busy one is, and not soon where one has just been.

use crate::unwind::Extent;

/// Hands out places in turn, round the array. A list's place is also its name to the programs, which compare it to find
/// out whether the list has changed: the same place comes again only when the rest of the array has been used.
#[derive(Debug)]
pub(super) struct Places {
    limit: u32,
    next: u32,
}

impl Places {
    pub(super) const fn new(limit: u32) -> Self {
        Self { limit, next: 0 }
    }

    /// The first place from the last one on that overlaps nothing busy.
    pub(super) fn take(&mut self, count: u32, busy: impl Iterator<Item = Extent>) -> Option<u32> {
        let mut busy: Vec<Extent> = busy.filter(|extent| extent.count > 0).collect();
        busy.sort_by_key(|extent| extent.first);
        let first = free(&busy, count, self.next, self.limit).or_else(|| free(&busy, count, 0, self.limit))?;
        // A list takes at least one place, so that the next one's name differs.
        self.next = first.saturating_add(count.max(1));
        Some(first)
    }
}

/// The first place for `count` elements in `from..limit`, between the busy ones, which are sorted.
fn free(busy: &[Extent], count: u32, from: u32, limit: u32) -> Option<u32> {
    let mut at = from;
    for extent in busy {
        if extent.first >= at && extent.first - at >= count {
            break;
        }
        at = at.max(extent.first.saturating_add(extent.count));
    }
    (at <= limit && limit - at >= count).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_places_overlap_nothing_busy() {
        let busy = [Extent { first: 0, count: 4 }, Extent { first: 10, count: 5 }, Extent { first: 12, count: 8 }];
        assert_eq!(free(&busy, 6, 0, 100), Some(4));
        assert_eq!(free(&busy, 7, 0, 100), Some(20));
        assert_eq!(free(&busy, 80, 0, 100), Some(20));
        assert_eq!(free(&busy, 81, 0, 100), None);
        assert_eq!(free(&busy, 3, 6, 100), Some(6));
        assert_eq!(free(&busy, 5, 6, 100), Some(20));
        assert_eq!(free(&[], 100, 0, 100), Some(0));
        assert_eq!(free(&[], 1, 100, 100), None);
    }

    #[test]
    fn a_place_comes_again_only_after_all_others() {
        let mut places = Places::new(10);
        let busy = Extent { first: 4, count: 2 };
        let taken: Vec<Option<u32>> = (0..6).map(|_| places.take(2, [busy].into_iter())).collect();
        assert_eq!(taken, [Some(0), Some(2), Some(6), Some(8), Some(0), Some(2)]);
        assert_eq!(places.take(5, [busy].into_iter()), None);
    }
}
