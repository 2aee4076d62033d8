//! Series that do not grow, told apart: those that rise and return again and again, and those that shrink.

use super::{
    kendall::{p_mostly_rising, upper_tail},
    pace::{Pace, pace},
    slope::Point,
    steps::{Steps, most},
    thresholds,
    window::Window,
};

/// How often a series went up and came back.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Teeth {
    /// Ways from low to high.
    pub ups: usize,
    /// Ways from high to low.
    pub downs: usize,
}

/// The teeth of a series that goes up and down by more than noise does; `None` where it is level, or noise.
///
/// A way counts when it crosses half of the range (turning points above a threshold, as in rainflow counting: M. Matsuishi
/// and T. Endo, 1968). What noise does it does from one sample to the next; so either neighbours are alike, or rises
/// and falls differ in number, many small ones against few large ones.
pub fn teeth(run: &[Point]) -> Option<Teeth> {
    if run.len() < thresholds::LEAST_SAMPLES_OF_TEETH {
        return None;
    }
    let low = run.iter().fold(f64::INFINITY, |low, point| low.min(point.value));
    let range = most(run) - low;
    if range <= thresholds::RANGE_OF_TEETH * most(run) {
        return None;
    }
    let mut teeth = Teeth::default();
    let (mut lowest, mut highest) = (run[0].value, run[0].value);
    let mut rising = None;
    for point in run {
        lowest = lowest.min(point.value);
        highest = highest.max(point.value);
        if rising != Some(true) && point.value >= lowest + thresholds::TOOTH * range {
            (rising, highest) = (Some(true), point.value);
            teeth.ups += 1;
        } else if rising != Some(false) && point.value <= highest - thresholds::TOOTH * range {
            (rising, lowest) = (Some(false), point.value);
            teeth.downs += 1;
        }
    }
    (teeth.downs.min(teeth.ups) >= thresholds::LEAST_TEETH && !is_noise(run)).then_some(teeth)
}

/// Whether neighbours are no more alike than samples far apart, and rises as many as falls.
fn is_noise(run: &[Point]) -> bool {
    let n = run.len() as f64;
    let mean = run.iter().map(|point| point.value).sum::<f64>() / n;
    let power: f64 = run.iter().map(|point| (point.value - mean).powi(2)).sum();
    // The ratio of J. von Neumann, Annals of Mathematical Statistics 12 (1941): 2 for noise, with variance 4 / n.
    let changes: f64 = run.windows(2).map(|pair| (pair[1].value - pair[0].value).powi(2)).sum();
    let alike = power > 0.0 && upper_tail((2.0 - changes / power) / (2.0 / n.sqrt())) < thresholds::CHANCE_OF_NOISE;
    let steps = Steps::of(run);
    let uneven = p_mostly_rising(steps.rises, steps.falls).min(p_mostly_rising(steps.falls, steps.rises))
        < thresholds::CHANCE_OF_NOISE;
    !alike && !uneven
}

/// The chance of such a fall without shrinking, if the series falls beyond chance, by a tenth at least, and still does.
pub fn shrinks(run: &[Point]) -> Option<f64> {
    let top = most(run);
    let mirrored: Vec<Point> = run.iter().map(|point| Point { value: top - point.value, ..*point }).collect();
    let try_part = |part: &[Point], chance: f64| {
        let window = Window::test(part);
        let fallen = part.last()?.value - part.first()?.value;
        let goes_on = !matches!(pace(part), Pace::Stopped(_) | Pace::Paused(_));
        (window.p < chance && window.floor_rises && fallen >= thresholds::LEAST_FALL * top && goes_on)
            .then_some(window.p)
    };
    if run.last()?.value <= 0.0 {
        return None;
    }
    try_part(&mirrored, thresholds::CHANCE).or_else(|| {
        let later = &mirrored[mirrored.len() / 2..];
        if later.len() >= thresholds::LEAST_SAMPLES_OF_A_PART {
            try_part(later, thresholds::CHANCE_OF_A_PART)
        } else {
            None
        }
    })
}
