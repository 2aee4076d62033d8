//! What all who estimate agree on: the confidence of a stated interval, and units of time.

/// How many standard deviations a 95 % confidence interval of a normal distribution reaches to each side of the estimate.
pub const Z95: f64 = 1.96;

/// How many standard deviations a 90 % confidence interval of a normal distribution reaches to each side of the estimate.
pub const Z90: f64 = 1.645;

/// Milliseconds in an hour: rates are given in bytes per hour, times in milliseconds.
pub const MS_PER_HOUR: f64 = 3_600_000.0;

/// The bounds between which the true value lies in 95 of 100 samples, given the estimate and its variance.
///
/// The variance of such an estimate is in proportion to the true value, which is put into the equation in place of the
/// estimate (E. B. Wilson's score interval, JASA 22, 1927, for a Poisson count): so the interval holds for few
/// samples as well.
pub fn interval95(estimate: f64, variance: f64) -> (f64, f64) {
    if estimate <= 0.0 || variance <= 0.0 {
        return (estimate, estimate);
    }
    // What one sample stands for, about.
    let unit = variance / estimate;
    let middle = estimate + Z95 * Z95 * unit / 2.0;
    let half = Z95 * (variance + (Z95 * unit / 2.0).powi(2)).sqrt();
    ((middle - half).max(0.0), middle + half)
}
