//! When to raise an alarm about a size or a growth rate, and when it is over. Noise does neither.

use super::{footprint::Rate, thresholds};

/// The growth and the size beyond which an alert begins.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// Growth in bytes an hour.
    pub growth_bytes_per_hour: Option<f64>,
    /// Bytes.
    pub size_bytes: Option<u64>,
}

/// Why an alert is raised: for growth or for size.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Cause {
    /// It grows too fast.
    Growth,
    /// It is too large.
    Size,
}

/// Whether an observation began an alert or ended one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// An alarm begins.
    Raised(Cause),
    /// One is over.
    Over(Cause),
}

/// The alarms of one process or cgroup. Each is raised once, and again only after it was over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alarms {
    growth: bool,
    size: bool,
}

impl Alarms {
    /// What a new size and rate mean. Growth raises an alarm when the lower end of the rate's interval passes the
    /// threshold, so that it grows that fast for sure; the alarm is over when the estimate falls below it, or when there
    /// is no rate any more.
    pub fn observe(&mut self, thresholds: Thresholds, bytes: u64, rate: Option<Rate>) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(threshold) = thresholds.growth_bytes_per_hour {
            let raised = match (self.growth, rate) {
                (false, Some(rate)) => rate.low > threshold,
                (true, Some(rate)) => rate.estimate >= threshold,
                (_, None) => false,
            };
            note(&mut self.growth, raised, Cause::Growth, &mut changes);
        }
        if let Some(threshold) = thresholds.size_bytes {
            let over = if self.size { threshold as f64 * thresholds::SIZE_OVER } else { threshold as f64 };
            note(&mut self.size, bytes as f64 >= over, Cause::Size, &mut changes);
        }
        changes
    }

    /// Whether any alarm is raised now.
    pub fn any(&self) -> bool {
        self.growth || self.size
    }
}

fn note(state: &mut bool, raised: bool, cause: Cause, changes: &mut Vec<Change>) {
    if *state != raised {
        *state = raised;
        changes.push(if raised { Change::Raised(cause) } else { Change::Over(cause) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(low: f64, estimate: f64) -> Option<Rate> {
        Some(Rate { low, estimate, high: estimate * 2.0 })
    }

    #[test]
    fn growth_is_raised_once_when_it_is_sure_and_again_after_it_was_over() {
        let thresholds = Thresholds { growth_bytes_per_hour: Some(50.0), size_bytes: None };
        let mut alarms = Alarms::default();
        let mut seen = |low, estimate| alarms.observe(thresholds, 0, rate(low, estimate));
        assert_eq!(seen(10.0, 90.0), []);
        assert_eq!(seen(51.0, 90.0), [Change::Raised(Cause::Growth)]);
        assert_eq!(seen(40.0, 60.0), [], "less sure, and still above");
        assert_eq!(seen(60.0, 90.0), []);
        assert_eq!(seen(20.0, 49.0), [Change::Over(Cause::Growth)]);
        assert_eq!(seen(40.0, 60.0), []);
        assert_eq!(seen(55.0, 60.0), [Change::Raised(Cause::Growth)]);
    }

    #[test]
    fn a_size_that_flutters_at_the_threshold_is_one_alarm() {
        let thresholds = Thresholds { growth_bytes_per_hour: None, size_bytes: Some(1000) };
        let mut alarms = Alarms::default();
        assert_eq!(alarms.observe(thresholds, 999, rate(1e9, 1e9)), []);
        assert_eq!(alarms.observe(thresholds, 1000, None), [Change::Raised(Cause::Size)]);
        for bytes in [990, 1001, 960, 1000] {
            assert_eq!(alarms.observe(thresholds, bytes, None), []);
        }
        assert!(alarms.any());
        assert_eq!(alarms.observe(thresholds, 940, None), [Change::Over(Cause::Size)]);
        assert!(!alarms.any());
    }
}
