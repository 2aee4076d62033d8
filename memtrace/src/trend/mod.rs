//! The `trend` room: what each stack holds over time, and how long its blocks live, in; a verdict with its confidence out.
//!
//! In, after each interval: [`Trend::begin_interval`], one [`Trend::observe`] for each stack that holds or held memory,
//! and, when a pass over the live blocks can be afforded, [`Trend::look`] for the stacks of [`Trend::followed`]. Out:
//! [`Trend::judge_all`]. It is plain arithmetic over bounded rows: no clock, no randomness, so the same observations
//! always give the same verdicts.
//!
//! [`series`] keeps the samples and [`gaps`] what was not recorded; [`cohorts`] are the birth times that stacks share and
//! [`survival`] what became of them; [`kendall`] and [`slope`] are the statistics, [`window`], [`pace`], [`steps`],
//! [`bend`] and [`sawtooth`] ask them about a part of a series; [`rules`] turn one series into a finding, [`judge`] weighs it against
//! survival, [`sampled`] against the chance of what was drawn, [`family`] corrects for the number of stacks. docs/design/verdict.md has the reasons and the measurements.
//! [`groups`] are sums of stacks, judged in the same way, and [`explain`] chooses those that a report needs.
//! [`footprint`] and [`alert`] do the like for whole processes and cgroups. All numbers that a verdict turns on are in
//! [`thresholds`].

use std::{
    cmp::Reverse,
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
};

pub mod alert;
pub mod bend;
pub mod cohorts;
pub mod collections;
pub mod explain;
pub mod family;
pub mod footprint;
pub mod gaps;
pub mod groups;
pub mod judge;
pub mod kendall;
pub mod pace;
pub mod rules;
pub mod sampled;
pub mod sawtooth;
pub mod series;
pub mod slope;
pub mod steps;
pub mod survival;
pub mod thresholds;
pub mod verdict;
pub mod window;

#[cfg(test)]
mod tests;

pub use series::Sample;
pub use thresholds::MIN_INTERVALS;
pub use verdict::{Judgement, Verdict};

use crate::ledger::{Cohort, Precision};
use cohorts::Cohorts;
use gaps::Gaps;
use judge::{Drawn, Weighed};
use sampled::Spread;
use series::Series;
use survival::Row;

/// The most stacks whose blocks are looked at by cohort: those that rose the most.
pub const MAX_FOLLOWED: usize = 256;

/// What a stack holds and has allocated at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observation {
    /// Outstanding bytes.
    pub bytes: u64,
    /// Outstanding blocks.
    pub blocks: u64,
    /// Blocks allocated since the attach, without those that `realloc` moved and that stay the same to the ledger.
    pub allocations: u64,
    /// Bytes of the blocks in `allocations`; wraps at 2^64.
    pub allocated_bytes: u64,
    /// How well these are known where they are estimates from a sample.
    pub precision: Option<Precision>,
}

/// The series and cohorts of every stack. Memory for a stack: at most 180 samples of 24 bytes and 24 cohorts of 16 (4.7
/// kB), fewer while the run is young, and 4.6 kB more for the followed ones.
#[derive(Debug)]
pub struct Trend<K> {
    tracks: HashMap<K, Track>,
    cohorts: Cohorts,
    gaps: Gaps,
    /// When the interval before the current one was observed; the attach, where every stack holds nothing, comes first.
    previous_ms: u64,
    current_ms: u64,
    /// When it began; 0, the attach, unless it was told to begin later.
    base_ms: u64,
    /// Losses that no one stack can be named for, so that every verdict is touched.
    all_lossy: bool,
    /// Mean bytes from one sampling point to the next; 0 where every block is seen.
    distance: u64,
}

impl Observation {
    /// Adds what another stack holds, for stacks that are judged as one.
    pub fn add(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.blocks = self.blocks.saturating_add(other.blocks);
        self.allocations = self.allocations.saturating_add(other.allocations);
        self.allocated_bytes = self.allocated_bytes.wrapping_add(other.allocated_bytes);
        if let Some(precision) = other.precision {
            self.precision.get_or_insert_default().add(precision);
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Track {
    series: Series,
    /// Empty where every block is seen.
    spreads: Series<Spread>,
    row: Row,
}

impl<K> Default for Trend<K> {
    fn default() -> Self {
        Self {
            tracks: HashMap::new(),
            cohorts: Cohorts::default(),
            gaps: Gaps::default(),
            previous_ms: 0,
            current_ms: 0,
            base_ms: 0,
            all_lossy: false,
            distance: 0,
        }
    }
}

impl<K: Eq + Hash + Copy + Ord> Trend<K> {
    /// A trend with nothing observed; its time starts at 0, the attach.
    pub fn new() -> Self {
        Self::default()
    }

    /// A trend that begins at `elapsed_ms`, with what each key holds then as its first sample: to be observed at that time.
    /// What was before is not looked at any more.
    pub fn beginning_at(elapsed_ms: u64) -> Self {
        let mut trend =
            Self { previous_ms: elapsed_ms, current_ms: elapsed_ms, base_ms: elapsed_ms, ..Self::default() };
        // A cohort for what was born before; it has no births.
        trend.cohorts.push(elapsed_ms, 0);
        trend
    }

    /// Starts the observations made at `elapsed_ms` after the attach, which is `now_ns` by the clock of the events. A time
    /// that is not later than the current one continues the current interval.
    pub fn begin_interval(&mut self, elapsed_ms: u64, now_ns: u64) {
        if elapsed_ms <= self.current_ms {
            self.cohorts.extend(now_ns);
            return;
        }
        self.previous_ms = self.current_ms;
        self.current_ms = elapsed_ms;
        let merged = self.cohorts.push(elapsed_ms, now_ns);
        self.tracks.values_mut().for_each(|track| track.row.push(merged));
    }

    /// From now on blocks are drawn at this mean distance in bytes.
    pub fn sample(&mut self, distance: u64) {
        self.distance = distance;
    }

    /// Not every allocation of the current interval was recorded: it is a gap in every series, not a plateau.
    pub fn mark_gap(&mut self) {
        self.add_gap(self.previous_ms, self.current_ms);
    }

    /// Allocations were not recorded from one time to another, in milliseconds since the attach.
    pub fn add_gap(&mut self, start_ms: u64, end_ms: u64) {
        self.gaps.add(start_ms, end_ms);
    }

    /// Records what `key` holds at the current time. A key that is new held nothing when the interval before was
    /// observed, and its series says so. A second observation at the same time replaces the first.
    pub fn observe(&mut self, key: K, seen: Observation) {
        self.record(key, seen, self.current_ms == self.base_ms);
    }

    /// Records what a key holds that is looked at for the first time and may have held it for long: its series begins now.
    pub fn observe_first(&mut self, key: K, seen: Observation) {
        self.record(key, seen, true);
    }

    fn record(&mut self, key: K, seen: Observation, is_first: bool) {
        let (previous_ms, elapsed_ms) = (self.previous_ms, self.current_ms);
        let cohorts = self.cohorts.all().len();
        let track = self.tracks.entry(key).or_insert_with(|| Track { row: Row::new(cohorts), ..Track::default() });
        if track.series.samples().is_empty() && !is_first && previous_ms < elapsed_ms {
            track.series.push(Sample { elapsed_ms: previous_ms, bytes: 0, blocks: 0 });
        }
        if let Some(Precision { live, turnover, .. }) = seen.precision {
            track.spreads.push(Spread { elapsed_ms, live, turnover });
        }
        // Deaths are counted among the blocks that were seen, whatever they stand for.
        let allocations = seen.precision.map_or(seen.allocations, |precision| precision.ever_seen);
        track.series.push(Sample { elapsed_ms, bytes: seen.bytes, blocks: seen.blocks });
        if is_first {
            track.row.skip(allocations, seen.allocated_bytes);
        } else {
            track.row.count(allocations, seen.allocated_bytes);
        }
    }

    /// Adds the past of `other`, a key of another trend that was told of the same intervals, to that of `key`.
    pub fn absorb<J: Eq + Hash + Copy + Ord>(&mut self, key: K, from: &Trend<J>, other: J) {
        let Some(added) = from.tracks.get(&other) else { return };
        match self.tracks.entry(key) {
            Entry::Vacant(place) => _ = place.insert(added.clone()),
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.series.add(&added.series, Sample::plus);
                known.spreads.add(&added.spreads, Spread::plus);
                known.row.add(&added.row);
            }
        }
    }

    /// The stacks for which a look at their live blocks is worth it: those that rose the most since the start or lately.
    pub fn followed(&self) -> Vec<K> {
        let rise = |track: &Track| {
            let samples = track.series.samples();
            let last = samples.last()?;
            let since = |earlier: &Sample| {
                (last.bytes.saturating_sub(earlier.bytes), last.blocks.saturating_sub(earlier.blocks))
            };
            let (first, middle) = (since(samples.first()?), since(track.series.recent().first()?));
            Some(first.max(middle)).filter(|&(_, blocks)| blocks > 0 && last.blocks > 0)
        };
        let mut rises: Vec<_> =
            self.tracks.iter().filter_map(|(&key, track)| Some((Reverse(rise(track)?), key))).collect();
        rises.sort_unstable();
        rises.into_iter().take(MAX_FOLLOWED).map(|(_, key)| key).collect()
    }

    /// Where the cohorts end by the clock of the events, for [`ProcessLedger::cohorts`](crate::ledger::ProcessLedger).
    pub fn cohort_ends_ns(&self) -> &[u64] {
        self.cohorts.ends_ns()
    }

    /// What lives of each cohort of a stack at the current time.
    pub fn look(&mut self, key: K, alive: &[Cohort]) {
        if let Some(track) = self.tracks.get_mut(&key) {
            track.row.look(self.current_ms, alive);
        }
    }

    /// What is said of `key` alone. A key that was never observed is undecided.
    pub fn judge(&self, key: K) -> Judgement {
        self.judge_all(&[key]).pop().unwrap_or_else(Judgement::unknown)
    }

    /// What is said of each of `keys`, in their order, given that all of them were looked at: the more there are, the
    /// clearer a rise has to be, unless the survival of its blocks confirms it.
    pub fn judge_all(&self, keys: &[K]) -> Vec<Judgement> {
        let weighed: Vec<Option<Weighed>> = keys.iter().map(|&key| self.weigh(key)).collect();
        // A stack that never changed is no test that could come out wrong.
        let chances: Vec<f64> = weighed
            .iter()
            .zip(keys)
            .filter(|&(_, &key)| self.changes(key))
            .map(|(weighed, _)| weighed.as_ref().map_or(1.0, |weighed| weighed.finding.chance))
            .collect();
        let largest = family::benjamini_hochberg(&chances, thresholds::FALSE_DISCOVERIES);
        weighed
            .into_iter()
            .map(|weighed| weighed.map_or_else(Judgement::unknown, |weighed| self.say(weighed, largest)))
            .collect()
    }

    fn weigh(&self, key: K) -> Option<Weighed> {
        let track = self.tracks.get(&key)?;
        if track.series.samples().is_empty() {
            return None;
        }
        let survival = |from_ms| track.row.survival(self.cohorts.all(), from_ms, self.current_ms);
        let drawn = (!track.spreads.samples().is_empty())
            .then_some(Drawn { spreads: &track.spreads, distance: self.distance as f64 });
        Some(judge::judge(&track.series, &self.gaps, drawn, survival))
    }

    fn changes(&self, key: K) -> bool {
        let recent = self.tracks.get(&key).map_or(&[][..], |track| track.series.samples());
        recent.windows(2).skip(1).any(|pair| pair[0].bytes != pair[1].bytes)
    }

    fn say(&self, weighed: Weighed, largest_chance: f64) -> Judgement {
        let Weighed { mut finding, survival, confirmed } = weighed;
        if finding.verdict.is_leak() && !confirmed && finding.chance > largest_chance {
            finding.verdict = Verdict::Undecided;
            finding.confidence *= 0.5;
            finding.evidence.push_str("; not significant given how many stacks were judged");
        }
        let judgement = Judgement {
            verdict: finding.verdict,
            confidence: finding.confidence,
            growth_bytes_per_hour: finding.slope.estimate,
            interval_bytes_per_hour: (finding.slope.low, finding.slope.high),
            survival,
            evidence: finding.evidence,
        };
        if self.all_lossy { judgement.with_losses() } else { judgement }
    }

    /// The samples of `key`, oldest first; empty when it was never observed.
    pub fn series(&self, key: K) -> &[Sample] {
        self.tracks.get(&key).map_or(&[], |track| track.series.samples())
    }

    /// Drops a key, for a process that ended or a stack that will not be asked for again.
    pub fn forget(&mut self, key: K) {
        self.tracks.remove(&key);
    }

    /// Events were lost and nobody knows whose.
    pub fn mark_all_lossy(&mut self) {
        self.all_lossy = true;
    }

    /// How many keys are kept.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.tracks.len()
    }

    /// Whether no key is kept.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// Bytes of memory that the trend takes, about.
    #[cfg(test)]
    pub fn heap_bytes(&self) -> usize {
        let bytes = |track: &Track| track.series.heap_bytes() + track.spreads.heap_bytes() + track.row.heap_bytes();
        let tracks: usize = self.tracks.values().map(bytes).sum();
        tracks + self.tracks.capacity() * size_of::<(K, Track)>()
    }
}
