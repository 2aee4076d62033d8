//! The interpreters of the targets: found when a target joins and when it maps other files, told to the kernel once they are
//! proved, and asked for names.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use memtrace_common::{Address, Slot, StackId, limits::MAX_FRAMES};

use super::{SessionError, notice, state::State};
use crate::{
    event::{Chain, ChainWords, StackFrame},
    kernel::interpreters::Interpreters,
    object::maps::Mapping,
    runtime::{self, Finding, chain::Placing},
    target::Pid,
};

/// The most chains that wait for their stack's own record, which follows at once unless it was lost.
const MAX_CHAINS: usize = 1024;

/// From one look at an interpreter that runs no code yet to the next: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What is known of the targets' interpreters.
pub(super) struct Runtimes {
    kernel: Interpreters,
    placings: HashMap<Slot, Placing>,
    waiting: HashMap<Slot, Waiting>,
    /// Chains whose stacks are still to come.
    chains: HashMap<(Slot, StackId), Chain>,
}

/// When to look again.
struct Waiting {
    next: Instant,
    pause: Duration,
}

impl Runtimes {
    pub(super) fn new(kernel: Interpreters) -> Self {
        Self { kernel, placings: HashMap::new(), waiting: HashMap::new(), chains: HashMap::new() }
    }

    /// Looks for an interpreter in a target of which none is known.
    pub(super) fn look(
        &mut self,
        slot: Slot,
        pid: Pid,
        mappings: &[Mapping],
        state: &mut State,
    ) -> Result<(), SessionError> {
        if self.placings.contains_key(&slot) {
            return Ok(());
        }
        let waited = self.waiting.remove(&slot);
        match runtime::find(pid, mappings) {
            Finding::Nothing => {}
            Finding::Waiting => {
                let pause = waited.map_or(FIRST_PAUSE, |waited| (2 * waited.pause).min(LONGEST_PAUSE));
                self.waiting.insert(slot, Waiting { next: Instant::now() + pause, pause });
            }
            Finding::Refused(reason) => notice::runtime_refused(pid, &reason),
            Finding::Proved(runtime) => {
                // Names first: a stack may come as soon as the kernel knows.
                state.symbols.set_reader(slot, runtime.reader);
                self.placings.insert(slot, runtime.placing);
                self.kernel.set(slot, Some(runtime.interpreter))?;
            }
        }
        Ok(())
    }

    /// A target that it is time to look at again, since its interpreter ran no code when it was looked at last.
    pub(super) fn due(&self) -> Option<Slot> {
        // Nearly always empty, and then the time is not asked for.
        let (&slot, _) = self.waiting.iter().find(|(_, waiting)| waiting.next <= Instant::now())?;
        Some(slot)
    }

    /// The target has ended or runs another program.
    pub(super) fn forget(&mut self, slot: Slot) -> Result<(), SessionError> {
        self.waiting.remove(&slot);
        self.chains.retain(|&(of, _), _| of != slot);
        if self.placings.remove(&slot).is_some() {
            self.kernel.set(slot, None)?;
        }
        Ok(())
    }

    /// The interpreter frames of a stack whose own record comes next.
    pub(super) fn keep(&mut self, slot: Slot, id: StackId, chain: ChainWords<'_>) {
        if self.chains.len() >= MAX_CHAINS {
            self.chains.clear();
        }
        self.chains.insert((slot, id), chain.with_native(MAX_FRAMES));
    }

    /// All frames of a stack, of which these are the native ones.
    pub(super) fn frames(&mut self, slot: Slot, id: StackId, native: impl Iterator<Item = Address>) -> Vec<StackFrame> {
        let native: Vec<Address> = native.collect();
        match (self.chains.remove(&(slot, id)), self.placings.get(&slot)) {
            (Some(mut chain), Some(placing)) => {
                chain.stack_pointers.truncate(native.len());
                placing.join(&native, &chain)
            }
            _ => native.into_iter().map(StackFrame::Native).collect(),
        }
    }
}
