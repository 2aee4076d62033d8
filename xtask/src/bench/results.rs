//! From measurements to numbers: medians, and ratios of added time.

use super::tool::{Said, Tool};

/// One run of one workload under one tool.
pub struct Measurement {
    /// What the workload took.
    pub seconds: f64,
    /// Processor time that the tool's own process took meanwhile; `None` for tools without one.
    pub own_processor_seconds: Option<f64>,
    /// What the tool says of itself.
    pub said: Said,
}

/// All measurements of one workload; of each tool in the order of the rounds.
#[derive(Default)]
pub struct Results(Vec<(Tool, Measurement)>);

/// What one tool cost one workload.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The tool.
    pub tool: Tool,
    /// `None` if the tool did not run.
    pub cost: Option<Cost>,
}

/// Medians over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Seconds of the workload.
    pub seconds: f64,
    /// The fastest round.
    pub least: f64,
    /// The slowest round.
    pub most: f64,
    /// The time over the time of the tool's base.
    pub slowdown: f64,
    /// Added time over that of empty programs; `None` for what is a base itself, or where those added nothing.
    pub to_empty: Option<f64>,
    /// Added time over that of bpftrace.
    pub to_bpftrace: Option<f64>,
    /// Added time over that of heaptrack.
    pub to_heaptrack: Option<f64>,
    /// The tool's processor time over the workload's time.
    pub own_share: Option<f64>,
    /// The most in any round.
    pub said: Said,
}

impl Results {
    /// Adds one.
    pub fn add(&mut self, tool: Tool, measurement: Measurement) {
        self.0.push((tool, measurement));
    }

    /// One row a tool, in the order of the table.
    pub fn rows(&self) -> Vec<Row> {
        Tool::ALL.into_iter().map(|tool| Row { tool, cost: self.cost(tool) }).collect()
    }

    fn cost(&self, tool: Tool) -> Option<Cost> {
        let seconds = median(self.seconds(tool))?;
        let shares = self.of(tool).filter_map(|one| Some(one.own_processor_seconds? / one.seconds));
        Some(Cost {
            seconds,
            least: self.seconds(tool).reduce(f64::min)?,
            most: self.seconds(tool).reduce(f64::max)?,
            slowdown: seconds / median(self.seconds(tool.base().unwrap_or(tool)))?,
            to_empty: self.added_ratio(tool, Tool::Empty),
            to_bpftrace: self.added_ratio(tool, Tool::Bpftrace),
            to_heaptrack: self.added_ratio(tool, Tool::Heaptrack),
            own_share: median(shares),
            said: self.of(tool).map(|one| one.said).reduce(worse).unwrap_or_default(),
        })
    }

    fn of(&self, tool: Tool) -> impl Iterator<Item = &Measurement> {
        self.0.iter().filter(move |(of, _)| *of == tool).map(|(_, measurement)| measurement)
    }

    fn seconds(&self, tool: Tool) -> impl Iterator<Item = f64> {
        self.of(tool).map(|one| one.seconds)
    }

    /// What one tool adds to the time over what another adds: the middle one of the rounds' ratios. The measurements of a
    /// round are made one after another, so that a machine that turns slow between rounds slows both parts of a ratio.
    fn added_ratio(&self, tool: Tool, to: Tool) -> Option<f64> {
        let ratios = self.added(tool)?.zip(self.added(to)?);
        // Beside a tool that added nothing in a round, any other cost infinitely more.
        let ratios = ratios.map(|(added, to)| if to > 0.0 { added / to } else { f64::INFINITY });
        median(ratios).filter(|ratio| ratio.is_finite())
    }

    /// Seconds over those of the base in the same round; `None` for a tool that is itself a base.
    fn added(&self, tool: Tool) -> Option<impl Iterator<Item = f64>> {
        if tool.is_base() {
            return None;
        }
        let base = self.seconds(tool.base()?);
        Some(self.seconds(tool).zip(base).map(|(seconds, base)| seconds - base))
    }
}

/// The worse of each number.
fn worse(one: Said, other: Said) -> Said {
    Said {
        lost: one.lost.max(other.lost),
        seen: one.seen.max(other.seen),
        // Programs that do nothing walk no stacks: not a number.
        remembered: [one.remembered, other.remembered]
            .into_iter()
            .flatten()
            .filter(|share| share.is_finite())
            .reduce(f64::min),
        frames: one.frames.or(other.frames),
        peak_bytes: one.peak_bytes.max(other.peak_bytes),
    }
}

/// The middle one, or between the two; `None` of no values.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(times: &[(Tool, &[f64])]) -> Results {
        let mut results = Results::default();
        for (tool, seconds) in times {
            for &seconds in *seconds {
                let measurement = Measurement { seconds, own_processor_seconds: None, said: Said::default() };
                results.add(*tool, measurement);
            }
        }
        results
    }

    #[test]
    fn ratios_are_of_the_time_added_in_one_round() {
        // The second round is slow all along.
        let results = results(&[
            (Tool::Nothing, &[1.0, 2.0, 1.0]),
            (Tool::Empty, &[2.0, 4.0, 2.1]),
            (Tool::Memtrace, &[2.5, 5.0, 2.5]),
            (Tool::Bpftrace, &[11.0, 22.0, 30.0]),
            (Tool::Heaptrack, &[1.5, 3.0, 1.5]),
        ]);
        let cost = results.cost(Tool::Memtrace).unwrap();
        assert_eq!((cost.seconds, cost.least, cost.most, cost.slowdown), (2.5, 2.5, 5.0, 2.5));
        assert_eq!((cost.to_empty, cost.to_bpftrace, cost.to_heaptrack), (Some(1.5), Some(0.15), Some(3.0)));
    }

    #[test]
    fn a_profiling_allocator_is_compared_with_itself() {
        let results = results(&[
            (Tool::Nothing, &[2.0]),
            (Tool::Empty, &[4.0]),
            (Tool::Jemalloc, &[1.0]),
            (Tool::JemallocEvery, &[4.0]),
        ]);
        let plain = results.cost(Tool::Jemalloc).unwrap();
        assert_eq!((plain.slowdown, plain.to_empty), (0.5, None));
        let profiling = results.cost(Tool::JemallocEvery).unwrap();
        assert_eq!((profiling.slowdown, profiling.to_empty), (4.0, Some(1.5)));
    }

    #[test]
    fn what_added_nothing_is_no_measure() {
        let mut times: Vec<(Tool, &[f64])> =
            vec![(Tool::Nothing, &[1.0, 1.0, 1.0]), (Tool::Memtrace, &[3.0, 3.0, 3.0])];
        times.push((Tool::Heaptrack, &[0.9, 1.0, 1.5]));
        assert_eq!(results(&times).cost(Tool::Memtrace).unwrap().to_heaptrack, None);
        // One such round of three is an outlier.
        times[2].1 = &[0.9, 2.0, 1.5];
        assert_eq!(results(&times).cost(Tool::Memtrace).unwrap().to_heaptrack, Some(4.0));
    }

    #[test]
    fn tools_that_did_not_run_have_rows_without_numbers() {
        let rows = results(&[(Tool::Nothing, &[1.0])]).rows();
        assert_eq!(rows.len(), Tool::ALL.len());
        assert!(rows.iter().all(|row| row.cost.is_some() == (row.tool == Tool::Nothing)));
    }

    #[test]
    fn the_worst_round_counts_for_what_a_tool_says() {
        let mut results = Results::default();
        for (remembered, lost) in [(0.9991, 0), (0.9876, 3), (f64::NAN, 1)] {
            let said = Said { remembered: Some(remembered), lost: Some(lost), ..Said::default() };
            results.add(Tool::Memtrace, Measurement { seconds: 2.0, own_processor_seconds: Some(0.5), said });
        }
        let cost = results.cost(Tool::Memtrace);
        // Without the base there is no slowdown.
        assert_eq!(cost, None);
        let measurement = Measurement { seconds: 1.0, own_processor_seconds: None, said: Said::default() };
        results.add(Tool::Nothing, measurement);
        let cost = results.cost(Tool::Memtrace).unwrap();
        assert_eq!((cost.said.remembered, cost.said.lost, cost.own_share), (Some(0.9876), Some(3), Some(0.25)));
        assert_eq!(results.cost(Tool::Nothing).unwrap().own_share, None);
    }
}
