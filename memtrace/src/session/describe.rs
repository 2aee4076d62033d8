//! The parts of a snapshot, each from what one room knows: the report's types out of the ledger's, the trend's, the symbols'
//! and the kernel's.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

use hdrhistogram::Histogram;
use memtrace_common::{Slot, StackId, counter::Counter};

use super::{
    completeness,
    facts::{Facts, ProcessFacts},
    key::Key,
    self_usage,
    state::State,
};
use crate::{
    ledger::{self, Enlarged, Enlargers, Precision},
    report::{
        enlarged::Enlarger,
        loss::{self, Harm},
        name, number, place,
        runtime::{Goroutines, Judged},
        sampling::{Estimate, Sampling},
        snapshot::{Frame, Module, Process, Quantiles, Stack, StackKind, Survival, Totals, Tracer as TracerState},
    },
    runtime::count,
    symbol::ResolvedFrame,
    trend::{Judgement, Sample, Verdict},
};

/// Puts what the trend says into the report's words.
pub(super) fn say(stack: &mut Stack, judgement: Judgement) {
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

/// Goroutines of a stack, as a list has them.
pub(super) fn goroutines(stack: &Stack, state: Option<&count::State>) -> Goroutines {
    Goroutines {
        pid: stack.pid,
        name: stack.frames.first().map_or_else(String::new, name::function),
        created_by: stack.frames.get(1).map(name::place),
        stack: stack.id.clone(),
        count: stack.outstanding_blocks,
        bytes: stack.outstanding_bytes,
        state: state.map(|state| state.name.clone()),
        state_count: state.map_or(0, |state| state.count),
        longest_wait_ms: state.and_then(|state| state.longest_ms),
        judged: Judged::of(stack.clone()),
    }
}

/// Adds what goroutines do.
pub(super) fn say_state(stack: &mut Stack, state: &count::State) {
    let count::State { name, count, longest_ms } = state;
    let all = stack.outstanding_blocks;
    if all == 0 {
        return;
    }
    let which =
        if *count == all { "all".to_owned() } else { format!("{} of {}", number::count(*count), number::count(all)) };
    let doing = match name.as_str() {
        "running" | "runnable" => format!("; {which} are {name}"),
        "syscall" => format!("; {which} are in a system call"),
        reason => format!("; {which} wait: {reason}"),
    };
    stack.evidence += &doing;
    if let Some(longest) = longest_ms {
        stack.evidence += &format!(", one of them for {}", number::duration(*longest));
    }
}

/// Says of small objects why nobody is named who keeps them.
pub(super) fn say_nobody(stack: &mut Stack) {
    stack.evidence +=
        "; what these pools were made ready for has been given back, so which line keeps the rest is not known";
}

/// What the tracer itself did and holds.
pub(super) fn tracer_state(facts: &Facts<'_>, state: &State) -> TracerState {
    let Facts { remembered: stacks, tables, .. } = facts;
    let (stacks_complete, stacks_short) = completeness::count(&state.ledger, &state.symbols, &state.pages);
    let own = self_usage::resident();
    TracerState {
        cpu_ms: u64::try_from(self_usage::processor_time().as_millis()).unwrap_or(u64::MAX),
        rss_bytes: own.map_or(0, |own| own.rss_bytes()),
        anon_bytes: own.map_or(0, |own| own.anon_bytes),
        stacks_remembered: stacks.hits,
        stacks_walked: stacks.misses,
        stacks_wrong: stacks.wrong,
        results_predicted: stacks.predicted,
        unwind_rows: tables.rows as u64,
        unwind_bytes: 8 * tables.room as u64,
        unwind_left_out: tables.left_out as u64,
        unwind_evicted: tables.evicted,
        stacks_complete,
        stacks_short,
    }
}

pub(super) fn losses(processes: &[ProcessFacts<'_>], state: &State) -> BTreeMap<Cow<'static, str>, u64> {
    let lost = Counter::ALL.iter().filter(|counter| counter.harm() != Harm::Shown);
    let mut losses: BTreeMap<Cow<'static, str>, u64> = lost
        .map(|&counter| (counter.name().into(), processes.iter().map(|process| process.counters.get(counter)).sum()))
        .collect();
    let symbols = state.symbols.counts();
    losses.insert(loss::RECORDS_UNDECODABLE.into(), state.undecodable);
    losses.insert(loss::STACK_COLLISIONS.into(), symbols.collisions);
    losses.insert(loss::STACKS_NOT_STORED.into(), symbols.stacks_not_stored);
    losses
}

/// How blocks were drawn, in a run that draws.
pub(super) fn sampling(state: &State) -> Option<Sampling> {
    let distance_bytes = state.sampling_distance();
    let seen = |(_, process): (Slot, &ledger::ProcessLedger)| process.totals().allocations;
    (distance_bytes > 0).then(|| Sampling { distance_bytes, blocks_seen: state.ledger.processes().map(seen).sum() })
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

pub(super) fn describe(process: &ProcessFacts<'_>, state: &State, is_growth: bool) -> Process {
    let counter = |counter| process.counters.get(counter);
    let (totals, estimate) =
        state.ledger.process(process.slot).map(|ledger| totals(ledger, counter)).unwrap_or_default();
    let counted = state.ledger.process(process.slot).map_or(0, ledger::ProcessLedger::counts_grew_by);
    let (small_bytes, small_objects) =
        state.ledger.process(process.slot).map(ledger::ProcessLedger::small_objects).unwrap_or_default();
    // What is mapped and not touched is no memory, where that is known.
    let held = match is_growth {
        true => totals.touched_bytes,
        // Pages that a runtime maps for its heap are among those that are mapped, where mapping is traced.
        false => {
            let mapped = totals.mapped_bytes.max(counted);
            totals.outstanding_bytes.saturating_add(small_bytes).saturating_add(mapped)
        }
    };
    Process {
        pid: process.pid.0,
        command: process.command.to_owned(),
        cgroup: process.cgroup.to_owned(),
        exited: process.exited,
        traced_ms: Some(u64::try_from(process.traced_for.as_millis()).unwrap_or(u64::MAX)),
        ended_by_signal: process.ended_by,
        probably_ended_by_probes: process.probably_ended_by_probes,
        rss_bytes: process.rss_bytes,
        code_moved_ms: process.code_moved_ms,
        unprobed_ms: process.unprobed_ms,
        allocates_unseen: false,
        memory: Some(process.footprint.describe(Some(held))),
        asked: state.asks.said(process.slot),
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
            touched_bytes: totals.touched_bytes,
            reserved_bytes: totals.reserved_bytes,
            small_bytes,
            small_objects,
        },
    }
}

pub(super) fn unjudged(pid: u32, totals: &ledger::StackTotals, precision: Option<Precision>) -> Stack {
    Stack {
        id: format!("{:016x}", totals.id.0),
        pid,
        pids: vec![pid],
        kind: match totals.kind {
            ledger::Kind::Heap => StackKind::Heap,
            ledger::Kind::Map => StackKind::Map,
            ledger::Kind::Touched => StackKind::Page,
            ledger::Kind::Managed | ledger::Kind::WholeHeap | ledger::Kind::Type => StackKind::Managed,
            ledger::Kind::Goroutine => StackKind::Goroutine,
            ledger::Kind::Small => StackKind::Small,
            ledger::Kind::Profiled => StackKind::Profiled,
        },
        heap: None,
        verdict: Verdict::Undecided,
        confidence: 0.0,
        evidence: "nothing was outstanding at any sample".to_owned(),
        suppressed: None,
        group: None,
        estimate: precision.map(|known| Estimate::new(totals.outstanding_bytes, known.live, known.live_seen)),
        resident_bytes: None,
        reserved_bytes: 0,
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
        enlarged_by: Vec::new(),
        frames: Vec::new(),
        truncated: None,
        series: Vec::new(),
    }
}

/// What a group holds as of its last sample; nothing is said of it yet.
pub(super) fn unjudged_group(id: u64, kind: ledger::Kind, last: &Sample) -> Stack {
    let totals = ledger::StackTotals {
        id: StackId(id),
        kind,
        outstanding_bytes: last.bytes,
        outstanding_blocks: last.blocks,
        allocations: 0,
        allocated_bytes: 0,
        moves: 0,
        moved_bytes: 0,
    };
    unjudged(0, &totals, None)
}

/// A stack's frames, the innermost first.
pub(super) fn frames(resolved: Vec<ResolvedFrame>) -> Vec<Frame> {
    resolved.into_iter().map(frame).collect()
}

/// A stack's frames as a report shows them: with those marked that are the user's own code, for which all their names are looked through.
pub(super) fn shown_frames(resolved: Vec<ResolvedFrame>) -> Vec<Frame> {
    let mut frames = frames(resolved);
    place::mark_own(&mut frames);
    frames
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
        kind: resolved.kind,
        language: resolved.language,
        user: false,
    }
}

/// Who enlarges the blocks of a stack, with their frames.
pub(super) fn enlargers(state: &mut State, (slot, id, kind): Key) -> Vec<Enlarger> {
    let Some(process) = state.ledger.process(slot) else { return Vec::new() };
    let Enlargers { callers, all } = process.enlargers(id, kind);
    let shown = callers.into_iter().map(|(caller, Enlarged { calls, bytes })| Enlarger {
        id: format!("{:016x}", caller.0),
        calls,
        bytes,
        share: bytes as f64 / all.bytes.max(1) as f64,
        frames: shown_frames(state.symbols.frames(slot, caller).frames),
    });
    shown.collect()
}

/// The modules of the frames that are shown, with the build ids of those that have one.
pub(super) fn modules(stacks: &[Stack], state: &State) -> Vec<Module> {
    let shown: HashSet<&str> =
        stacks.iter().flat_map(|stack| &stack.frames).filter_map(|frame| frame.module.as_deref()).collect();
    let mut modules: Vec<Module> = state
        .symbols
        .build_ids()
        .filter(|(name, _)| shown.contains(name))
        .map(|(name, build_id)| Module { name: name.to_owned(), build_id })
        .collect();
    modules.sort_by(|a, b| (&a.name, &a.build_id).cmp(&(&b.name, &b.build_id)));
    modules.dedup();
    modules
}

pub(super) fn quantiles(histogram: &Histogram<u64>) -> Option<Quantiles> {
    (!histogram.is_empty()).then(|| Quantiles {
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        max: histogram.max(),
    })
}
