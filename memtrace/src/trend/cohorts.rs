//! Cohorts of blocks: stretches of birth time that all stacks share, so that a stack's row is a few numbers.
//!
//! Each interval starts a cohort. When there are [`MAX_COHORTS`], the two neighbours whose union is shortest for its age
//! become one: the newest stay single intervals, the older ones are spaced by the logarithm of their age, and a run of
//! any length fits.

/// The most cohorts that a stack's blocks are divided into by age.
pub const MAX_COHORTS: usize = 24;

/// What was allocated in one stretch of time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cohort {
    /// When its first blocks may have been allocated: milliseconds since the attach.
    pub start_ms: u64,
    /// When its last blocks may have been allocated: milliseconds since the attach.
    pub end_ms: u64,
}

/// The cohorts of a run, oldest first, without holes.
#[derive(Clone, Debug, Default)]
pub struct Cohorts {
    all: Vec<Cohort>,
    /// Their ends by the clock of the events.
    ends_ns: Vec<u64>,
}

impl Cohorts {
    /// Adds what was born up to now. When that was one too many, the index of the cohort that took in its successor.
    pub fn push(&mut self, end_ms: u64, end_ns: u64) -> Option<usize> {
        let start_ms = self.all.last().map_or(0, |newest| newest.end_ms);
        self.all.push(Cohort { start_ms, end_ms });
        self.ends_ns.push(end_ns);
        if self.all.len() <= MAX_COHORTS {
            return None;
        }
        let relative = |index: usize| {
            let length = self.all[index + 1].end_ms - self.all[index].start_ms;
            let age = end_ms - self.all[index + 1].end_ms;
            length as f64 / (age + 1) as f64
        };
        let index = (0..self.all.len() - 2).min_by(|&a, &b| relative(a).total_cmp(&relative(b)))?;
        self.all[index].end_ms = self.all[index + 1].end_ms;
        self.ends_ns[index] = self.ends_ns[index + 1];
        self.all.remove(index + 1);
        self.ends_ns.remove(index + 1);
        Some(index)
    }

    /// The newest cohort lasts until now.
    pub fn extend(&mut self, end_ns: u64) {
        if let Some(newest) = self.ends_ns.last_mut() {
            *newest = end_ns.max(*newest);
        }
    }

    /// All cohorts of the stack, the oldest first.
    pub fn all(&self) -> &[Cohort] {
        &self.all
    }

    /// Where each ends, by the clock of the events.
    pub fn ends_ns(&self) -> &[u64] {
        &self.ends_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cohorts_of_days_are_few_and_the_newest_are_single_intervals() {
        let mut cohorts = Cohorts::default();
        for step in 1..=51_840u64 {
            cohorts.push(step * 5000, step * 5_000_000_000);
            assert!(cohorts.all().len() <= MAX_COHORTS);
            assert_eq!(cohorts.all()[0].start_ms, 0);
        }
        let all = cohorts.all();
        assert!(all.windows(2).all(|pair| pair[0].end_ms == pair[1].start_ms));
        assert_eq!(all[all.len() - 1].end_ms - all[all.len() - 1].start_ms, 5000);
        // An older cohort is never longer than twice its age.
        assert!(
            all.iter().all(|cohort| cohort.end_ms - cohort.start_ms <= 2 * (51_841 * 5000 - cohort.end_ms)),
            "{all:?}"
        );
    }

    #[test]
    fn a_short_run_keeps_every_interval_apart() {
        let mut cohorts = Cohorts::default();
        for step in 1..=MAX_COHORTS as u64 {
            assert_eq!(cohorts.push(step * 1000, step), None);
        }
        assert!(cohorts.push(25_000, 25).is_some());
        assert_eq!(cohorts.ends_ns().len(), MAX_COHORTS);
    }
}
