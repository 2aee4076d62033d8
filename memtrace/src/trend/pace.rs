//! Whether a rise goes on: how its end compares with what came before.

use super::{
    kendall::{Kendall, inflation},
    slope::{Point, theil_sen},
    thresholds::{self, PAUSE},
};
use crate::statistics::{Z90, Z95};

/// How the end of a rise compares with what came before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pace {
    /// It goes on.
    Steady,
    /// The newest samples still rise, but clearly less.
    Slower,
    /// The newest samples, so many, do not rise.
    Stopped(usize),
    /// The newest few stand still as no few did before.
    Paused(usize),
}

/// Looks for a tail whose slope, at the upper end of its interval, is well below the slope before it. The shorter the
/// tail, the surer it has to be, as several are tried.
pub fn pace(run: &[Point]) -> Pace {
    let count = run.len();
    let mut pace = Pace::Steady;
    for (length, z) in
        [(count / 2, Z95), (count / 3, thresholds::Z_OF_A_THIRD), (count / 4, thresholds::Z_OF_A_QUARTER)]
    {
        if length < thresholds::LEAST_SAMPLES_OF_A_TAIL {
            continue;
        }
        let (before, tail) = run.split_at(count - length);
        let before = plain_slope(before);
        if before <= 0.0 {
            continue;
        }
        let pairs = Kendall::of(tail);
        let slope = theil_sen(tail, pairs, z);
        let slope = theil_sen(tail, pairs.inflated(inflation(tail, slope.estimate)), z);
        if slope.high < thresholds::PACE_OF_A_TAIL * before {
            if pairs.p_rising() > thresholds::CHANCE_OF_A_STOP {
                return Pace::Stopped(length);
            }
            pace = Pace::Slower;
        }
    }
    match pace {
        Pace::Steady if slows(run) => Pace::Slower,
        Pace::Steady => paused(run).map_or(Pace::Steady, Pace::Paused),
        other => other,
    }
}

/// Sen's slope with any steps in it.
pub fn plain_slope(points: &[Point]) -> f64 {
    theil_sen(points, Kendall::of(points), 0.0).estimate
}

/// Whether the last third rises at well under the pace of the middle third, and that under the pace of the first.
fn slows(run: &[Point]) -> bool {
    let third = run.len() / 3;
    if third < thresholds::LEAST_SAMPLES_OF_A_THIRD {
        return false;
    }
    let slope = |part: &[Point]| theil_sen(part, Kendall::of(part), Z90);
    let first = slope(&run[..third]);
    let middle = slope(&run[third..2 * third]);
    let last = slope(&run[run.len() - third..]);
    last.high < thresholds::PACE_AFTER_THE_MIDDLE * middle.estimate
        && last.high < thresholds::PACE_AFTER_THE_FIRST * first.estimate
        && middle.estimate < first.estimate
}

/// Whether `run` stood still before for as long as the last `tail` samples of `recent` do, as a leak does that follows a
/// wave of load.
pub fn stood_still_before(run: &[Point], recent: &[Point], tail: usize) -> bool {
    let (Some(first), Some(last)) = (recent.get(recent.len().saturating_sub(tail)), recent.last()) else {
        return false;
    };
    let hours = last.hours - first.hours;
    let slope = plain_slope(run);
    let before: Vec<Point> = run.iter().copied().filter(|point| point.hours < first.hours).collect();
    before.iter().enumerate().any(|(start, from)| {
        let length = before[start..].iter().take_while(|point| point.hours - from.hours <= hours).count();
        let whole = before.last().is_some_and(|last| last.hours - from.hours >= hours);
        whole
            && length >= thresholds::LEAST_SAMPLES_OF_A_STILL_STAND
            && plain_slope(&before[start..start + length]) < thresholds::PACE_OF_A_STILL_STAND * slope
    })
}

/// Whether the newest few samples rise less than nearly all earlier groups of as many did, and next to nothing. A rise
/// that comes in stairs has such groups before; one that has come to its end has not.
fn paused(run: &[Point]) -> Option<usize> {
    if run.len() < 2 * PAUSE {
        return None;
    }
    let slopes: Vec<f64> = run.windows(PAUSE).map(plain_slope).collect();
    let (&newest, earlier) = slopes.split_last()?;
    // Groups that share more than half of their samples with the newest are no witnesses.
    let mut earlier = earlier[..earlier.len().saturating_sub(PAUSE / 2 - 1)].to_vec();
    if earlier.len() < thresholds::LEAST_WITNESSES_OF_A_PAUSE {
        return None;
    }
    let low = earlier.len() / thresholds::LOWEST_WITNESSES_OF_A_PAUSE;
    let low = *earlier.select_nth_unstable_by(low, f64::total_cmp).1;
    (low > 0.0 && newest < thresholds::PACE_OF_A_PAUSE * low).then_some(PAUSE)
}
