//! What runtimes manage, in a snapshot: heaps, goroutines and types of objects, and what collections and types say of stacks that seem to grow.

use std::collections::HashMap;

use memtrace_common::{Slot, StackId};

use super::{MAX_JUDGED, Snapshots};
use crate::{
    ledger,
    report::{
        runtime::{Goroutines, Heap, Type},
        snapshot::{Stack, StackKind},
    },
    runtime::{Language, v8},
    session::{
        counts::reachable,
        describe::{goroutines, say, unjudged},
        facts::ProcessFacts,
        key::Key,
        pages::heap_of,
        state::State,
    },
    trend::{
        MIN_INTERVALS, Verdict,
        thresholds::{LEAST_PART_OF_A_COUNTED_HEAP, LEAST_RISE_OF_A_COUNTED_HEAP, LEAST_RISE_OF_WHAT_CAN_BE_REACHED},
    },
};

/// The most types of objects in one report.
const MAX_TYPES: usize = 50;

/// The least part of the JavaScript heap, as one part in this many, that stacks of its objects hold where they stand for it: pages have room
/// for objects to come, and for garbage.
const EXPLAINED_PARTS: u64 = 4;

/// The least part of what was drawn of a growing heap, as one part in this many, that a place has to have for it to be accused.
const LEAST_PART_OF_A_RISE: u64 = 4;

/// Whether this is a heap as a whole, counted and not drawn.
fn is_counted_whole(key: Key, whole: &Stack) -> bool {
    key.2 == ledger::Kind::WholeHeap && whole.estimate.is_none()
}

impl Snapshots {
    /// Takes back that Python's small objects that no line is known to keep grow, where the objects of all pools are counted by type and
    /// no type grows: objects that come and go move from pools of before the attach, which are not seen, to those that are.
    pub(super) fn rule_by_types(&self, slot: Slot, stack: &mut Stack, state: &State) {
        let python = Language::Python;
        if stack.verdict.is_leak()
            && self.counts_types(slot, python, state)
            && !self.has_growing_type(slot, python, state)
        {
            stack.doubt(", but the objects of no type do");
        }
    }

    /// Takes back that something grows which only collections free, unless what they leave shows it: garbage that waits for one looks
    /// the same.
    pub(super) fn wait_for_collections(&self, stacks: &mut [(Key, Stack)], state: &State) {
        let (now_ns, collections) = (self.clock.now_ns(), &state.pages.collections);
        let mut waiting: HashMap<Slot, Vec<(Key, &mut Stack)>> = HashMap::new();
        for (key, stack) in stacks.iter_mut() {
            let is_v8 = heap_of(*key) == Some(v8::HEAP);
            if is_v8 && self.rule_by_reach(key.0, stack, state) || !stack.verdict.is_leak() {
                continue;
            }
            if is_v8 {
                collections.rule_on_heap(key.0, stack, now_ns);
            } else if state.pages.is_known_collected(*key) {
                waiting.entry(key.0).or_default().push((*key, stack));
            }
        }
        for (slot, mut stacks) in waiting {
            let Some(process) = state.ledger.process(slot) else { continue };
            if let Some(reachable) = state.counts.reachable_blocks(slot) {
                let itself = |id, kind, of: &mut Vec<Key>| of.push((slot, id, kind));
                collections.rule_on_reachable(slot, process, reachable, &mut stacks, itself);
            }
            let Some(ends_ns) = collections.quarters_ns(slot, now_ns) else { continue };
            let keys: Vec<(StackId, ledger::Kind)> = stacks.iter().map(|(key, _)| (key.1, key.2)).collect();
            for ((_, stack), living) in stacks.iter_mut().zip(process.cohorts(&keys, &ends_ns)) {
                collections.rule_on_blocks(slot, stack, &living, now_ns);
            }
        }
    }

    /// Says of V8's heap in a target what is judged of all of it that can be reached. Whether that was looked at often enough.
    fn rule_by_reach(&self, slot: Slot, stack: &mut Stack, state: &State) -> bool {
        let key = reachable(slot);
        if self.trend.series(key).len() < MIN_INTERVALS {
            return false;
        }
        say(stack, self.trend.judge(key));
        stack.evidence = format!("of what can be reached of it: {}", stack.evidence);
        if !stack.verdict.is_leak() {
            return true;
        }
        if let Some(why) = state.pages.collections.deny(slot, self.clock.now_ns()) {
            stack.doubt(&why);
        } else if !self.has_growing_type(slot, Language::Javascript, state) {
            stack.doubt(", but none of its types is known to");
        } else if self.rise(key) < LEAST_RISE_OF_WHAT_CAN_BE_REACHED {
            stack.doubt(", but by too little to tell from code that is warmed up");
        }
        true
    }

    /// Whether the objects of any type of a language are known to grow in a target. What is kept is of some type, and references that are left over by
    /// chance lead now to these and now to those.
    fn has_growing_type(&self, slot: Slot, language: Language, state: &State) -> bool {
        let types: Vec<Key> = types_of(slot, language, state).take(MAX_JUDGED).collect();
        self.trend.judge_all(&types).iter().any(|judged| judged.verdict.is_leak())
    }

    /// Whether the objects of a target were counted by type often enough to say that a type grows.
    fn counts_types(&self, slot: Slot, language: Language, state: &State) -> bool {
        types_of(slot, language, state).any(|key| self.trend.series(key).len() > MIN_INTERVALS)
    }

    /// Takes back that a heap grows that is counted as a whole, where the rise may be what waits for a collection. Where it grows and what was
    /// drawn of it is too little to say so of any place, the place is accused of which the most was drawn: that there is a leak is
    /// known, and what was drawn is the best that is known of where.
    pub(super) fn rule_by_counted_heaps(&self, stacks: &mut [(Key, Stack)]) {
        for (key, whole) in stacks.iter_mut().filter(|(key, whole)| is_counted_whole(*key, whole)) {
            let least = LEAST_RISE_OF_A_COUNTED_HEAP.max(whole.outstanding_bytes / LEAST_PART_OF_A_COUNTED_HEAP);
            if whole.verdict.is_leak() && self.rise(*key) < least {
                whole.doubt(", but by too little to tell from what is allocated while the collector runs");
            }
        }
        let is_of = |slot: Slot, key: &Key| key.0 == slot && key.2 == ledger::Kind::Managed;
        let grows = |(key, whole): &&(Key, Stack)| is_counted_whole(*key, whole) && whole.verdict.is_leak();
        let wholes: Vec<(Slot, Stack)> =
            stacks.iter().filter(grows).map(|(key, whole)| (key.0, whole.clone())).collect();
        for (slot, whole) in wholes {
            if stacks.iter().any(|(key, stack)| is_of(slot, key) && stack.verdict.is_leak()) {
                continue;
            }
            let places = stacks.iter_mut().filter(|(key, _)| is_of(slot, key));
            let places: Vec<(&mut Stack, u64)> = places.map(|(key, stack)| (stack, self.rise(*key))).collect();
            let all: u64 = places.iter().map(|(_, rise)| rise).sum();
            let Some((stack, rise)) = places.into_iter().max_by_key(|(_, rise)| *rise) else { continue };
            if rise > all / LEAST_PART_OF_A_RISE {
                let part = rise as f64 / all as f64;
                stack.verdict = Verdict::Growing;
                stack.confidence = part * whole.confidence;
                stack.growth_bytes_per_hour = part * whole.growth_bytes_per_hour;
                stack.growth_interval_bytes_per_hour = None;
                stack.evidence = format!(
                    "the heap as a whole {}; of what was drawn of its growth, {:.0} % was allocated here",
                    whole.evidence,
                    100.0 * part
                );
            }
        }
    }

    /// How much more a stack holds at its last sample than at its first one; 0 where it holds less. A series that begins in the run begins with 0.
    fn rise(&self, key: Key) -> u64 {
        let samples = self.trend.series(key);
        samples.last().zip(samples.first()).map_or(0, |(last, first)| last.bytes.saturating_sub(first.bytes))
    }

    /// The heaps that runtimes manage, which are no stacks.
    pub(super) fn take_heaps(&self, stacks: &mut Vec<(Key, Stack)>, state: &State) -> Vec<Heap> {
        let heap = |name, key: Key, stack| {
            let seen = heap_of(key).and_then(|_| state.pages.collections.count(key.0));
            let (collections, left_bytes) = (seen.map(|(count, _)| count), seen.and_then(|(_, left)| left));
            let is_v8 = heap_of(key) == Some(v8::HEAP);
            let last = self.trend.series(reachable(key.0)).last().filter(|_| is_v8);
            let reachable_bytes = last.map(|sample| sample.bytes);
            Heap {
                collections,
                left_bytes,
                reachable_bytes,
                ..Heap::of(name, Stack { series: self.series(key), ..stack })
            }
        };
        // A heap of which nothing but the whole is known is a stack as well.
        let known_whole = stacks.iter().filter_map(|(key, stack)| Some(heap(heap_of(*key)?, *key, stack.clone())));
        let mut heaps: Vec<Heap> = known_whole.collect();
        // Where V8 says which stacks hold its heap, these are the stacks, unless it grows by much more than they hold.
        let mut by_stack: HashMap<Slot, u64> = HashMap::new();
        for (key, stack) in stacks.iter().filter(|(key, _)| key.2 == ledger::Kind::Profiled) {
            *by_stack.entry(key.0).or_default() += stack.outstanding_bytes;
        }
        stacks.retain(|(key, stack)| {
            let is_known_by_stack = heap_of(*key) == Some(v8::HEAP) && state.asks.has_profile(key.0);
            let known = by_stack.get(&key.0).copied().unwrap_or(0);
            !is_known_by_stack || stack.verdict.is_leak() && stack.outstanding_bytes / EXPLAINED_PARTS > known
        });
        let apart = stacks.extract_if(.., |((_, _, kind), _)| *kind == ledger::Kind::WholeHeap);
        heaps.extend(apart.map(|(key, stack)| heap("Go heap", key, stack)));
        heaps.sort_by_key(|heap| std::cmp::Reverse(heap.bytes));
        heaps
    }

    /// The types of objects that grow, the fastest first, and then those that hold the most. They are judged apart from the stacks,
    /// which hold the same memory: neither makes it harder for the other to be significant.
    pub(super) fn types(&self, state: &State, traced: &[ProcessFacts<'_>]) -> Vec<Type> {
        let mut types: Vec<(Key, Stack)> = Vec::new();
        for (slot, process) in state.ledger.processes() {
            let pid = traced.iter().find(|process| process.slot == slot).map_or(0, |process| process.pid.0);
            let counts = process.counts();
            let counts = counts.filter(|ledger::Count { totals, .. }| {
                totals.kind == ledger::Kind::Type && totals.outstanding_blocks > 0
            });
            let types_of = counts.map(|ledger::Count { totals, precision }| {
                ((slot, totals.id, totals.kind), unjudged(pid, &totals, precision))
            });
            types.extend(types_of.filter(|(key, _)| *key != reachable(slot)));
        }
        types.sort_by_key(|(_, held)| std::cmp::Reverse(held.outstanding_bytes));
        types.truncate(MAX_JUDGED);
        let keys: Vec<Key> = types.iter().map(|(key, _)| *key).collect();
        for ((_, held), judgement) in types.iter_mut().zip(self.trend.judge_all(&keys)) {
            say(held, judgement);
        }
        sort_types(&mut types);
        types.truncate(MAX_TYPES);
        let named = |(key, held)| {
            let (name, language) = state.counts.type_name(key)?;
            Some(Type::of(name, language, Stack { series: self.series(key), ..held }))
        };
        types.into_iter().filter_map(named).collect()
    }

    /// What is known of the goroutines of these stacks.
    pub(super) fn goroutines(&self, stacks: &[Stack], state: &State) -> Vec<Goroutines> {
        let shown = stacks.iter().filter(|stack| stack.kind == StackKind::Goroutine);
        shown.map(|stack| goroutines(stack, state.counts.state_of(&stack.id))).collect()
    }
}

/// Under what the objects of a target's types of one language are counted.
fn types_of(slot: Slot, language: Language, state: &State) -> impl Iterator<Item = Key> + '_ {
    let counts = state.ledger.process(slot).into_iter().flat_map(ledger::ProcessLedger::counts);
    let keys = counts.map(move |count| (slot, count.totals.id, count.totals.kind));
    keys.filter(move |key| state.counts.type_name(*key).is_some_and(|(_, of)| of == language))
}

/// Those that grow first, the fastest before the others, and then those that hold the most before the others.
fn sort_types(types: &mut [(Key, Stack)]) {
    let growth = |held: &Stack| if held.verdict.is_leak() { held.growth_bytes_per_hour } else { 0.0 };
    let bytes = |held: &Stack| held.outstanding_bytes;
    types.sort_by(|(_, a), (_, b)| growth(b).total_cmp(&growth(a)).then_with(|| bytes(b).cmp(&bytes(a))));
}
