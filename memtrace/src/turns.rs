//! Work that is done again and again gets a share of the time, however long it takes: after each turn it rests.

use std::time::{Duration, Instant};

/// What the least turn counts as: shorter ones are within the error of the clock.
const LEAST: Duration = Duration::from_micros(50);

/// When work that is repeated may have its next turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns {
    next: Option<Instant>,
}

impl Turns {
    /// Whether the work has rested long enough since its last turn, or had none yet.
    pub fn may_begin(&self) -> bool {
        self.next.is_none_or(|next| Instant::now() >= next)
    }

    /// A turn has ended that took this long. The work rests `parts` times as long, so that it gets at most one part in
    /// `parts` of the time.
    pub fn ended(&mut self, took: Duration, parts: u32) {
        self.next = Some(Instant::now() + took.max(LEAST) * parts);
    }
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
}
