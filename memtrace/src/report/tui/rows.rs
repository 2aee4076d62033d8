//! The list: a row of numbers for each stack, and where its memory is taken.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::Widget as _,
};

use super::{
    fit::{left, right, shorten, width},
    place,
    state::{Sort, State},
    theme::Theme,
};
use crate::report::{
    escape::escape,
    number::{bytes, count, duration, rate},
    snapshot::{Stack, StackKind},
    text::sparkline::sparkline,
    verdict::verdict,
};

/// The columns that a width has room for; the function takes what is left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Columns {
    pid: bool,
    blocks: bool,
    allocations: bool,
    age: bool,
    trend: usize,
}

const VERDICT: usize = 13;
const GROWTH: usize = 11;
const HELD: usize = 8;
const BLOCKS: usize = 9;
const ALLOCATIONS: usize = 11;
const AGE: usize = 7;
const PID: usize = 7;

impl Columns {
    fn of(width: u16, several: bool) -> Self {
        Self {
            pid: several && width >= 60,
            blocks: width >= 72,
            allocations: width >= 120,
            age: width >= 100,
            trend: match width {
                0..66 => 0,
                66..100 => 8,
                100..140 => 12,
                _ => 24,
            },
        }
    }
}

pub(super) fn draw(state: &State, theme: Theme, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    let several = state.snapshot().is_some_and(|snapshot| snapshot.processes.len() > 1);
    let columns = Columns::of(area.width, several);
    let line = |row: u16| Rect { y: area.y + row, height: 1, ..area };
    title(state, columns, area.width).render(line(0), buffer);
    if state.listed() == 0 && area.height > 1 {
        let text = if state.filter().is_empty() {
            "No allocation seen so far."
        } else {
            "No stack has this in its frames; Esc clears the filter."
        };
        Line::styled(text, theme.quiet()).render(line(1), buffer);
    }
    let selected = state.selected().map(|(row, _)| row);
    for (place, (row, stack)) in (1..area.height).zip(state.visible()) {
        let row_area = line(place);
        row_line(stack, columns, theme, area.width).render(row_area, buffer);
        if selected == Some(row) {
            buffer.set_style(row_area, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
}

/// The names of the columns; that of the order is marked.
fn title(state: &State, columns: Columns, total: u16) -> Line<'static> {
    let mark = |name: &str, sort: Sort| if state.sort() == sort { format!("▾{name}") } else { name.to_owned() };
    let mut text = left(&mark("VERDICT", Sort::Verdict), VERDICT);
    let mut add = |name: &str, wide: usize| text.push_str(&format!(" {}", right(name, wide)));
    add("GROWTH", GROWTH);
    add(&mark("HELD", Sort::Size), HELD);
    if columns.blocks {
        add(&mark("BLOCKS", Sort::Blocks), BLOCKS);
    }
    if columns.allocations {
        add(&mark("ALLOCATED", Sort::Allocations), ALLOCATIONS);
    }
    if columns.age {
        add(&mark("AGE", Sort::Age), AGE);
    }
    if columns.pid {
        add("PID", PID);
    }
    if columns.trend > 0 {
        text.push_str(&format!("  {}", left("TREND", columns.trend)));
    }
    text.push_str("  WHERE");
    let listed = match state.filter() {
        "" => format!("{} stacks", count(state.listed() as u64)),
        _ => {
            let all = state.snapshot().map_or(0, |snapshot| snapshot.stacks.len());
            format!("{} of {} with {:?}", count(state.listed() as u64), count(all as u64), state.filter())
        }
    };
    let hidden = match state.sort() {
        Sort::Allocations if !columns.allocations => ", by allocations",
        Sort::Age if !columns.age => ", by age",
        Sort::Blocks if !columns.blocks => ", by blocks",
        _ => "",
    };
    let room = usize::from(total).saturating_sub(width(&text) + 2);
    let listed = right(&shorten(&escape(&format!("{listed}{hidden}")), room), room);
    Line::styled(format!("{text}  {listed}"), Modifier::UNDERLINED)
}

fn row_line(stack: &Stack, columns: Columns, theme: Theme, total: u16) -> Line<'static> {
    let mut numbers = String::new();
    let mut add = |text: String, wide: usize| numbers.push_str(&format!(" {}", right(&text, wide)));
    add(rate(stack.growth_bytes_per_hour), GROWTH);
    add(bytes(stack.outstanding_bytes), HELD);
    if columns.blocks {
        add(count(stack.outstanding_blocks), BLOCKS);
    }
    if columns.allocations {
        add(count(stack.allocations), ALLOCATIONS);
    }
    if columns.age {
        add(stack.age_ms.map_or_else(|| "-".to_owned(), |age| duration(age.p50)), AGE);
    }
    if columns.pid {
        add(stack.pid.to_string(), PID);
    }
    if columns.trend > 0 {
        let bars = sparkline(&stack.series, columns.trend).map(|(bars, _, _)| bars).unwrap_or_default();
        numbers.push_str(&format!("  {}", left(&bars, columns.trend)));
    }
    let room = usize::from(total).saturating_sub(VERDICT + width(&numbers) + 2);
    let (name, origin) = location(stack, room);
    Line::from(vec![
        Span::styled(left(&verdict(stack), VERDICT), theme.verdict(stack.verdict)),
        Span::raw(numbers),
        Span::raw(format!("  {name}")),
        Span::styled(origin, theme.quiet()),
    ])
}

/// The function and where it is, together in `room` columns; the function goes last.
fn location(stack: &Stack, room: usize) -> (String, String) {
    let kind = match stack.kind {
        StackKind::Heap => "",
        StackKind::Map => "mmap: ",
        StackKind::Page => "touch: ",
        StackKind::Managed => "objects: ",
        StackKind::Goroutine => "goroutines: ",
        StackKind::Small => "small: ",
        StackKind::Profiled => "objects: ",
    };
    let Some(frame) = place::meaningful(stack) else {
        return (shorten(&format!("{kind}stack {}", stack.id), room), String::new());
    };
    let name = format!("{kind}{}", place::function(frame));
    let origin = place::origin(frame).map(|origin| format!("  {origin}")).unwrap_or_default();
    if width(&name) + width(&origin) <= room {
        return (name, origin);
    }
    // A name of which hardly anything is left tells less than the place.
    let least = width(&name).min(room / 2);
    let origin = shorten(&origin, room - least);
    let origin = if width(&origin) < 8 { String::new() } else { origin };
    (shorten(&name, room - width(&origin)), origin)
}
