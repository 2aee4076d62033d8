//! Draws the state into a buffer of cells, whatever its size.
//!
//! From the top: the processes, the answer in a sentence, the list, the selected stack, losses and costs, keys. Every
//! text that comes from a target is escaped by who makes a line of it; cells keep lines within their bounds.

use std::time::Duration;

use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Clear, Padding, Paragraph, Widget},
};

use super::{
    detail,
    fit::{shorten, width},
    keys, rows,
    state::{Mode, Room, State},
    theme::Theme,
};
use crate::{
    report::{
        escape::escape,
        gate,
        headline::headline,
        loss::{is_loss, meaning},
        number::{bytes, count, duration, of},
        snapshot::{Process, Snapshot},
    },
    trend::Verdict,
};

/// Processes that have a line of their own.
const PROCESSES: usize = 3;

/// Where things are on a screen.
struct Places {
    processes: Rect,
    answer: Rect,
    list: Rect,
    detail: Rect,
    status: Rect,
    keys: Rect,
}

fn places(state: &State, screen: Rect) -> Places {
    let processes = state.snapshot().map_or(1, |snapshot| snapshot.processes.len().clamp(1, PROCESSES) as u16);
    // What matters least goes first when the screen is small.
    let rest = screen.height.saturating_sub(processes + 1);
    let status = u16::from(rest >= 5);
    let keys = u16::from(rest >= 7);
    let body = rest.saturating_sub(status + keys);
    let detail = match body {
        _ if state.is_expanded() => body,
        0..12 => 0,
        // Short lists leave room, but a pane that jumps with every stack that appears tires the eye.
        _ => body - body * 2 / 5,
    };
    let [processes, answer, list, detail, status, keys] = Layout::vertical([
        Constraint::Length(processes),
        Constraint::Length(1),
        Constraint::Length(body - detail),
        Constraint::Length(detail),
        Constraint::Length(status),
        Constraint::Length(keys),
    ])
    .areas(screen);
    Places { processes, answer, list, detail, status, keys }
}

/// How much of the state a screen of this size has room for.
pub fn room(state: &State, screen: Rect) -> Room {
    let places = places(state, screen);
    let lines = detail::lines(state, Theme { colour: false }, places.detail.width).len();
    Room {
        rows: usize::from(places.list.height.saturating_sub(1)),
        hidden_lines: lines.saturating_sub(usize::from(places.detail.height.saturating_sub(1))),
    }
}

/// Draws the whole screen. `interval` is the time from one sample to the next.
pub fn draw(state: &State, theme: Theme, interval: Duration, buffer: &mut Buffer) {
    let screen = buffer.area;
    Clear.render(screen, buffer);
    let places = places(state, screen);
    let Some(update) = state.shown() else {
        let text = format!("attached; the first sample comes after {}", humantime::format_duration(interval));
        Line::raw(text).render(places.processes, buffer);
        keys_line(state).render(places.keys, buffer);
        return;
    };
    let snapshot = &update.snapshot;
    Paragraph::new(process_lines(snapshot, places.processes)).render(places.processes, buffer);
    answer_line(state, snapshot, theme, places.answer.width).render(places.answer, buffer);
    rows::draw(state, theme, places.list, buffer);
    detail::draw(state, theme, places.detail, buffer);
    status_line(state, theme, places.status.width).render(places.status, buffer);
    keys_line(state).render(places.keys, buffer);
    if state.mode() == Mode::Help {
        help(screen, buffer);
    }
}

fn process_lines(snapshot: &Snapshot, area: Rect) -> Vec<Line<'static>> {
    let shown = usize::from(area.height);
    let hidden = snapshot.processes.len().saturating_sub(shown);
    let line = |(place, process): (usize, &Process)| {
        let time = if place == 0 { duration(snapshot.elapsed_ms) } else { String::new() };
        let more = if hidden > 0 && place + 1 == shown { format!("and {hidden} more") } else { String::new() };
        let right = format!("  {more}  {time}");
        let ended = if process.exited { "ended, " } else { "" };
        let held = bytes(process.totals.outstanding_bytes);
        let numbers = format!("  {ended}rss {}, held {held}", bytes(process.rss_bytes));
        let pid = format!("{}  ", process.pid);
        let room = usize::from(area.width).saturating_sub(width(&pid) + width(&numbers) + width(&right));
        let command = shorten(&escape(&process.command), room);
        let gap = " ".repeat(room.saturating_sub(width(&command)));
        Line::from(vec![
            Span::styled(pid, Modifier::BOLD),
            Span::raw(command),
            Span::raw(numbers),
            Span::raw(gap),
            Span::raw(right),
        ])
    };
    snapshot.processes.iter().take(shown).enumerate().map(line).collect()
}

fn answer_line(state: &State, snapshot: &Snapshot, theme: Theme, columns: u16) -> Line<'static> {
    let grows = gate::any_grows(snapshot);
    let style = if grows { theme.verdict(Verdict::Growing) } else { Style::new().add_modifier(Modifier::BOLD) };
    let paused = if state.is_paused() { "PAUSED  " } else { "" };
    let answer = shorten(&headline(snapshot), usize::from(columns).saturating_sub(width(paused)));
    Line::from(vec![Span::styled(paused, theme.warning()), Span::styled(answer, style)])
}

/// What memtrace saw, what it lost, and what it takes.
fn status_line(state: &State, theme: Theme, columns: u16) -> Line<'static> {
    if let Some(message) = state.message() {
        return Line::styled(shorten(&escape(message), usize::from(columns)), theme.warning());
    }
    let Some(update) = state.shown() else { return Line::default() };
    let snapshot = &update.snapshot;
    let seen: u64 = snapshot.processes.iter().map(|process| process.totals.allocations).sum();
    let (lost, loss_style) = match losses(snapshot) {
        0 => ("nothing lost".to_owned(), Style::new()),
        lost => (format!("{} LOST", of(lost, "event", "events")), theme.warning()),
    };
    let tracer = &snapshot.tracer;
    let stacks = tracer.stacks_remembered + tracer.stacks_walked;
    let remembered = tracer.stacks_remembered.saturating_mul(100).checked_div(stacks);
    let (cpu, rss) = ((update.cost.cpu_share * 100.0).clamp(0.0, 99_999.0), bytes(update.cost.rss_bytes));
    let line = |what: &str| {
        let remembered = remembered.map(|share| format!(", {share}% {what}")).unwrap_or_default();
        Line::from(vec![
            Span::raw(format!("{} allocations, ", count(seen))),
            Span::styled(lost.clone(), loss_style),
            Span::raw(format!("{remembered}; memtrace {cpu:.0}% cpu, {rss}")),
        ])
    };
    let whole = line("of stacks remembered");
    if whole.width() <= usize::from(columns) { whole } else { line("remembered") }
}

/// Events that the numbers lack.
fn losses(snapshot: &Snapshot) -> u64 {
    let harmful = snapshot.loss.iter().filter(|(name, _)| is_loss(meaning(name).0) && !name.contains("bytes"));
    harmful.map(|(_, &number)| number).sum()
}

fn keys_line(state: &State) -> Line<'static> {
    if state.mode() == Mode::Filter {
        return Line::from(vec![
            Span::styled("filter: ", Modifier::BOLD),
            Span::raw(escape(state.filter()).into_owned()),
            Span::styled(" ", Modifier::REVERSED),
            Span::raw("  Enter keeps it, Esc clears it"),
        ]);
    }
    let mut spans = Vec::new();
    let pause = if state.is_paused() { "go on" } else { "pause" };
    for (key, what) in [
        ("?", "help"),
        ("/", "filter"),
        ("o", "order"),
        ("Enter", "whole stack"),
        ("p", pause),
        ("s", "save"),
        ("q", "quit"),
    ] {
        spans.push(Span::styled(key, Modifier::BOLD));
        spans.push(Span::raw(format!(" {what}  ")));
    }
    Line::from(spans)
}

fn help(screen: Rect, buffer: &mut Buffer) {
    let key_width = keys::HELP.iter().map(|(key, _)| width(key)).max().unwrap_or(0);
    let mut lines: Vec<Line<'_>> = keys::HELP
        .iter()
        .map(|(key, what)| {
            let gap = " ".repeat(key_width - width(key) + 2);
            Line::from(vec![Span::styled(*key, Modifier::BOLD), Span::raw(gap), Span::raw(*what)])
        })
        .collect();
    lines.push(Line::default());
    lines.push(Line::raw("cpu is memtrace's own; what the probes take is the target's."));
    let wide = lines.iter().map(Line::width).max().unwrap_or(0) as u16 + 4;
    let (columns, height) = (wide.min(screen.width), (lines.len() as u16 + 2).min(screen.height));
    let area = Rect {
        x: screen.x + (screen.width - columns) / 2,
        y: screen.y + (screen.height - height) / 2,
        width: columns,
        height,
    };
    Clear.render(area, buffer);
    let frame = Block::bordered().title(" Keys (any key closes this) ").padding(Padding::horizontal(1));
    Paragraph::new(lines).block(frame).render(area, buffer);
}

#[cfg(test)]
mod tests;
