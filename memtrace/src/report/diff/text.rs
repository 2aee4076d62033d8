//! A comparison for a person, at 80 columns.

use std::io::{self, Write};

use super::{Change, Diff, Fate, Run, Side};
use crate::report::{
    escape::escape,
    name::{label, moment},
    number::{bytes, count, duration, of, rate, signed_bytes, signed_count},
    snapshot::{Frame, StackKind},
    text::{
        page::{Page, WIDTH},
        width::{shorten, width},
    },
};

pub fn render(diff: &Diff, out: &mut dyn Write) -> io::Result<()> {
    let mut page = Page { out, colour: false };
    page.wrapped("", &headline(diff))?;
    page.line("")?;
    for (name, run) in [("before", &diff.before), ("after ", &diff.after)] {
        let mut held = format!("{} in {}", bytes(run.outstanding_bytes), of(run.outstanding_blocks, "block", "blocks"));
        if run.mapped_bytes > 0 {
            held.push_str(&format!(", {} mapped", bytes(run.mapped_bytes)));
        }
        page.wrapped("", &format!("{name}  {}, traced for {}: {held}", moment(&run.at), duration(run.elapsed_ms)))?;
    }
    for (number, change) in (1..).zip(&diff.changes) {
        page.line("")?;
        write_change(&mut page, number, change)?;
    }
    notes(&mut page, diff)
}

fn headline(diff: &Diff) -> String {
    let counts = diff.counts;
    let fates = [
        (counts.grew, "grew"),
        (counts.appeared, "appeared"),
        (counts.shrank, "shrank"),
        (counts.went, "went"),
        (counts.level, "held the same"),
    ];
    let told: Vec<String> = fates
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, fate)| format!("{} {fate}", count(*number)))
        .collect();
    let told = if told.is_empty() { "nothing is held in either".to_owned() } else { told.join(", ") };
    format!("{} outstanding in all. By {}: {told}.", signed_bytes(diff.bytes()), diff.by)
}

fn write_change(page: &mut Page<'_>, number: usize, change: &Change) -> io::Result<()> {
    let fate = match change.change {
        Fate::Grew => "grew",
        Fate::Appeared => "appeared",
        Fate::Shrank => "shrank",
        Fate::Went => "went",
    };
    let (one, many) = match change.kind {
        StackKind::Heap => ("block", "blocks"),
        StackKind::Map => ("mapped range", "mapped ranges"),
        StackKind::Page => ("touched range", "touched ranges"),
        StackKind::Managed | StackKind::Small => ("object", "objects"),
        StackKind::Profiled => ("sampled object", "sampled objects"),
        StackKind::Goroutine => ("goroutine", "goroutines"),
    };
    let unit = if change.blocks.unsigned_abs() == 1 { one } else { many };
    let held = match change.change {
        Fate::Appeared | Fate::Went => String::new(),
        Fate::Grew | Fate::Shrank => format!("  ({} to {})", bytes(change.before.bytes), bytes(change.after.bytes)),
    };
    let stacks = if change.stacks > 1 { format!("  of {} stacks", count(change.stacks)) } else { String::new() };
    let changed = format!("{}  {} {unit}", signed_bytes(change.bytes), signed_count(change.blocks));
    page.line(&format!("#{number}  {fate}  {changed}{held}{stacks}"))?;
    let sides = [("before", &change.before), ("after", &change.after)];
    let rates: Vec<String> =
        sides.into_iter().filter_map(|(name, side)| Some(format!("{name}: {}", pace(side)?))).collect();
    page.wrapped("    ", &rates.join(", "))?;
    if change.frames.is_empty() {
        return page.line(&format!("      {}", shorten(&group(change), WIDTH - 6)));
    }
    change.frames.iter().try_for_each(|frame| page.frame(frame))
}

/// `growing +36.2 MB/h`.
fn pace(side: &Side) -> Option<String> {
    Some(format!("{} {}", side.verdict?.as_str(), rate(side.growth_bytes_per_hour)))
}

/// A function or a module.
fn group(change: &Change) -> String {
    let module = change.module.as_deref().map_or_else(|| "unknown code".to_owned(), |name| escape(name).into_owned());
    match &change.function {
        Some(function) => {
            let module = format!("  ({})", shorten(&module, 24));
            let frame = Frame { function: Some(function.clone()), ..Frame::default() };
            format!("{}{module}", shorten(&label(&frame), WIDTH - 6 - width(&module)))
        }
        None => module,
    }
}

/// What a reader has to know before drawing conclusions.
fn notes(page: &mut Page<'_>, diff: &Diff) -> io::Result<()> {
    let mut notes = Vec::new();
    let changed = diff.counts.grew + diff.counts.appeared + diff.counts.shrank + diff.counts.went;
    let hidden = changed.saturating_sub(diff.changes.len() as u64);
    if hidden > 0 {
        notes.push(format!("{} not shown (--top).", of(hidden, "smaller change is", "smaller changes are")));
    }
    let (short, long) = {
        let (before, after) = (diff.before.elapsed_ms, diff.after.elapsed_ms);
        (before.min(after), before.max(after))
    };
    if long / 10 > short / 9 {
        notes.push("The runs were not equally long: compare rates rather than bytes.".to_owned());
    }
    for (name, run) in [("earlier", &diff.before), ("later", &diff.after)] {
        notes.extend(partial(run).map(|listed| {
            format!("The {name} run was saved with {listed}: what seems new or gone may have been left out of it.")
        }));
    }
    if !notes.is_empty() {
        page.line("")?;
    }
    notes.iter().try_for_each(|note| page.wrapped("", note))
}

/// `2.97 MB of its 5.06 MB`, when stacks are missing.
fn partial(run: &Run) -> Option<String> {
    let missing = run.outstanding_bytes.saturating_sub(run.listed_bytes);
    (missing > run.outstanding_bytes / 100)
        .then(|| format!("{} of its {}", bytes(run.listed_bytes), bytes(run.outstanding_bytes)))
}
