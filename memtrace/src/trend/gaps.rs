//! Stretches of time in which allocations were not recorded.
//!
//! In such a gap a leak seems to stand still, which would look like a plateau. So a gap's time is cut out of every series,
//! and what rose in it with it; what fell, fell: releases are recorded even then. The list is one for all stacks, since
//! they share the ring that overflowed, and it is bounded: the two gaps nearest to each other become one.

use super::{series::Sample, slope::Point};
use crate::statistics::MS_PER_HOUR;

/// The most gaps that are told apart.
const MAX_GAPS: usize = 64;

/// The gaps, in order, apart from each other.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    spans: Vec<(u64, u64)>,
}

impl Gaps {
    /// Adds the gap from one time to another, in milliseconds since the attach; not earlier than those before.
    pub fn add(&mut self, start_ms: u64, end_ms: u64) {
        if end_ms <= start_ms {
            return;
        }
        match self.spans.last_mut() {
            Some(last) if start_ms <= last.1 => last.1 = last.1.max(end_ms),
            _ => self.spans.push((start_ms, end_ms)),
        }
        if self.spans.len() > MAX_GAPS {
            let nearest = (1..self.spans.len()).min_by_key(|&index| self.spans[index].0 - self.spans[index - 1].1);
            if let Some(index) = nearest {
                let (_, end_ms) = self.spans.remove(index);
                self.spans[index - 1].1 = end_ms;
            }
        }
    }

    /// How much of a stretch of time was not recorded.
    pub fn within(&self, start_ms: u64, end_ms: u64) -> u64 {
        let overlap = |&(from, to): &(u64, u64)| to.min(end_ms).saturating_sub(from.max(start_ms));
        self.spans.iter().map(overlap).sum()
    }

    /// The samples as points of recorded time: `value` of each, in hours.
    pub fn points(&self, samples: &[Sample], value: impl Fn(&Sample) -> u64) -> Vec<Point> {
        let Some(first) = samples.first() else { return Vec::new() };
        let mut lost_ms = self.within(0, first.elapsed_ms);
        let mut unexplained = 0.0;
        let point = |sample: &Sample, lost_ms: u64, unexplained: f64| Point {
            hours: sample.elapsed_ms.saturating_sub(lost_ms) as f64 / MS_PER_HOUR,
            value: (value(sample) as f64 - unexplained).max(0.0),
        };
        let mut points = Vec::with_capacity(samples.len());
        points.push(point(first, lost_ms, 0.0));
        for pair in samples.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            let length_ms = after.elapsed_ms - before.elapsed_ms;
            let gap_ms = if self.spans.is_empty() { 0 } else { self.within(before.elapsed_ms, after.elapsed_ms) };
            if gap_ms * 2 >= length_ms {
                // Mostly not recorded: no sample of recorded time.
                lost_ms += length_ms;
                unexplained += (value(after) as f64 - value(before) as f64).max(0.0);
                if let Some(last) = points.last_mut() {
                    last.value = point(after, lost_ms, unexplained).value;
                }
            } else {
                lost_ms += gap_ms;
                points.push(point(after, lost_ms, unexplained));
            }
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(count: u64) -> Vec<Sample> {
        (0..count).map(|step| Sample { elapsed_ms: step * 1000, bytes: step * 10, blocks: step }).collect()
    }

    #[test]
    fn a_leak_that_was_not_seen_for_a_while_stays_a_line() {
        let mut gaps = Gaps::default();
        gaps.add(5000, 8000);
        // Nothing was recorded from 5 s to 8 s.
        let mut samples = line(20);
        for sample in &mut samples {
            sample.bytes -= (sample.elapsed_ms / 1000).saturating_sub(5).min(3) * 10;
        }
        let points = gaps.points(&samples, |sample| sample.bytes);
        assert_eq!(points.len(), 17);
        for pair in points.windows(2) {
            assert!((pair[1].value - pair[0].value - 10.0).abs() < 1e-9);
            assert!(((pair[1].hours - pair[0].hours) * 3600.0 - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn what_is_freed_in_a_gap_is_gone_and_what_rises_is_left_out() {
        let mut gaps = Gaps::default();
        gaps.add(2000, 3000);
        let mut samples = line(5);
        samples[3].bytes = 5;
        samples[4].bytes = 15;
        let values: Vec<f64> = gaps.points(&samples, |sample| sample.bytes).iter().map(|point| point.value).collect();
        assert_eq!(values, [0.0, 10.0, 5.0, 15.0]);
        samples[3].bytes = 500;
        samples[4].bytes = 510;
        let values: Vec<f64> = gaps.points(&samples, |sample| sample.bytes).iter().map(|point| point.value).collect();
        assert_eq!(values, [0.0, 10.0, 20.0, 30.0]);
    }

    proptest! {
        #[test]
        fn gaps_stay_bounded_and_in_order(steps in prop::collection::vec((0u64..50, 0u64..50), 0..400)) {
            let mut gaps = Gaps::default();
            let mut now = 0;
            for (pause, length) in steps {
                gaps.add(now + pause, now + pause + length);
                now += pause + length;
                prop_assert!(gaps.spans.len() <= MAX_GAPS);
                prop_assert!(gaps.spans.windows(2).all(|pair| pair[0].1 < pair[1].0));
                prop_assert!(gaps.within(0, now) <= now);
            }
        }
    }
}
