//! The collections of V8's heaps that targets go through, seen by looking at what V8 counts of them, ten times a second at most.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

use memtrace_common::{Slot, StackId};

use super::clock::monotonic_ns;
use crate::{
    ledger::{Cohort, Kind, ProcessLedger},
    object::{mapped, maps::Mapping},
    report::snapshot::Stack,
    runtime::{Without, v8},
    target::Pid,
    trend::collections::{Collection, Known, Ruling, deny, rule_blocks, rule_heap, rule_reachable},
};

/// The most collections of a target that are kept: of more, every second one of the older half is left out.
const MAX_SEEN: usize = 64;

/// From one look at what V8 counts of its collections to the next.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long what a collection has found dead may take to be freed, in nanoseconds: a thread of V8's does that at once, within
/// milliseconds.
const FREED_WITHIN_NS: u64 = 1_000_000_000;

/// What is known of the collections of all targets with V8.
#[derive(Default)]
pub(super) struct Collections {
    targets: HashMap<Slot, Target>,
    /// Files that have no V8.
    known: Without,
    next: Option<Instant>,
}

struct Target {
    heaps: Result<v8::Heaps, &'static str>,
    /// Since when its blocks are seen, and when it was looked at last, by the monotonic clock.
    since_ns: u64,
    looked_ns: u64,
    /// What is known of each heap, by its address, since all of them had been collected last.
    rounds: HashMap<u64, Round>,
    seen: Vec<Seen>,
    /// How many collections of any of its heaps there were.
    count: u64,
}

/// One heap since the last time that all heaps of its process had been collected.
struct Round {
    first: v8::Counted,
    last: v8::Counted,
    /// A time before its last collection; `None` before there was one.
    before_ns: Option<u64>,
}

/// All heaps of a process have been collected.
#[derive(Clone, Copy)]
struct Seen {
    before_ns: u64,
    seen_ns: u64,
    left_bytes: u64,
}

impl Collections {
    /// Looks whether V8 is in a target.
    pub(super) fn look(&mut self, slot: Slot, pid: Pid, mappings: &[Mapping]) -> bool {
        let objects = mapped::objects(pid, mappings);
        let Some((object, _)) = v8::file(&objects, &mut self.known) else {
            self.targets.remove(&slot);
            return false;
        };
        // Other files are mapped while it runs: what has been seen stays.
        self.targets.entry(slot).or_insert_with(|| {
            let now_ns = monotonic_ns();
            let heaps = v8::Heaps::open(pid, object, mappings);
            Target { heaps, since_ns: now_ns, looked_ns: now_ns, rounds: HashMap::new(), seen: Vec::new(), count: 0 }
        });
        self.next = None;
        true
    }

    /// The blocks of a target are seen from now on: setting its probes may have taken seconds.
    pub(super) fn begin(&mut self, slot: Slot) {
        if let Some(target) = self.targets.get_mut(&slot) {
            target.since_ns = monotonic_ns();
        }
    }

    /// The target has ended, or runs another program.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.targets.remove(&slot);
    }

    /// Looks at what V8 counts in all targets, if it is time to.
    pub(super) fn poll(&mut self) {
        if self.targets.is_empty() || self.next.is_some_and(|next| Instant::now() < next) {
            return;
        }
        self.next = Some(Instant::now() + LOOK_EVERY);
        for target in self.targets.values_mut() {
            if let Ok(heaps) = &mut target.heaps {
                let found = heaps.look();
                let addresses: Vec<u64> = heaps.addresses().to_vec();
                target.take(&addresses, &found, monotonic_ns());
            }
        }
    }

    /// How many collections of whole heaps a target has been through since the attach, and the bytes that the last ones left, where there
    /// was one; `None` where that is not seen.
    pub(super) fn count(&self, slot: Slot) -> Option<(u64, Option<u64>)> {
        let target = self.targets.get(&slot).filter(|target| !target.rounds.is_empty())?;
        let left = target.rounds.values().fold(0u64, |sum, round| sum.saturating_add(round.last.live_bytes));
        Some((target.count, Some(left).filter(|&left| left > 0)))
    }

    /// Rules on a heap that is said to grow.
    pub(super) fn rule_on_heap(&self, slot: Slot, stack: &mut Stack, now_ns: u64) {
        let Some(target) = self.targets.get(&slot) else { return };
        let seen = target.collections(now_ns);
        apply(stack, rule_heap(target.known(&seen), stack.outstanding_bytes, target.ms(now_ns)));
    }

    /// Why collections say that a heap does not grow of which more and more can be reached, as the end of a sentence; `None` if they do not.
    pub(super) fn deny(&self, slot: Slot, now_ns: u64) -> Option<String> {
        let target = self.targets.get(&slot)?;
        deny(&target.collections(now_ns), target.ms(now_ns))
    }

    /// The times by which blocks of a target are told apart for [`rule_on_blocks`](Self::rule_on_blocks); `None` if it has no V8.
    pub(super) fn quarters_ns(&self, slot: Slot, now_ns: u64) -> Option<[u64; 5]> {
        let target = self.targets.get(&slot)?;
        let end = target.freed(now_ns).last().map_or(target.since_ns, |seen| seen.before_ns);
        Some(quarters_ns(target.since_ns, end))
    }

    /// Rules on stacks, or sums of stacks, that are said to grow by those of their blocks that can be reached. These were at `addresses` at
    /// `at_ns`; `holders` adds those to a list that a stack of blocks counts for. Left in `waiting` are those of which that says nothing.
    pub(super) fn rule_on_reachable<K: Copy + Eq + Hash>(
        &self,
        slot: Slot,
        process: &ProcessLedger,
        (at_ns, addresses): (u64, &[u64]),
        waiting: &mut Vec<(K, &mut Stack)>,
        mut holders: impl FnMut(StackId, Kind, &mut Vec<K>),
    ) {
        let Some(target) = self.targets.get(&slot) else { return };
        let ends = quarters_ns(target.since_ns, at_ns);
        let mut left: HashMap<K, [u64; 4]> = HashMap::new();
        let mut of = Vec::new();
        for (id, kind, bytes, time_ns) in process.blocks_at(addresses) {
            holders(id, kind, &mut of);
            for key in of.drain(..) {
                if let Some(sum) = left.entry(key).or_default().get_mut(ends.partition_point(|&end| end <= time_ns)) {
                    *sum = sum.saturating_add(bytes);
                }
            }
        }
        waiting.retain_mut(|(key, stack)| {
            let left = left.get(key).copied().unwrap_or_default();
            let ruling = rule_reachable(left, stack.outstanding_bytes, target.ms(at_ns));
            let is_left = ruling.is_none();
            if let Some(ruling) = ruling {
                apply(stack, ruling);
            }
            is_left
        });
    }

    /// Rules on blocks that are said to grow, of which these live, told apart by [`quarters_ns`](Self::quarters_ns).
    pub(super) fn rule_on_blocks(&self, slot: Slot, stack: &mut Stack, living: &[Cohort], now_ns: u64) {
        let Some(target) = self.targets.get(&slot) else { return };
        let seen: Vec<Collection> = target.freed(now_ns).map(|seen| target.collection(seen)).collect();
        let left = std::array::from_fn(|quarter| living.get(quarter).map_or(0, |cohort| cohort.bytes));
        apply(stack, rule_blocks(target.known(&seen), left, stack.outstanding_bytes, target.ms(now_ns)));
    }
}

/// The ends of the quarters of a time, and of all that came later.
fn quarters_ns(from: u64, end: u64) -> [u64; 5] {
    let quarter = end.saturating_sub(from) / 4;
    let at = |quarters: u64| from + quarters * quarter;
    [at(1), at(2), at(3), end, u64::MAX]
}

impl Target {
    /// Takes what the heaps at these addresses say; some may say nothing at this moment.
    fn take(&mut self, addresses: &[u64], found: &[v8::Counted], now_ns: u64) {
        self.rounds.retain(|address, _| addresses.contains(address));
        for &heap in found {
            let round = self.rounds.entry(heap.address).or_insert(Round { first: heap, last: heap, before_ns: None });
            if heap.collections != round.last.collections {
                self.count += u64::from(heap.collections.wrapping_sub(round.last.collections));
                round.before_ns = Some(self.looked_ns);
            }
            round.last = heap;
        }
        // One that says nothing is being collected: all before it was seen then.
        if found.len() == self.rounds.len() {
            self.looked_ns = now_ns;
            self.end_round(now_ns);
        }
    }

    /// Notes that all heaps have been collected, if they have: a heap in which nothing was allocated need not be.
    fn end_round(&mut self, now_ns: u64) {
        let left_bytes = self.rounds.values().fold(0u64, |sum, round| sum.saturating_add(round.last.live_bytes));
        let Some(before_ns) = self.rounds.values().filter_map(|round| round.before_ns).min() else {
            // It is noted what lives a moment after a collection is counted.
            if let Some(last) = self.seen.last_mut() {
                last.left_bytes = left_bytes;
            }
            return;
        };
        let is_over = |round: &Round| round.before_ns.is_some() || round.first.activity == round.last.activity;
        if !self.rounds.values().all(is_over) {
            return;
        }
        if self.seen.len() == MAX_SEEN {
            let mut index = 0;
            self.seen.retain(|_| {
                index += 1;
                index > MAX_SEEN / 2 || index % 2 == 1
            });
        }
        self.seen.push(Seen { before_ns, seen_ns: now_ns, left_bytes });
        for round in self.rounds.values_mut() {
            *round = Round { first: round.last, last: round.last, before_ns: None };
        }
    }

    fn ms(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.since_ns) / 1_000_000
    }

    fn collection(&self, seen: &Seen) -> Collection {
        Collection { before_ms: self.ms(seen.before_ns), left_bytes: seen.left_bytes }
    }

    fn collections(&self, now_ns: u64) -> Vec<Collection> {
        self.seen.iter().filter(|seen| seen.before_ns <= now_ns).map(|seen| self.collection(seen)).collect()
    }

    /// The collections since its blocks are seen whose dead are freed by now.
    fn freed(&self, now_ns: u64) -> impl Iterator<Item = &Seen> {
        let seen = self.seen.iter().filter(|seen| seen.before_ns >= self.since_ns);
        seen.filter(move |seen| seen.seen_ns + FREED_WITHIN_NS <= now_ns)
    }

    fn known<'a>(&self, seen: &'a [Collection]) -> Known<'a> {
        match self.heaps {
            Ok(ref heaps) if heaps.addresses().is_empty() && seen.is_empty() => {
                Known::Unseen("no heap of it was found")
            }
            Ok(_) => Known::Seen(seen),
            Err(why) => Known::Unseen(why),
        }
    }
}

fn apply(stack: &mut Stack, ruling: Ruling) {
    match ruling {
        Ruling::Grows(how) => stack.evidence += &how,
        Ruling::Unknown(why) => stack.doubt(&why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::sample, trend::Verdict};

    const SECOND: u64 = 1_000_000_000;

    fn target() -> Target {
        Target {
            heaps: Err("it is another build"),
            since_ns: SECOND,
            looked_ns: SECOND,
            rounds: HashMap::new(),
            seen: Vec::new(),
            count: 0,
        }
    }

    fn heap(address: u64, collections: u32, live_bytes: u64, activity: u64) -> v8::Counted {
        v8::Counted { address, collections, live_bytes, activity }
    }

    #[test]
    fn a_collection_is_noted_with_the_time_before_it_and_what_it_left() {
        let mut target = target();
        target.take(&[1], &[heap(1, 7, 100, 0)], 2 * SECOND);
        target.take(&[1], &[heap(1, 7, 100, 1)], 3 * SECOND);
        assert!(target.collections(9 * SECOND).is_empty(), "what was before is none that was seen");
        // Nothing is known while it is being collected, and what lives is noted a moment later.
        target.take(&[1], &[], 4 * SECOND);
        target.take(&[1], &[heap(1, 8, 100, 2)], 5 * SECOND);
        target.take(&[1], &[heap(1, 8, 120, 2)], 6 * SECOND);
        assert_eq!(target.collections(9 * SECOND), [Collection { before_ms: 2000, left_bytes: 120 }]);
        assert_eq!(target.count, 1);
        assert_eq!(target.freed(5 * SECOND).count(), 0);
        assert_eq!(target.freed(6 * SECOND).count(), 1);
    }

    #[test]
    fn all_heaps_in_which_something_was_allocated_have_to_be_collected() {
        let mut target = target();
        target.take(&[1, 2], &[heap(1, 0, 0, 0), heap(2, 0, 0, 0)], 2 * SECOND);
        target.take(&[1, 2], &[heap(1, 1, 10, 1), heap(2, 0, 0, 1)], 3 * SECOND);
        assert!(target.seen.is_empty());
        target.take(&[1, 2], &[heap(1, 1, 10, 2), heap(2, 1, 5, 2)], 4 * SECOND);
        assert_eq!(target.collections(9 * SECOND), [Collection { before_ms: 1000, left_bytes: 15 }]);
        // The second one rests from now on, and then it is gone.
        target.take(&[1, 2], &[heap(1, 2, 20, 3), heap(2, 1, 5, 2)], 5 * SECOND);
        target.take(&[1], &[heap(1, 3, 30, 3)], 6 * SECOND);
        let left: Vec<u64> = target.seen.iter().map(|seen| seen.left_bytes).collect();
        assert_eq!(left, [15, 25, 30]);
    }

    #[test]
    fn any_number_of_collections_takes_bounded_room_and_the_last_ones_stay() {
        let mut target = target();
        for number in 0..1000 {
            target.take(&[1], &[heap(1, number, u64::from(number), 0)], (2 + u64::from(number)) * SECOND);
            assert!(target.seen.len() <= MAX_SEEN);
        }
        assert_eq!(target.seen.last().map(|seen| seen.left_bytes), Some(999));
        assert_eq!(target.seen.first().map(|seen| seen.left_bytes), Some(1));
        assert!(target.seen.is_sorted_by_key(|seen| seen.before_ns));
    }

    #[test]
    fn what_is_not_known_to_grow_is_undecided_and_says_why() {
        let mut collections = Collections::default();
        collections.targets.insert(Slot(0), target());
        let mut stack = Stack { verdict: Verdict::Growing, outstanding_bytes: 1 << 20, ..sample::stack() };
        collections.rule_on_blocks(Slot(0), &mut stack, &[], 20 * SECOND);
        assert!(!stack.verdict.is_leak() && stack.evidence.contains("another build"), "{}", stack.evidence);
        let mut stack = Stack { verdict: Verdict::Growing, outstanding_bytes: 1 << 30, ..sample::stack() };
        collections.rule_on_heap(Slot(0), &mut stack, 20 * SECOND);
        assert!(stack.verdict.is_leak() && stack.evidence.contains("more than V8 lets pile up"), "{}", stack.evidence);
    }
}
