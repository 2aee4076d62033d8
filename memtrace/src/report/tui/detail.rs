//! The selected stack: what it holds, why the verdict, and its frames.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::Widget as _,
};

use super::{
    fit::{left, shorten, width, wrap},
    place,
    state::State,
    theme::Theme,
};
use crate::report::{
    escape::escape,
    name::{holding, inside},
    number::{bytes, count, duration, of, rate},
    place::{Shown, shown},
    snapshot::{Frame, Quantiles, Stack, StackKind},
    text::sparkline::sparkline,
    verdict::verdict,
};

/// Bars of the series.
const BARS: usize = 60;

pub(super) fn draw(state: &State, theme: Theme, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    title(state, area.width).render(Rect { height: 1, ..area }, buffer);
    let lines = lines(state, theme, area.width);
    for (row, line) in (1..area.height).zip(lines.into_iter().skip(state.scrolled())) {
        line.render(Rect { y: area.y + row, height: 1, ..area }, buffer);
    }
}

fn title(state: &State, columns: u16) -> Line<'static> {
    let Some((row, stack)) = state.selected() else {
        return Line::styled(left("", columns.into()), Modifier::UNDERLINED);
    };
    let kind = match stack.kind {
        StackKind::Heap => "heap",
        StackKind::Map => "mapped",
        StackKind::Page => "touched",
        StackKind::Managed => "managed heap",
        StackKind::Goroutine => "goroutines",
        StackKind::Small => "small objects",
        StackKind::Profiled => "sampled objects",
    };
    let text = format!(
        "#{} of {}  {}  {kind}, pid {}, stack {}",
        count(row as u64 + 1),
        count(state.listed() as u64),
        verdict(stack),
        stack.pid,
        escape(&stack.id)
    );
    Line::styled(left(&text, columns.into()), Style::new().add_modifier(Modifier::UNDERLINED | Modifier::BOLD))
}

/// Everything about the selected stack, in lines of at most `columns`.
pub(super) fn lines(state: &State, theme: Theme, columns: u16) -> Vec<Line<'static>> {
    let Some((_, stack)) = state.selected() else { return Vec::new() };
    let columns = usize::from(columns);
    let mut lines = Vec::new();
    let mut say = |text: &str| {
        lines.extend(wrap(text, columns.saturating_sub(2)).into_iter().map(|line| Line::raw(format!("  {line}"))));
    };
    say(&format!("{}, of {}; {}", holding(stack), of(stack.allocations, "allocation", "allocations"), growth(stack)));
    if !stack.evidence.is_empty() {
        say(&escape(&stack.evidence));
    }
    if let Some(age) = stack.age_ms {
        let sizes = stack.size_bytes.map(|size| format!("; size {}", spread(size, bytes))).unwrap_or_default();
        say(&format!("age {}{sizes}", spread(age, duration)));
    }
    if let Some((bars, least, most)) = sparkline(&stack.series, BARS.min(columns.saturating_sub(24))) {
        say(&format!("{bars}  {} to {}", bytes(least), bytes(most)));
    }
    lines.extend(shown(&stack.frames).into_iter().map(|shown| match shown {
        Shown::Frame(frame) => frame_line(frame, theme, columns),
        Shown::Inside(frame, count) => Line::styled(format!("    {}", inside(frame, count)), theme.quiet()),
    }));
    if stack.frames.is_empty() {
        lines.push(Line::styled("    its frames come with one of the next samples", theme.quiet()));
    }
    if let Some(reason) = &stack.truncated {
        let reason = wrap(&format!("the stack ends here: {}", escape(reason)), columns.saturating_sub(4));
        lines.extend(reason.into_iter().map(|line| Line::raw(format!("    {line}"))));
    }
    lines
}

/// `+36.2 MB/h (95%: +35.9 MB/h to +36.5 MB/h)`.
fn growth(stack: &Stack) -> String {
    let slope = rate(stack.growth_bytes_per_hour);
    match stack.growth_interval_bytes_per_hour {
        Some((low, high)) if low < high => format!("{slope} (95%: {} to {})", rate(low), rate(high)),
        _ => slope,
    }
}

/// `half over 29 s, most 59 s`.
fn spread(quantiles: Quantiles, text: fn(u64) -> String) -> String {
    format!("median {}, 99% up to {}, most {}", text(quantiles.p50), text(quantiles.p99), text(quantiles.max))
}

/// `function  file:line  (module)`. When it is too long the path goes first, then the middle of the function.
fn frame_line(frame: &Frame, theme: Theme, columns: usize) -> Line<'static> {
    let mark = if frame.inlined { "    inlined " } else { "    " };
    let name = place::function(frame);
    let module =
        frame.module.as_deref().map(|module| format!("  ({})", shorten(&escape(module), 24))).unwrap_or_default();
    let room = columns.saturating_sub(width(mark) + width(&module));
    let fits = |source: &Option<String>| width(&name) + source.as_ref().map_or(0, |source| width(source) + 2) <= room;
    let mut source = place::source(frame, true);
    if !fits(&source) {
        source = place::source(frame, false).map(|source| shorten(&source, 28));
    }
    let source = source.map(|source| format!("  {source}")).unwrap_or_default();
    let name = shorten(&name, room.saturating_sub(width(&source)));
    Line::from(vec![
        Span::styled(mark, theme.quiet()),
        Span::raw(name),
        Span::raw(source),
        Span::styled(module, theme.quiet()),
    ])
}
