//! A run keeps to its budget: what the account decides is done here.

use super::Run;
use crate::session::{SessionError, budget::Step, notice, traced::Traced};

impl Run<'_> {
    /// Looks at the account and does what it asks for.
    pub(super) fn keep_budget(&mut self) -> Result<(), SessionError> {
        let Some(mut budget) = self.budget.take() else { return Ok(()) };
        let step = budget.look(&self.tracer, &self.feed.state, &self.traced)?;
        let elapsed_ms = self.snapshots.elapsed_ms();
        match step {
            None => {}
            Some(Step::Sparser) => {
                if self.sample_sparser()? {
                    let distance = self.feed.state.sampling_distance();
                    budget.say(|| notice::sparser(distance));
                } else {
                    budget.controller.no_sparser();
                }
            }
            Some(Step::Rest) => {
                budget.say(notice::rests);
                budget.resting.begin();
                self.traced.iter_mut().try_for_each(|process| process.rest(&mut self.tracer))?;
                self.snapshots.rest(&mut self.feed.state, elapsed_ms);
            }
            Some(Step::Leave) => {
                budget.say(notice::leaves);
                budget.resting.begin();
                budget.away.begin();
                self.traced.iter_mut().for_each(Traced::leave);
                self.snapshots.rest(&mut self.feed.state, elapsed_ms);
            }
            Some(Step::Resume) => {
                budget.say(notice::resumes);
                self.feed.begin_window()?;
                for process in self.traced.iter_mut().filter(|process| !process.exited) {
                    process.resume(&mut self.tracer)?;
                }
                self.snapshots.resume(&mut self.feed.state, elapsed_ms);
                budget.resting.end();
                budget.away.end();
            }
        }
        self.budget = Some(budget);
        Ok(())
    }

    /// Draws fewer blocks from now on; false where that cannot be.
    fn sample_sparser(&mut self) -> Result<bool, SessionError> {
        if !self.feed.draw_sparser()? {
            return Ok(false);
        }
        // What was sent before the programs noted blocks has to be in the ledger, whose blocks are noted next.
        let begun = self.feed.ring.written();
        while !self.feed.ring.has_reached(begun) {
            self.drain()?;
        }
        self.feed.filter_releases()
    }
}
