//! Every stack for the terminal view, at a price that does not grow with their number.
//!
//! The stacks at the top are looked up whole each time, the others by turns: the view keeps what it has of them.

use std::time::{Duration, Instant};

use super::Snapshots;
use crate::{
    report::snapshot::Stack,
    session::{facts::ProcessFacts, key::Key, state::State},
};

/// The most stacks that are listed.
const LISTED: usize = 10_000;

/// Stacks at the top that are whole in every snapshot.
const TOP: usize = 200;

/// Others of which a snapshot has frames, ages and sizes.
const TURN: usize = 100;

/// Stacks that have their series.
const WITH_SERIES: usize = 2000;

/// How long the ring may wait for names. What is not named by then is named in the next snapshot.
const NAMING: Duration = Duration::from_millis(100);

impl Snapshots {
    /// The stacks, which are ranked, with what the view needs of each.
    pub(super) fn live(
        &mut self,
        state: &mut State,
        processes: &[ProcessFacts<'_>],
        mut stacks: Vec<(Key, Stack)>,
    ) -> Vec<Stack> {
        stacks.truncate(LISTED);
        let others = stacks.len().saturating_sub(TOP);
        let start = if self.turn < others { self.turn } else { 0 };
        self.turn = start + TURN;
        let whole = |place: usize| place < TOP || (TOP + start..TOP + start + TURN).contains(&place);
        let mut chosen = Vec::new();
        let mut listed: Vec<Option<Stack>> = Vec::new();
        for (place, (key, mut stack)) in stacks.into_iter().enumerate() {
            if whole(place) {
                chosen.push((key, stack));
                listed.push(None);
            } else {
                if place < WITH_SERIES {
                    stack.series = self.series(key);
                }
                listed.push(Some(stack));
            }
        }
        let mut chosen = self.detailed(state, processes, chosen, Some(Instant::now() + NAMING)).into_iter();
        listed.into_iter().filter_map(|stack| stack.or_else(|| chosen.next())).collect()
    }
}
