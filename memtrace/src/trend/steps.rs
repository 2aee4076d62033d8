//! How a series moves from sample to sample, and what is a single step in it rather than a trend.

use super::{slope::Point, thresholds};

/// How often a series rises and falls from sample to sample.
#[derive(Clone, Copy, Debug, Default)]
pub struct Steps {
    /// Intervals that rose.
    pub rises: usize,
    /// Intervals that fell.
    pub falls: usize,
    /// The index of the sample that rose last.
    pub last_rise: usize,
    /// The most samples from one rise to the next; the first rise (a stack appears) only starts the count.
    pub longest_gap: usize,
    /// The samples from one rise to the next, on average over the earlier half of the rises.
    pub early_gap: f64,
    /// The samples from one rise to the next, on average over the later half of the rises; the samples since the last rise count as
    /// one more gap when they are more than the last gap.
    pub late_gap: f64,
    /// The largest rise.
    pub largest_rise: f64,
    /// The largest fall.
    pub largest_fall: f64,
    /// All rises together.
    pub total_rise: f64,
}

impl Steps {
    /// Counts the steps of a series from sample to sample.
    pub fn of(run: &[Point]) -> Self {
        let mut steps = Self::default();
        let mut gaps = Vec::new();
        for (index, pair) in run.windows(2).enumerate() {
            let change = pair[1].value - pair[0].value;
            if change > 0.0 {
                if steps.rises > 0 {
                    gaps.push(index + 1 - steps.last_rise);
                }
                steps.rises += 1;
                steps.last_rise = index + 1;
                steps.largest_rise = steps.largest_rise.max(change);
                steps.total_rise += change;
            } else if change < 0.0 {
                steps.falls += 1;
                steps.largest_fall = steps.largest_fall.max(-change);
            }
        }
        steps.longest_gap = gaps.iter().copied().max().unwrap_or(0);
        let since = run.len().saturating_sub(1 + steps.last_rise);
        if gaps.last().is_some_and(|&last| since > last) {
            gaps.push(since);
        }
        let mean = |gaps: &[usize]| gaps.iter().sum::<usize>() as f64 / gaps.len().max(1) as f64;
        let (early, late) = gaps.split_at(gaps.len() / 2);
        (steps.early_gap, steps.late_gap) = (mean(early), mean(late));
        steps
    }

    /// Never falls, and stands still in most intervals.
    pub fn is_rare(self, samples: usize) -> bool {
        self.falls == 0 && self.rises * 2 <= samples
    }
}

/// The points without their steps, and the steps' share of the whole rise. A step is taken out where it explains the
/// points much better than a straight line does; twice, as a stack's appearance is a step already.
pub fn without_steps(points: &[Point]) -> (Vec<Point>, f64) {
    let mut rest = points.to_vec();
    let mut removed = 0.0;
    for _ in 0..2 {
        let Some((at, height)) = best_step(&rest) else { break };
        removed += height;
        for point in &mut rest[at..] {
            point.value -= height;
        }
    }
    let rise = points.last().map_or(0.0, |point| point.value) - points.first().map_or(0.0, |point| point.value);
    (rest, if rise > 0.0 { (removed / rise).min(1.0) } else { 0.0 })
}

/// Where the best upward step is and how high, if its squared error is well below the straight line's. For a straight
/// rise it never is, for a step of several deviations of the noise it is by far.
fn best_step(points: &[Point]) -> Option<(usize, f64)> {
    let n = points.len() as f64;
    let mean = |of: fn(&Point) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (mean_hours, mean_value) = (mean(|point| point.hours), mean(|point| point.value));
    let (mut hours, mut values, mut both) = (0.0, 0.0, 0.0);
    for point in points {
        let (x, y) = (point.hours - mean_hours, point.value - mean_value);
        hours += x * x;
        values += y * y;
        both += x * y;
    }
    if hours <= 0.0 || values <= 0.0 {
        return None;
    }
    let line_error = (values - both * both / hours).max(0.0);
    let mut below = 0.0;
    let (mut explained, mut best) = (0.0, None);
    for (index, point) in points.iter().enumerate().take(points.len() - 1) {
        below += point.value - mean_value;
        let (left, right) = ((index + 1) as f64, n - (index + 1) as f64);
        // The sum above the mean is minus the sum below.
        let height = -below / right - below / left;
        if height > 0.0 && height * height * left * right / n > explained {
            explained = height * height * left * right / n;
            best = Some((index + 1, height));
        }
    }
    best.filter(|_| values - explained < thresholds::ERROR_OF_A_STEP * line_error)
}

/// The run without its first sample when that is the implied zero and the stack then appeared at about its full size.
pub fn without_appearance(run: &[Point]) -> &[Point] {
    let [first, rest @ ..] = run else { return run };
    if rest.len() < thresholds::LEAST_SAMPLES_AFTER_AN_APPEARANCE || first.value > 0.0 {
        return run;
    }
    if rest[0].value > thresholds::SIZE_OF_AN_APPEARANCE * median(rest) { rest } else { run }
}

/// The middle value; 0 of none.
pub fn median(points: &[Point]) -> f64 {
    let mut values: Vec<f64> = points.iter().map(|point| point.value).collect();
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// The least value; infinite of none.
pub fn least(points: &[Point]) -> f64 {
    points.iter().fold(f64::INFINITY, |least, point| least.min(point.value))
}

/// The largest value; 0 of none.
pub fn most(points: &[Point]) -> f64 {
    points.iter().fold(0.0, |most, point| most.max(point.value))
}
