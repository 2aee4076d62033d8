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
        let added = |tool| self.median(tool) - nothing;
        let _ = writeln!(
            text,
            "  {:<28} {:>9} {:>15} {:>9} {:>9} {:>9} {:>6} {:>9} {:>10}",
            "", "median", "min..max", "slowdown", "/empty", "/bpftrace", "lost", "seen", "remembered"
        );
        for tool in Tool::ALL {
            let times = self.times(tool);
            let (Some(least), Some(most)) = (times.first(), times.last()) else { continue };
            let traced = tool != Tool::Nothing;
            let ratio = |to| if traced { format!("{:.2}", added(tool) / added(to)) } else { "-".to_owned() };
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
        let times = self.times(tool);
        let middle = times.len() / 2;
        match times.len() {
            0 => f64::NAN,
            length if length % 2 == 1 => times[middle],
            _ => f64::midpoint(times[middle - 1], times[middle]),
        }
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
    fn ratios_are_of_added_time_between_medians() {
        let mut results = Results::default();
        for (tool, seconds) in [
            (Tool::Nothing, [1.0, 1.0, 9.0]),
            (Tool::Empty, [2.0, 3.0, 2.0]),
            (Tool::Memtrace, [2.5, 2.5, 2.5]),
            (Tool::Bpftrace, [11.0, 7.0, 30.0]),
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
