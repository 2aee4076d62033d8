//! How things stand: from ledger, trend, symbols and counters to the one type that reports render.

mod managed;
mod view_rows;

#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use memtrace_common::{
    Slot, StackId,
    counter::{Counter, Harm, TargetCounters},
};

use super::{
    blind::{BlindSpots, Seen},
    clock::Clock,
    describe::{
        self, describe, enlargers, losses, modules, quantiles, sampling, say, say_nobody, say_state, tracer_state,
        unjudged,
    },
    facts::{Facts, ProcessFacts},
    focus::Focus,
    gate::Gatekeeper,
    grouping::Grouping,
    key::Key,
    pages::{heap_of, leave_to_heap},
    resident::Residents,
    siblings::{self, Siblings},
    state::State,
};
use crate::{
    ledger::{self, Distributions},
    report::{
        group::Group,
        headline::{self, Headline, Tally},
        loss, rank,
        snapshot::{Process, Retired, SCHEMA, Snapshot, Stack, StackKind},
    },
    session::TraceConfig,
    trend::{Observation, Trend},
    turns::Turns,
};

/// The most stacks that are judged in one report: those that hold the most, of the ones that hold anything.
const MAX_JUDGED: usize = 2000;

/// The share of the time that passes over all live blocks get, as one part in this many: with tens of millions of blocks one
/// takes a while.
const LOOK_PARTS: u32 = 30;

/// How long the last report waits for debug files that servers were asked for.
const MOST_WAITING: Duration = Duration::from_secs(10);

/// Which stacks a snapshot has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::session) enum Scope {
    /// The first ones, whole.
    Top(usize),
    /// All, as the terminal view wants them.
    All,
}

/// Takes snapshots, and remembers what the trend needs between them.
pub(in crate::session) struct Snapshots {
    clock: Clock,
    trend: Trend<Key>,
    grouping: Grouping,
    /// Intervals that were observed since the attach or the last mark.
    intervals: usize,
    /// Settled blocks and bytes that the ledger has been told of, by slot.
    settled: HashMap<Slot, (u64, u64)>,
    /// Targets that had ended at the last snapshot.
    closed: HashSet<Slot>,
    /// Processes that gave up their place, and what their counters had.
    retired: Retired,
    retired_losses: BTreeMap<Cow<'static, str>, u64>,
    /// Allocations that were dropped, and all that were recorded, up to the last snapshot.
    dropped: (u64, u64),
    looks: Turns,
    pub(in crate::session) gatekeeper: Gatekeeper,
    focus: Focus,
    growing: bool,
    blind_spots: BlindSpots,
    /// Whether pages are watched, and nothing is probed.
    is_growth: bool,
    /// Whether the last snapshot's answer was that memtrace is blind.
    is_blind: bool,
    /// The stacks of the last snapshot that stand for others.
    siblings: Siblings<Key>,
    /// Whose turn it is in the next snapshot of all stacks.
    turn: usize,
    /// Until when the time is recorded as a gap in which allocations are not seen; `None` while they are.
    resting_from_ms: Option<u64>,
}

impl Snapshots {
    pub(in crate::session) fn new(started: Instant, config: &TraceConfig) -> Self {
        Self {
            clock: Clock::starting_at(started),
            trend: Trend::new(),
            grouping: Grouping::default(),
            intervals: 0,
            settled: HashMap::new(),
            dropped: (0, 0),
            looks: Turns::default(),
            closed: HashSet::new(),
            retired: Retired::default(),
            retired_losses: BTreeMap::new(),
            gatekeeper: Gatekeeper::new(&config.gate),
            focus: Focus::new(&config.focus),
            growing: false,
            blind_spots: BlindSpots::default(),
            is_growth: config.probes.growth,
            is_blind: false,
            siblings: Siblings::new(),
            turn: 0,
            resting_from_ms: None,
        }
    }

    /// Notes what the targets' runtimes say that was held before anything was traced.
    pub(in crate::session) fn begin(&mut self, state: &mut State) {
        self.observe_all(state, self.elapsed_ms());
        self.intervals = 0;
    }

    /// Whether a stack that makes the run fail was growing in the last snapshot.
    pub(in crate::session) fn growing(&self) -> bool {
        self.growing
    }

    /// Whether a target allocated unseen, as of the last snapshot.
    pub(in crate::session) fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// Begins a new measuring window: series start again, with what each stack holds now as the base. Milliseconds since
    /// the attach.
    pub(in crate::session) fn mark(&mut self, state: &mut State) -> u64 {
        let (elapsed_ms, now_ns) = (self.elapsed_ms(), self.clock.now_ns());
        self.trend = Trend::beginning_at(elapsed_ms);
        self.grouping.groups.begin_at(elapsed_ms);
        self.observe_all(state, elapsed_ms);
        self.intervals = 0;
        self.focus.mark(elapsed_ms, now_ns);
        elapsed_ms
    }

    /// Allocations are not seen from now on.
    pub(in crate::session) fn rest(&mut self, state: &mut State, elapsed_ms: u64) {
        self.observe(state, elapsed_ms);
        self.resting_from_ms.get_or_insert(elapsed_ms);
    }

    /// Allocations are recorded again, after `rest`.
    pub(in crate::session) fn resume(&mut self, state: &mut State, elapsed_ms: u64) {
        self.note_rest(elapsed_ms);
        self.resting_from_ms = None;
        self.observe(state, elapsed_ms);
    }

    /// Notes the time until now as a gap, if allocations are not seen; whether they are not.
    fn note_rest(&mut self, elapsed_ms: u64) -> bool {
        if let Some(from_ms) = &mut self.resting_from_ms {
            self.trend.add_gap(*from_ms, elapsed_ms);
            self.grouping.groups.add_gap(*from_ms, elapsed_ms);
            *from_ms = elapsed_ms;
        }
        self.resting_from_ms.is_some()
    }

    /// Samples every stack between reports.
    pub(in crate::session) fn sample(&mut self, state: &mut State) {
        self.observe(state, self.elapsed_ms());
        self.look(state);
    }

    /// Milliseconds since the attach.
    pub(in crate::session) fn elapsed_ms(&self) -> u64 {
        self.clock.elapsed_ms()
    }

    /// Samples every stack and says how things stand. At the end there may be more than `--top` stacks: see
    /// [`Gatekeeper::cut`].
    pub(in crate::session) fn take(
        &mut self,
        scope: Scope,
        is_final: bool,
        facts: &Facts<'_>,
        state: &mut State,
    ) -> Snapshot {
        let elapsed_ms = self.elapsed_ms();
        let traced = facts.processes.as_slice();
        for process in traced {
            self.add_settled(state, process.slot, &process.counters);
        }
        let mut loss = losses(traced, state);
        loss.insert(loss::PROBES_REMOVED.into(), traced.iter().map(|process| process.interruptions).sum());
        for (name, count) in &self.retired_losses {
            *loss.entry(name.clone()).or_default() += count;
        }
        if loss::wrong(&loss) > 0 {
            self.trend.mark_all_lossy();
            self.grouping.groups.mark_all_lossy();
        }
        for process in traced {
            self.grouping.name_program(process.slot, process.command);
        }
        if is_final {
            self.grouping.wait_no_more();
        }
        self.observe(state, elapsed_ms);
        self.mark_gap(state, traced);
        self.look(state);
        if is_final {
            self.clock.stop();
            state.symbols.await_debug_files(MOST_WAITING);
        }
        // The series of a process that has ended ends with what it held then.
        self.closed.extend(traced.iter().filter(|process| process.exited).map(|process| process.slot));
        let mut stacks = self.judged(state, traced, is_final);
        let heaps = self.take_heaps(&mut stacks, state);
        self.focus.narrow(&mut stacks, state, elapsed_ms, self.clock.now_ns());
        self.siblings.clear();
        let running: HashSet<Slot> =
            traced.iter().filter(|process| !process.exited).map(|process| process.slot).collect();
        if traced.len() > 1 {
            sort(&mut stacks);
            let shape = |key: Key| Some((state.symbols.shape(key.0, key.1)?, key.2));
            (stacks, self.siblings) = siblings::group(stacks, shape, |key| running.contains(&key.0));
        }
        self.gatekeeper.suppress(&mut stacks, &mut state.symbols, is_final);
        let threshold = self.gatekeeper.threshold();
        let now_ns = self.clock.now_ns();
        let mut groups = self.grouping.report(&mut stacks, state, threshold, now_ns, |slot| running.contains(&slot));
        for group in &mut groups {
            let members = self.grouping.representatives(group, &stacks);
            self.gatekeeper.suppress_group(group, &members, &mut state.symbols);
        }
        let gate = self.gatekeeper.judge(&stacks, &groups);
        self.growing = gate.fails();
        sort(&mut stacks);
        let tally = self.tally(&stacks, &groups, state);
        let stacks = match scope {
            Scope::Top(top) => {
                self.gatekeeper.cut(&mut stacks, top, is_final);
                self.detailed(state, traced, stacks, None)
            }
            Scope::All => self.live(state, traced, stacks),
        };
        let modules = modules(&stacks, state);
        let goroutines = self.goroutines(&stacks, state);
        let types = self.types(state, traced);
        let mut processes: Vec<Process> =
            traced.iter().map(|process| describe(process, state, self.is_growth)).collect();
        for (described, process) in processes.iter_mut().zip(traced) {
            described.allocates_unseen = self.allocates_unseen(process.slot, described, state);
        }
        let mut snapshot = Snapshot {
            schema: SCHEMA.into(),
            is_final,
            at: Timestamp::now().to_string(),
            elapsed_ms,
            headline: Headline::default(),
            processes,
            retired: self.retired,
            loss,
            tracer: tracer_state(facts, state),
            sampling: sampling(state),
            budget: None,
            focus: self.focus.shown(),
            marks: self.focus.marks().to_vec(),
            gate,
            groups,
            stacks,
            modules,
            heaps,
            goroutines,
            types,
        };
        snapshot.headline = headline::answer(&tally, &snapshot);
        self.is_blind = snapshot.headline.blind;
        snapshot
    }

    /// Whether a process has an allocator that is seen to release and not to allocate. Where blocks are sampled, or
    /// allocations are not looked at for a while, nothing follows from releases.
    fn allocates_unseen(&mut self, slot: Slot, process: &Process, state: &State) -> bool {
        if self.resting_from_ms.is_some() || state.sampling_distance() > 0 {
            self.blind_spots.forget(slot);
            return false;
        }
        let totals = &process.totals;
        let seen = Seen {
            allocations: totals.allocations.saturating_add(totals.allocations_filtered),
            frees_unmatched: totals.frees_unmatched,
            rss_bytes: process.rss_bytes,
        };
        self.blind_spots.observe(slot, seen)
    }

    /// The sums that the headline is made of. `stacks` are ranked.
    fn tally(&self, stacks: &[(Key, Stack)], groups: &[Group], state: &mut State) -> Tally {
        let mut tally = Tally::of(stacks.iter().map(|(_, stack)| stack), groups);
        tally.intervals = Some(self.intervals);
        tally.name_first(|id| {
            let found = stacks.iter().find(|(_, stack)| stack.id == id);
            found.map(|(key, _)| describe::frames(state.symbols.frames(key.0, key.1).frames)).unwrap_or_default()
        });
        tally
    }

    /// A target that has ended gives up its slot: its totals and losses are kept in sums, and what is known by the slot is dropped.
    pub(in crate::session) fn forget(&mut self, process: &ProcessFacts<'_>, state: &mut State) {
        let slot = process.slot;
        self.add_settled(state, slot, &process.counters);
        self.settled.remove(&slot);
        self.closed.remove(&slot);
        for &counter in Counter::ALL.iter().filter(|counter| counter.harm() != Harm::Shown) {
            *self.retired_losses.entry(counter.name().into()).or_default() += process.counters.get(counter);
        }
        *self.retired_losses.entry(loss::PROBES_REMOVED.into()).or_default() += process.interruptions;
        let Process { totals, .. } = describe(process, state, self.is_growth);
        self.retired.processes += 1;
        self.retired.allocations += totals.allocations;
        self.retired.frees += totals.frees;
        self.retired.outstanding_blocks += totals.outstanding_blocks;
        self.retired.outstanding_bytes = self.retired.outstanding_bytes.saturating_add(totals.outstanding_bytes);
        if let Some(ledger) = state.ledger.process(slot) {
            ledger.all_held().for_each(|(stack, _)| self.trend.forget((slot, stack.id, stack.kind)));
            self.grouping.forget(slot);
            self.blind_spots.forget(slot);
        }
    }

    /// Blocks that only the kernel saw, while the ring was full.
    fn add_settled(&mut self, state: &mut State, slot: Slot, counters: &TargetCounters) {
        let now = (counters.get(Counter::SettledBlocks), counters.get(Counter::SettledBytes));
        let seen = self.settled.entry(slot).or_default();
        // A failed realloc takes one back; it is made up for by the next ones.
        if now.0 > seen.0 && now.1 >= seen.1 {
            state.ledger.add_settled(slot, now.0 - seen.0, now.1 - seen.1);
            *seen = now;
        }
    }

    fn observe(&mut self, state: &mut State, elapsed_ms: u64) {
        // A series has room for so many samples; those of a gap would take it from the others.
        if !self.note_rest(elapsed_ms) {
            self.observe_all(state, elapsed_ms);
        }
    }

    fn observe_all(&mut self, state: &mut State, elapsed_ms: u64) {
        let now_ns = self.clock.now_ns();
        self.intervals += 1;
        self.trend.sample(state.sampling_distance());
        self.trend.begin_interval(elapsed_ms, now_ns);
        self.grouping.groups.begin_interval(elapsed_ms, now_ns, state.sampling_distance());
        state.ask_runtimes(now_ns);
        let mut all = Vec::new();
        for (slot, process) in state.ledger.processes().filter(|(slot, _)| !self.closed.contains(slot)) {
            for (stack, precision) in process.all_held() {
                let key = (slot, stack.id, stack.kind);
                let is_pages = state.pages.is_runtime(key, state.counts.has(slot), &mut state.symbols);
                if is_pages || !state.is_known_now(key) {
                    continue;
                }
                // A stack that never held anything at a sample has no series to keep.
                if stack.outstanding_bytes > 0 || !self.trend.series(key).is_empty() {
                    let seen = Observation {
                        bytes: stack.outstanding_bytes,
                        blocks: stack.outstanding_blocks,
                        allocations: stack.allocations.saturating_sub(stack.moves),
                        allocated_bytes: stack.allocated_bytes.wrapping_sub(stack.moved_bytes),
                        precision,
                    };
                    match state.counts.is_first(key) {
                        true => self.trend.observe_first(key, seen),
                        false => self.trend.observe(key, seen),
                    }
                    // A heap that waits for its collections is judged by itself.
                    if stack.kind.is_stack() && !state.pages.is_known_note(key) && heap_of(key).is_none() {
                        all.push((key, seen));
                    }
                }
            }
        }
        self.grouping.observe(state, &self.trend, all);
    }

    /// An interval in which more allocations were dropped than recorded is a gap: what did not grow in it was not seen
    /// to. The ring is one for all targets.
    fn mark_gap(&mut self, state: &State, processes: &[ProcessFacts<'_>]) {
        let dropped = processes.iter().map(|process| process.counters.get(Counter::AllocationsDropped)).sum();
        let recorded = state.ledger.processes().map(|(_, process)| process.totals().allocations).sum();
        let before = std::mem::replace(&mut self.dropped, (dropped, recorded));
        if dropped.saturating_sub(before.0) > recorded.saturating_sub(before.1) {
            self.trend.mark_gap();
            self.grouping.groups.mark_gap();
        }
    }

    /// Tells the trend which blocks of the stacks that rise still live, if a pass over all blocks can be afforded.
    fn look(&mut self, state: &State) {
        if !self.looks.may_begin() {
            return;
        }
        let begun = Instant::now();
        self.grouping.look(state, &mut self.trend);
        self.looks.ended(begun.elapsed(), LOOK_PARTS);
    }

    /// Every stack that is not hidden, with its verdict, without frames and series.
    fn judged(&mut self, state: &mut State, traced: &[ProcessFacts<'_>], is_final: bool) -> Vec<(Key, Stack)> {
        let mut stacks: Vec<(Key, Stack)> = Vec::new();
        for (slot, process) in state.ledger.processes() {
            let pid = traced.iter().find(|process| process.slot == slot).map_or(0, |process| process.pid.0);
            for (totals, precision) in process.all_held().filter(|(totals, _)| totals.kind != ledger::Kind::Type) {
                let key = (slot, totals.id, totals.kind);
                if !state.pages.is_runtime(key, state.counts.has(slot), &mut state.symbols) {
                    stacks.push((key, unjudged(pid, &totals, precision)));
                }
            }
        }
        self.focus.hide(&mut stacks, &mut state.symbols, is_final);
        if stacks.len() > MAX_JUDGED {
            stacks.sort_by_key(|(_, stack)| std::cmp::Reverse(stack.outstanding_bytes));
        }
        let held =
            |(key, stack): &&mut (Key, Stack)| stack.outstanding_bytes > 0 || !self.trend.series(*key).is_empty();
        let judged: Vec<&mut (Key, Stack)> = stacks.iter_mut().take(MAX_JUDGED).filter(held).collect();
        let keys: Vec<Key> = judged.iter().map(|(key, _)| *key).collect();
        for ((key, stack), judgement) in judged.into_iter().zip(self.trend.judge_all(&keys)) {
            say(stack, judgement);
            stack.heap = heap_of(*key).map(str::to_owned);
            if state.pages.is_known_note(*key) {
                leave_to_heap(stack);
            }
            if stack.heap.is_some() && stack.kind == StackKind::Small {
                self.rule_by_types(key.0, stack, state);
                say_nobody(stack);
            }
            if let Some(doing) = state.counts.state(*key) {
                say_state(stack, doing);
            }
        }
        self.wait_for_collections(&mut stacks, state);
        self.rule_by_counted_heaps(&mut stacks);
        stacks
    }

    /// Adds frames, series, ages and sizes to the stacks that are shown; no frames after `until`.
    pub(in crate::session) fn detailed(
        &self,
        state: &mut State,
        traced: &[ProcessFacts<'_>],
        stacks: Vec<(Key, Stack)>,
        until: Option<Instant>,
    ) -> Vec<Stack> {
        let now_ns = self.clock.now_ns();
        let mut by_slot: HashMap<Slot, Vec<(StackId, ledger::Kind, usize)>> = HashMap::new();
        for (group, (key, _)) in stacks.iter().enumerate() {
            for (slot, id, kind) in self.with_siblings(key) {
                by_slot.entry(*slot).or_default().push((*id, *kind, group));
            }
        }
        let mut stacks = stacks;
        let mut distributions = Distributions::new(stacks.len(), now_ns);
        let mut residents = Residents::new(stacks.len());
        for (slot, wanted) in by_slot {
            if let Some(process) = state.ledger.process(slot) {
                process.distribute(&wanted, &mut distributions);
            }
            if let Some(process) = traced.iter().find(|process| process.slot == slot) {
                residents.look(process, &wanted, state);
            }
        }
        distributions.each(|group, found| {
            let (_, stack) = &mut stacks[group];
            stack.age_ms = quantiles(&self.focus.ages(&found.ages_ms));
            stack.size_bytes = quantiles(&found.sizes);
        });
        stacks
            .into_iter()
            .enumerate()
            .map(|(place, (key, mut stack))| {
                residents.say(place, &mut stack);
                stack.reserved_bytes = self.reserved(&key, state);
                if until.is_none_or(|until| Instant::now() < until) {
                    let resolved = state.symbols.frames(key.0, key.1);
                    stack.frames = describe::shown_frames(resolved.frames);
                    stack.truncated = resolved.truncated.map(str::to_owned);
                    stack.enlarged_by = enlargers(state, key);
                }
                stack.series = self.series(key);
                stack
            })
            .collect()
    }

    /// What a stack has reserved and may not access, in all its processes.
    fn reserved(&self, key: &Key, state: &State) -> u64 {
        if key.2 != ledger::Kind::Map {
            return 0;
        }
        let reserved = |&(slot, id, _): &Key| state.ledger.process(slot).map_or(0, |process| process.reserved_by(id));
        self.with_siblings(key).iter().map(reserved).fold(0, u64::saturating_add)
    }

    /// `[elapsed_ms, outstanding_bytes]` of a stack, oldest first.
    pub(in crate::session) fn series(&self, key: Key) -> Vec<(u64, u64)> {
        let series = |key: &Key| -> Vec<(u64, u64)> {
            self.trend.series(*key).iter().map(|sample| (sample.elapsed_ms, sample.bytes)).collect()
        };
        match self.with_siblings(&key) {
            [key] => series(key),
            all => siblings::sum(&all.iter().map(series).collect::<Vec<_>>()),
        }
    }

    /// The stacks that this one stands for, itself first.
    fn with_siblings<'a>(&'a self, key: &'a Key) -> &'a [Key] {
        self.siblings.get(key).map_or(std::slice::from_ref(key), Vec::as_slice)
    }
}

/// In the order of the report.
fn sort(stacks: &mut [(Key, Stack)]) {
    let order = rank::Order::of(stacks.iter().map(|(_, stack)| stack));
    stacks.sort_by(|(_, a), (_, b)| order.compare(a, b));
}
