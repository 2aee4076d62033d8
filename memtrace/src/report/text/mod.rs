//! The report for a person, at 80 columns: the answer first, then what it rests on.
//!
//! The last report of a run has every stack with its frames; those of the intervals before are a few lines each.
//! [`page`] breaks lines, [`process`], [`group`], [`stack`] and [`losses`] fill them.

mod group;
mod losses;
pub(in crate::report) mod page;
mod process;
pub(in crate::report) mod sparkline;
mod stack;
#[cfg(test)]
mod tests;
pub(in crate::report) mod width;

use std::io::{self, Write};

use page::Page;

use super::{
    budget, completeness, focus,
    headline::headline,
    name::holds,
    number::duration,
    sampling,
    snapshot::{Process, Snapshot, Stack},
};

/// The most stacks of an interval's report.
const INTERVAL_STACKS: usize = 5;

/// The most processes that are shown.
const PROCESSES: usize = 8;

/// The processes that are shown: those that hold the most of what was allocated since the attach, the running ones first. Those
/// that hold nothing are left out, unless all do.
fn listed(snapshot: &Snapshot) -> Vec<&Process> {
    let mut processes: Vec<&Process> = snapshot.processes.iter().filter(|process| !is_idle(process)).collect();
    if processes.is_empty() {
        processes.extend(&snapshot.processes);
    }
    if processes.len() > PROCESSES {
        processes.sort_by_key(|process| (process.exited, std::cmp::Reverse(process.totals.outstanding_bytes)));
        processes.truncate(PROCESSES);
    }
    processes
}

/// Whether a process holds nothing that was allocated since the attach, and has hardly grown.
fn is_idle(process: &Process) -> bool {
    let totals = &process.totals;
    let grown = process.memory.as_ref().and_then(|memory| memory.since_attach).map_or(0, |since| since.growth_bytes);
    totals.outstanding_bytes == 0
        && totals.small_bytes == 0
        && totals.mapped_bytes == 0
        && totals.touched_bytes == 0
        && grown < LITTLE_BYTES
}

/// Growth of a process that nobody looks for.
const LITTLE_BYTES: i64 = 1 << 20;

/// Writes one report.
///
/// # Errors
/// The errors of writing to `out`.
pub fn render(snapshot: &Snapshot, colour: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut page = Page { out, colour };
    let headline = headline(snapshot);
    if snapshot.is_final {
        page.wrapped("", &headline)?;
    } else {
        page.wrapped("", &format!("[{}] {headline}", duration(snapshot.elapsed_ms)))?;
    }
    let chosen = sampling::note(snapshot.sampling.as_ref()).into_iter().chain(budget::note(snapshot.budget.as_ref()));
    for note in focus::notes(snapshot).into_iter().chain(snapshot.gate.notes()).chain(chosen) {
        page.wrapped("", &note)?;
    }
    let listed = listed(snapshot);
    for process in &listed {
        page.process(process, snapshot)?;
    }
    page.other_processes(snapshot, listed.len())?;
    let narrow: Vec<&str> =
        snapshot.groups.iter().filter(|group| group.is_narrow()).map(|group| group.sum.id.as_str()).collect();
    let is_shown_by_group = |stack: &Stack| stack.group.as_deref().is_some_and(|group| narrow.contains(&group));
    let holding = snapshot.stacks.iter().filter(|stack| holds(stack) && !is_shown_by_group(stack));
    let several = snapshot.processes.len() > 1;
    if snapshot.is_final {
        for (number, group) in (1..).zip(&snapshot.groups) {
            page.line("")?;
            page.group(number, group, several)?;
        }
        for (number, stack) in (1 + snapshot.groups.len()..).zip(holding) {
            page.line("")?;
            page.stack(number, stack, several)?;
        }
        page.emptied(&snapshot.stacks)?;
        if let Some(sentence) = completeness::sentence(&snapshot.tracer) {
            page.line("")?;
            page.wrapped("", &sentence)?;
        }
    } else {
        for (number, group) in (1..).zip(snapshot.groups.iter().take(INTERVAL_STACKS)) {
            page.group_line(number, group)?;
        }
        let room = INTERVAL_STACKS.saturating_sub(snapshot.groups.len());
        for (number, stack) in (1 + snapshot.groups.len()..).zip(holding.take(room)) {
            page.stack_line(number, stack)?;
        }
    }
    page.losses(&snapshot.loss, snapshot.is_final)?;
    if !snapshot.is_final {
        return page.line("");
    }
    page.notes(&snapshot.processes)?;
    page.own(&snapshot.tracer)
}
