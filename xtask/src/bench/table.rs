//! The table of one workload: its cells, and how a terminal shows them.

use std::fmt::Write as _;

use super::results::{Cost, Row};

/// How many columns follow the tool's name.
pub const COLUMNS: usize = 11;

/// Their heads.
pub const HEADS: [&str; COLUMNS] = [
    "median",
    "min..max",
    "slowdown",
    "/empty",
    "/bpftrace",
    "/heaptrack",
    "own CPU",
    "memory",
    "lost",
    "seen",
    "remembered",
];

/// The cells that follow the tool's name; with `pairs` times are of each pair, else of the whole.
pub fn cells(row: &Row, pairs: Option<u32>) -> [String; COLUMNS] {
    let Some(cost) = &row.cost else { return std::array::from_fn(|_| none()) };
    let Cost { said, .. } = cost;
    [
        time(cost.seconds, pairs),
        range(cost.least, cost.most, pairs),
        slowdown(cost.slowdown),
        cost.to_empty.map_or_else(none, ratio),
        cost.to_bpftrace.map_or_else(none, ratio),
        cost.to_heaptrack.map_or_else(none, ratio),
        cost.own_share.map_or_else(none, |share| format!("{:.0} %", share * 100.0)),
        said.peak_bytes.map_or_else(none, |bytes| format!("{} MiB", bytes.div_ceil(1 << 20))),
        said.lost.map_or_else(none, |number| number.to_string()),
        said.seen.map_or_else(none, |number| number.to_string()),
        said.remembered.map_or_else(none, |share| format!("{:.2} %", share * 100.0)),
    ]
}

/// The table for a terminal.
pub fn render(rows: &[Row], pairs: Option<u32>) -> String {
    let heads = std::iter::once("").chain(HEADS).map(str::to_owned).collect();
    let row = |row: &Row| std::iter::once(row.tool.name().to_owned()).chain(cells(row, pairs)).collect();
    aligned(&std::iter::once(heads).chain(rows.iter().map(row)).collect::<Vec<Vec<String>>>())
}

/// Lines of equally many cells in columns of equal width: names on the left, numbers on the right.
pub fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let _ = write!(text, "  {:<1$}", line[0], widths[0]);
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            let _ = write!(text, "  {cell:>width$}");
        }
        text.push('\n');
    }
    text
}

/// A factor as it is shown everywhere.
pub fn slowdown(factor: f64) -> String {
    format!("{}x", ratio(factor))
}

/// Three digits or so.
fn ratio(ratio: f64) -> String {
    let digits = match ratio.abs() {
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{ratio:.digits$}");
    // Noise around nothing.
    if text == "-0.00" { "0.00".to_owned() } else { text }
}

fn none() -> String {
    "-".to_owned()
}

/// The unit once.
fn range(least: f64, most: f64, pairs: Option<u32>) -> String {
    let least = time(least, pairs);
    let number = least.split(' ').next().unwrap_or_default();
    format!("{number}..{}", time(most, pairs))
}

/// Nanoseconds a pair, or seconds in all.
fn time(seconds: f64, pairs: Option<u32>) -> String {
    match pairs {
        Some(pairs) => format!("{:.0} ns", seconds * 1e9 / f64::from(pairs)),
        None => format!("{seconds:.3} s"),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::bench::tool::{Said, Tool};

    /// A row of known numbers.
    pub fn row(tool: Tool, slowdown: f64) -> Row {
        let said = Said { lost: Some(0), seen: Some(450_647), peak_bytes: Some(70 << 20), ..Said::default() };
        let cost = Cost {
            seconds: slowdown / 2.0,
            least: slowdown / 4.0,
            most: slowdown,
            slowdown,
            to_empty: Some(1.317),
            to_bpftrace: Some(0.1849),
            to_heaptrack: None,
            own_share: Some(0.2345),
            said,
        };
        Row { tool, cost: Some(cost) }
    }

    #[test]
    fn every_number_has_its_column() {
        let row = row(Tool::Memtrace, 18.0);
        let whole = ["9.000 s", "4.500..18.000 s", "18.0x", "1.32", "0.18", "-", "23 %", "70 MiB", "0", "450647", "-"];
        assert_eq!(cells(&row, None), whole);
        assert_eq!(cells(&row, Some(1_000_000))[..2], ["9000 ns", "4500..18000 ns"]);
    }

    #[test]
    fn columns_stand_below_each_other_whatever_their_width() {
        let text = render(&[row(Tool::Nothing, 1.0), row(Tool::Memtrace, 12345.0), row(Tool::Heaptrack, 2.0)], None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
        let end = lines[0].find("slowdown").unwrap() + "slowdown".len();
        assert!(lines[2][..end].ends_with(" 12345x"), "{text}");
    }

    #[test]
    fn a_tool_that_did_not_run_has_dashes() {
        assert!(cells(&Row { tool: Tool::Valgrind, cost: None }, None).iter().all(|cell| cell == "-"));
    }

    #[test]
    fn factors_have_three_digits_or_so() {
        let shown = [0.004, -0.004, 1.046, 9.994, 9.996, 99.96, 212.4].map(slowdown);
        assert_eq!(shown, ["0.00x", "0.00x", "1.05x", "9.99x", "10.0x", "100x", "212x"]);
    }
}
