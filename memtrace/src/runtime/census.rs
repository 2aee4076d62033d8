//! The live objects of one process, by type: those that its interpreter keeps, and blocks of its allocator that say what they are.

use std::time::Duration;

use super::{CREDIT, LONGEST_TURN, PARTS, blocks::Block, count::Found, cpp::Classes, python, v8};
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

/// What a census is to look at.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    objects: bool,
    classes: bool,
    /// Whether some of an interpreter's objects are blocks of the allocator.
    blocks_of_objects: bool,
}

impl Due {
    /// Whether there is anything to look at.
    pub fn is_any(self) -> bool {
        self.objects || self.classes
    }

    /// Whether live blocks are looked at.
    pub fn needs_blocks(self) -> bool {
        self.classes || self.blocks_of_objects
    }
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
        Self { objects, classes: Classes::open(pid).ok(), turns: Turns::with_credit(CREDIT) }
    }

    /// What may be looked at now, since the pause after the last look at it is over.
    pub fn due(&self) -> Due {
        let objects = match &self.objects {
            Some(Objects::Python(census)) => census.may_begin(),
            Some(Objects::Script(live)) => live.may_begin(),
            None => false,
        };
        let has_blocks = matches!(self.objects, Some(Objects::Python(_)));
        Due { objects, classes: self.turns.may_begin(), blocks_of_objects: objects && has_blocks }
    }

    /// The objects of each type now, of those that are due; `None` when none can be counted, as when the process has ended. It may take seconds.
    pub fn count(&mut self, due: Due, blocks: Blocks) -> Option<Found> {
        let Blocks { mut all, took, processes } = blocks;
        let begun = thread_time();
        all.sort_unstable_by_key(|block| block.address);
        // Blocks first: they change while an interpreter's objects are looked at.
        let classes = self.classes.as_mut().filter(|_| due.classes).map(|classes| classes.count(&all));
        if due.classes {
            let took = (thread_time() - begun + took).min(LONGEST_TURN);
            self.turns.ended(took, PARTS.saturating_mul(processes.max(1)));
        }
        let objects = match self.objects.as_mut().filter(|_| due.objects) {
            Some(Objects::Python(census)) => {
                census.count(&all).map(|counts| Found { counts, blocks: Some(Vec::new()) })
            }
            Some(Objects::Script(live)) => live.count(),
            None => None,
        };
        if objects.is_none() && classes.is_none() {
            return None;
        }
        let mut found = objects.unwrap_or_default();
        found.counts.extend(classes.into_iter().flatten());
        Some(found)
    }
}
