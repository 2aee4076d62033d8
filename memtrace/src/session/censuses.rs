//! The censuses of the targets' objects, taken by a thread of their own: one of a large heap takes longer than events may wait.

use std::{
    collections::HashMap,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use memtrace_common::Slot;

use crate::runtime::{Census, count::Count};

/// How long an interval waits for the censuses that it asks for; what takes longer is of the next one.
const WAIT: Duration = Duration::from_millis(20);

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
}

/// The thread that takes them, one after the other.
struct Taker {
    ask: Sender<Order>,
    answers: Receiver<(Order, Option<Vec<Count>>)>,
}

/// A census that is to be taken.
struct Order {
    slot: Slot,
    number: u64,
    census: Census,
}

impl Censuses {
    /// From now on the objects of a target are counted.
    pub(super) fn add(&mut self, slot: Slot, census: Census) {
        self.ever += 1;
        self.targets.insert(slot, Target { number: self.ever, census: Some(census) });
        self.ask();
    }

    /// The target has ended, or runs another program.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.targets.remove(&slot);
    }

    /// Asks for the censuses that have rested long enough.
    fn ask(&mut self) {
        let taker = self.taker.get_or_insert_with(Taker::start);
        for (&slot, target) in &mut self.targets {
            let Some(census) = target.census.take_if(|census| census.may_begin()) else { continue };
            // The thread ends when this is dropped, and not before.
            if let Err(back) = taker.ask.send(Order { slot, number: target.number, census }) {
                target.census = Some(back.0.census);
            }
        }
    }

    /// Asks for the censuses that have rested long enough, and tells what is found by those that have been taken since the last time. For
    /// the others it waits a moment.
    pub(super) fn take(&mut self, mut found: impl FnMut(Slot, &[Count])) {
        if self.targets.is_empty() {
            return;
        }
        let Some(taker) = &self.taker else { return };
        // One that has been taken since the last time is of this one.
        while let Ok((order, counts)) = taker.answers.try_recv() {
            answer(&mut self.targets, order, counts, &mut found);
        }
        self.ask();
        let Some(taker) = &self.taker else { return };
        let until = Instant::now() + WAIT;
        while self.targets.values().any(|target| target.census.is_none()) {
            let left = until.saturating_duration_since(Instant::now());
            let Ok((order, counts)) = taker.answers.recv_timeout(left) else { return };
            answer(&mut self.targets, order, counts, &mut found);
        }
    }
}

/// Takes a census back, and tells what it has found, unless its target has ended.
fn answer(
    targets: &mut HashMap<Slot, Target>,
    Order { slot, number, census }: Order,
    counts: Option<Vec<Count>>,
    found: &mut impl FnMut(Slot, &[Count]),
) {
    let Some(target) = targets.get_mut(&slot).filter(|target| target.number == number) else { return };
    target.census = Some(census);
    if let Some(counts) = counts {
        found(slot, &counts);
    }
}

impl Taker {
    fn start() -> Self {
        let (ask, orders) = channel::<Order>();
        let (answer, answers) = channel();
        thread::spawn(move || {
            for mut order in orders {
                let counts = order.census.count();
                if answer.send((order, counts)).is_err() {
                    break;
                }
            }
        });
        Self { ask, answers }
    }
}
