//! How things stand: from ledger, trend, symbols and counters to the one type that reports render.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use hdrhistogram::Histogram;
use jiff::Timestamp;
use memtrace_common::{
    Slot, StackId,
    counter::{Counter, TargetCounters},
};
use rustix::time::{ClockId, clock_gettime};

use super::{SessionError, pump::Pump, traced::Traced};
use crate::{
    cli::TraceConfig,
    kernel::Tracer,
    ledger::{self, Distribution},
    report::{
        rank,
        snapshot::{Frame, Process, Quantiles, SCHEMA, Snapshot, Stack, StackKind, Totals, Tracer as TracerState},
    },
    symbol::ResolvedFrame,
    trend::{Trend, Verdict},
};

/// A stack of one target.
type Key = (Slot, StackId, ledger::Kind);

/// The most stacks that are judged in one report: those that hold the most, of the ones that hold anything.
const MAX_JUDGED: usize = 2000;

/// Takes snapshots, and remembers what the trend needs between them.
pub(super) struct Snapshots {
    started: Instant,
    trend: Trend<Key>,
    /// Settled blocks and bytes that the ledger has been told of, by slot.
    settled: HashMap<Slot, (u64, u64)>,
    growing: bool,
}

impl Snapshots {
    pub(super) fn new(started: Instant) -> Self {
        Self { started, trend: Trend::new(), settled: HashMap::new(), growing: false }
    }

    /// Whether a stack was growing in the last snapshot.
    pub(super) fn growing(&self) -> bool {
        self.growing
    }

    /// Samples every stack and says how things stand.
    pub(super) fn take(
        &mut self,
        config: &TraceConfig,
        is_final: bool,
        tracer: &Tracer,
        pump: &mut Pump,
        traced: &[Traced],
    ) -> Result<Snapshot, SessionError> {
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut counters = HashMap::new();
        for process in traced {
            let values = tracer.counters(process.slot)?;
            self.add_settled(pump, process.slot, &values);
            counters.insert(process.slot, values);
        }
        let loss = losses(&counters, pump);
        if REAL_LOSSES.iter().any(|name| loss.get(name).is_some_and(|&count| count > 0)) {
            self.trend.mark_all_lossy();
        }
        self.observe(pump, elapsed_ms);
        let mut stacks = self.judged(pump, traced);
        self.growing = stacks.iter().any(|(_, stack)| stack.verdict == Verdict::Growing.as_str());
        stacks.sort_by(|(_, a), (_, b)| rank::compare(a, b));
        stacks.truncate(config.top);
        let stacks = self.detailed(pump, stacks);
        let processes = traced.iter().map(|process| describe(process, pump, counters.get(&process.slot))).collect();
        Ok(Snapshot {
            schema: SCHEMA,
            is_final,
            at: Timestamp::now().to_string(),
            elapsed_ms,
            processes,
            loss,
            tracer: tracer_state(tracer, pump)?,
            stacks,
        })
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
        self.trend.begin_interval(elapsed_ms);
        for (slot, process) in pump.ledger.processes() {
            for stack in process.stacks() {
                let key = (slot, stack.id, stack.kind);
                // A stack that never held anything at a sample has no series to keep.
                if stack.outstanding_bytes > 0 || !self.trend.series(key).is_empty() {
                    self.trend.observe(key, elapsed_ms, stack.outstanding_bytes, stack.outstanding_blocks);
                }
            }
        }
    }

    /// Every stack with its verdict, without frames and series.
    fn judged(&self, pump: &Pump, traced: &[Traced]) -> Vec<(Key, Stack)> {
        let mut stacks: Vec<(Key, Stack)> = Vec::new();
        for (slot, process) in pump.ledger.processes() {
            let pid = traced.iter().find(|process| process.slot == slot).map_or(0, |process| process.target.pid().0);
            stacks.extend(process.stacks().map(|totals| ((slot, totals.id, totals.kind), unjudged(pid, &totals))));
        }
        if stacks.len() > MAX_JUDGED {
            stacks.sort_by_key(|(_, stack)| std::cmp::Reverse(stack.outstanding_bytes));
        }
        for (key, stack) in stacks.iter_mut().take(MAX_JUDGED) {
            if stack.outstanding_bytes == 0 && self.trend.series(*key).is_empty() {
                continue;
            }
            let judgement = self.trend.judge(*key);
            stack.verdict = judgement.verdict.as_str();
            stack.confidence = judgement.confidence;
            stack.growth_bytes_per_hour = judgement.growth_bytes_per_hour;
            stack.evidence = judgement.evidence;
        }
        stacks
    }

    /// Adds frames, series, ages and sizes to the stacks that are shown.
    fn detailed(&self, pump: &mut Pump, stacks: Vec<(Key, Stack)>) -> Vec<Stack> {
        let now_ns = monotonic_ns();
        let mut by_slot: HashMap<Slot, Vec<(StackId, ledger::Kind)>> = HashMap::new();
        for ((slot, id, kind), _) in &stacks {
            by_slot.entry(*slot).or_default().push((*id, *kind));
        }
        let mut distributions: HashMap<Key, Distribution> = HashMap::new();
        for (slot, wanted) in by_slot {
            if let Some(process) = pump.ledger.process(slot) {
                let found = process.distributions(&wanted, now_ns);
                distributions
                    .extend(wanted.into_iter().zip(found).map(|((id, kind), found)| ((slot, id, kind), found)));
            }
        }
        stacks
            .into_iter()
            .map(|(key, mut stack)| {
                let resolved = pump.symbols.frames(key.0, key.1);
                stack.frames = resolved.frames.into_iter().map(frame).collect();
                stack.truncated = resolved.truncated.map(str::to_owned);
                stack.series = self.trend.series(key).iter().map(|sample| (sample.elapsed_ms, sample.bytes)).collect();
                if let Some(distribution) = distributions.get(&key) {
                    stack.age_ms = quantiles(&distribution.ages_ms);
                    stack.size_bytes = quantiles(&distribution.sizes);
                }
                stack
            })
            .collect()
    }
}

/// What the tracer itself did and holds.
fn tracer_state(tracer: &Tracer, pump: &Pump) -> Result<TracerState, SessionError> {
    let stacks = tracer.remembered()?;
    let (rows, room) = pump.unwinding.rows();
    Ok(TracerState {
        stacks_remembered: stacks.hits,
        stacks_walked: stacks.misses,
        stacks_wrong: stacks.wrong,
        unwind_rows: rows as u64,
        unwind_bytes: 8 * room as u64,
        unwind_left_out: pump.unwinding.left_out() as u64,
    })
}

/// Losses after which a block may seem to live that does not, or the other way round.
const REAL_LOSSES: [&str; 7] = [
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
const NO_LOSSES: [Counter; 2] = [Counter::FailedAllocations, Counter::AllocationsFiltered];

fn losses(counters: &HashMap<Slot, TargetCounters>, pump: &Pump) -> BTreeMap<&'static str, u64> {
    let lost = Counter::ALL.iter().filter(|counter| !NO_LOSSES.contains(counter));
    let mut loss: BTreeMap<&'static str, u64> =
        lost.map(|&counter| (counter.name(), counters.values().map(|values| values.get(counter)).sum())).collect();
    let symbols = pump.symbols.counts();
    loss.insert(UNDECODABLE, pump.undecodable);
    loss.insert("stack_collisions", symbols.collisions);
    loss.insert("stacks_not_stored", symbols.stacks_not_stored);
    loss
}

fn describe(process: &Traced, pump: &Pump, counters: Option<&TargetCounters>) -> Process {
    let totals = pump.ledger.process(process.slot).map(ledger::ProcessLedger::totals).unwrap_or_default();
    let counter = |counter| counters.map_or(0, |values| values.get(counter));
    Process {
        pid: process.target.pid().0,
        command: process.target.command().to_owned(),
        cgroup: process.target.cgroup().to_owned(),
        exited: process.exited,
        rss_bytes: process.rss_bytes,
        totals: Totals {
            allocations: totals.allocations,
            frees: totals.frees,
            allocated_bytes: totals.allocated_bytes,
            freed_bytes: totals.freed_bytes,
            outstanding_bytes: totals.outstanding_bytes,
            outstanding_blocks: totals.outstanding_blocks,
            frees_unmatched: totals.frees_unmatched,
            frees_implied: totals.frees_implied,
            blocks_dropped_by_exec: totals.blocks_dropped_by_exec,
            bytes_dropped_by_exec: totals.bytes_dropped_by_exec,
            failed_allocations: counter(Counter::FailedAllocations),
            allocations_filtered: counter(Counter::AllocationsFiltered),
            mapped_bytes: totals.mapped_bytes,
        },
    }
}

fn unjudged(pid: u32, totals: &ledger::StackTotals) -> Stack {
    Stack {
        id: format!("{:016x}", totals.id.0),
        pid,
        kind: match totals.kind {
            ledger::Kind::Heap => StackKind::Heap,
            ledger::Kind::Map => StackKind::Map,
        },
        verdict: Verdict::Undecided.as_str(),
        confidence: 0.0,
        evidence: "nothing was outstanding at any sample".to_owned(),
        outstanding_bytes: totals.outstanding_bytes,
        outstanding_blocks: totals.outstanding_blocks,
        allocations: totals.allocations,
        growth_bytes_per_hour: 0.0,
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
    }
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
