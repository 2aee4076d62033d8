//! Outstanding bytes over time: the first stacks in one chart, and each in a row of the table.

use std::io::{self, Write};

use super::Text;
use crate::report::{
    name::{function, holds, time_of_day},
    number::{bytes, duration},
    snapshot::{Snapshot, Stack},
    text::width::shorten,
};

/// As many lines as a person tells apart.
const LINES: usize = 6;

/// Points of a line; a series has fewer unless somebody made it up.
const POINTS: usize = 400;

/// The picture's size in its own units, and the part of it that has the lines.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 294.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 760.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 250.0;

/// Labels stay this far apart.
const LABEL: f64 = 17.0;

/// A series in the coordinates of a picture.
struct Scale {
    until_ms: f64,
    most: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Scale {
    fn x(&self, at_ms: u64) -> f64 {
        self.left + (self.right - self.left) * (at_ms as f64 / self.until_ms)
    }

    fn y(&self, value: u64) -> f64 {
        self.bottom - (self.bottom - self.top) * (value as f64 / self.most)
    }

    /// `12.0,3.5 13.0,4.5`: the points of a polyline.
    fn points(&self, series: &[(u64, u64)]) -> String {
        let step = series.len().div_ceil(POINTS).max(1);
        let last = series.last().filter(|_| !(series.len() - 1).is_multiple_of(step));
        let points = series.iter().step_by(step).chain(last);
        points.map(|&(at, value)| format!("{:.1},{:.1}", self.x(at), self.y(value))).collect::<Vec<_>>().join(" ")
    }
}

fn until(series: &[(u64, u64)]) -> u64 {
    series.iter().map(|&(at, _)| at).max().unwrap_or(0)
}

fn most(series: &[(u64, u64)]) -> u64 {
    series.iter().map(|&(_, value)| value).max().unwrap_or(0)
}

/// Writes the page's chart of what stacks held over time.
pub fn section(snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    let shown: Vec<&Stack> =
        snapshot.stacks.iter().filter(|stack| holds(stack) && stack.series.len() > 1).take(LINES).collect();
    let until_ms = shown.iter().map(|stack| until(&stack.series)).max().unwrap_or(0);
    if until_ms == 0 {
        return Ok(());
    }
    let highest = shown.iter().map(|stack| most(&stack.series)).max().unwrap_or(0).max(1);
    let step = round_step(highest);
    let ticks = highest.div_ceil(step);
    let scale = Scale {
        until_ms: until_ms as f64,
        most: ticks as f64 * step as f64,
        left: LEFT,
        right: RIGHT,
        top: TOP,
        bottom: BOTTOM,
    };
    writeln!(
        out,
        "<section id=\"series\">\n<h2>Outstanding bytes over time</h2>\n<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         role=\"img\" aria-label=\"Outstanding bytes of the first stacks over time\">"
    )?;
    for tick in 0..=ticks {
        let value = tick.saturating_mul(step);
        let y = scale.y(value);
        writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text class=\"tick end\" \
             x=\"{}\" y=\"{:.1}\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            bytes(value)
        )?;
    }
    for (share, class) in [(0, "tick"), (1, "tick middle"), (2, "tick end")] {
        let at = until_ms / 2 * share + if share == 2 { until_ms % 2 } else { 0 };
        let (x, y) = (scale.x(at), BOTTOM + 20.0);
        writeln!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", duration(at))?;
        if let Some(time) = time_of_day(snapshot, at) {
            let y = y + 16.0;
            writeln!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{time}</text>")?;
        }
    }
    for (index, stack) in shown.iter().enumerate() {
        let growing = if stack.verdict.is_leak() { " bold" } else { "" };
        writeln!(out, "<polyline class=\"line c{index}{growing}\" points=\"{}\"/>", scale.points(&stack.series))?;
    }
    for (index, y) in label_places(&shown, &scale) {
        let name = shown[index].frames.first().map_or_else(|| "[unknown]".to_owned(), function);
        let label = format!("#{} {}", index + 1, shorten(&name, 26));
        let x = RIGHT + 10.0;
        writeln!(out, "<text class=\"label c{index}\" x=\"{x}\" y=\"{:.1}\">{}</text>", y + 4.0, Text(&label))?;
    }
    writeln!(out, "</svg>\n</section>")
}

/// Beside the ends of the lines, but not on top of each other.
fn label_places(shown: &[&Stack], scale: &Scale) -> Vec<(usize, f64)> {
    let end = |stack: &Stack| scale.y(stack.series.last().map_or(0, |&(_, value)| value));
    let mut places: Vec<(usize, f64)> = shown.iter().map(|stack| end(stack)).enumerate().collect();
    places.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut free = TOP;
    for (_, y) in &mut places {
        *y = y.max(free);
        free = *y + LABEL;
    }
    // Those that were pushed out at the bottom go back up, and push others.
    let mut room = BOTTOM;
    for (_, y) in places.iter_mut().rev() {
        *y = y.min(room);
        room = *y - LABEL;
    }
    places
}

/// 1, 2 or 5 times a power of ten, so that three to six of them reach the top.
fn round_step(most: u64) -> u64 {
    let mut power = 1u64;
    loop {
        for factor in [1, 2, 5] {
            let step = power.saturating_mul(factor);
            if step >= most.div_ceil(5) {
                return step;
            }
        }
        power = power.saturating_mul(10);
    }
}

/// Writes a small line without scales, for a row of the table.
pub fn sparkline(series: &[(u64, u64)], out: &mut dyn Write) -> io::Result<()> {
    let (until_ms, most) = (until(series), most(series));
    if series.len() < 2 || until_ms == 0 {
        return Ok(());
    }
    let scale =
        Scale { until_ms: until_ms as f64, most: most.max(1) as f64, left: 1.0, right: 119.0, top: 2.0, bottom: 26.0 };
    write!(
        out,
        "<svg class=\"spark\" width=\"120\" height=\"28\" role=\"img\" aria-label=\"up to {}\"><polyline class=\"line\" \
         points=\"{}\"/></svg>",
        bytes(most),
        scale.points(series)
    )
}
