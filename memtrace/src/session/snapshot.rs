//! How things stand: from ledger, trend, symbols and counters to the one type that reports render.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use jiff::Timestamp;
use memtrace_common::{
    Slot, StackId,
    counter::{Counter, TargetCounters},
};
use rustix::time::{ClockId, clock_gettime};

use super::{
    SessionError,
    focus::Focus,
    gate::Gatekeeper,
    own,
    pump::Pump,
    siblings::{self, Siblings},
    traced::Traced,
    whole,
};
use crate::{
    cli::TraceConfig,
    kernel::Tracer,
    ledger::{self, Distributions, Precision},
    report::{
        rank,
        sampling::{Estimate, Sampling},
        snapshot::{
            Frame, Module, Process, Quantiles, Retired, SCHEMA, Snapshot, Stack, StackKind, Survival, Totals,
            Tracer as TracerState,
        },
    },
    symbol::ResolvedFrame,
    trend::{Judgement, Observation, Trend, Verdict},
};

/// A stack of one target.
pub(super) type Key = (Slot, StackId, ledger::Kind);

/// The most stacks that are judged in one report: those that hold the most, of the ones that hold anything.
const MAX_JUDGED: usize = 2000;

/// Which stacks a snapshot has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    /// The first ones, whole.
    Top(usize),
    /// All, as the terminal view wants them.
    All,
}

/// Takes snapshots, and remembers what the trend needs between them.
pub(super) struct Snapshots {
    started: Instant,
    trend: Trend<Key>,
    /// Settled blocks and bytes that the ledger has been told of, by slot.
    settled: HashMap<Slot, (u64, u64)>,
    /// Targets that had ended at the last snapshot.
    closed: HashSet<Slot>,
    /// Processes that gave up their place, and what their counters had.
    retired: Retired,
    retired_losses: BTreeMap<Cow<'static, str>, u64>,
    /// Allocations that were dropped, and all that were recorded, up to the last snapshot.
    dropped: (u64, u64),
    looks: LookLimit,
    pub(super) gatekeeper: Gatekeeper,
    focus: Focus,
    growing: bool,
    /// The stacks of the last snapshot that stand for others.
    siblings: Siblings,
    /// Whose turn it is in the next snapshot of all stacks.
    pub(super) turn: usize,
    /// Until when the time is recorded as a gap in which allocations are not seen; `None` while they are.
    resting_from_ms: Option<u64>,
}

impl Snapshots {
    pub(super) fn new(started: Instant, config: &TraceConfig) -> Self {
        Self {
            started,
            trend: Trend::new(),
            settled: HashMap::new(),
            dropped: (0, 0),
            looks: LookLimit::default(),
            closed: HashSet::new(),
            retired: Retired::default(),
            retired_losses: BTreeMap::new(),
            gatekeeper: Gatekeeper::new(&config.gate),
            focus: Focus::new(&config.focus),
            growing: false,
            siblings: Siblings::new(),
            turn: 0,
            resting_from_ms: None,
        }
    }

    /// Whether a stack that makes the run fail was growing in the last snapshot.
    pub(super) fn growing(&self) -> bool {
        self.growing
    }

    /// Begins a new measuring window: series start again, with what each stack holds now as the base. Milliseconds since
    /// the attach.
    pub(super) fn mark(&mut self, pump: &Pump) -> u64 {
        let (elapsed_ms, now_ns) = (self.elapsed_ms(), monotonic_ns());
        self.trend = Trend::beginning_at(elapsed_ms);
        self.observe_all(pump, elapsed_ms);
        self.focus.mark(elapsed_ms, now_ns);
        elapsed_ms
    }

    /// Allocations are not seen from now on.
    pub(super) fn rest(&mut self, pump: &Pump, elapsed_ms: u64) {
        self.observe(pump, elapsed_ms);
        self.resting_from_ms.get_or_insert(elapsed_ms);
    }

    /// They are again.
    pub(super) fn resume(&mut self, pump: &Pump, elapsed_ms: u64) {
        self.note_rest(elapsed_ms);
        self.resting_from_ms = None;
        self.observe(pump, elapsed_ms);
    }

    /// Notes the time until now as a gap, if allocations are not seen; whether they are not.
    fn note_rest(&mut self, elapsed_ms: u64) -> bool {
        if let Some(from_ms) = &mut self.resting_from_ms {
            self.trend.add_gap(*from_ms, elapsed_ms);
            *from_ms = elapsed_ms;
        }
        self.resting_from_ms.is_some()
    }

    /// Samples every stack between reports.
    pub(super) fn sample(&mut self, pump: &Pump) {
        self.observe(pump, self.elapsed_ms());
        self.look(pump);
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Samples every stack and says how things stand. At the end there may be more than `--top` stacks: see
    /// [`Gatekeeper::cut`].
    pub(super) fn take(
        &mut self,
        scope: Scope,
        is_final: bool,
        tracer: &Tracer,
        pump: &mut Pump,
        traced: &[Traced],
    ) -> Result<Snapshot, SessionError> {
        let elapsed_ms = self.elapsed_ms();
        let mut counters = HashMap::new();
        for process in traced {
            let values = tracer.counters(process.slot)?;
            self.add_settled(pump, process.slot, &values);
            counters.insert(process.slot, values);
        }
        let mut loss = losses(&counters, pump);
        for (name, count) in &self.retired_losses {
            *loss.entry(name.clone()).or_default() += count;
        }
        if REAL_LOSSES.iter().any(|name| loss.get(*name).is_some_and(|&count| count > 0)) {
            self.trend.mark_all_lossy();
        }
        self.observe(pump, elapsed_ms);
        self.mark_gap(pump, &counters);
        self.look(pump);
        // The series of a process that has ended ends with what it held then.
        self.closed.extend(traced.iter().filter(|process| process.exited).map(|process| process.slot));
        let mut stacks = self.judged(pump, traced, is_final);
        self.focus.narrow(&mut stacks, pump, elapsed_ms, monotonic_ns());
        self.siblings.clear();
        if traced.len() > 1 {
            stacks.sort_by(|(_, a), (_, b)| rank::compare(a, b));
            let running: HashSet<Slot> =
                traced.iter().filter(|process| !process.exited).map(|process| process.slot).collect();
            let shape = |key: Key| pump.symbols.shape(key.0, key.1);
            (stacks, self.siblings) = siblings::group(stacks, shape, |key| running.contains(&key.0));
        }
        let gate = self.gatekeeper.judge(&mut stacks, &mut pump.symbols, is_final);
        self.growing = gate.failing_stacks > 0;
        stacks.sort_by(|(_, a), (_, b)| rank::compare(a, b));
        let stacks = match scope {
            Scope::Top(top) => {
                self.gatekeeper.cut(&mut stacks, top, is_final);
                self.detailed(pump, stacks, None)
            }
            Scope::All => self.live(pump, stacks),
        };
        let modules = modules(&stacks, pump);
        let processes = traced.iter().map(|process| describe(process, pump, counters.get(&process.slot))).collect();
        Ok(Snapshot {
            schema: SCHEMA.into(),
            is_final,
            at: Timestamp::now().to_string(),
            elapsed_ms,
            processes,
            retired: self.retired,
            loss,
            tracer: tracer_state(tracer, pump)?,
            sampling: sampling(pump),
            budget: None,
            focus: self.focus.shown(),
            marks: self.focus.marks().to_vec(),
            gate,
            stacks,
            modules,
        })
    }

    /// A target that has ended gives up its slot: its totals and losses are kept in sums.
    pub(super) fn forget(&mut self, process: &Traced, tracer: &Tracer, pump: &mut Pump) -> Result<(), SessionError> {
        let slot = process.slot;
        let counters = tracer.counters(slot)?;
        self.add_settled(pump, slot, &counters);
        self.settled.remove(&slot);
        self.closed.remove(&slot);
        for &counter in Counter::ALL.iter().filter(|counter| !NO_LOSSES.contains(counter)) {
            *self.retired_losses.entry(counter.name().into()).or_default() += counters.get(counter);
        }
        let Process { totals, .. } = describe(process, pump, Some(&counters));
        self.retired.processes += 1;
        self.retired.allocations += totals.allocations;
        self.retired.frees += totals.frees;
        self.retired.outstanding_blocks += totals.outstanding_blocks;
        self.retired.outstanding_bytes = self.retired.outstanding_bytes.saturating_add(totals.outstanding_bytes);
        if let Some(ledger) = pump.forget(slot) {
            ledger.stacks().for_each(|stack| self.trend.forget((slot, stack.id, stack.kind)));
        }
        Ok(())
    }

    /// Blocks that only the kernel saw, while the ring was full.
    fn add_settled(&mut self, pump: &mut Pump, slot: Slot, counters: &TargetCounters) {
        let now = (counters.get(Counter::SettledBlocks), counters.get(Counter::SettledBytes));
        let seen = self.settled.entry(slot).or_default();
        // A failed realloc takes one back; it is made up for by the next ones.
        if now.0 > seen.0 && now.1 >= seen.1 {
            pump.ledger.add_settled(slot, now.0 - seen.0, now.1 - seen.1);
            *seen = now;
        }
    }

    fn observe(&mut self, pump: &Pump, elapsed_ms: u64) {
        // A series has room for so many samples; those of a gap would take it from the others.
        if !self.note_rest(elapsed_ms) {
            self.observe_all(pump, elapsed_ms);
        }
    }

    fn observe_all(&mut self, pump: &Pump, elapsed_ms: u64) {
        self.trend.sample(pump.sampling_distance());
        self.trend.begin_interval(elapsed_ms, monotonic_ns());
        for (slot, process) in pump.ledger.processes().filter(|(slot, _)| !self.closed.contains(slot)) {
            let mut precision = process.precision();
            for stack in process.stacks() {
                let precision =
                    precision.as_mut().and_then(Iterator::next).filter(|_| stack.kind == ledger::Kind::Heap);
                let key = (slot, stack.id, stack.kind);
                // A stack that never held anything at a sample has no series to keep.
                if stack.outstanding_bytes > 0 || !self.trend.series(key).is_empty() {
                    let seen = Observation {
                        bytes: stack.outstanding_bytes,
                        blocks: stack.outstanding_blocks,
                        allocations: stack.allocations,
                        allocated_bytes: stack.allocated_bytes,
                        precision,
                    };
                    self.trend.observe(key, seen);
                }
            }
        }
    }

    /// An interval in which more allocations were dropped than recorded is a gap: what did not grow in it was not seen
    /// to. The ring is one for all targets.
    fn mark_gap(&mut self, pump: &Pump, counters: &HashMap<Slot, TargetCounters>) {
        let dropped = counters.values().map(|values| values.get(Counter::AllocationsDropped)).sum();
        let recorded = pump.ledger.processes().map(|(_, process)| process.totals().allocations).sum();
        let before = std::mem::replace(&mut self.dropped, (dropped, recorded));
        if dropped.saturating_sub(before.0) > recorded.saturating_sub(before.1) {
            self.trend.mark_gap();
        }
    }

    /// Tells the trend which blocks of the stacks that rise still live, if a pass over all blocks can be afforded.
    fn look(&mut self, pump: &Pump) {
        if !self.looks.may_begin() {
            return;
        }
        let begun = Instant::now();
        let mut by_slot: HashMap<Slot, Vec<(StackId, ledger::Kind)>> = HashMap::new();
        for (slot, id, kind) in self.trend.followed() {
            by_slot.entry(slot).or_default().push((id, kind));
        }
        for (slot, wanted) in by_slot {
            let Some(process) = pump.ledger.process(slot) else { continue };
            let found = process.cohorts(&wanted, self.trend.cohort_ends_ns());
            for ((id, kind), alive) in wanted.into_iter().zip(found) {
                self.trend.look((slot, id, kind), &alive);
            }
        }
        self.looks.ended(begun.elapsed());
    }

    /// Every stack that is not hidden, with its verdict, without frames and series.
    fn judged(&mut self, pump: &mut Pump, traced: &[Traced], is_final: bool) -> Vec<(Key, Stack)> {
        let mut stacks: Vec<(Key, Stack)> = Vec::new();
        for (slot, process) in pump.ledger.processes() {
            let pid = traced.iter().find(|process| process.slot == slot).map_or(0, |process| process.target.pid().0);
            let mut precision = process.precision();
            stacks.extend(process.stacks().map(|totals| {
                let precision = precision.as_mut().and_then(Iterator::next);
                ((slot, totals.id, totals.kind), unjudged(pid, &totals, precision))
            }));
        }
        self.focus.hide(&mut stacks, &mut pump.symbols, is_final);
        if stacks.len() > MAX_JUDGED {
            stacks.sort_by_key(|(_, stack)| std::cmp::Reverse(stack.outstanding_bytes));
        }
        let held =
            |(key, stack): &&mut (Key, Stack)| stack.outstanding_bytes > 0 || !self.trend.series(*key).is_empty();
        let judged: Vec<&mut (Key, Stack)> = stacks.iter_mut().take(MAX_JUDGED).filter(held).collect();
        let keys: Vec<Key> = judged.iter().map(|(key, _)| *key).collect();
        for ((_, stack), judgement) in judged.into_iter().zip(self.trend.judge_all(&keys)) {
            say(stack, judgement);
        }
        stacks
    }

    /// Adds frames, series, ages and sizes to the stacks that are shown; no frames after `until`.
    pub(super) fn detailed(&self, pump: &mut Pump, stacks: Vec<(Key, Stack)>, until: Option<Instant>) -> Vec<Stack> {
        let now_ns = monotonic_ns();
        let mut by_slot: HashMap<Slot, Vec<(StackId, ledger::Kind, usize)>> = HashMap::new();
        for (group, (key, _)) in stacks.iter().enumerate() {
            for (slot, id, kind) in self.with_siblings(key) {
                by_slot.entry(*slot).or_default().push((*id, *kind, group));
            }
        }
        let mut stacks = stacks;
        let mut distributions = Distributions::new(stacks.len(), now_ns);
        for (slot, wanted) in by_slot {
            if let Some(process) = pump.ledger.process(slot) {
                process.distribute(&wanted, &mut distributions);
            }
        }
        distributions.each(|group, found| {
            let (_, stack) = &mut stacks[group];
            stack.age_ms = quantiles(&self.focus.ages(&found.ages_ms));
            stack.size_bytes = quantiles(&found.sizes);
        });
        stacks
            .into_iter()
            .map(|(key, mut stack)| {
                if until.is_none_or(|until| Instant::now() < until) {
                    let resolved = pump.symbols.frames(key.0, key.1);
                    stack.frames = resolved.frames.into_iter().map(frame).collect();
                    stack.truncated = resolved.truncated.map(str::to_owned);
                }
                stack.series = self.series(key);
                stack
            })
            .collect()
    }

    /// `[elapsed_ms, outstanding_bytes]` of a stack, oldest first.
    pub(super) fn series(&self, key: Key) -> Vec<(u64, u64)> {
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

/// Keeps the passes over all live blocks to a small share of the time: with tens of millions of blocks one takes a while.
#[derive(Default)]
struct LookLimit {
    next: Option<Instant>,
}

impl LookLimit {
    /// Time from the end of one pass to the next, in units of what it took.
    const PAUSE: u32 = 30;

    fn may_begin(&self) -> bool {
        self.next.is_none_or(|next| Instant::now() >= next)
    }

    fn ended(&mut self, took: Duration) {
        self.next = Some(Instant::now() + took * Self::PAUSE);
    }
}

/// Puts what the trend says into the report's words.
fn say(stack: &mut Stack, judgement: Judgement) {
    let (low, high) = judgement.interval_bytes_per_hour;
    stack.verdict = judgement.verdict;
    stack.confidence = judgement.confidence;
    stack.growth_bytes_per_hour = judgement.growth_bytes_per_hour;
    // Before there are two samples there is none.
    stack.growth_interval_bytes_per_hour = (low < high || low != 0.0).then_some((low, high));
    stack.survival = judgement.survival.map(|survival| Survival {
        older_than_ms: survival.older_than_ms,
        allocated_blocks: survival.born_blocks,
        living_share: survival.living_share(),
    });
    stack.evidence = judgement.evidence;
}

/// What the tracer itself did and holds.
fn tracer_state(tracer: &Tracer, pump: &Pump) -> Result<TracerState, SessionError> {
    let stacks = tracer.remembered()?;
    let tables = pump.unwinding.fill();
    let (stacks_complete, stacks_short) = whole::count(&pump.ledger, &pump.symbols);
    let own = own::resident();
    Ok(TracerState {
        cpu_ms: u64::try_from(own::processor_time().as_millis()).unwrap_or(u64::MAX),
        rss_bytes: own.map_or(0, |own| own.rss_bytes()),
        anon_bytes: own.map_or(0, |own| own.anon_bytes),
        stacks_remembered: stacks.hits,
        stacks_walked: stacks.misses,
        stacks_wrong: stacks.wrong,
        unwind_rows: tables.rows as u64,
        unwind_bytes: 8 * tables.room as u64,
        unwind_left_out: tables.left_out as u64,
        unwind_evicted: tables.evicted,
        stacks_complete,
        stacks_short,
    })
}

/// Losses after which a block may seem to live that does not, or the other way round.
pub(super) const REAL_LOSSES: [&str; 7] = [
    Counter::AllocationsDropped.name(),
    Counter::ReleasesDropped.name(),
    Counter::MappingsDropped.name(),
    Counter::RestoresDropped.name(),
    Counter::ThreadStateMissing.name(),
    Counter::ResultReadFault.name(),
    UNDECODABLE,
];

const UNDECODABLE: &str = "records_undecodable";

/// Counters that the totals show.
const NO_LOSSES: [Counter; 5] = [
    Counter::FailedAllocations,
    Counter::AllocationsFiltered,
    Counter::AllocationsUnsampled,
    Counter::AllocatedBytesUnsampled,
    Counter::ReleasesUnsampled,
];

fn losses(counters: &HashMap<Slot, TargetCounters>, pump: &Pump) -> BTreeMap<Cow<'static, str>, u64> {
    let lost = Counter::ALL.iter().filter(|counter| !NO_LOSSES.contains(counter));
    let mut loss: BTreeMap<Cow<'static, str>, u64> = lost
        .map(|&counter| (counter.name().into(), counters.values().map(|values| values.get(counter)).sum()))
        .collect();
    let symbols = pump.symbols.counts();
    loss.insert(UNDECODABLE.into(), pump.undecodable);
    loss.insert("stack_collisions".into(), symbols.collisions);
    loss.insert("stacks_not_stored".into(), symbols.stacks_not_stored);
    loss
}

/// How blocks were drawn, in a run that draws.
fn sampling(pump: &Pump) -> Option<Sampling> {
    let distance_bytes = pump.sampling_distance();
    let seen = |(_, process): (Slot, &ledger::ProcessLedger)| process.totals().allocations;
    (distance_bytes > 0).then(|| Sampling { distance_bytes, blocks_seen: pump.ledger.processes().map(seen).sum() })
}

/// What the allocator calls of a process add up to. Where blocks are sampled every call is counted all the same, and what
/// lives is estimated.
fn totals(ledger: &ledger::ProcessLedger, counter: impl Fn(Counter) -> u64) -> (ledger::Totals, Option<Estimate>) {
    let mut totals = ledger.totals();
    let Some(precision) = ledger.precision() else { return (totals, None) };
    let (mut bytes, mut blocks, mut known) = (0u64, 0u64, Precision::default());
    for (stack, precision) in ledger.stacks().zip(precision).filter(|(stack, _)| stack.kind == ledger::Kind::Heap) {
        bytes = bytes.saturating_add(stack.outstanding_bytes);
        blocks = blocks.saturating_add(stack.outstanding_blocks);
        known.add(precision);
    }
    totals.allocations += counter(Counter::AllocationsUnsampled);
    totals.allocated_bytes = totals.allocated_bytes.saturating_add(counter(Counter::AllocatedBytesUnsampled));
    (totals.outstanding_bytes, totals.outstanding_blocks) = (bytes, blocks);
    totals.frees = totals.allocations.saturating_sub(blocks).saturating_sub(totals.blocks_dropped_by_exec);
    totals.freed_bytes = totals.allocated_bytes.saturating_sub(bytes).saturating_sub(totals.bytes_dropped_by_exec);
    (totals, Some(Estimate::new(bytes, known.live, known.live_seen)))
}

fn describe(process: &Traced, pump: &Pump, counters: Option<&TargetCounters>) -> Process {
    let counter = |counter| counters.map_or(0, |values| values.get(counter));
    let (totals, estimate) =
        pump.ledger.process(process.slot).map(|ledger| totals(ledger, counter)).unwrap_or_default();
    Process {
        pid: process.target.pid().0,
        command: process.target.command().to_owned(),
        cgroup: process.target.cgroup().to_owned(),
        exited: process.exited,
        rss_bytes: process.rss_bytes,
        memory: Some(process.outer.describe(Some(totals.outstanding_bytes.saturating_add(totals.mapped_bytes)))),
        totals: Totals {
            allocations: totals.allocations,
            frees: totals.frees,
            allocated_bytes: totals.allocated_bytes,
            freed_bytes: totals.freed_bytes,
            outstanding_bytes: totals.outstanding_bytes,
            outstanding_blocks: totals.outstanding_blocks,
            estimate,
            frees_unmatched: totals.frees_unmatched,
            frees_implied: totals.frees_implied,
            inherited_blocks: totals.inherited_blocks,
            inherited_bytes: totals.inherited_bytes,
            inherited_frees: totals.inherited_frees,
            blocks_dropped_by_exec: totals.blocks_dropped_by_exec,
            bytes_dropped_by_exec: totals.bytes_dropped_by_exec,
            failed_allocations: counter(Counter::FailedAllocations),
            allocations_filtered: counter(Counter::AllocationsFiltered),
            mapped_bytes: totals.mapped_bytes,
        },
    }
}

fn unjudged(pid: u32, totals: &ledger::StackTotals, precision: Option<Precision>) -> Stack {
    let drawn = precision.filter(|_| totals.kind == ledger::Kind::Heap);
    Stack {
        id: format!("{:016x}", totals.id.0),
        pid,
        pids: vec![pid],
        kind: match totals.kind {
            ledger::Kind::Heap => StackKind::Heap,
            ledger::Kind::Map => StackKind::Map,
            ledger::Kind::Touched => StackKind::Page,
        },
        verdict: Verdict::Undecided,
        confidence: 0.0,
        evidence: "nothing was outstanding at any sample".to_owned(),
        suppressed: None,
        estimate: drawn.map(|known| Estimate::new(totals.outstanding_bytes, known.live, known.live_seen)),
        since_mark: None,
        outstanding_bytes: totals.outstanding_bytes,
        outstanding_blocks: totals.outstanding_blocks,
        allocations: totals.allocations,
        allocated_bytes: totals.allocated_bytes,
        growth_bytes_per_hour: 0.0,
        growth_interval_bytes_per_hour: None,
        survival: None,
        age_ms: None,
        size_bytes: None,
        frames: Vec::new(),
        truncated: None,
        series: Vec::new(),
    }
}

fn frame(resolved: ResolvedFrame) -> Frame {
    Frame {
        function: resolved.function,
        module: resolved.module,
        address: format!("{:#x}", resolved.address),
        file: resolved.file,
        line: resolved.line,
        inlined: resolved.inlined,
        offset: resolved.offset.map(|offset| format!("{offset:#x}")),
    }
}

/// The modules of the frames that are shown, with the build ids of those that have one.
fn modules(stacks: &[Stack], pump: &Pump) -> Vec<Module> {
    let shown: HashSet<&str> =
        stacks.iter().flat_map(|stack| &stack.frames).filter_map(|frame| frame.module.as_deref()).collect();
    let mut modules: Vec<Module> = pump
        .symbols
        .build_ids()
        .filter(|(name, _)| shown.contains(name))
        .map(|(name, build_id)| Module { name: name.to_owned(), build_id })
        .collect();
    modules.sort_by(|a, b| (&a.name, &a.build_id).cmp(&(&b.name, &b.build_id)));
    modules.dedup();
    modules
}

fn quantiles(histogram: &Histogram<u64>) -> Option<Quantiles> {
    (!histogram.is_empty()).then(|| Quantiles {
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        max: histogram.max(),
    })
}

/// The clock of the events.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
