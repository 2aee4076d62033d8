//! Since when a series grows as it does now: a leak that starts late, or follows a warm-up, has a bend, and its rate is
//! that of the points after it.
//!
//! Two straight lines that meet are fitted by least squares for every place of the bend (D. V. Hinkley, "Inference in
//! two-phase regression", Journal of the American Statistical Association 66, 1971).

use super::{
    slope::Point,
    thresholds::{BEND, LEAST_SIDE_OF_A_BEND},
};

/// The points from the bend on; all of them when one straight line does.
pub fn since_bend(points: &[Point]) -> &[Point] {
    let count = points.len() as f64;
    let mean = |of: &dyn Fn(&Point) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_hours, mean_value) = (mean(&|point| point.hours), mean(&|point| point.value));
    let spread: f64 = points.iter().map(|point| (point.hours - mean_hours).powi(2)).sum();
    if points.len() < 2 * LEAST_SIDE_OF_A_BEND || spread <= 0.0 {
        return points;
    }
    let along: f64 = points.iter().map(|point| (point.hours - mean_hours) * (point.value - mean_value)).sum();
    let left: Vec<f64> =
        points.iter().map(|point| point.value - mean_value - along / spread * (point.hours - mean_hours)).collect();
    let unexplained: f64 = left.iter().map(|rest| rest * rest).sum();
    // Rounding errors of a straight line are no bend.
    if unexplained <= count * (1e-9 * mean_value).powi(2) {
        return points;
    }
    let explained = |bend: usize| {
        let from = points[bend].hours;
        let hinge = |point: &Point| (point.hours - from).max(0.0);
        let mean_hinge = mean(&hinge);
        let along: f64 = points.iter().map(|point| (point.hours - mean_hours) * (hinge(point) - mean_hinge)).sum();
        // What of the hinge is no straight line.
        let rest = |point: &Point| hinge(point) - mean_hinge - along / spread * (point.hours - mean_hours);
        let power: f64 = points.iter().map(|point| rest(point).powi(2)).sum();
        let common: f64 = points.iter().zip(&left).map(|(point, left)| rest(point) * left).sum();
        if power > 0.0 { common * common / power } else { 0.0 }
    };
    let best = (LEAST_SIDE_OF_A_BEND - 1..=points.len() - LEAST_SIDE_OF_A_BEND)
        .map(|bend| (explained(bend), bend))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((most, bend)) if most >= BEND * unexplained => &points[bend..],
        _ => points,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(value: impl Fn(usize) -> f64, count: usize) -> Vec<Point> {
        (0..count).map(|hour| Point { hours: hour as f64, value: value(hour) }).collect()
    }

    #[test]
    fn a_late_start_is_a_bend() {
        let late = points(|hour| 500.0 + 7.0 * hour.saturating_sub(12) as f64 + (hour * 7919 % 5) as f64, 30);
        let from = since_bend(&late)[0].hours;
        assert!((10.0..=14.0).contains(&from), "{from}");
    }

    #[test]
    fn lines_noise_and_few_points_have_none() {
        for straight in
            [points(|hour| hour as f64 * 0.1, 40), points(|hour| (hour * 7919 % 41) as f64, 40), points(|_| 5.0, 20)]
        {
            assert_eq!(since_bend(&straight).len(), straight.len());
        }
        assert_eq!(since_bend(&points(|hour| (hour * hour) as f64, 7)).len(), 7);
        assert!(since_bend(&[]).is_empty());
    }
}
