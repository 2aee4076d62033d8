//! How steep is it? Sen's slope, which a minority of wild values does not move.
//!
//! Sources: H. Theil, "A rank-invariant method of linear and polynomial regression analysis" (1950), and P. K. Sen,
//! "Estimates of the regression coefficient based on Kendall's tau", JASA 63 (1968): the slope and its interval.

use super::kendall::Kendall;

/// A moment in hours of recorded time, and the bytes or blocks held at it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Hours.
    pub hours: f64,
    /// Bytes or blocks.
    pub value: f64,
}

/// A slope in bytes an hour with its two-sided interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slope {
    /// The median of the slopes of all pairs.
    pub estimate: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Sen's slope, the interval being that of `z` standard deviations of `kendall`'s S. 0 for fewer than two points.
pub fn theil_sen(points: &[Point], kendall: Kendall, z: f64) -> Slope {
    let mut slopes = Vec::with_capacity(points.len() * points.len().saturating_sub(1) / 2);
    for (index, later) in points.iter().enumerate() {
        for earlier in &points[..index] {
            let hours = later.hours - earlier.hours;
            if hours > 0.0 {
                slopes.push((later.value - earlier.value) / hours);
            }
        }
    }
    if slopes.is_empty() {
        return Slope::default();
    }
    let count = slopes.len() as f64;
    let half_width = z * kendall.variance.sqrt();
    let low = ((count - half_width) / 2.0).floor().max(0.0) as usize;
    let high = (((count + half_width) / 2.0).ceil() as usize).min(slopes.len() - 1);
    let middle = slopes.len() / 2;
    let mut nth = |index: usize| *slopes.select_nth_unstable_by(index, f64::total_cmp).1;
    let estimate = if count % 2.0 == 0.0 { f64::midpoint(nth(middle - 1), nth(middle)) } else { nth(middle) };
    Slope { estimate, low: nth(low).min(estimate), high: nth(high).max(estimate) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::statistics::Z95;

    fn points(values: &[f64]) -> Vec<Point> {
        values.iter().enumerate().map(|(hour, &value)| Point { hours: hour as f64, value }).collect()
    }

    #[test]
    fn one_wild_value_does_not_move_the_slope() {
        let mut values: Vec<f64> = (0..21).map(f64::from).collect();
        values[10] = 1e9;
        let points = points(&values);
        let slope = theil_sen(&points, Kendall::of(&points), Z95);
        assert_eq!(slope.estimate, 1.0);
        assert!(slope.low <= 1.0 && slope.high >= 1.0);
    }

    proptest! {
        #[test]
        fn the_slope_lies_in_its_interval_and_scales(values in proptest::collection::vec(0.0f64..1e12, 2..60)) {
            let base = points(&values);
            let slope = theil_sen(&base, Kendall::of(&base), Z95);
            prop_assert!(slope.low <= slope.estimate && slope.estimate <= slope.high);
            let doubled: Vec<Point> = base.iter().map(|p| Point { value: p.value * 2.0, ..*p }).collect();
            let twice = theil_sen(&doubled, Kendall::of(&doubled), Z95);
            prop_assert!((twice.estimate - 2.0 * slope.estimate).abs() <= 1e-6 * slope.estimate.abs().max(1.0));
        }
    }
}
