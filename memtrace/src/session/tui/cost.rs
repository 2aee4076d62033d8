//! What memtrace itself takes.

use std::time::{Duration, Instant};

use crate::{
    report::tui::Cost,
    session::self_usage::{processor_time, resident},
};

/// Measures from one call to the next.
pub(super) struct Meter {
    at: Instant,
    processor: Duration,
}

impl Meter {
    pub(super) fn start() -> Self {
        Self { at: Instant::now(), processor: processor_time() }
    }

    /// What was taken since the last call.
    pub(super) fn read(&mut self) -> Cost {
        let before = std::mem::replace(self, Self::start());
        let passed = self.at.duration_since(before.at).as_secs_f64();
        let worked = self.processor.saturating_sub(before.processor).as_secs_f64();
        Cost {
            cpu_share: if passed > 0.0 { worked / passed } else { 0.0 },
            rss_bytes: resident().map_or(0, |own| own.rss_bytes()),
        }
    }
}
