//! Medians and ratios.

use std::fmt::Write as _;

use super::{
    Measurement,
    tool::{Said, Tool},
};

/// All measurements of one workload.
#[derive(Default)]
pub struct Results(Vec<(Tool, Measurement)>);

impl Results {
    /// Adds one.
    pub fn add(&mut self, tool: Tool, measurement: Measurement) {
        self.0.push((tool, measurement));
    }

    /// The table: what each tool added to the time, as ratios; with `operations` also the time of each.
    pub fn render(&self, operations: Option<u32>) -> String {
        let mut text = String::new();
        let nothing = self.median(Tool::Nothing);
        let _ = writeln!(
            text,
            "  {:<28} {:>9} {:>15} {:>9} {:>9} {:>9} {:>6} {:>9} {:>10}",
            "", "median", "min..max", "slowdown", "/empty", "/bpftrace", "lost", "seen", "remembered"
        );
        for tool in Tool::ALL {
            let times = self.times(tool);
            let (Some(least), Some(most)) = (times.first(), times.last()) else { continue };
            let traced = tool != Tool::Nothing;
            let ratio = |to| if traced { format!("{:.2}", self.added_ratio(tool, to)) } else { "-".to_owned() };
            let _ = writeln!(
                text,
                "  {:<28} {:>9} {:>15} {:>8.1}x {:>9} {:>9} {:>6} {:>9} {:>10}",
                tool.name(),
                time(self.median(tool), operations),
                format!("{}..{}", time(*least, operations), time(*most, operations)),
                self.median(tool) / nothing,
                ratio(Tool::Empty),
                ratio(Tool::Bpftrace),
                shown(self.most(tool, |said| said.lost)),
                shown(self.most(tool, |said| said.seen)),
                self.remembered(tool),
            );
        }
        text
    }

    /// Seconds, least first.
    fn times(&self, tool: Tool) -> Vec<f64> {
        let mut times: Vec<f64> =
            self.0.iter().filter(|(of, _)| *of == tool).map(|(_, measurement)| measurement.seconds).collect();
        times.sort_by(f64::total_cmp);
        times
    }

    fn median(&self, tool: Tool) -> f64 {
        median(&self.times(tool))
    }

    /// What one tool adds to the time over what another adds: the middle one of the rounds' ratios. The measurements of a
    /// round are made one after another, so that a machine that turns slow between rounds slows both parts of a ratio.
    fn added_ratio(&self, tool: Tool, to: Tool) -> f64 {
        let rounds = |of: Tool| self.0.iter().filter(move |(tool, _)| *tool == of).map(|(_, one)| one.seconds);
        let ratios = rounds(Tool::Nothing).zip(rounds(tool)).zip(rounds(to));
        let mut ratios: Vec<f64> = ratios.map(|((nothing, tool), to)| (tool - nothing) / (to - nothing)).collect();
        ratios.sort_by(f64::total_cmp);
        median(&ratios)
    }

    fn most(&self, tool: Tool, number: impl Fn(&Said) -> Option<u64>) -> Option<u64> {
        self.said(tool).filter_map(number).max()
    }

    /// The least share of stacks that the tool remembered in any round. Programs that do nothing walk none.
    fn remembered(&self, tool: Tool) -> String {
        let shares = self.said(tool).filter_map(|said| said.remembered).filter(|share| share.is_finite());
        shares.reduce(f64::min).map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", share * 100.0))
    }

    fn said(&self, tool: Tool) -> impl Iterator<Item = &Said> {
        self.0.iter().filter(move |(of, _)| *of == tool).map(|(_, measurement)| &measurement.said)
    }
}

/// Of sorted values.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

fn shown(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// Nanoseconds an operation, or seconds in all.
fn time(seconds: f64, operations: Option<u32>) -> String {
    match operations {
        Some(operations) => format!("{:.0} ns", seconds * 1e9 / f64::from(operations)),
        None => format!("{seconds:.3} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_time_added_in_one_round() {
        let mut results = Results::default();
        for (tool, seconds) in [
            // The second round is slow all along.
            (Tool::Nothing, [1.0, 2.0, 1.0]),
            (Tool::Empty, [2.0, 4.0, 2.1]),
            (Tool::Memtrace, [2.5, 5.0, 2.5]),
            (Tool::Bpftrace, [11.0, 22.0, 30.0]),
        ] {
            for seconds in seconds {
                results.add(tool, Measurement { seconds, said: Said::default() });
            }
        }
        let text = results.render(None);
        let row = text.lines().find(|line| line.contains("memtrace")).expect("a row");
        let columns: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(&columns[columns.len() - 6..], ["2.5x", "1.50", "0.15", "-", "-", "-"]);
    }

    #[test]
    fn the_worst_round_counts_for_what_is_remembered() {
        let mut results = Results::default();
        for share in [0.9991, 0.9876, f64::NAN] {
            let said = Said { remembered: Some(share), ..Said::default() };
            results.add(Tool::Memtrace, Measurement { seconds: 1.0, said });
        }
        assert_eq!(results.remembered(Tool::Memtrace), "98.76 %");
        assert_eq!(results.remembered(Tool::Empty), "-");
    }
}
