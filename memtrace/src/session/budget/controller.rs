//! Decides what to give up so that tracing keeps to its budget. Plain arithmetic: no clock, no probes.
//!
//! Allowed is a share of the processor time that the targets use for themselves. What is not used is saved up to a bound,
//! so that a run begins with every allocation seen, and what it costs beyond the share is paid for by what it gives up
//! later. It gives up, in this order: blocks (a sample of them, which then becomes sparser), the probes on allocations for
//! a while, and, where releases alone cost too much, those on releases for a while as well. A sample is taken only where
//! that is enough: a block that is left out still costs its traps, and where there have to be pauses anyway,
//! every block that is seen between them tells more.

use std::fmt;

/// Saved at most: what is allowed for so many seconds of the targets' time.
const SAVED_SECONDS: f64 = 10.0;

/// Calibration is on a loop whose code and data stay in the caches. Programs that were measured took up to so many times as
/// much (docs/design/sampling.md).
const MARGIN: f64 = 1.3;

/// A sparser sample is worth it while so large a share of the allocations is drawn.
const WORTH_SPARSER: f64 = 0.1;

/// The weight of the newest second in a rate.
const NEWEST: f64 = 0.5;

/// What one hit costs, in nanoseconds, as calibrated on this machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// An allocation and the release of its block, both recorded.
    pub pair: f64,
    /// An allocation and the release of its block, where sampling leaves the block out.
    pub undrawn_pair: f64,
    /// A release by itself that is not recorded.
    pub undrawn_release: f64,
    /// What an allocation costs less if its result is predicted.
    pub predicted: f64,
}

impl fmt::Display for Costs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pair, undrawn_pair, undrawn_release, predicted } = self;
        write!(
            formatter,
            "an allocation and its release take {pair:.0} ns more under probes, {undrawn_pair:.0} ns when sampling leaves them \
             out, {undrawn_release:.0} ns when only releases are probed; {predicted:.0} ns less where malloc's result is known at \
             its entry"
        )
    }
}

impl Costs {
    /// What these hits have added to the targets' time, in seconds.
    fn of(&self, used: &Used) -> f64 {
        // The release's share of a pair is taken to be the same whether it is recorded or not.
        let release = self.pair * self.undrawn_release / self.undrawn_pair.max(1.0);
        let hits = [
            (used.allocations, self.pair - release),
            (used.undrawn_allocations, self.undrawn_pair - self.undrawn_release),
            (used.releases, release),
            (used.undrawn_releases, self.undrawn_release),
        ];
        let followed: f64 = hits.iter().map(|&(count, ns)| count as f64 * ns.max(0.0)).sum();
        (followed - used.predicted as f64 * self.predicted).max(0.0) * MARGIN / 1e9
    }
}

/// What happened since the last look, in all targets together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    /// Processor seconds of the targets, that of the probes included.
    pub seconds: f64,
    /// Allocations that were recorded.
    pub allocations: u64,
    /// Allocations that were left out by sampling.
    pub undrawn_allocations: u64,
    /// Releases that were recorded.
    pub releases: u64,
    /// Releases of blocks that nobody drew.
    pub undrawn_releases: u64,
    /// Allocations, recorded or not, whose result was predicted.
    pub predicted: u64,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Draw fewer blocks: the next level.
    Sparser,
    /// Take away the probes on allocations.
    Rest,
    /// Take away those on releases as well.
    Leave,
    /// Put them all back.
    Resume,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    Recording,
    Resting,
    Away,
}

/// Keeps the account of what tracing has cost, and decides what to give up.
#[derive(Debug)]
pub struct Controller {
    share: f64,
    costs: Costs,
    mode: Mode,
    /// Whether blocks cannot be drawn more sparsely.
    sparsest: bool,
    /// Seconds that may still be added.
    saved: f64,
    /// Added seconds for each second of the targets' own, lately.
    rate: f64,
    /// Added seconds for each second of the targets' own, by releases of blocks that were not drawn, which come also while allocations
    /// rest.
    release_rate: f64,
    /// The share of allocations that are drawn, lately.
    drawn: f64,
    own_seconds: f64,
    added_seconds: f64,
}

impl Controller {
    /// A full account, of a share of the targets' own time.
    pub fn new(share: f64, costs: Costs) -> Self {
        Self {
            share,
            costs,
            mode: Mode::Recording,
            sparsest: false,
            saved: share * SAVED_SECONDS,
            rate: 0.0,
            release_rate: 0.0,
            drawn: 1.0,
            own_seconds: 0.0,
            added_seconds: 0.0,
        }
    }

    /// Blocks cannot be drawn more sparsely.
    pub fn no_sparser(&mut self) {
        self.sparsest = true;
    }

    /// By which share tracing has slowed the targets down so far, as far as can be told.
    pub fn slowdown(&self) -> f64 {
        if self.own_seconds > 0.0 { self.added_seconds / self.own_seconds } else { 0.0 }
    }

    /// Takes in what was used, and says what to do, if anything.
    pub fn look(&mut self, used: &Used) -> Option<Step> {
        let added = self.costs.of(used);
        // What the estimate leaves of a busy target is something: clocks and counts are not read at one moment.
        let own = (used.seconds - added).max(0.05 * used.seconds);
        self.own_seconds += own;
        self.added_seconds += added;
        self.saved = (self.saved + self.share * own - added).min(self.share * SAVED_SECONDS);
        if own > 0.0 {
            let weight = (NEWEST * used.seconds).min(1.0);
            self.rate += weight * (added / own - self.rate);
            let releases = used.releases + used.undrawn_releases;
            let release = releases as f64 * self.costs.undrawn_release * MARGIN / 1e9;
            self.release_rate += weight * (release / own - self.release_rate);
            let allocations = used.allocations + used.undrawn_allocations;
            if allocations > 0 {
                self.drawn += weight * (used.allocations as f64 / allocations as f64 - self.drawn);
            }
        }
        let full = self.share * SAVED_SECONDS;
        let step = match self.mode {
            Mode::Resting if self.saved < -0.1 * full => Some(Step::Leave),
            Mode::Resting | Mode::Away => (self.saved > 0.5 * full).then_some(Step::Resume),
            Mode::Recording if self.rate <= self.share => None,
            Mode::Recording if self.saved < 0.8 * full && self.may_be_sparser() => Some(Step::Sparser),
            Mode::Recording if self.saved >= 0.1 * full => None,
            // Releases alone may be too many: then too little would be saved by resting.
            Mode::Recording if self.release_rate < 0.8 * self.share => Some(Step::Rest),
            Mode::Recording => Some(Step::Leave),
        };
        match step {
            Some(Step::Rest) => self.mode = Mode::Resting,
            Some(Step::Resume) => self.mode = Mode::Recording,
            Some(Step::Leave) => self.mode = Mode::Away,
            // What it changes shows from now on.
            Some(Step::Sparser) => self.drawn = 0.0,
            None => {}
        }
        step
    }

    fn may_be_sparser(&self) -> bool {
        let rate = self.rate * self.costs.undrawn_pair / self.costs.pair;
        !self.sparsest && self.drawn > WORTH_SPARSER && rate <= self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: Costs = Costs { pair: 2500.0, undrawn_pair: 2000.0, undrawn_release: 600.0, predicted: 700.0 };

    /// A target with so many pairs and lone releases a second of its own time, for so many seconds; it is looked at four
    /// times a second. The added time by the true costs, and the steps with their times.
    fn run(share: f64, pairs: f64, seconds: f64) -> (Controller, f64, Vec<(f64, Step)>) {
        let mut controller = Controller::new(share, COSTS);
        let (mut mode, mut level, mut steps) = (Mode::Recording, 0, Vec::new());
        let (mut own, mut added) = (0.0, 0.0);
        while own < seconds {
            let drawn = 0.25f64.powi(level);
            let pairs = pairs * 0.25;
            let count = |part: f64| (pairs * part) as u64;
            let mut used = Used::default();
            if mode == Mode::Recording {
                (used.allocations, used.undrawn_allocations) = (count(drawn), count(1.0 - drawn));
            }
            if mode != Mode::Away {
                (used.releases, used.undrawn_releases) = (count(drawn), count(1.0 - drawn));
            }
            let cost = COSTS.of(&used) / MARGIN;
            used.seconds = 0.25 + cost;
            own += 0.25;
            added += cost;
            if let Some(step) = controller.look(&used) {
                steps.push((own, step));
                match step {
                    Step::Sparser => level += 1,
                    Step::Rest => mode = Mode::Resting,
                    Step::Resume => mode = Mode::Recording,
                    Step::Leave => mode = Mode::Away,
                }
            }
        }
        (controller, added / own, steps)
    }

    #[test]
    fn a_program_that_allocates_little_is_traced_wholly() {
        let (controller, slowdown, steps) = run(0.05, 10_000.0, 600.0);
        assert_eq!(steps, []);
        assert!((0.02..0.03).contains(&slowdown) && controller.slowdown() > slowdown, "{slowdown}");
    }

    #[test]
    fn where_a_sample_is_enough_it_is_all_that_is_given_up() {
        let (_, slowdown, steps) = run(0.05, 17_000.0, 600.0);
        assert!(!steps.is_empty() && steps.iter().all(|(_, step)| *step == Step::Sparser), "{steps:?}");
        assert!(slowdown < 0.05, "{slowdown}");
    }

    #[test]
    fn one_that_allocates_more_rests_and_goes_on() {
        let (_, slowdown, steps) = run(0.05, 40_000.0, 600.0);
        let count = |wanted| steps.iter().filter(|(_, step)| *step == wanted).count();
        assert!(count(Step::Rest) > 10 && count(Step::Rest) - count(Step::Resume) <= 1, "{steps:?}");
        assert_eq!(count(Step::Leave), 0);
        assert!(slowdown < 0.055, "{slowdown}");
        // Recorded for a while before the first rest: that is enough for a first verdict.
        let first = steps.iter().find(|(_, step)| *step == Step::Rest).unwrap();
        assert!(first.0 > 3.0, "{steps:?}");
    }

    #[test]
    fn one_whose_releases_alone_are_too_many_is_looked_at_now_and_then() {
        let (_, slowdown, steps) = run(0.05, 400_000.0, 600.0);
        let count = |wanted| steps.iter().filter(|(_, step)| *step == wanted).count();
        assert!(count(Step::Leave) > 10 && count(Step::Leave) - count(Step::Resume) <= 1, "{steps:?}");
        assert_eq!(count(Step::Rest), 0, "{steps:?}");
        assert!(slowdown < 0.055, "{slowdown}");
    }

    #[test]
    fn where_nothing_can_be_sampled_it_rests() {
        let mut controller = Controller::new(0.05, COSTS);
        controller.no_sparser();
        let used = Used { seconds: 0.3, allocations: 7000, releases: 7000, ..Used::default() };
        let step = std::iter::repeat_with(|| controller.look(&used)).take(1000).flatten().next();
        assert_eq!(step, Some(Step::Rest));
    }

    #[test]
    fn predicted_results_are_paid_for_at_their_price() {
        let followed = Used { allocations: 1000, undrawn_allocations: 500, releases: 1000, ..Used::default() };
        let predicted = Used { predicted: 1200, ..followed };
        let saved = COSTS.of(&followed) - COSTS.of(&predicted);
        assert!((saved - 1200.0 * COSTS.predicted * MARGIN / 1e9).abs() < 1e-9, "{saved}");
        // Counts are not read at one moment.
        assert_eq!(COSTS.of(&Used { predicted: 10, ..Used::default() }), 0.0);
    }

    #[test]
    fn an_idle_target_costs_nothing_and_changes_nothing() {
        let mut controller = Controller::new(0.01, COSTS);
        assert!((0..1000).all(|_| controller.look(&Used::default()).is_none()));
        assert_eq!(controller.slowdown(), 0.0);
    }
}
