//! The table of verdicts, each with its stack folded in.

use std::io::{self, Write};

use super::{Text, chart::sparkline};
use crate::report::{
    enlarged, focus,
    name::{function, holding, holds, median_age, source, survival},
    number::{of, rate_within},
    snapshot::{Frame, Snapshot, Stack},
    verdict::verdict,
};

/// Rows that a person may scroll through; a page has to open.
const MAX_ROWS: usize = 200;

/// Rows before what comes next on the page; the others are folded in.
const FIRST_ROWS: usize = 15;

/// Stacks that are unfolded from the start.
const OPEN: usize = 3;

pub fn section(snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<section id=\"stacks\">\n<h2>Stacks</h2>")?;
    let holding: Vec<&Stack> = snapshot.stacks.iter().filter(|stack| holds(stack)).collect();
    if holding.is_empty() {
        writeln!(out, "<p>No stack holds anything.</p>\n</section>")?;
        return Ok(());
    }
    let rows: Vec<(usize, &Stack)> = (1..).zip(holding.iter().copied()).take(MAX_ROWS).collect();
    let (first, more) = rows.split_at(rows.len().min(FIRST_ROWS));
    let several = snapshot.processes.len() > 1;
    table(first, several, out)?;
    if !more.is_empty() {
        let more_stacks = of(more.len() as u64, "more stack", "more stacks");
        writeln!(out, "<details class=\"more\"><summary>{more_stacks}</summary>")?;
        table(more, several, out)?;
        writeln!(out, "</details>")?;
    }
    if holding.len() > MAX_ROWS {
        let more = (holding.len() - MAX_ROWS) as u64;
        writeln!(
            out,
            "<p class=\"note\">{} in the flame graph only.</p>",
            of(more, "more stack is", "more stacks are")
        )?;
    }
    let gone = snapshot.stacks.len() - holding.len();
    if gone > 0 {
        let gone = of(gone as u64, "further stack holds", "further stacks hold");
        writeln!(out, "<p class=\"note\">{gone} nothing any more.</p>")?;
    }
    writeln!(out, "</section>")
}

fn table(rows: &[(usize, &Stack)], several: bool, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "<div class=\"wide\"><table>\n<thead><tr><th class=\"n\">#</th><th>verdict</th><th>growth</th><th>holds</th>\
         <th>over time</th><th>where</th></tr></thead>\n<tbody>"
    )?;
    for &(number, stack) in rows {
        row(number, stack, several, out)?;
    }
    writeln!(out, "</tbody></table></div>")
}

fn row(number: usize, stack: &Stack, several: bool, out: &mut dyn Write) -> io::Result<()> {
    write!(
        out,
        "<tr class=\"stack\"><td class=\"n\">{number}</td><td><span class=\"verdict {}\">{}</span></td>\
         <td>{}</td><td>{}</td><td>",
        stack.verdict.as_str(),
        verdict(stack),
        Text(&rate_within(stack.growth_bytes_per_hour, stack.growth_interval_bytes_per_hour)),
        Text(&holding(stack)),
    )?;
    sparkline(&stack.series, out)?;
    let open = if number <= OPEN && stack.verdict.is_leak() { " open" } else { "" };
    let first = stack.frames.first().map_or_else(|| "[unknown]".to_owned(), function);
    writeln!(out, "</td><td class=\"name\"><details{open}><summary>{}</summary>", Text(&first))?;
    let mut facts = Vec::new();
    if several {
        facts.push(format!("pid {}", stack.pid));
    }
    facts.extend([median_age(stack), survival(stack)].into_iter().flatten());
    facts.extend(focus::since_mark(stack));
    facts.extend(enlarged::sentence(&stack.enlarged_by));
    facts.extend(stack.suppressed.as_ref().map(|rule| format!("suppressed by {rule}")));
    facts.extend((!stack.evidence.is_empty()).then(|| stack.evidence.clone()));
    if !facts.is_empty() {
        writeln!(out, "<p>{}</p>", Text(&facts.join("; ")))?;
    }
    writeln!(out, "<ol>")?;
    for each in &stack.frames {
        frame(each, out)?;
    }
    writeln!(out, "</ol>")?;
    if let Some(reason) = &stack.truncated {
        writeln!(out, "<p>the stack ends here: {}</p>", Text(reason))?;
    }
    writeln!(out, "</details></td></tr>")
}

fn frame(frame: &Frame, out: &mut dyn Write) -> io::Result<()> {
    let inlined = if frame.inlined { "<i>inlined</i> " } else { "" };
    write!(out, "<li>{inlined}<code>{}</code>", Text(&function(frame)))?;
    let mut place: Vec<String> = source(frame, false).into_iter().collect();
    place.extend(frame.module.as_ref().map(|module| format!("({module})")));
    if !place.is_empty() {
        write!(out, " <small>{}</small>", Text(&place.join(" ")))?;
    }
    writeln!(out, "</li>")
}
