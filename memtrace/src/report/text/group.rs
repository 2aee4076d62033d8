//! One group of stacks: its numbers, what its stacks have in common, and the paths that lead to it.

use std::io;

use super::{page::Page, width::shorten};
use crate::report::{
    escape::escape,
    group::{Group, GroupBy},
    number::of,
};

/// The most columns of a name in the tree of paths.
const NAME: usize = 60;

impl Page<'_> {
    pub fn group(&mut self, number: usize, group: &Group, several: bool) -> io::Result<()> {
        self.sum(number, &group.sum, several)?;
        self.wrapped("    ", &together(group))?;
        self.frames(&group.sum.frames)?;
        for path in &group.paths {
            // Never all by rounding.
            let share = (path.share * 100.0).floor().clamp(0.0, 100.0);
            let indent = " ".repeat(2 * path.depth as usize);
            let name = shorten(&escape(&path.function), NAME);
            self.line(&format!("      {indent}{share:>3}% {name}"))?;
        }
        Ok(())
    }

    /// One group of an interval's report.
    pub fn group_line(&mut self, number: usize, group: &Group) -> io::Result<()> {
        self.stack_line(number, &group.sum)?;
        self.wrapped("      ", &together(group))
    }
}

/// What it is a group of.
pub(in crate::report) fn together(group: &Group) -> String {
    let stacks = of(group.stack_count, "stack", "stacks");
    let name = escape(&group.name);
    match group.by {
        GroupBy::Process | GroupBy::Heap => format!("{name} together: {stacks}, no few of which explain the growth"),
        GroupBy::Module => format!("what {name} allocates in {stacks}, no few of which explain the growth"),
        GroupBy::Function => format!("what {name} allocates, reached by {stacks}"),
        GroupBy::Frames => format!("what {name} allocates (callee < caller), reached by {stacks}"),
    }
}
