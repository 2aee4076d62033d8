//! The censuses of the targets' objects, taken by a thread of their own: one of a large heap takes longer than events may wait.

use std::{
    collections::HashMap,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use memtrace_common::Slot;

use super::clock::monotonic_ns;
use crate::{
    ledger::Ledger,
    runtime::{Block, Blocks, Census, Due, count::Found},
    turns::thread_time,
};

/// How long an interval waits for the censuses that it asks for.
const WAIT: Duration = Duration::from_millis(20);

/// Of targets whose censuses take longer each interval has the one that was asked for by the interval before: if it were now the one and now
/// the other, there would be intervals with none.
const QUICK: Duration = Duration::from_millis(10);

/// The most blocks of a process that one census looks at; of more, every second, fourth, ... counts for all.
const MAX_BLOCKS: usize = 1 << 20;

/// The censuses of all targets.
#[derive(Default)]
pub(super) struct Censuses {
    targets: HashMap<Slot, Target>,
    /// How many targets there have been, which tells those of one slot apart.
    ever: u64,
    taker: Option<Taker>,
}

struct Target {
    number: u64,
    /// `None` while it is being taken.
    census: Option<Census>,
    /// Whether the last one was there at once.
    is_quick: bool,
    /// Whether there was one at this interval.
    is_fresh: bool,
}

/// The thread that takes them, one after the other.
struct Taker {
    ask: Sender<Order>,
    answers: Receiver<Answer>,
}

/// A census that is to be taken.
struct Order {
    slot: Slot,
    number: u64,
    census: Census,
    due: Due,
    blocks: Blocks,
}

/// One that was taken: when that began by the monotonic clock, how long it took, and what it has found.
struct Answer {
    order: Order,
    begun_ns: u64,
    took: Duration,
    found: Option<Found>,
}

impl Censuses {
    /// From now on the objects of a target are counted, whose live blocks the ledger knows.
    pub(super) fn add(&mut self, slot: Slot, census: Census, ledger: &Ledger) {
        self.ever += 1;
        self.targets.insert(slot, Target { number: self.ever, census: Some(census), is_quick: false, is_fresh: false });
        self.ask(ledger);
    }

    /// The target has ended, or runs another program.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.targets.remove(&slot);
    }

    /// Asks for the censuses that have rested long enough.
    fn ask(&mut self, ledger: &Ledger) {
        let processes = self.targets.len() as u32;
        let taker = self.taker.get_or_insert_with(Taker::start);
        for (&slot, target) in &mut self.targets {
            let Some(due) = target.census.as_ref().map(Census::due).filter(|due| due.is_any()) else { continue };
            let Some(census) = target.census.take() else { continue };
            let begun = thread_time();
            let all = if due.needs_blocks() { live_blocks(ledger, slot) } else { Vec::new() };
            let blocks = Blocks { all, took: thread_time() - begun, processes };
            // The thread ends when this is dropped, and not before.
            if let Err(back) = taker.ask.send(Order { slot, number: target.number, census, due, blocks }) {
                target.census = Some(back.0.census);
            }
        }
    }

    /// Asks for the censuses that have rested long enough, and tells what is found by those that have been taken since the last time. For
    /// quick ones, and those of targets without, it waits a moment.
    pub(super) fn take(&mut self, ledger: &mut Ledger, mut take: impl FnMut(&mut Ledger, Slot, u64, Found)) {
        if self.targets.is_empty() {
            return;
        }
        let Some(taker) = &self.taker else { return };
        self.targets.values_mut().for_each(|target| target.is_fresh = false);
        while let Ok(answer) = taker.answers.try_recv() {
            take_back(&mut self.targets, answer, |slot, begun_ns, found| take(ledger, slot, begun_ns, found));
        }
        self.ask(ledger);
        let Some(taker) = &self.taker else { return };
        let until = Instant::now() + WAIT;
        let is_awaited = |target: &Target| target.census.is_none() && (target.is_quick || !target.is_fresh);
        while self.targets.values().any(is_awaited) {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(answer) = taker.answers.recv_timeout(left) else { return };
            take_back(&mut self.targets, answer, |slot, begun_ns, found| take(ledger, slot, begun_ns, found));
        }
    }
}

/// The live blocks of a process, or so many of them that a census may look at: the same ones at each census, as long as they live.
fn live_blocks(ledger: &Ledger, slot: Slot) -> Vec<Block> {
    let Some(process) = ledger.process(slot) else { return Vec::new() };
    let number = process.live_blocks_seen();
    let step = number.div_ceil(MAX_BLOCKS).next_power_of_two();
    let bits = step.trailing_zeros();
    let is_taken = |address: u64| address.wrapping_mul(0x9e37_79b9_7f4a_7c15).leading_zeros() >= bits;
    let mut blocks = Vec::with_capacity(number / step);
    for (address, bytes, chance) in process.seen_blocks() {
        if is_taken(address.0) {
            blocks.push(Block { address: address.0, bytes, chance: (chance / step as f64) as f32 });
        }
    }
    blocks
}

/// Takes a census back, and tells what it has found, unless its target has ended.
fn take_back(targets: &mut HashMap<Slot, Target>, answer: Answer, take: impl FnOnce(Slot, u64, Found)) {
    let Answer { order: Order { slot, number, census, .. }, begun_ns, took, found } = answer;
    let Some(target) = targets.get_mut(&slot).filter(|target| target.number == number) else { return };
    target.census = Some(census);
    target.is_quick = took <= QUICK;
    if let Some(found) = found {
        target.is_fresh = true;
        take(slot, begun_ns, found);
    }
}

impl Taker {
    fn start() -> Self {
        let (ask, orders) = channel::<Order>();
        let (answer, answers) = channel();
        thread::spawn(move || {
            for mut order in orders {
                let (begun, begun_ns) = (Instant::now(), monotonic_ns());
                let found = order.census.count(order.due, std::mem::take(&mut order.blocks));
                if answer.send(Answer { order, begun_ns, took: begun.elapsed(), found }).is_err() {
                    break;
                }
            }
        });
        Self { ask, answers }
    }
}
