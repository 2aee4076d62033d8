//! The clock of a run: time since the attach, and the kernel's time that events carry.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A clock that began with the run.
pub(super) struct Clock {
    started: Instant,
    /// When it was stopped, by both times; it stands still from then on.
    stopped: Option<(Instant, u64)>,
    /// How far it is ahead of the machine's: 0, but in tests, which cannot wait.
    ahead: Duration,
}

impl Clock {
    pub(super) fn starting_at(started: Instant) -> Self {
        Self { started, stopped: None, ahead: Duration::ZERO }
    }

    /// Stands still from now on: what is done after the last look, such as waiting for names, is not part of the run.
    pub(super) fn stop(&mut self) {
        self.stopped.get_or_insert_with(|| (Instant::now(), monotonic_ns()));
    }

    /// Milliseconds since the attach.
    pub(super) fn elapsed_ms(&self) -> u64 {
        let now = self.stopped.map_or_else(Instant::now, |(at, _)| at);
        u64::try_from((now.duration_since(self.started) + self.ahead).as_millis()).unwrap_or(u64::MAX)
    }

    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) fn now_ns(&self) -> u64 {
        self.stopped.map_or_else(monotonic_ns, |(_, at_ns)| at_ns) + self.ahead.as_nanos() as u64
    }

    #[cfg(test)]
    pub(super) fn advance(&mut self, by: Duration) {
        self.ahead += by;
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`, by which the kernel dates events.
pub(super) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
