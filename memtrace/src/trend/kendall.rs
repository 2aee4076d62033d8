//! Is there a monotone trend? Rank and sign tests, which assume no distribution and are not moved by outliers.
//!
//! Sources: H. B. Mann, "Nonparametric tests against trend", Econometrica 13 (1945), and M. G. Kendall, "Rank correlation
//! methods" (1975): the test, with the variance for ties. K. H. Hamed and A. R. Rao, "A modified Mann-Kendall trend test
//! for autocorrelated data", Journal of Hydrology 204 (1998): its variance when values resemble their neighbours, here
//! with first-order autocorrelation beside it (S. Yue and C. Wang, Water Resources Management 18, 2004), as short series
//! have too few lags. F. H. C. Marriott and J. A. Pope, Biometrika 41 (1954): a short series' autocorrelation is
//! estimated too low. D. R. Cox and A. Stuart (1955): sign tests.

use super::slope::Point;
use crate::statistics::Z95;

/// Kendall's S (rising pairs less falling pairs) with its variance under "no trend", corrected for ties.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kendall {
    /// Rising pairs less falling pairs.
    pub s: f64,
    /// The variance of `s` if the order of the values were random.
    pub variance: f64,
}

impl Kendall {
    /// Counts the pairs: O(n^2) comparisons, 4,000 for 90 points.
    pub fn of(points: &[Point]) -> Self {
        let mut s = 0i64;
        for (index, later) in points.iter().enumerate() {
            for earlier in &points[..index] {
                s += i64::from(later.value > earlier.value) - i64::from(later.value < earlier.value);
            }
        }
        let mut values: Vec<f64> = points.iter().map(|point| point.value).collect();
        values.sort_unstable_by(f64::total_cmp);
        let term = |count: f64| count * (count - 1.0) * (2.0 * count + 5.0);
        let ties: f64 = values.chunk_by(|a, b| a == b).map(|group| term(group.len() as f64)).sum();
        Self { s: s as f64, variance: ((term(points.len() as f64) - ties) / 18.0).max(0.0) }
    }

    /// The chance of an S at least as large without a trend: small means rising.
    pub fn p_rising(&self) -> f64 {
        if self.variance <= 0.0 {
            return 1.0;
        }
        // The continuity correction moves S one step towards 0, as S only takes every second value.
        upper_tail((self.s - self.s.signum()) / self.variance.sqrt())
    }

    /// The same test when the values resemble their neighbours: `inflation` is n over the effective sample size.
    pub fn inflated(self, inflation: f64) -> Self {
        Self { variance: self.variance * inflation, ..self }
    }
}

/// How many times larger the variance of S is than for independent values: 1 for white noise, larger the longer the
/// values stay near their neighbours. `slope` is taken out first, as a trend would pass for correlation.
pub fn inflation(points: &[Point], slope: f64) -> f64 {
    let n = points.len() as f64;
    if points.len() < 8 {
        return 1.0;
    }
    let rest: Vec<f64> = points.iter().map(|point| point.value - slope * point.hours).collect();
    let mean = rest.iter().sum::<f64>() / n;
    let power: f64 = rest.iter().map(|value| (value - mean).powi(2)).sum();
    // Rounding errors of a straight line are not noise.
    let scale = points.iter().fold(0.0f64, |most, point| most.max(point.value.abs()));
    if power <= n * (scale * 1e-9).powi(2) {
        return 1.0;
    }
    let covariance: f64 = rest.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    let raw = covariance / power;
    let corrected = (raw + (1.0 + 4.0 * raw.max(0.0)) / n).clamp(0.0, 0.95);
    let mut sum = 0.0;
    let mut power_of_r = 1.0;
    for lag in 1..points.len() {
        power_of_r *= corrected;
        sum += (1.0 - lag as f64 / n) * power_of_r;
    }
    1.0 + 2.0 * sum
}

/// The same by Hamed and Rao's formula: the significant autocorrelations of the ranks, weighted by lag.
pub fn hamed_rao(points: &[Point], slope: f64) -> f64 {
    let count = points.len();
    if count < 10 {
        return 1.0;
    }
    let rest: Vec<f64> = points.iter().map(|point| point.value - slope * point.hours).collect();
    let ranks = ranks(&rest);
    let n = count as f64;
    let mean = (n + 1.0) / 2.0;
    let power: f64 = ranks.iter().map(|rank| (rank - mean).powi(2)).sum();
    if power <= 0.0 {
        return 1.0;
    }
    let significant = Z95 / n.sqrt();
    let mut sum = 0.0;
    for lag in 1..count / 2 {
        let covariance: f64 = (lag..count).map(|index| (ranks[index] - mean) * (ranks[index - lag] - mean)).sum();
        let correlation = covariance / power;
        if correlation.abs() > significant {
            let left = n - lag as f64;
            sum += left * (left - 1.0) * (left - 2.0) * correlation;
        }
    }
    (1.0 + 2.0 * sum / (n * (n - 1.0) * (n - 2.0))).max(1.0)
}

/// The place of each value in order, equal values sharing theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = first as f64 + (group.len() as f64 + 1.0) / 2.0;
        group.iter().for_each(|&index| ranks[index] = rank);
        first += group.len();
    }
    ranks
}

/// The chance of at least `rises` among `rises + falls` tosses of a fair coin. Steps of a process that returns to a
/// level, and those of a random walk, rise no more often than they fall, however alike neighbours are.
pub fn p_mostly_rising(rises: usize, falls: usize) -> f64 {
    let tosses = rises + falls;
    // The terms from `rises` to `tosses`, each from the one before, scaled by 2^-tosses.
    let mut term = 0.5f64.powi(i32::try_from(tosses).unwrap_or(i32::MAX));
    let mut sum = 0.0;
    for heads in 0..=tosses {
        if heads >= rises {
            sum += term;
        }
        term *= (tosses - heads) as f64 / (heads + 1) as f64;
    }
    sum.min(1.0)
}

/// The chance that a standard normal value exceeds `z`: Abramowitz and Stegun (1964), 26.2.17, error below 7.5e-8.
pub fn upper_tail(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let density = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let polynomial =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (density * polynomial).clamp(0.0, 0.5);
    if z >= 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn points(values: &[f64]) -> Vec<Point> {
        values.iter().enumerate().map(|(hour, &value)| Point { hours: hour as f64, value }).collect()
    }

    #[test]
    fn the_normal_tail_has_its_textbook_values() {
        for (z, tail) in [(0.0, 0.5), (1.0, 0.158_655), (1.645, 0.049_985), (2.326, 0.010_009), (-1.0, 0.841_345)] {
            assert!((upper_tail(z) - tail).abs() < 1e-5, "{z}");
        }
    }

    #[test]
    fn kendall_counts_pairs_and_corrects_for_ties() {
        let rising = Kendall::of(&points(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        assert_eq!(rising.s, 15.0);
        assert!((rising.variance - 6.0 * 5.0 * 17.0 / 18.0).abs() < 1e-9);
        let tied = Kendall::of(&points(&[1.0, 1.0, 1.0, 2.0, 2.0]));
        assert_eq!(tied.s, 6.0);
        // (5*4*15 - 3*2*11 - 2*1*9) / 18
        assert!((tied.variance - 12.0).abs() < 1e-9);
        assert_eq!(Kendall::of(&points(&[3.0; 9])).p_rising(), 1.0);
    }

    #[test]
    fn alternating_noise_does_not_inflate_and_long_swings_do() {
        let alternating: Vec<f64> = (0..40).map(|step| f64::from(step % 2)).collect();
        let swings: Vec<f64> = (0..40).map(|step| (f64::from(step) / 6.0).sin()).collect();
        assert_eq!(inflation(&points(&alternating), 0.0), 1.0);
        assert!(inflation(&points(&swings), 0.0) > 4.0);
        let line: Vec<f64> = (0..40).map(|step| f64::from(step) * 0.1).collect();
        assert_eq!(inflation(&points(&line), 0.1), 1.0);
    }

    #[test]
    fn hamed_and_rao_correct_long_swings_and_leave_noise_alone() {
        let swings: Vec<f64> = (0..40).map(|step| (f64::from(step) / 6.0).sin()).collect();
        assert!(hamed_rao(&points(&swings), 0.0) > 2.0);
        let scattered: Vec<f64> = (0..40u32).map(|step| f64::from(step * 7919 % 41)).collect();
        assert!(hamed_rao(&points(&scattered), 0.0) < 2.0);
        assert_eq!(hamed_rao(&points(&[1.0; 40]), 0.0), 1.0);
        assert_eq!(ranks(&[5.0, 1.0, 5.0, 0.0]), [3.5, 2.0, 3.5, 1.0]);
    }

    #[test]
    fn the_sign_test_is_binomial() {
        assert!((p_mostly_rising(5, 0) - 1.0 / 32.0).abs() < 1e-12);
        assert!((p_mostly_rising(3, 1) - 5.0 / 16.0).abs() < 1e-12);
        assert_eq!(p_mostly_rising(0, 0), 1.0);
        assert_eq!(p_mostly_rising(0, 7), 1.0);
    }

    proptest! {
        #[test]
        fn reversing_time_mirrors_the_test(values in proptest::collection::vec(0u32..50, 3..60)) {
            let forward: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
            let backward: Vec<f64> = forward.iter().rev().copied().collect();
            let (forward, backward) = (Kendall::of(&points(&forward)), Kendall::of(&points(&backward)));
            prop_assert_eq!(forward.s, -backward.s);
            prop_assert_eq!(forward.variance, backward.variance);
        }

        #[test]
        fn chances_are_chances(rises in 0usize..300, falls in 0usize..300, z in -20.0f64..20.0) {
            prop_assert!((0.0..=1.0).contains(&p_mostly_rising(rises, falls)));
            prop_assert!((0.0..=1.0).contains(&upper_tail(z)));
        }
    }
}
