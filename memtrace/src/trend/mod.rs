//! The `trend` room: outstanding bytes of each stack over time in, a verdict with its confidence out.
//!
//! In: after each interval, [`Trend::begin_interval`] and one [`Trend::observe`] for each stack that holds or held
//! memory. Out: [`Trend::judge`]. It is plain arithmetic over bounded series: no clock, no randomness, so the same
//! observations always give the same verdict. [`series`] keeps the samples, [`slope`] is the robust statistics,
//! [`verdict`] the rules that turn them into an answer.

use std::{collections::HashMap, hash::Hash};

pub mod series;
pub mod slope;
pub mod verdict;

#[cfg(test)]
mod corpus;

pub use series::{MAX_SAMPLES, Sample};
pub use verdict::{Judgement, Verdict};

use series::Series;

/// The series of every stack. Memory: at most [`MAX_SAMPLES`] x 24 bytes a key (4.3 kB), fewer while the run is young.
#[derive(Debug)]
pub struct Trend<K> {
    tracks: HashMap<K, Track>,
    /// When the interval before the current one was observed; the attach, where every stack holds nothing, comes first.
    previous_ms: u64,
    current_ms: u64,
    /// Losses that no one stack can be named for, so that every verdict is touched.
    all_lossy: bool,
}

#[derive(Debug, Default)]
struct Track {
    series: Series,
    lossy: bool,
}

impl<K> Default for Trend<K> {
    fn default() -> Self {
        Self { tracks: HashMap::new(), previous_ms: 0, current_ms: 0, all_lossy: false }
    }
}

impl<K: Eq + Hash + Copy> Trend<K> {
    /// A trend with nothing observed; its time starts at 0, the attach.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts the observations made at `elapsed_ms` after the attach. A time that is not later than the current one
    /// continues the current interval.
    pub fn begin_interval(&mut self, elapsed_ms: u64) {
        if elapsed_ms > self.current_ms {
            self.previous_ms = self.current_ms;
            self.current_ms = elapsed_ms;
        }
    }

    /// Records what `key` holds at `elapsed_ms`. A key that is new held nothing when the interval before was observed,
    /// and its series says so. A second observation at the same time replaces the first.
    pub fn observe(&mut self, key: K, elapsed_ms: u64, bytes: u64, blocks: u64) {
        self.begin_interval(elapsed_ms);
        let previous_ms = self.previous_ms;
        let track = self.tracks.entry(key).or_insert_with(|| {
            let mut track = Track::default();
            if previous_ms < elapsed_ms {
                track.series.push(Sample { elapsed_ms: previous_ms, bytes: 0, blocks: 0 });
            }
            track
        });
        track.series.push(Sample { elapsed_ms, bytes, blocks });
    }

    /// What the series of `key` says. A key that was never observed is undecided.
    pub fn judge(&self, key: K) -> Judgement {
        self.tracks.get(&key).map_or_else(Judgement::unknown, |track| {
            let judgement = verdict::judge(&track.series);
            if track.lossy || self.all_lossy { judgement.with_losses() } else { judgement }
        })
    }

    /// The samples of `key`, oldest first; empty when it was never observed.
    pub fn series(&self, key: K) -> &[Sample] {
        self.tracks.get(&key).map_or(&[], |track| track.series.samples())
    }

    /// Drops a key, for a process that ended or a stack that will not be asked for again.
    pub fn forget(&mut self, key: K) {
        self.tracks.remove(&key);
    }

    /// Events of this key were lost: what it seems to hold may be wrong from here on.
    pub fn mark_lossy(&mut self, key: K) {
        self.tracks.entry(key).or_default().lossy = true;
    }

    /// Events were lost and nobody knows whose.
    pub fn mark_all_lossy(&mut self) {
        self.all_lossy = true;
    }

    /// How many keys are kept.
    pub fn len(&self) -> usize {
        self.tracks.len()
    }

    /// Whether no key is kept.
    pub fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(values: &[u64]) -> Trend<u8> {
        let mut trend = Trend::new();
        for (interval, &bytes) in (1..).zip(values) {
            trend.begin_interval(interval * 5000);
            trend.observe(1, interval * 5000, bytes, bytes / 64);
        }
        trend
    }

    #[test]
    fn a_new_key_held_nothing_one_interval_before() {
        let mut trend = Trend::new();
        trend.begin_interval(5000);
        trend.observe('a', 5000, 10, 1);
        trend.begin_interval(10_000);
        trend.observe('b', 10_000, 20, 2);
        assert_eq!(trend.series('a')[0], Sample { elapsed_ms: 0, bytes: 0, blocks: 0 });
        assert_eq!(trend.series('b')[0], Sample { elapsed_ms: 5000, bytes: 0, blocks: 0 });
        assert_eq!(trend.series('b').len(), 2);
        assert_eq!(trend.series('c'), &[]);
    }

    #[test]
    fn begin_interval_counts_even_when_nothing_was_observed() {
        let mut trend = Trend::new();
        trend.begin_interval(5000);
        trend.begin_interval(10_000);
        trend.observe('a', 10_000, 10, 1);
        assert_eq!(trend.series('a')[0].elapsed_ms, 5000);
    }

    #[test]
    fn losses_lower_the_confidence_and_are_said() {
        let values: Vec<u64> = (1..=20).map(|step| step * 1000).collect();
        let mut trend = fed(&values);
        let before = trend.judge(1);
        trend.mark_lossy(1);
        let after = trend.judge(1);
        assert_eq!(after.verdict, before.verdict);
        assert!(after.confidence < before.confidence);
        assert!(after.evidence.contains("lost"), "{}", after.evidence);
        let mut trend = fed(&values);
        trend.mark_all_lossy();
        assert_eq!(trend.judge(1), after);
    }

    #[test]
    fn a_forgotten_key_is_gone() {
        let mut trend = fed(&[1, 2, 3]);
        assert_eq!(trend.len(), 1);
        trend.forget(1);
        assert!(trend.is_empty());
        assert_eq!(trend.judge(1).verdict, Verdict::Undecided);
    }

    #[test]
    fn the_rate_of_a_plain_leak_is_its_rate() {
        // 1000 bytes every 5 s.
        let values: Vec<u64> = (1..=30).map(|step| step * 1000).collect();
        let judgement = fed(&values).judge(1);
        assert_eq!(judgement.verdict, Verdict::Growing);
        assert!((judgement.growth_bytes_per_hour - 720_000.0).abs() < 1.0, "{judgement:?}");
        let (low, high) = judgement.interval_bytes_per_hour;
        assert!(low <= 720_001.0 && high >= 719_999.0, "{judgement:?}");
    }
}
