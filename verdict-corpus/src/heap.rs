//! A process that is simulated block by block: its events go through the real ledger into the real trend, interval by
//! interval, as in a session.

use std::{cmp::Reverse, collections::BinaryHeap};

use memtrace::parts::{
    event::{Block as Allocated, Event, What},
    ledger::{Kind, Ledger},
    trend::{Judgement, Observation, Trend},
};
use memtrace_common::{Address, Slot, StackId};

/// The stack that the label of a program is about.
pub const TESTED: StackId = StackId(1);

/// Nanoseconds of an interval.
const INTERVAL_NS: u64 = 5_000_000_000;

/// Milliseconds of an interval.
pub const INTERVAL_MS: u64 = INTERVAL_NS / 1_000_000;

const SLOT: Slot = Slot(0);

/// A live block.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Block(u64);

/// The simulated process with what watches it.
pub struct Heap {
    ledger: Ledger,
    trend: Trend<StackId>,
    now_ns: u64,
    intervals: u64,
    next_address: u64,
    /// Blocks to free, by time.
    due: BinaryHeap<Reverse<(u64, Block)>>,
    /// Bytes that were leaked, and since when.
    leaked: u64,
    leaking_since_ns: Option<u64>,
    /// After how many intervals the cache was full.
    pub full: Option<usize>,
    judge_from: usize,
    /// The judgement of the tested stack after each interval that was asked for, with the number of intervals.
    pub judgements: Vec<(usize, Judgement)>,
    gap: bool,
}

impl Heap {
    /// One that is judged after each interval from `judge_from` on.
    pub fn new(judge_from: usize) -> Self {
        let mut ledger = Ledger::new();
        ledger.add_process(SLOT);
        Self {
            ledger,
            trend: Trend::new(),
            now_ns: 1,
            intervals: 0,
            next_address: 4096,
            due: BinaryHeap::new(),
            leaked: 0,
            leaking_since_ns: None,
            full: None,
            judge_from,
            judgements: Vec::new(),
            gap: false,
        }
    }

    /// How many intervals are over.
    pub fn intervals(&self) -> usize {
        self.intervals as usize
    }

    /// From now on this is the true growth's beginning.
    pub fn leaks_from_now(&mut self) {
        self.leaking_since_ns = Some(self.now_ns);
        self.leaked = 0;
    }

    /// Bytes an hour that were leaked since the leak began.
    pub fn true_rate(&self) -> Option<f64> {
        let since = self.leaking_since_ns?;
        (self.leaked > 0).then(|| self.leaked as f64 / (self.now_ns - since) as f64 * 3.6e12)
    }

    fn apply(&mut self, what: What<'_>) {
        self.now_ns += 1000;
        self.ledger.apply(&Event { slot: SLOT, thread: 1, time_ns: self.now_ns, what });
    }

    /// Allocates from a stack.
    pub fn alloc_at(&mut self, stack: StackId, size: usize) -> Block {
        let address = self.next_address;
        self.next_address += 16;
        if !self.gap {
            self.apply(What::Allocate(Allocated { address: Address(address), size: size as u64, level: 0, stack }));
        }
        Block(address)
    }

    /// Allocates from the tested stack.
    pub fn alloc(&mut self, size: usize) -> Block {
        self.alloc_at(TESTED, size)
    }

    /// Allocates from the tested stack for ever.
    pub fn leak(&mut self, size: usize) {
        if self.leaking_since_ns.is_none() {
            self.leaking_since_ns = Some(self.now_ns);
        }
        self.leaked += size as u64;
        self.alloc(size);
    }

    /// A block that was allocated already turns out to stay.
    pub fn count_leaked(&mut self, size: usize) {
        if self.leaking_since_ns.is_none() {
            self.leaking_since_ns = Some(self.intervals * INTERVAL_NS);
        }
        self.leaked += size as u64;
    }

    /// Allocates from the tested stack a block that lives for so many intervals.
    pub fn alloc_for(&mut self, size: usize, intervals: f64) {
        let block = self.alloc(size);
        let end_ns = self.now_ns + (intervals * INTERVAL_NS as f64) as u64;
        self.due.push(Reverse((end_ns, block)));
    }

    /// Frees a block.
    pub fn free(&mut self, block: Block) {
        self.apply(What::Release(Address(block.0)));
    }

    /// Nothing of what is allocated from now on to the end of the interval is recorded.
    pub fn lose_allocations(&mut self) {
        self.gap = true;
    }

    /// Lets a share of the interval pass, and frees what is due by then.
    pub fn wait(&mut self, share: f64) {
        let until_ns = (self.now_ns + (share * INTERVAL_NS as f64) as u64).min(self.end_ns());
        while let Some(&Reverse((due_ns, block))) = self.due.peek() {
            if due_ns > until_ns {
                break;
            }
            self.due.pop();
            self.now_ns = self.now_ns.max(due_ns);
            self.free(block);
        }
        self.now_ns = self.now_ns.max(until_ns);
    }

    fn end_ns(&self) -> u64 {
        (self.intervals + 1) * INTERVAL_NS
    }

    /// The end of an interval: what a session does then.
    pub fn end_interval(&mut self) {
        self.wait(1.0);
        self.now_ns = self.end_ns();
        self.intervals += 1;
        self.trend.begin_interval(self.intervals * INTERVAL_MS, self.now_ns);
        if std::mem::take(&mut self.gap) {
            self.trend.mark_gap();
        }
        let Some(process) = self.ledger.process(SLOT) else { return };
        for stack in process.stacks() {
            let seen = Observation {
                bytes: stack.outstanding_bytes,
                blocks: stack.outstanding_blocks,
                allocations: stack.allocations,
                allocated_bytes: stack.allocated_bytes,
                precision: None,
            };
            self.trend.observe(stack.id, seen);
        }
        let wanted: Vec<_> = self.trend.followed().into_iter().map(|stack| (stack, Kind::Heap)).collect();
        let found = process.cohorts(&wanted, self.trend.cohort_ends_ns());
        for ((stack, _), alive) in wanted.into_iter().zip(&found) {
            self.trend.look(stack, alive);
        }
        if self.intervals() >= self.judge_from {
            self.judgements.push((self.intervals(), self.trend.judge(TESTED)));
        }
    }
}
