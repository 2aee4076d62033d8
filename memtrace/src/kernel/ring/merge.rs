//! Several sources of records, each nearly in order, as one.

use std::hint;

use super::reader::{Next, Reader};

/// The source of stacks beside the rings.
pub(super) trait Source {
    /// A drain begins: what comes from now on is not for it.
    fn begin(&mut self);

    /// What stands next.
    fn peek(&mut self) -> Next;

    /// Hands out the record that `peek` found, and goes on behind it.
    fn take(&mut self, on_record: impl FnOnce(&[u8]));
}

/// Whether a drain came to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// Everything from before it was handed out.
    Complete,
    /// It came to a record that is not finished.
    Blocked,
}

/// The rings and the stacks.
pub(super) struct Merge<S> {
    readers: Vec<Reader>,
    pub(super) stacks: S,
    /// The time of the record that stands next in each reader, and last in the stacks.
    times: Vec<u64>,
}

/// Stands for the time of a record that is not there.
const NEVER: u64 = u64::MAX;

/// How often an unfinished record is looked at again: its program ends at once unless it was preempted.
const PATIENCE: usize = 1000;

impl<S: Source> Merge<S> {
    pub(super) fn new(readers: Vec<Reader>, stacks: S) -> Self {
        let times = vec![NEVER; readers.len() + 1];
        Self { readers, stacks, times }
    }

    /// Hands out all records from before `now`, a time from before this call, in the order of their times.
    pub(super) fn run(&mut self, now: u64, mut on_record: impl FnMut(&[u8])) -> Outcome {
        self.readers.iter_mut().for_each(Reader::begin);
        self.stacks.begin();
        let outcome = self.hand_out(now, &mut on_record).map_or(Outcome::Blocked, |()| Outcome::Complete);
        self.readers.iter_mut().for_each(Reader::give_back);
        outcome
    }

    /// `None` when a record is not finished: others that depend on what lies behind it may come from elsewhere.
    fn hand_out(&mut self, now: u64, on_record: &mut impl FnMut(&[u8])) -> Option<()> {
        for source in 0..self.times.len() {
            self.times[source] = self.next_time(source)?;
        }
        loop {
            let (source, until) = self.first();
            if self.times[source] >= now {
                return Some(());
            }
            while self.times[source] <= until && self.times[source] < now {
                match self.readers.get_mut(source) {
                    Some(reader) => reader.take(&mut *on_record),
                    None => self.stacks.take(&mut *on_record),
                }
                self.times[source] = self.next_time(source)?;
            }
        }
    }

    /// The source of the earliest record, and the time of the earliest of all others.
    fn first(&self) -> (usize, u64) {
        let (mut first, mut earliest, mut second) = (0, NEVER, NEVER);
        for (source, &time) in self.times.iter().enumerate() {
            if time < earliest {
                (first, second, earliest) = (source, earliest, time);
            } else if time < second {
                second = time;
            }
        }
        (first, second)
    }

    fn next_time(&mut self, source: usize) -> Option<u64> {
        for _ in 0..PATIENCE {
            let next = match self.readers.get_mut(source) {
                Some(reader) => reader.peek(),
                None => self.stacks.peek(),
            };
            match next {
                Next::At(time) => return Some(time),
                Next::Nothing => return Some(NEVER),
                Next::Unfinished => hint::spin_loop(),
            }
        }
        None
    }
}
