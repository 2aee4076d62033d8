//! Memory that only a collection of a whole heap frees: between two of them, what has died looks the same as what is kept.
//!
//! So such memory is called growing only if what collections leave shows it. Of a heap it is known how much each of them left. Of
//! blocks it is known how old those are that lived through the last one: where blocks are kept for good they are of all ages, and where each
//! is kept for some time they are young. All times are milliseconds since the attach.

use super::{survival::span, thresholds};

/// A collection of the whole heap that was seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Collection {
    /// A time just before it: what is older was looked at by it.
    pub before_ms: u64,
    /// The bytes of the heap that it left.
    pub left_bytes: u64,
}

/// What is known of the collections of a heap.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// All that were finished since the attach, the oldest first; some of the middle may be left out.
    Seen(&'a [Collection]),
    /// They cannot be seen, and why not, as the end of a sentence.
    Unseen(&'a str),
}

/// Whether something grows that a series says is growing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ruling {
    /// It grows, and how that is known, as the end of a sentence.
    Grows(String),
    /// That is not known, and why not, as the end of a sentence.
    Unknown(String),
}

/// Rules on a heap, which has grown by `grown_bytes` since the attach, garbage included.
pub fn rule_heap(known: Known<'_>, grown_bytes: u64, now_ms: u64) -> Ruling {
    let seen = match known {
        Known::Seen(seen) => seen,
        Known::Unseen(why) => return unseen(why, grown_bytes),
    };
    let Some(last) = seen.last() else { return uncollected(grown_bytes, "all of it") };
    // What was there at first may have been full of things that are made once.
    let Some(earlier) = seen.iter().rev().find(|earlier| 2 * earlier.before_ms <= last.before_ms).or(seen.first())
    else {
        return uncollected(grown_bytes, "all of it");
    };
    if earlier == last {
        return Ruling::Unknown(
            "; one collection of the whole heap was seen, and it takes two to tell what is kept from garbage"
                .to_owned(),
        );
    }
    if is_old(last, now_ms) {
        return Ruling::Unknown(too_old(last, now_ms));
    }
    let rise = last.left_bytes.saturating_sub(earlier.left_bytes);
    let share = thresholds::RISE_OF_WHAT_COLLECTIONS_LEAVE * earlier.left_bytes as f64;
    let apart = span(last.before_ms - earlier.before_ms);
    if rise >= thresholds::LEAST_RISE_OF_WHAT_COLLECTIONS_LEAVE && rise as f64 >= share {
        let more = 100.0 * rise as f64 / earlier.left_bytes.max(1) as f64;
        Ruling::Grows(format!(
            "; the last collection of the whole heap left {more:.0} % more than the one {apart} before"
        ))
    } else {
        Ruling::Unknown(format!(
            ", but the last collection of the whole heap left no more than the one {apart} before: what has come since then may be garbage"
        ))
    }
}

/// Whether the collections say that a heap does not grow of which more and more was found to be reachable, as the end of a sentence: the
/// last one, in the newer half of the time, left no more than one long before. What they left is what V8 itself holds.
pub fn deny(seen: &[Collection], now_ms: u64) -> Option<String> {
    let last = seen.last().filter(|last| 2 * last.before_ms >= now_ms)?;
    let earlier = seen.iter().rev().find(|earlier| 2 * earlier.before_ms <= last.before_ms)?;
    (last.left_bytes <= earlier.left_bytes).then(|| {
        let apart = span(last.before_ms - earlier.before_ms);
        format!(", but the last collection of the whole heap left no more than the one {apart} before")
    })
}

/// Rules on blocks, which have grown by `grown_bytes` since the attach, dead ones included. `left` is what lives of those that are
/// older than the last collection, by the quarter of the time from the attach to it in which they were allocated.
pub fn rule_blocks(known: Known<'_>, left: [u64; 4], grown_bytes: u64, now_ms: u64) -> Ruling {
    let last = match known {
        Known::Seen(seen) => seen.last(),
        Known::Unseen(why) => return unseen(why, grown_bytes),
    };
    let Some(last) = last else { return uncollected(grown_bytes, "these") };
    if last.before_ms < thresholds::LEAST_WATCHED_BEFORE_A_COLLECTION_MS {
        return Ruling::Unknown(
            "; the one collection of V8's whole heap came too soon after the attach to tell what is kept from what waits for the next"
                .to_owned(),
        );
    }
    if is_old(last, now_ms) {
        return Ruling::Unknown(too_old(last, now_ms));
    }
    let all: u64 = left.iter().fold(0, |sum, &bytes| sum.saturating_add(bytes));
    let part = |bytes: u64| bytes as f64 / all.max(1) as f64;
    let ago = span(now_ms.saturating_sub(last.before_ms));
    if part(left[0]) >= thresholds::LEAST_OF_THE_FIRST_QUARTER && part(left[3]) >= thresholds::LEAST_OF_THE_LAST_QUARTER
    {
        Ruling::Grows(format!("; V8's last collection of the whole heap, {ago} ago, left blocks of all ages"))
    } else if part(left[0]) < thresholds::LEAST_OF_THE_FIRST_QUARTER {
        Ruling::Unknown(format!(
            ", but V8's last collection of the whole heap, {ago} ago, left few old ones: what has come since then may wait for the next"
        ))
    } else {
        Ruling::Unknown(format!(
            ", but V8's last collection of the whole heap, {ago} ago, left old ones only: what has come since then may wait for the next"
        ))
    }
}

/// Rules on blocks by what can be reached of them, as a collection would leave it: `left` is what of these appeared in each quarter of the time
/// from the attach until that was looked at, at `at_ms`. `None` when most of what they have grown by, `grown_bytes`, waits for a collection: what
/// little is left may be so by chance; and when it was looked at too soon.
pub fn rule_reachable(left: [u64; 4], grown_bytes: u64, at_ms: u64) -> Option<Ruling> {
    let all: u64 = left.iter().fold(0, |sum, &bytes| sum.saturating_add(bytes));
    let is_most = all as f64 >= thresholds::LEAST_REACHABLE_PART * grown_bytes as f64;
    if all == 0 || !is_most || at_ms < thresholds::LEAST_WATCHED_BEFORE_A_COLLECTION_MS {
        return None;
    }
    let part = |bytes: u64| bytes as f64 / all as f64;
    let is_old = part(left[0]) >= thresholds::LEAST_OF_THE_FIRST_QUARTER;
    Some(if is_old && part(left[3]) >= thresholds::LEAST_OF_THE_LAST_QUARTER {
        Ruling::Grows("; what can be reached of these is of all ages".to_owned())
    } else if is_old {
        Ruling::Unknown(", but what can be reached of these is old, and the rest waits for a collection".to_owned())
    } else {
        Ruling::Unknown(", but few old ones of these can be reached, and the rest waits for a collection".to_owned())
    })
}

/// Whether a collection says nothing of now.
fn is_old(last: &Collection, now_ms: u64) -> bool {
    now_ms > last.before_ms.saturating_mul(thresholds::TIMES_A_COLLECTION_STANDS)
}

fn too_old(last: &Collection, now_ms: u64) -> String {
    let ago = span(now_ms.saturating_sub(last.before_ms));
    format!("; V8's last collection of the whole heap was {ago} ago, and what has died since then looks the same")
}

fn uncollected(grown_bytes: u64, what: &str) -> Ruling {
    if grown_bytes >= thresholds::UNCOLLECTED_BYTES {
        return Ruling::Grows("; that is more than V8 lets pile up without a collection of the whole heap".to_owned());
    }
    Ruling::Unknown(format!(
        "; no collection of V8's whole heap was seen, which alone frees {what}, and what waits for one looks the same"
    ))
}

fn unseen(why: &str, grown_bytes: u64) -> Ruling {
    if grown_bytes >= thresholds::UNCOLLECTED_BYTES {
        return uncollected(grown_bytes, "");
    }
    Ruling::Unknown(format!(
        "; memtrace does not see V8's collections, since {why}, and what waits for one looks the same"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn seen(collections: &[(u64, u64)]) -> Vec<Collection> {
        collections.iter().map(|&(s, mb)| Collection { before_ms: 1000 * s, left_bytes: mb * MB }).collect()
    }

    fn heap_grows(collections: &[(u64, u64)], now_s: u64) -> bool {
        matches!(rule_heap(Known::Seen(&seen(collections)), 50 * MB, 1000 * now_s), Ruling::Grows(_))
    }

    #[test]
    fn a_heap_grows_if_the_last_collection_left_more_than_one_long_before() {
        assert!(heap_grows(&[(5, 10), (10, 14)], 12));
        assert!(!heap_grows(&[(5, 10), (10, 10)], 12));
        assert!(!heap_grows(&[], 12));
        assert!(!heap_grows(&[(5, 10)], 12), "one says nothing");
        assert!(!heap_grows(&[(5, 10), (10, 14)], 81), "it was too long ago");
        // A cache was filled, and stays as it is.
        assert!(heap_grows(&[(5, 10), (10, 20), (15, 30)], 16));
        assert!(!heap_grows(&[(5, 10), (10, 20), (15, 30), (20, 30), (30, 30)], 31));
        // What comes and goes by little.
        assert!(!heap_grows(&[(5, 100), (10, 105)], 12));
        assert!(!heap_grows(&[(5, 3), (10, 3)], 12));
    }

    #[test]
    fn what_collections_leave_is_not_said_to_grow_when_it_does_not() {
        let deny = |collections: &[(u64, u64)], now_s: u64| deny(&seen(collections), 1000 * now_s).is_some();
        assert!(deny(&[(5, 10), (10, 10)], 12) && deny(&[(5, 10), (7, 20), (10, 9)], 20));
        assert!(!deny(&[(5, 10), (10, 11)], 12), "it left more");
        assert!(!deny(&[(5, 10), (10, 10)], 21), "that was long ago");
        assert!(!deny(&[(8, 10), (10, 10)], 12), "they were too near to each other");
        assert!(!deny(&[(5, 10)], 6) && !deny(&[], 6));
    }

    #[test]
    fn blocks_grow_if_a_collection_leaves_those_of_all_ages() {
        let grow = |collections: &[(u64, u64)], left: [u64; 4], now_s: u64| {
            matches!(rule_blocks(Known::Seen(&seen(collections)), left, 50 * MB, 1000 * now_s), Ruling::Grows(_))
        };
        assert!(grow(&[(8, 1)], [25, 25, 25, 25], 12));
        assert!(grow(&[(2, 1), (8, 1)], [20, 25, 20, 40], 12));
        assert!(!grow(&[(8, 1)], [0, 0, 10, 25], 12), "each lives for some time");
        assert!(!grow(&[(8, 1)], [0, 0, 0, 0], 12), "none lives");
        assert!(!grow(&[(8, 1)], [90, 8, 1, 1], 12), "the first ones are kept, and no more");
        assert!(!grow(&[(3, 1)], [25, 25, 25, 25], 12), "too soon");
        assert!(!grow(&[(8, 1)], [25, 25, 25, 25], 65), "too long ago");
        assert!(!grow(&[], [0; 4], 12));
    }

    #[test]
    fn blocks_grow_if_those_that_can_be_reached_are_of_all_ages() {
        let grow = |left: [u64; 4], at_s: u64| {
            rule_reachable(left, 100, 1000 * at_s).map(|ruling| matches!(ruling, Ruling::Grows(_)))
        };
        assert_eq!(grow([25, 25, 25, 25], 10), Some(true));
        assert_eq!(grow([0, 0, 30, 35], 10), Some(false));
        assert_eq!(grow([90, 8, 1, 1], 10), Some(false));
        assert_eq!(grow([10, 10, 10, 10], 10), None, "most of them wait for a collection");
        assert_eq!(grow([0, 0, 0, 0], 10), None, "nothing is known of them");
        assert_eq!(grow([25, 25, 25, 25], 4), None, "too soon");
    }

    #[test]
    fn more_than_v8_lets_pile_up_grows_whatever_is_seen() {
        for known in [Known::Seen(&[]), Known::Unseen("it is another build")] {
            for grown in [511 * MB, 512 * MB] {
                let expected = grown == 512 * MB;
                assert_eq!(matches!(rule_heap(known, grown, 9000), Ruling::Grows(_)), expected);
                assert_eq!(matches!(rule_blocks(known, [0; 4], grown, 9000), Ruling::Grows(_)), expected);
            }
        }
        let Ruling::Unknown(why) = rule_heap(Known::Unseen("it is another build"), 1, 9000) else { panic!() };
        assert!(why.contains("since it is another build"), "{why}");
    }

    proptest::proptest! {
        #[test]
        fn any_numbers_are_ruled_on(
            collections in proptest::collection::vec(proptest::num::u64::ANY, 0..6),
            left in proptest::array::uniform4(proptest::num::u64::ANY),
            now_ms in proptest::num::u64::ANY,
        ) {
            let mut times = collections.clone();
            times.sort_unstable();
            let all: Vec<Collection> = times.iter().zip(&collections)
                .map(|(&before_ms, &left_bytes)| Collection { before_ms: before_ms / 2, left_bytes }).collect();
            let _ = rule_heap(Known::Seen(&all), 1, now_ms);
            let _ = rule_blocks(Known::Seen(&all), left, 1, now_ms);
        }
    }
}
