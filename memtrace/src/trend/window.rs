//! The test of one stretch of samples for a lasting rise.

use super::{
    kendall::{Kendall, hamed_rao, inflation, p_mostly_rising},
    slope::{Point, Slope, theil_sen},
    steps::{Steps, least, median, most, without_steps},
    survival::student95,
    thresholds,
};
use crate::statistics::Z95;

/// What the test of a stretch says.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The chance of such a rise without growth.
    pub p: f64,
    /// Whether the least of the later half lies above the least of the earlier half.
    pub floor_rises: bool,
    /// How much more the pairs vary than independent values would.
    inflation: f64,
}

impl Window {
    /// Tests whether the samples of a stretch of the series rise.
    pub fn test(points: &[Point]) -> Self {
        let none = Self { p: 1.0, floor_rises: false, inflation: 1.0 };
        if points.len() < thresholds::LEAST_SAMPLES_OF_A_TEST {
            return none;
        }
        let (points, _) = without_steps(points);
        let plain = Kendall::of(&points);
        if plain.p_rising() > thresholds::CHANCE_OF_NO_RISE {
            // Most stacks of a healthy process end here, before any slope is computed.
            return Self { p: plain.p_rising(), ..none };
        }
        let slope = theil_sen(&points, plain, 0.0).estimate;
        let inflation = inflation(&points, slope).max(hamed_rao(&points, slope));
        let steps = Steps::of(&points);
        // Two tests were made, so the smaller chance counts twice; for a clear trend both are small.
        let by_pairs = plain.inflated(inflation).p_rising();
        let by_signs = if steps.largest_fall < thresholds::FALL_OF_ANOTHER_KIND * (most(&points) - least(&points)) {
            p_mostly_rising(steps.rises, steps.falls)
        } else {
            1.0
        };
        // What only ever rises is no level with noise that resembles its neighbours: that falls as often as it rises. The
        // residuals of a smooth curve on a straight line resemble their neighbours however sure its rise is.
        let p = if steps.falls == 0 {
            plain.p_rising()
        } else if inflation > 1.0 {
            by_pairs.min(2.0 * by_signs).max(plain.p_rising())
        } else {
            by_pairs
        };
        let (early, late) = points.split_at(points.len() / 2);
        let hours = late.last().map_or(0.0, |point| point.hours) - early.first().map_or(0.0, |point| point.hours);
        let floor_rises = least(late) - least(early) > thresholds::FLOOR_OF_A_RISE * slope * hours;
        Self { p, floor_rises, inflation }
    }

    /// Sen's slope of the window, without a jump that outweighs the rest.
    pub fn slope(self, points: &[Point]) -> Slope {
        if points.len() < 2 {
            return Slope::default();
        }
        let (smooth, share) = without_steps(points);
        let points = if share > thresholds::STEPS_OF_A_RISE { &smooth[..] } else { points };
        let slope = theil_sen(points, Kendall::of(points).inflated(self.inflation), Z95);
        let steps = by_steps(points);
        Slope {
            estimate: slope.estimate,
            low: slope.low.min(steps.0.min(slope.estimate)),
            high: slope.high.max(steps.1.max(slope.estimate)),
        }
    }
}

/// The interval of the mean change, for a level whose noise adds up (each block of random size leaks): there the points
/// stray from any line, and a line's interval is too narrow. Where noise does not add up, changes undo each other and
/// their variance over long stretches is small: so the variance is taken from the changes over a few samples at once
/// (batch means: A. M. Law and J. S. Carson, Operations Research 27, 1979).
fn by_steps(points: &[Point]) -> (f64, f64) {
    let none = (f64::INFINITY, f64::NEG_INFINITY);
    let batches = (points.len() / 3).clamp(2, 8);
    if points.len() < 7 {
        return none;
    }
    let at = |batch: usize| points[(points.len() - 1) * batch / batches];
    let rates: Vec<f64> = (0..batches)
        .map(|batch| (at(batch), at(batch + 1)))
        .filter(|(before, after)| after.hours > before.hours)
        .map(|(before, after)| (after.value - before.value) / (after.hours - before.hours))
        .collect();
    if rates.len() < 2 {
        return none;
    }
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / (count - 1.0);
    // Noise that does not add up makes neighbours differ in opposite ways; its share is taken out.
    let opposite: f64 = rates.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum::<f64>() / (count - 1.0);
    let adding = (variance + 2.0 * opposite.min(0.0)).max(0.0);
    let half = student95(rates.len() - 1) * (adding / count).sqrt();
    (mean - half, mean + half)
}

/// A part of the run and what its test said.
pub struct Part<'a> {
    /// For people.
    pub name: &'static str,
    /// The test.
    pub window: Window,
    /// The samples.
    pub points: &'a [Point],
}

/// The longest part of the run that rises beyond chance: all of it, or a later part.
pub fn rising_part(run: &[Point], whole: Window) -> Option<Part<'_>> {
    if whole.p < thresholds::CHANCE && whole.floor_rises && !came_back(run) {
        return Some(Part { name: "the whole run", window: whole, points: run });
    }
    later_parts(run).find_map(|(name, part)| rising(&run[..run.len() - part.len()], part, name))
}

/// Whether the run once fell by most of its range and has not passed its peak since: the next tooth of a sawtooth.
fn came_back(run: &[Point]) -> bool {
    let fall = run.windows(2).map(|pair| pair[0].value - pair[1].value).enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    fall.is_some_and(|(at, height)| {
        height >= thresholds::FALL_OF_A_TOOTH * (most(run) - least(run))
            && median(&run[run.len() - run.len() / 4..]) <= run[at].value
    })
}

/// `part`, if it rises beyond chance and beyond what was held `before` it.
pub fn rising<'a>(before: &[Point], part: &'a [Point], name: &'static str) -> Option<Part<'a>> {
    let window = Window::test(part);
    let rises = window.p < thresholds::CHANCE_OF_A_PART && window.floor_rises && is_new_territory(before, part);
    rises.then_some(Part { name, window, points: part })
}

/// The later parts that are long enough to be judged alone.
fn later_parts(run: &[Point]) -> impl Iterator<Item = (&'static str, &[Point])> {
    let count = run.len();
    [("the later two thirds", count * 2 / 3), ("the later half", count / 2), ("the last third", count / 3)]
        .into_iter()
        .filter(|&(_, length)| length >= thresholds::LEAST_SAMPLES_OF_A_PART)
        .map(move |(name, length)| (name, &run[count - length..]))
}

/// Whether the later half of `part` is mostly beyond what was held `before`, a few peaks aside.
fn is_new_territory(before: &[Point], part: &[Point]) -> bool {
    let mut peaks: Vec<f64> = before.iter().map(|point| point.value).collect();
    if peaks.is_empty() || part.is_empty() {
        return true;
    }
    let peak = (peaks.len() - 1) * thresholds::PEAKS_PERCENT / 100;
    let peak = *peaks.select_nth_unstable_by(peak, f64::total_cmp).1;
    median(&part[part.len() / 2..]) > peak
}
