//! Work that is done again and again gets a share of the time, however long it takes: after each turn it rests.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What the least turn counts as: shorter ones are within the error of the clock.
const LEAST: Duration = Duration::from_micros(50);

/// When work that is repeated may have its next turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns {
    next: Option<Instant>,
    /// What turns may take together before they rest as long as the others.
    credit: Duration,
}

/// How many times as long as it took the work rests after a turn while it has credit.
const PARTS_ON_CREDIT: u32 = 10;

impl Turns {
    /// The first turns, which take so long together, rest less than the later ones.
    pub fn with_credit(credit: Duration) -> Self {
        Self { next: None, credit }
    }

    /// Whether the work has rested long enough since its last turn, or had none yet.
    pub fn may_begin(&self) -> bool {
        self.next.is_none_or(|next| Instant::now() >= next)
    }

    /// A turn has ended that took this long. The work rests `parts` times as long, so that it gets at most one part in
    /// `parts` of the time.
    pub fn ended(&mut self, took: Duration, parts: u32) {
        let parts = if self.credit >= took { parts.min(PARTS_ON_CREDIT) } else { parts };
        self.credit = self.credit.saturating_sub(took);
        self.next = Some(Instant::now() + took.max(LEAST) * parts);
    }
}

/// The processor time that this thread has taken: what a turn took by it says how much that was, however busy the machine.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_rests_as_many_times_as_long_as_it_took() {
        let mut turns = Turns::default();
        assert!(turns.may_begin());
        turns.ended(Duration::from_secs(60), 100);
        assert!(!turns.may_begin());
        let rest = turns.next.unwrap() - Instant::now();
        assert!(rest > Duration::from_secs(5900) && rest <= Duration::from_secs(6000), "{rest:?}");
        turns.ended(Duration::ZERO, 0);
        assert!(turns.may_begin());
    }

    #[test]
    fn the_first_turns_rest_less() {
        let mut turns = Turns::with_credit(Duration::from_secs(100));
        for (took, rests) in [(60, 600), (50, 5000), (10, 1000)] {
            turns.ended(Duration::from_secs(took), 100);
            let rest = turns.next.unwrap() - Instant::now();
            assert!(rest > Duration::from_secs(rests - 10) && rest <= Duration::from_secs(rests), "{rest:?}");
        }
    }
}
