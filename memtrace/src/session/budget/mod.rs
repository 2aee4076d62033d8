//! `--max-overhead`: what tracing costs is estimated from the calls that are seen and the price of each, which is measured
//! at the start on a child of memtrace's own; [`controller`] decides what to give up, and here it is done.

mod controller;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use controller::{Controller, Used};
pub(super) use controller::{Costs, Step};
use memtrace_common::{Slot, counter::Counter};

use super::{SessionError, notice, state::State, traced::Traced};
use crate::{kernel::Tracer, report::budget::Budget as Shown};

/// How often the account is looked at, and stacks are sampled.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Bytes from one sampling point to the next, where blocks have to be sampled: four times as far at each further step.
pub(super) const FIRST_DISTANCE: u64 = 64 << 10;

/// A run's account.
pub(super) struct Budget {
    share: f64,
    pub(super) controller: Controller,
    seen: HashMap<Slot, Seen>,
    /// Predicted results of all targets.
    predicted: u64,
    started: Instant,
    pub(super) resting: Pause,
    pub(super) away: Pause,
    /// Steps that were told.
    told: u32,
}

/// Time that goes by without something.
#[derive(Default)]
pub(super) struct Pause {
    since: Option<Instant>,
    before: Duration,
}

impl Pause {
    pub(super) fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    pub(super) fn end(&mut self) {
        self.before = self.total();
        self.since = None;
    }

    fn total(&self) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// One target's clock and counts at the last look.
#[derive(Clone, Copy, Default)]
struct Seen {
    seconds: f64,
    allocations: u64,
    undrawn_allocations: u64,
    releases: u64,
    undrawn_releases: u64,
}

impl Budget {
    /// A run may take this share of its targets' own processor time, at these prices.
    pub(super) fn new(share: f64, costs: Costs) -> Self {
        Self {
            share,
            controller: Controller::new(share, costs),
            seen: HashMap::new(),
            predicted: 0,
            started: Instant::now(),
            resting: Pause::default(),
            away: Pause::default(),
            told: 0,
        }
    }

    /// Tracing begins now.
    pub(super) fn start(&mut self, traced: &[Traced]) {
        self.started = Instant::now();
        for process in traced {
            let seconds = process.target.pid().processor_seconds().unwrap_or(0.0);
            self.seen.insert(process.slot, Seen { seconds, ..Seen::default() });
        }
    }

    /// Which probes are away now, of a process that has just been attached.
    pub(super) fn apply_to(&self, process: &mut Traced, tracer: &mut Tracer) -> Result<(), SessionError> {
        if self.away.since.is_some() {
            process.leave();
        } else if self.resting.since.is_some() {
            process.rest(tracer)?;
        }
        Ok(())
    }

    /// How it went so far.
    pub(super) fn shown(&self) -> Shown {
        let all = self.started.elapsed().as_secs_f64().max(1e-9);
        let share = |pause: &Pause| (1.0 - pause.total().as_secs_f64() / all).clamp(0.0, 1.0);
        Shown {
            max_overhead: self.share,
            estimated_overhead: self.controller.slowdown(),
            recorded_share: share(&self.resting),
            releases_seen_share: share(&self.away),
        }
    }

    pub(super) fn look(
        &mut self,
        tracer: &Tracer,
        state: &State,
        traced: &[Traced],
    ) -> Result<Option<Step>, SessionError> {
        let predicted = tracer.remembered()?.predicted;
        let mut used = Used { predicted: predicted - self.predicted, ..Used::default() };
        self.predicted = predicted;
        for process in traced.iter().filter(|process| !process.exited) {
            let Some(seconds) = process.target.pid().processor_seconds() else { continue };
            let totals = state.ledger.process(process.slot).map(|ledger| ledger.totals()).unwrap_or_default();
            let counters = tracer.counters(process.slot)?;
            let now = Seen {
                seconds,
                allocations: totals.allocations,
                undrawn_allocations: counters.get(Counter::AllocationsUnsampled),
                releases: totals.frees + totals.frees_unmatched + totals.inherited_frees,
                undrawn_releases: counters.get(Counter::ReleasesUnsampled),
            };
            // A process that is new here begins with its clock; a slot's next process may have smaller numbers.
            let before = self.seen.insert(process.slot, now).unwrap_or(Seen { seconds, ..Seen::default() });
            used.seconds += (now.seconds - before.seconds).max(0.0);
            used.allocations += now.allocations.saturating_sub(before.allocations);
            used.undrawn_allocations += now.undrawn_allocations.saturating_sub(before.undrawn_allocations);
            used.releases += now.releases.saturating_sub(before.releases);
            used.undrawn_releases += now.undrawn_releases.saturating_sub(before.undrawn_releases);
        }
        Ok(self.controller.look(&used))
    }

    pub(super) fn say(&mut self, what: impl FnOnce()) {
        const TOLD: u32 = 8;
        self.told += 1;
        match self.told {
            ..TOLD => what(),
            TOLD => notice::goes_on_so(),
            _ => {}
        }
    }
}
