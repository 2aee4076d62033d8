//! The interpreters of the targets: found when a target joins and when it maps other files, told to the kernel once they are
//! proved, and asked for names.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use memtrace_common::{Address, Slot, StackId};

use super::{SessionError, notice, state::State};
use crate::{
    event::{Chain, ChainWords, StackFrame},
    kernel::interpreters::Interpreters,
    object::maps::Mapping,
    runtime::{self, Finding, Known, chain::Placing, v8},
    symbol::{MAX_STACK_FRAMES, Symbolizer},
    target::Pid,
};

/// The most chains that wait for their stack's own record, which follows at once unless it was lost.
const MAX_CHAINS: usize = 1024;

/// From one look at an interpreter that runs no code yet to the next: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often an interpreter's frames may lead nowhere before that is its build's fault.
const FAILURES: u32 = 6;

/// What is known of the targets' interpreters.
pub(super) struct Runtimes {
    kernel: Interpreters,
    known: Known,
    placings: HashMap<Slot, Placing>,
    /// What finds the places of frames that do not say them.
    places: HashMap<Slot, v8::Places>,
    waiting: HashMap<Slot, Waiting>,
    /// Targets of which it was said that they are not named.
    refused: HashSet<Slot>,
    /// Chains whose stacks are still to come.
    chains: HashMap<(Slot, StackId), Chain>,
    /// Room for the frames of one stack: its native ones, and all of them.
    native: Vec<Address>,
    frames: Vec<StackFrame>,
}

/// When to look again.
struct Waiting {
    next: Instant,
    pause: Duration,
    /// How often in a row its frames led nowhere, as they may while it runs.
    failures: u32,
}

impl Runtimes {
    pub(super) fn new(kernel: Interpreters) -> Self {
        Self {
            kernel,
            known: Known::default(),
            placings: HashMap::new(),
            places: HashMap::new(),
            waiting: HashMap::new(),
            refused: HashSet::new(),
            chains: HashMap::new(),
            native: Vec::new(),
            frames: Vec::new(),
        }
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
        match runtime::find(pid, mappings, &mut self.known) {
            Finding::Nothing => {}
            Finding::Waiting => {
                let pause = waited.map_or(FIRST_PAUSE, |waited| (2 * waited.pause).min(LONGEST_PAUSE));
                self.waiting.insert(slot, Waiting { next: Instant::now() + pause, pause, failures: 0 });
            }
            Finding::Unproved(_) if waited.as_ref().is_none_or(|waited| waited.failures < FAILURES) => {
                let (failures, pause) =
                    waited.map_or((1, FIRST_PAUSE), |waited| (waited.failures + 1, 2 * waited.pause));
                self.waiting.insert(slot, Waiting { next: Instant::now() + pause, pause, failures });
            }
            Finding::Unproved(reason) | Finding::Refused(reason) => {
                if self.refused.insert(slot) {
                    notice::runtime_refused(pid, &reason);
                }
            }
            Finding::Proved(runtime) => {
                // Names first: a stack may come as soon as the kernel knows.
                state.symbols.set_reader(slot, Some(runtime.reader));
                if let Some(census) = runtime.census {
                    state.counts.add_census(slot, pid, census, &state.ledger);
                }
                self.placings.insert(slot, runtime.placing);
                if let Some(places) = runtime.places {
                    self.places.insert(slot, places);
                }
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

    /// What a target maps from now on.
    pub(super) fn confine(&mut self, slot: Slot, mappings: &[Mapping]) {
        if let Some(places) = self.places.get_mut(&slot) {
            places.confine(mappings);
        }
    }

    /// The target has ended or runs another program.
    pub(super) fn forget(&mut self, slot: Slot) -> Result<(), SessionError> {
        self.waiting.remove(&slot);
        self.places.remove(&slot);
        self.refused.remove(&slot);
        self.chains.retain(|&(of, _), _| of != slot);
        if self.placings.remove(&slot).is_some() {
            self.kernel.set(slot, None)?;
        }
        Ok(())
    }

    /// The interpreter frames of a stack whose own record comes next.
    pub(super) fn keep(&mut self, slot: Slot, id: StackId, chain: ChainWords<'_>) {
        if self.chains.len() >= MAX_CHAINS
            && let Some(&any) = self.chains.keys().next()
        {
            self.chains.remove(&any);
        }
        self.chains.insert((slot, id), chain.to_chain());
    }

    /// Whether the interpreter frames of a stack have come, or the target has no interpreter.
    pub(super) fn is_complete(&self, slot: Slot, id: StackId) -> bool {
        !self.placings.contains_key(&slot) || self.chains.contains_key(&(slot, id))
    }

    /// All frames of a stack, of which these are the native ones, and whether some are missing. `symbols` is told of code of which they ran
    /// copies.
    pub(super) fn frames(
        &mut self,
        slot: Slot,
        id: StackId,
        native: impl Iterator<Item = Address>,
        symbols: &mut Symbolizer,
    ) -> (&[StackFrame], bool) {
        let mut is_cut = false;
        match (self.chains.remove(&(slot, id)), self.placings.get(&slot)) {
            (Some(chain), Some(placing)) => {
                self.native.clear();
                self.native.extend(native);
                (self.frames, is_cut) = placing.join(&self.native, &chain);
                for (address, details) in Placing::copies(&chain) {
                    symbols.tell_copy(slot, address, &details);
                }
                if let Some(places) = self.places.get_mut(&slot) {
                    places.place(&mut self.frames);
                    // What was inlined may be more than a stack carries.
                    is_cut |= self.frames.len() > MAX_STACK_FRAMES;
                    self.frames.truncate(MAX_STACK_FRAMES);
                }
            }
            _ => {
                self.frames.clear();
                self.frames.extend(native.map(StackFrame::Native));
            }
        }
        (&self.frames, is_cut)
    }

    /// The target has ended; stacks of it may still come.
    pub(super) fn ended(&mut self, slot: Slot) -> Result<(), SessionError> {
        self.waiting.remove(&slot);
        if self.placings.contains_key(&slot) {
            self.kernel.set(slot, None)?;
        }
        Ok(())
    }
}
