//! The memory footprint: how fast a process or a cgroup grows as a whole, what of that the stacks explain, and how long it can
//! go on before a limit. Plain arithmetic over bounded series.
//!
//! The rate is Sen's slope with the interval of Kendall's S, its variance corrected for ties and autocorrelation; see
//! [`slope`](super::slope) for the sources.

use crate::statistics::{MS_PER_HOUR, Z95};
use std::collections::VecDeque;

use super::{
    kendall::{Kendall, inflation},
    series::{Sample, Series},
    slope::{Point, theil_sen},
    thresholds,
};

/// The most samples that a rate is computed from; the slopes of all pairs are.
const MOST_SAMPLES: usize = 90;

/// Until a run is this old its rate is that of the whole run, and from twice this age on that of its newer half: what a
/// program takes while it starts is not its rate for ever.
const WHOLE_RUN_MS: u64 = 10 * 60 * 1000;

/// Beyond this nobody plans by a rate.
const FAR_MS: u64 = 30 * 24 * 3_600_000;

/// A growth rate in bytes an hour with its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// The median slope.
    pub estimate: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Rate {
    /// Of these points; `None` when they are too few.
    pub fn of(points: &[Point]) -> Option<Rate> {
        if points.len() < thresholds::LEAST_SAMPLES_OF_A_RATE {
            return None;
        }
        let kendall = Kendall::of(points);
        let first = theil_sen(points, kendall, Z95);
        let slope = theil_sen(points, kendall.inflated(inflation(points, first.estimate)), Z95);
        Some(Rate { estimate: slope.estimate, low: slope.low, high: slope.high })
    }
}

/// How far back a rate looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Span {
    /// The run; its newer half when it is long.
    Run,
    /// The newest milliseconds.
    Newest(u64),
}

/// One quantity over time, in bounded memory however long the run.
#[derive(Clone, Debug)]
pub struct Track {
    kept: Kept,
}

#[derive(Clone, Debug)]
enum Kept {
    Run(Series),
    Newest { span_ms: u64, samples: VecDeque<Sample> },
}

impl Track {
    /// A series of memory sizes without samples yet.
    pub fn new(span: Span) -> Self {
        let kept = match span {
            Span::Run => Kept::Run(Series::default()),
            Span::Newest(span_ms) => Kept::Newest { span_ms, samples: VecDeque::new() },
        };
        Self { kept }
    }

    /// Adds a sample; one that is older than the newest is ignored.
    pub fn push(&mut self, elapsed_ms: u64, bytes: u64) {
        let sample = Sample { elapsed_ms, bytes, blocks: 0 };
        match &mut self.kept {
            Kept::Run(series) => series.push(sample),
            Kept::Newest { span_ms, samples } => {
                if samples.back().is_some_and(|last| last.elapsed_ms > elapsed_ms) {
                    return;
                }
                // The newest one moves until it is a cell of time from the one before, so that the others are spaced out.
                let cell_ms = span_ms.div_ceil(MOST_SAMPLES as u64).max(1);
                let newest = samples.len().checked_sub(2).map(|index| (samples[index], samples[index + 1]));
                if newest.is_some_and(|(before, last)| last.elapsed_ms - before.elapsed_ms < cell_ms) {
                    samples.pop_back();
                }
                samples.push_back(sample);
                let from = elapsed_ms.saturating_sub(*span_ms);
                while samples.front().is_some_and(|first| first.elapsed_ms < from) {
                    samples.pop_front();
                }
            }
        }
    }

    /// How fast it grows; `None` before there are enough samples.
    pub fn rate(&self) -> Option<Rate> {
        Rate::of(&self.points())
    }

    /// What a rate is made of, oldest first.
    fn points(&self) -> Vec<Point> {
        let points = |samples: &mut dyn Iterator<Item = &Sample>| -> Vec<Point> {
            samples.map(|s| Point { hours: s.elapsed_ms as f64 / MS_PER_HOUR, value: s.bytes as f64 }).collect()
        };
        match &self.kept {
            Kept::Run(series) => {
                let (Some(first), Some(last)) = (series.samples().first(), series.samples().last()) else {
                    return Vec::new();
                };
                let (first, last) = (first.elapsed_ms, last.elapsed_ms);
                let age = last - first;
                let from = first + age.saturating_sub(WHOLE_RUN_MS).min(age / 2);
                let newer: Vec<Sample> =
                    series.samples().iter().filter(|sample| sample.elapsed_ms >= from).copied().collect();
                let step = newer.len().div_ceil(MOST_SAMPLES).max(1);
                // Counted from the newest one, which always stays.
                let mut points = points(&mut newer.iter().rev().step_by(step));
                points.reverse();
                points
            }
            Kept::Newest { samples, .. } => points(&mut samples.iter()),
        }
    }

    /// Whether the newer half of the samples rises, too, at a good part of the whole rate: what filled at the start and is
    /// level since does not.
    pub fn goes_on(&self) -> bool {
        let points = self.points();
        let whole = Rate::of(&points).map(|rate| rate.estimate);
        let newer = &points[points.len() / 2..];
        let slope = theil_sen(newer, Kendall::of(newer), Z95).estimate;
        whole.is_some_and(|whole| slope > 0.0 && slope >= whole / thresholds::NEWER_PART_OF_A_RATE)
    }

    /// The rate, once the samples cover half of the span: what a program takes in its first moments is no reason for an
    /// alarm.
    pub fn settled_rate(&self) -> Option<Rate> {
        let covered = match &self.kept {
            Kept::Run(_) => true,
            Kept::Newest { span_ms, samples } => {
                let (first, last) = (samples.front()?.elapsed_ms, samples.back()?.elapsed_ms);
                last - first >= span_ms / 2
            }
        };
        if covered { self.rate() } else { None }
    }
}

/// When a limit will be reached at the present rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TimeLeft {
    /// Too few samples to tell.
    Unknown,
    /// It is not known to grow: its rate's interval has 0 in it.
    Level,
    /// It grows, and gets there later than this, in milliseconds, at the fastest rate that it may have.
    MoreThan(u64),
    /// It grows. In milliseconds; `latest` is `None` when it is too far to say.
    Within {
        /// At the estimated rate.
        about_ms: u64,
        /// At the upper end of the rate's interval.
        earliest_ms: u64,
        /// At the lower end.
        latest_ms: Option<u64>,
    },
}

/// How long `room_bytes` last at a rate.
pub fn time_left(room_bytes: u64, rate: Option<Rate>) -> TimeLeft {
    let Some(rate) = rate else { return TimeLeft::Unknown };
    if rate.low <= 0.0 {
        return TimeLeft::Level;
    }
    // Float to integer conversion saturates.
    let at = |bytes_per_hour: f64| (room_bytes as f64 / bytes_per_hour * MS_PER_HOUR) as u64;
    let (earliest_ms, latest_ms) = (at(rate.high), at(rate.low));
    if earliest_ms > FAR_MS {
        return TimeLeft::MoreThan(FAR_MS);
    }
    TimeLeft::Within { about_ms: at(rate.estimate), earliest_ms, latest_ms: (latest_ms <= FAR_MS).then_some(latest_ms) }
}

/// What a process has in memory and in swap, by what is in it. In bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Parts {
    /// Anonymous memory, that in swap included.
    pub anon_bytes: u64,
    /// Pages of files.
    pub file_bytes: u64,
    /// Shared memory.
    pub shmem_bytes: u64,
}

/// What a process's growth since the attach consists of. In bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Account {
    /// All of it; negative when it shrank.
    pub growth_bytes: i64,
    /// What live blocks and mapped ranges account for, as far as anonymous memory grew at all.
    pub stacks_bytes: u64,
    /// Growth of anonymous memory less what the stacks hold. Positive: the allocator's own overhead and fragmentation, memory of
    /// before the attach that is touched only now, thread stacks, allocators that are not traced. Negative: what the
    /// stacks hold lies in memory that was there before, or was never touched.
    pub rest_bytes: i64,
    /// Growth of mapped files.
    pub file_bytes: i64,
    /// Growth of shared memory.
    pub shmem_bytes: i64,
    /// `stacks_bytes` of `growth_bytes`, from 0 to 1; `None` when it grew by less than [`LEAST_GROWTH`](thresholds::LEAST_GROWTH).
    pub explained: Option<f64>,
}

/// Compares two moments. `held_bytes` lives now and was allocated between them.
pub fn account(then: Parts, now: Parts, held_bytes: u64) -> Account {
    let change = |then: u64, now: u64| i64::try_from(i128::from(now) - i128::from(then)).unwrap_or(i64::MAX);
    let anon = change(then.anon_bytes, now.anon_bytes);
    let file_bytes = change(then.file_bytes, now.file_bytes);
    let shmem_bytes = change(then.shmem_bytes, now.shmem_bytes);
    let growth_bytes = anon.saturating_add(file_bytes).saturating_add(shmem_bytes);
    let stacks_bytes = held_bytes.min(u64::try_from(anon).unwrap_or(0));
    let grown = u64::try_from(growth_bytes).ok().filter(|&bytes| bytes >= thresholds::LEAST_GROWTH);
    Account {
        growth_bytes,
        stacks_bytes,
        rest_bytes: anon.saturating_sub(i64::try_from(held_bytes).unwrap_or(i64::MAX)),
        file_bytes,
        shmem_bytes,
        explained: grown.map(|grown| (stacks_bytes as f64 / grown as f64).min(1.0)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MB: u64 = 1_000_000;

    fn fed(span: Span, step_ms: u64, values: impl IntoIterator<Item = u64>) -> Track {
        let mut track = Track::new(span);
        for (step, bytes) in (0..).zip(values) {
            track.push(step * step_ms, bytes);
        }
        track
    }

    /// Deterministic noise of up to `most`.
    fn noise(step: u64, most: u64) -> u64 {
        (step.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 33) % most
    }

    #[test]
    fn a_noisy_rise_has_its_rate_within_the_interval() {
        // 10 MB a minute, noise of 5 MB.
        let track = fed(Span::Newest(600_000), 10_000, (0..60).map(|s| 100 * MB + s * 10 * MB / 6 + noise(s, 5 * MB)));
        let rate = track.rate().expect("enough samples");
        assert!(rate.low < 600e6 && 600e6 < rate.high && rate.low > 400e6, "{rate:?}");
    }

    #[test]
    fn noise_alone_and_one_jump_do_not_grow() {
        let level = fed(Span::Run, 5000, (0..100).map(|step| 100 * MB + noise(step, 20 * MB)));
        assert_eq!(time_left(MB, level.rate()), TimeLeft::Level);
        let jump = fed(Span::Run, 5000, (0..100).map(|step| if step < 80 { 100 * MB } else { 300 * MB }));
        assert_eq!(time_left(MB, jump.rate()), TimeLeft::Level, "{:?}", jump.rate());
    }

    #[test]
    fn too_few_samples_are_no_rate() {
        let mut track = fed(Span::Run, 1000, (0..5).map(|step| step * MB));
        assert_eq!((track.rate(), time_left(9, None)), (None, TimeLeft::Unknown));
        track.push(5000, 5 * MB);
        assert!(track.rate().is_some_and(|rate| (rate.estimate - 3.6e9).abs() < 1.0));
        let mut young = fed(Span::Newest(20_000), 1000, (0..10).map(|step| step * MB));
        assert_eq!((young.rate().is_some(), young.settled_rate()), (true, None));
        young.push(10_000, 10 * MB);
        assert!(young.settled_rate().is_some());
    }

    #[test]
    fn a_long_run_is_judged_by_its_newer_half() {
        // Fills for two hours, then is level for four.
        let track = fed(Span::Run, 60_000, (0..360).map(|minute| minute.min(120) * MB));
        assert_eq!(track.rate().map(|rate| rate.estimate), Some(0.0));
        let young = fed(Span::Run, 5000, (0..60).map(|step| step.min(40) * MB));
        assert!(young.rate().is_some_and(|rate| rate.estimate > 0.0), "the whole of a short run counts");
    }

    #[test]
    fn what_filled_at_the_start_does_not_go_on() {
        assert!(fed(Span::Run, 5000, (0..60).map(|step| step * MB)).goes_on());
        assert!(!fed(Span::Run, 5000, (0..60).map(|step| step.min(25) * MB)).goes_on());
        assert!(!fed(Span::Run, 5000, (0..60).map(|step| 100 * MB + noise(step, 20 * MB))).goes_on());
        assert!(!fed(Span::Run, 5000, 0..0).goes_on());
    }

    #[test]
    fn the_newest_are_kept_even_when_they_come_fast() {
        let track = fed(Span::Newest(60_000), 100, (0..36_000).map(|step| step * 1000));
        let Kept::Newest { samples, .. } = &track.kept else { panic!("as asked") };
        assert!((80..=MOST_SAMPLES + 2).contains(&samples.len()), "{}", samples.len());
        assert!(samples[0].elapsed_ms >= 35_999 * 100 - 60_000);
        assert!(track.rate().is_some_and(|rate| (rate.estimate - 36e6).abs() < 1e3), "{:?}", track.rate());
    }

    #[test]
    fn time_left_has_the_ends_of_the_rates_interval() {
        let rate = Rate { estimate: 10e6, low: 5e6, high: 20e6 };
        let hour = 3_600_000;
        assert_eq!(
            time_left(100 * MB, Some(rate)),
            TimeLeft::Within { about_ms: 10 * hour, earliest_ms: 5 * hour, latest_ms: Some(20 * hour) }
        );
        assert_eq!(
            time_left(100 * MB, Some(Rate { low: 1.0, ..rate })),
            TimeLeft::Within { about_ms: 10 * hour, earliest_ms: 5 * hour, latest_ms: None }
        );
        assert_eq!(time_left(u64::MAX, Some(rate)), TimeLeft::MoreThan(30 * 24 * hour));
        assert_eq!(time_left(MB, Some(Rate { low: 0.0, ..rate })), TimeLeft::Level);
        let none = time_left(0, Some(rate));
        assert_eq!(none, TimeLeft::Within { about_ms: 0, earliest_ms: 0, latest_ms: Some(0) });
    }

    #[test]
    fn growth_is_split_into_what_is_known_of_it() {
        let then = Parts { anon_bytes: 100 * MB, file_bytes: 20 * MB, shmem_bytes: 0 };
        let now = Parts { anon_bytes: 200 * MB, file_bytes: 25 * MB, shmem_bytes: 3 * MB };
        let split = account(then, now, 90 * MB);
        assert_eq!((split.growth_bytes, split.stacks_bytes, split.rest_bytes), (108_000_000, 90 * MB, 10_000_000));
        assert_eq!((split.file_bytes, split.shmem_bytes), (5_000_000, 3_000_000));
        assert!(split.explained.is_some_and(|share| (share - 90.0 / 108.0).abs() < 1e-9));
        // Held in memory that was there already.
        let reused = account(then, Parts { anon_bytes: 110 * MB, ..then }, 50 * MB);
        assert_eq!((reused.stacks_bytes, reused.rest_bytes, reused.explained), (10 * MB, -40_000_000, Some(1.0)));
        let shrunk = account(now, then, 5);
        assert_eq!((shrunk.stacks_bytes, shrunk.explained), (0, None));
    }

    proptest! {
        #[test]
        fn anything_is_taken(
            values in proptest::collection::vec((0u64..10_000, any::<u64>()), 0..300), span in 0u64..100_000,
        ) {
            let (mut run, mut newest) = (Track::new(Span::Run), Track::new(Span::Newest(span)));
            let mut now = 0;
            for (gap, bytes) in values {
                now += gap;
                run.push(now, bytes);
                newest.push(now, bytes);
                if let Kept::Newest { samples, .. } = &newest.kept {
                    prop_assert!(samples.len() <= MOST_SAMPLES + 2);
                }
            }
            for rate in [run.rate(), newest.rate()].into_iter().flatten() {
                prop_assert!(rate.low <= rate.estimate && rate.estimate <= rate.high);
            }
        }

        #[test]
        fn an_account_never_explains_more_than_all(a in any::<[u64; 3]>(), b in any::<[u64; 3]>(), held in any::<u64>()) {
            let parts = |[anon_bytes, file_bytes, shmem_bytes]: [u64; 3]| Parts { anon_bytes, file_bytes, shmem_bytes };
            let split = account(parts(a), parts(b), held);
            prop_assert!(split.explained.is_none_or(|share| (0.0..=1.0).contains(&share)));
            prop_assert!(split.stacks_bytes <= held);
        }
    }
}
