//! The live objects of one process, by type: those that its interpreter keeps, and blocks of its allocator that say what they are.

use std::time::Duration;

use super::{LONGEST_TURN, PARTS, blocks::Block, count::Found, cpp::Classes, python, v8};
use crate::{
    object::Pid,
    turns::{Turns, thread_time},
};

/// Counts the objects of one process by type.
#[derive(Debug)]
pub struct Census {
    /// Those of an interpreter; `None` where there is none.
    objects: Option<Objects>,
    /// Those of C++ in blocks of the allocator; `None` where the memory of the process may not be read.
    classes: Option<Classes>,
    /// When blocks may be looked at again.
    turns: Turns,
}

/// Counts the objects of an interpreter.
#[derive(Debug)]
pub enum Objects {
    /// Python's, alive or not yet collected.
    Python(python::Census),
    /// V8's, of all that can be reached.
    Script(Box<v8::Live>),
}

/// What a census is taken of besides the memory of the process.
#[derive(Debug, Default)]
pub struct Blocks {
    /// Live blocks, in any order.
    pub all: Vec<Block>,
    /// The processor time that it took to find them.
    pub took: Duration,
    /// How many processes there are whose blocks are looked at: all of them together get one share of a processor.
    pub processes: u32,
}

impl Census {
    /// Of a process, and the interpreter in it if there is one.
    pub fn open(pid: Pid, objects: Option<Objects>) -> Self {
        Self { objects, classes: Classes::open(pid).ok(), turns: Turns::default() }
    }

    /// Whether the pause after the last look is over.
    pub fn may_begin(&self) -> bool {
        self.turns.may_begin()
            && match &self.objects {
                Some(Objects::Python(census)) => census.may_begin(),
                Some(Objects::Script(live)) => live.may_begin(),
                None => true,
            }
    }

    /// The objects of each type now; `None` when they cannot be counted, as when the process has ended. It may take seconds.
    pub fn count(&mut self, blocks: Blocks) -> Option<Found> {
        let Blocks { mut all, took, processes } = blocks;
        let begun = thread_time();
        all.sort_unstable_by_key(|block| block.address);
        // Blocks first: they change while an interpreter's objects are looked at.
        let classes = self.classes.as_mut().map(|classes| classes.count(&all));
        let took = (thread_time() - begun + took).min(LONGEST_TURN);
        self.turns.ended(took, PARTS.saturating_mul(processes.max(1)));
        let mut found = match &mut self.objects {
            Some(Objects::Python(census)) => Found { counts: census.count(&all)?, ..Found::default() },
            Some(Objects::Script(live)) => live.count()?,
            None => Found::default(),
        };
        found.counts.extend(classes.unwrap_or_default());
        Some(found)
    }
}
