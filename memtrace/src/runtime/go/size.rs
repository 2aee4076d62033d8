//! How much Go's heap holds as a whole, by what the runtime counts for its collector (`gcController` in runtime/mgcpacer.go), without a
//! sample: what the last collection has left, and of what was allocated since the share that survived collections before.
//!
//! Who has allocated it only the sample tells. But that a heap grows is certain long before enough objects of one place were drawn.

use crate::runtime::{
    Language, Memory,
    count::{Count, Counted},
    memory::word_at,
};

/// Where the counters are that are read, in bytes from the begin of the controller's state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Layout {
    /// Bytes that the collector takes for alive: what it left, and all that was allocated since (`heapLive`).
    live: usize,
    /// Bytes that the last collection left (`heapMarked`).
    left: usize,
    /// Bytes that were ever allocated, and ever freed (`totalAlloc`, `totalFree`).
    allocated: usize,
    freed: usize,
}

/// Those of Go 1.19, and of 1.21 to 1.27, by the sources of each. Which one it is the counters prove.
const LAYOUTS: [Layout; 2] = [
    Layout { live: 136, left: 184, allocated: 328, freed: 336 },
    Layout { live: 104, left: 152, allocated: 296, freed: 304 },
];

/// How much of the state is read.
const STATE_BYTES: usize = 344;

/// Where the percentage stands by which the heap may grow from collection to collection (`gcPercent`, 32 bits), and the least size at which
/// one begins (`heapMinimum`).
const PERCENT: usize = 0;
const MINIMUM: usize = 16;

/// The least size of a heap at which a collection begins, at 100 %.
const MINIMUM_BYTES: u64 = 4 << 20;

/// By how much counters may seem to contradict each other: some count a whole span of objects before the program has them all.
const SLACK: u64 = 4 << 20;

/// The most bytes that are believed.
const MOST: u64 = 1 << 56;

/// How many collections are kept in mind.
const MAX_HISTORY: usize = 16;

/// Reads how much the heap of one process holds.
#[derive(Debug)]
pub struct Size {
    place: u64,
    layout: Layout,
    history: History,
}

/// What the counters say at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Counters {
    live: u64,
    left: u64,
    allocated: u64,
    freed: u64,
}

/// What collections have left, each with how many bytes had been allocated by then. Collections between two looks are one.
#[derive(Debug, Default)]
struct History {
    collections: Vec<(u64, u64)>,
    /// What had been allocated since the last one, at the last look.
    since: u64,
}

/// Finds the counters: the first of these places at which they agree with each other.
pub fn prove(places: &[u64], memory: &Memory) -> Option<Size> {
    let proved = |&place: &u64| {
        let state = memory.bytes::<STATE_BYTES>(place)?;
        let layout = LAYOUTS.into_iter().find(|&layout| is_state(&state, layout))?;
        Some(Size { place, layout, history: History::default() })
    };
    places.iter().filter(|place| place.is_multiple_of(8)).find_map(proved)
}

/// Whether this is the state of a controller whose parts are where the layout says.
fn is_state(state: &[u8; STATE_BYTES], layout: Layout) -> bool {
    let percent = word(state, PERCENT) as u32 as i32;
    let is_minimum = match u64::try_from(percent) {
        Ok(percent) => word(state, MINIMUM) == MINIMUM_BYTES.saturating_mul(percent) / 100,
        // Collections are turned off.
        Err(_) => true,
    };
    let Counters { live, left, allocated, freed } = read(state, layout);
    let in_use = allocated.wrapping_sub(freed);
    is_minimum
        && allocated > 0
        && allocated < MOST
        && freed <= allocated
        && left <= live
        && live <= in_use.saturating_add(SLACK)
}

fn read(state: &[u8; STATE_BYTES], layout: Layout) -> Counters {
    let [live, left, allocated, freed] =
        [layout.live, layout.left, layout.allocated, layout.freed].map(|at| word(state, at));
    Counters { live, left, allocated, freed }
}

fn word(state: &[u8; STATE_BYTES], at: usize) -> u64 {
    word_at(state, at).unwrap_or(0)
}

impl Size {
    /// What the heap holds now; of how many objects is not known. `None` if it cannot be read, or makes no sense: it may have been read
    /// in the middle of a change.
    pub fn look(&mut self, memory: &Memory) -> Option<Count> {
        let state = memory.bytes::<STATE_BYTES>(self.place)?;
        if !is_state(&state, self.layout) {
            return None;
        }
        let counters = read(&state, self.layout);
        let held = self.history.held(counters);
        Some(Count { ever_bytes: counters.allocated, ..Count::of_all(Counted::Heap, Language::Go, 0, held) })
    }
}

impl History {
    /// Bytes that are held now, by the estimate.
    fn held(&mut self, now: Counters) -> u64 {
        let since = now.live - now.left;
        let by_then = now.allocated.saturating_sub(since);
        let has_collected = since < self.since || self.collections.last().is_none_or(|&(_, left)| left != now.left);
        self.since = since;
        if now.left > 0 && has_collected {
            if self.collections.len() == MAX_HISTORY {
                self.collections.remove(0);
            }
            self.collections.push((by_then, now.left));
        }
        now.left + (self.survivors() * since as f64) as u64
    }

    /// The share of what was allocated that survived: over so many of the last collections that as much was allocated as half of what is left,
    /// or over all time. 0 before the first collection.
    fn survivors(&self) -> f64 {
        let Some(&(allocated, left)) = self.collections.last() else { return 0.0 };
        let before = self.collections.iter().rev().find(|before| allocated.saturating_sub(before.0) > left / 2);
        let (allocated_before, left_before) = before.copied().unwrap_or_default();
        let (allocated, left) = (allocated.saturating_sub(allocated_before), left.saturating_sub(left_before));
        if allocated == 0 { 0.0 } else { (left as f64 / allocated as f64).min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(layout: Layout, percent: i32, counters: Counters) -> [u8; STATE_BYTES] {
        let mut state = [0; STATE_BYTES];
        let mut set = |at: usize, value: u64| state[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        set(PERCENT, u64::from(percent as u32));
        set(8, i64::MAX as u64);
        set(MINIMUM, MINIMUM_BYTES * u64::try_from(percent).unwrap_or(0) / 100);
        // What lies around the counters: goals, and ratios as floats.
        for at in (24..STATE_BYTES - 8).step_by(8) {
            set(at, 0.25f64.to_bits());
        }
        set(layout.live, counters.live);
        set(layout.left, counters.left);
        set(layout.allocated, counters.allocated);
        set(layout.freed, counters.freed);
        state
    }

    const RUNNING: Counters = Counters { live: 7 << 20, left: 5 << 20, allocated: 90 << 20, freed: 83 << 20 };

    #[test]
    fn each_layout_proves_itself_and_no_other() {
        for layout in LAYOUTS {
            for percent in [100, 50, -1] {
                let state = state(layout, percent, RUNNING);
                let proved: Vec<Layout> = LAYOUTS.into_iter().filter(|&layout| is_state(&state, layout)).collect();
                assert_eq!(proved, [layout], "{percent}");
            }
            let begun = Counters { live: 100_000, left: 0, allocated: 90_000, freed: 0 };
            assert!(is_state(&state(layout, 100, begun), layout));
            let freed_more = Counters { freed: RUNNING.allocated + 1, ..RUNNING };
            assert!(!is_state(&state(layout, 100, freed_more), layout));
            assert!(!is_state(&[0; STATE_BYTES], layout), "nothing was ever allocated");
        }
    }

    /// What is held at each step of a program that allocates so much in each, of which so much lives after a collection.
    fn held(steps: usize, bytes: u64, every: usize, living: impl Fn(u64) -> u64) -> Vec<u64> {
        let mut history = History::default();
        let (mut allocated, mut left) = (0, 0);
        let mut since = 0;
        let mut found = Vec::new();
        for step in 1..=steps {
            (allocated, since) = (allocated + bytes, since + bytes);
            if step % every == 0 {
                (left, since) = (living(allocated), 0);
            }
            found.push(history.held(Counters { live: left + since, left, allocated, freed: 0 }));
        }
        found
    }

    #[test]
    fn a_leak_rises_at_each_look_and_a_full_cache_stays_level() {
        let leak = held(40, 1 << 20, 7, |allocated| allocated / 2);
        assert!(leak[7..].windows(2).all(|pair| pair[0] < pair[1]), "{leak:?}");
        assert_eq!(leak[39], 20 << 20);
        let cache = held(60, 1 << 20, 7, |allocated| allocated.min(20 << 20));
        assert!(cache[34..].iter().all(|&bytes| bytes == 20 << 20), "{cache:?}");
        assert!(held(6, 1 << 20, 7, |_| 0).iter().all(|&bytes| bytes == 0), "nothing is known before a collection");
    }

    proptest! {
        #[test]
        fn no_more_is_held_than_is_taken_for_alive(looks in prop::collection::vec(any::<[u32; 3]>(), 1..40)) {
            let mut history = History::default();
            for [left, since, allocated] in looks.into_iter().map(|look| look.map(u64::from)) {
                let now = Counters { live: left + since, left, allocated, freed: 0 };
                let held = history.held(now);
                prop_assert!((left..=left + since).contains(&held));
            }
        }

        #[test]
        fn no_state_is_too_strange(state in prop::collection::vec(any::<u8>(), STATE_BYTES)) {
            let state: [u8; STATE_BYTES] = state.try_into().unwrap();
            for layout in LAYOUTS {
                if is_state(&state, layout) {
                    let _ = History::default().held(read(&state, layout));
                }
            }
        }
    }
}
