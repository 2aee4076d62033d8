//! Snapshots of simulated targets: no root, no BPF, and no waiting.

use std::time::Duration;

use memtrace_common::{Address, StackId, counter::TargetCounters};

use super::*;
use crate::{
    event::{Block, Event, What},
    kernel::{RememberedCounts, tables::Fill},
    report::headline::State as Answer,
    runtime::Language,
    session::{GateConfig, footprint::Footprint},
    target::Pid,
    trend::{Verdict, footprint::Span},
};

const SLOT: Slot = Slot(0);
const LEAK: StackId = StackId(1);
const STEADY: StackId = StackId(2);

/// A run over one target that allocates as it is told.
struct Simulated {
    snapshots: Snapshots,
    state: State,
    footprint: Footprint,
    next_address: u64,
    exited: bool,
    interruptions: u64,
}

impl Simulated {
    fn new(config: &TraceConfig) -> Self {
        let pid = Pid(std::process::id());
        let mut state = State::new().expect("our own root directory");
        state.add_process(SLOT, pid, []);
        Self {
            snapshots: Snapshots::new(Instant::now(), config),
            state,
            footprint: Footprint::new(pid, Span::Run),
            next_address: 0x1000,
            exited: false,
            interruptions: 0,
        }
    }

    fn event(&mut self, what: What<'_>) {
        let time_ns = self.snapshots.clock.now_ns();
        self.state.ledger.apply(&Event { slot: SLOT, thread: 1, time_ns, what });
    }

    fn allocate(&mut self, stack: StackId, blocks: u64, size: u64) {
        for _ in 0..blocks {
            let address = Address(self.next_address);
            self.next_address += 0x1000;
            self.event(What::Allocate(Block { address, size, level: 0, stack }));
        }
    }

    fn release_unknown(&mut self, blocks: u64) {
        for _ in 0..blocks {
            self.next_address += 0x1000;
            self.event(What::Release(Address(self.next_address)));
        }
    }

    fn facts<'a>(footprint: &'a Footprint, exited: bool, interruptions: u64) -> ProcessFacts<'a> {
        ProcessFacts {
            slot: SLOT,
            pid: Pid(std::process::id()),
            command: "simulated",
            cgroup: "/",
            exited,
            traced_for: Duration::from_secs(1),
            ended_by: None,
            probably_ended_by_probes: false,
            rss_bytes: 100 << 20,
            code_moved_ms: None,
            unprobed_ms: None,
            interruptions,
            footprint,
            counters: TargetCounters::default(),
            has_ended: Box::new(move || exited),
        }
    }

    fn take(&mut self, with_process: bool) -> Snapshot {
        let process = Self::facts(&self.footprint, self.exited, self.interruptions);
        let facts = Facts {
            processes: if with_process { vec![process] } else { Vec::new() },
            remembered: RememberedCounts::default(),
            tables: Fill::default(),
        };
        self.snapshots.take(Scope::Top(10), false, &facts, &mut self.state)
    }

    /// The last of some intervals, in each of which something happens first.
    fn intervals(&mut self, count: usize, mut happens: impl FnMut(&mut Self)) -> Snapshot {
        let mut last = None;
        for _ in 0..count {
            self.snapshots.clock.advance(Duration::from_secs(5));
            happens(self);
            last = Some(self.take(true));
        }
        last.expect("an interval")
    }
}

fn verdict(snapshot: &Snapshot, stack: StackId) -> Option<Verdict> {
    let id = format!("{:016x}", stack.0);
    snapshot.stacks.iter().find(|stack| stack.id.ends_with(&id) || id.ends_with(&stack.id)).map(|stack| stack.verdict)
}

#[test]
fn what_is_never_freed_keeps_growing_and_fails_the_gate_and_what_is_held_does_not() {
    let gate = GateConfig { fail_on_leak: true, ..GateConfig::default() };
    let mut run = Simulated::new(&TraceConfig { gate, ..TraceConfig::default() });
    run.allocate(STEADY, 500, 4096);
    let early = run.intervals(3, |run| run.allocate(LEAK, 100, 1024));
    assert_eq!(verdict(&early, LEAK), Some(Verdict::Undecided));
    assert!(early.headline.text.starts_with("Too early to tell"), "{}", early.headline.text);
    let late = run.intervals(9, |run| run.allocate(LEAK, 100, 1024));
    assert_eq!(verdict(&late, LEAK), Some(Verdict::Growing), "{:?}", late.stacks);
    assert_ne!(verdict(&late, STEADY), Some(Verdict::Growing));
    assert_eq!((late.headline.state, run.snapshots.growing()), (Answer::Growing, true));
    let leak = late.stacks.iter().find(|stack| stack.verdict == Verdict::Growing).expect("the leak");
    assert_eq!((leak.outstanding_blocks, leak.outstanding_bytes), (1200, 1200 * 1024));
    // 100 KiB in 5 s.
    assert!((leak.growth_bytes_per_hour / (100.0 * 1024.0 * 720.0) - 1.0).abs() < 0.02);
}

#[test]
fn growth_from_before_a_mark_does_not_count() {
    let mut run = Simulated::new(&TraceConfig::default());
    run.intervals(12, |run| run.allocate(LEAK, 100, 1024));
    run.snapshots.mark(&mut run.state);
    let after = run.intervals(12, |_| ());
    assert_ne!(verdict(&after, LEAK), Some(Verdict::Growing), "{:?}", after.stacks);
    assert_eq!(after.marks.len(), 1);
    assert!(!run.snapshots.growing());
}

#[test]
fn an_allocator_that_is_seen_to_release_only_makes_the_run_blind() {
    let mut run = Simulated::new(&TraceConfig::default());
    let seen = run.intervals(3, |run| run.release_unknown(1000));
    assert_ne!(seen.headline.state, Answer::Blind);
    let blind = run.intervals(4, |run| run.release_unknown(1000));
    assert_eq!((blind.headline.state, run.snapshots.is_blind()), (Answer::Blind, true), "{}", blind.headline.text);
    assert_eq!(blind.processes[0].totals.frees_unmatched, 7000);
}

#[test]
fn time_when_allocations_are_not_seen_is_no_interval_of_blindness() {
    let mut run = Simulated::new(&TraceConfig::default());
    let now_ms = run.snapshots.clock.elapsed_ms();
    run.snapshots.rest(&mut run.state, now_ms);
    let resting = run.intervals(7, |run| run.release_unknown(1000));
    assert_ne!(resting.headline.state, Answer::Blind, "{}", resting.headline.text);
}

#[test]
fn a_process_that_is_forgotten_stays_in_the_sums_and_so_do_its_losses() {
    let mut run = Simulated::new(&TraceConfig::default());
    run.interruptions = 2;
    let seen = run.intervals(2, |run| run.allocate(LEAK, 10, 100));
    assert_eq!((seen.loss["probes_removed"], seen.retired.processes), (2, 0));
    run.exited = true;
    let process = Simulated::facts(&run.footprint, true, 2);
    run.snapshots.forget(&process, &mut run.state);
    drop(process);
    run.state.forget(SLOT);
    let after = run.take(false);
    assert_eq!((after.processes.len(), after.stacks.len()), (0, 0));
    let retired = after.retired;
    assert_eq!((retired.processes, retired.allocations, retired.outstanding_blocks), (1, 20, 20));
    assert_eq!((retired.outstanding_bytes, after.loss["probes_removed"]), (2000, 2));
}

#[test]
fn verdicts_after_a_loss_say_so() {
    let mut run = Simulated::new(&TraceConfig::default());
    run.interruptions = 1;
    let lossy = run.intervals(12, |run| run.allocate(LEAK, 100, 1024));
    let leak = lossy.stacks.first().expect("a stack");
    let mut sound = Simulated::new(&TraceConfig::default());
    let whole = sound.intervals(12, |run| run.allocate(LEAK, 100, 1024));
    assert_ne!(leak.evidence, whole.stacks.first().expect("a stack").evidence);
}

fn totals(id: StackId, kind: ledger::Kind, bytes: u64) -> ledger::StackTotals {
    let blocks = bytes / 64;
    ledger::StackTotals {
        id,
        kind,
        outstanding_bytes: bytes,
        outstanding_blocks: blocks,
        allocations: blocks,
        allocated_bytes: bytes,
        moves: 0,
        moved_bytes: 0,
    }
}

fn seen(bytes: u64) -> Observation {
    let blocks = bytes / 64;
    Observation { bytes, blocks, allocations: blocks, allocated_bytes: bytes, precision: None }
}

/// What is said of the heap of Python's small objects that seems to grow, after these many intervals in which a type holds as much as told.
fn heap_beside_a_type(intervals: u64, type_bytes: impl Fn(u64) -> u64) -> Stack {
    let mut run = Simulated::new(&TraceConfig::default());
    run.state.counts.name_type(STEADY, "Session", Language::Python);
    for interval in 0..intervals {
        let (bytes, at_ms) = (type_bytes(interval), 5000 * (interval + 1));
        let totals = totals(STEADY, ledger::Kind::Type, bytes);
        run.state.ledger.set_count(SLOT, ledger::Count { totals, precision: None });
        run.snapshots.trend.begin_interval(at_ms, at_ms * 1_000_000);
        run.snapshots.trend.observe((SLOT, STEADY, ledger::Kind::Type), seen(bytes));
    }
    let mut heap = unjudged(1, &totals(STEADY, ledger::Kind::Small, 200 << 10), None);
    heap.verdict = Verdict::Growing;
    run.snapshots.rule_by_types(SLOT, &mut heap, &run.state);
    heap
}

#[test]
fn small_objects_that_nobody_is_known_to_keep_grow_only_where_a_type_does_if_types_are_counted() {
    let level = heap_beside_a_type(12, |interval| (5 << 20) + (interval % 3) * 4096);
    assert_eq!(level.verdict, Verdict::Undecided, "{}", level.evidence);
    assert!(level.evidence.ends_with("but the objects of no type do"), "{}", level.evidence);
    let rising = heap_beside_a_type(12, |interval| (5 << 20) + interval * 40_960);
    assert_eq!(rising.verdict, Verdict::Growing, "{}", rising.evidence);
    // Before that is known, what is seen of the heap counts.
    assert_eq!(heap_beside_a_type(4, |_| 5 << 20).verdict, Verdict::Growing);
    assert_eq!(heap_beside_a_type(0, |_| 0).verdict, Verdict::Growing);
}

/// What is said of a heap that is counted and seems to grow, and of the places of which most and least was drawn, which do not: the heap has
/// these bytes at each interval, and the places two thirds and a third of what it has more than at the first.
fn a_counted_heap(bytes: impl Fn(u64) -> u64) -> [Stack; 3] {
    let mut snapshots = Simulated::new(&TraceConfig::default()).snapshots;
    let keys = [(LEAK, ledger::Kind::Managed), (STEADY, ledger::Kind::Managed), (StackId(3), ledger::Kind::WholeHeap)];
    let held = |interval| {
        let more = bytes(interval) - bytes(0);
        [more / 3 * 2, more / 3, bytes(interval)]
    };
    for interval in 0..8 {
        let at_ms = 5000 * (interval + 1);
        snapshots.trend.begin_interval(at_ms, at_ms * 1_000_000);
        for ((id, kind), bytes) in keys.into_iter().zip(held(interval)) {
            // What a runtime holds when it is first asked it may have held for long.
            match interval {
                0 => snapshots.trend.observe_first((SLOT, id, kind), seen(bytes)),
                _ => snapshots.trend.observe((SLOT, id, kind), seen(bytes)),
            }
        }
    }
    let mut stacks: Vec<(Key, Stack)> = keys
        .into_iter()
        .zip(held(7))
        .map(|((id, kind), bytes)| ((SLOT, id, kind), unjudged(1, &totals(id, kind, bytes), None)))
        .collect();
    stacks[2].1.verdict = Verdict::Growing;
    stacks[2].1.confidence = 0.9;
    snapshots.rule_by_counted_heaps(&mut stacks);
    let [most, least, whole] = [0, 1, 2].map(|at| stacks[at].1.clone());
    [most, least, whole]
}

#[test]
fn where_a_counted_heap_grows_the_place_is_accused_of_which_the_most_was_drawn() {
    let [most, least, whole] = a_counted_heap(|interval| (40 + 3 * interval) << 20);
    assert_eq!((most.verdict, least.verdict), (Verdict::Growing, Verdict::Undecided));
    assert_eq!(whole.verdict, Verdict::Growing, "{}", whole.evidence);
    assert!((most.confidence - 0.6).abs() < 0.01, "{}", most.confidence);
    assert!(most.evidence.contains("67 % was allocated here"), "{}", most.evidence);
    // Less than an eighth, and less than four objects that Go draws.
    for bytes in [(40u64 << 20, 500u64 << 10), (1 << 20, 200 << 10)] {
        let [most, _, whole] = a_counted_heap(|interval| bytes.0 + bytes.1 * interval);
        assert_eq!((most.verdict, whole.verdict), (Verdict::Undecided, Verdict::Undecided), "{bytes:?}");
        assert!(whole.evidence.contains("while the collector runs"), "{}", whole.evidence);
    }
}
