//! All that is known of the targets' memory: live blocks and named stacks. It knows nothing of BPF.

use memtrace_common::{
    Slot,
    sampling::{Sampling, distance},
};

use super::{SessionError, asks::Asks, counts::Counts, key::Key, pages::Pages, small::SmallObjects};
use crate::{
    ledger::{Kind, Ledger, ProcessLedger},
    symbol::{self, ModuleMapping, Symbolizer},
    target::Pid,
};

/// Live blocks, stacks and names of all targets.
pub(super) struct State {
    pub(super) ledger: Ledger,
    pub(super) symbols: Symbolizer,
    pub(super) counts: Counts,
    pub(super) pages: Pages,
    pub(super) small: SmallObjects,
    pub(super) asks: Asks,
    /// Records that could not be decoded.
    pub(super) undecodable: u64,
    /// How blocks are drawn now.
    pub(super) sampling: Sampling,
    pids: Vec<(Slot, Pid)>,
}

impl State {
    pub(super) fn new() -> Result<Self, SessionError> {
        let symbols = Symbolizer::new(symbol::Options::default())
            .map_err(|source| SessionError::System { action: "opening our own root directory", source })?;
        Ok(Self {
            ledger: Ledger::new(),
            symbols,
            counts: Counts::default(),
            pages: Pages::default(),
            small: SmallObjects::default(),
            asks: Asks::default(),
            undecodable: 0,
            sampling: Sampling::default(),
            pids: Vec::new(),
        })
    }

    /// The processes that have not ended, each with its slot.
    pub(super) fn processes(&self) -> &[(Slot, Pid)] {
        &self.pids
    }

    /// The process in a slot; `None` when it has ended.
    pub(super) fn process(&self, slot: Slot) -> Option<Pid> {
        self.pids.iter().find(|(known, _)| *known == slot).map(|&(_, pid)| pid)
    }

    /// The id of the process in a slot; 0 when there is none.
    pub(super) fn pid(&self, slot: Slot) -> u32 {
        self.process(slot).map_or(0, |pid| pid.0)
    }

    /// Asks the targets' runtimes what they hold. `now_ns` is by the monotonic clock.
    pub(super) fn ask_runtimes(&mut self, now_ns: u64) {
        self.counts.ask(now_ns, &mut self.ledger, &mut self.symbols);
        self.small.ask(&mut self.ledger, &mut self.symbols);
        self.pages.sum(&mut self.ledger, &mut self.symbols);
        let counts = &mut self.counts;
        self.asks.ask(&mut self.ledger, &mut self.symbols, |slot, found, ledger, symbols| {
            counts.take_told(slot, found, ledger, symbols);
        });
    }

    /// Looks at what runtimes count of their collections, when it is time to.
    pub(super) fn look_for_collections(&mut self) {
        self.pages.collections.poll();
    }

    /// Whether what a key holds was looked at just now: some is read from the target's memory, with pauses.
    pub(super) fn is_known_now(&self, key: Key) -> bool {
        match key.2 {
            Kind::Small => self.small.is_known_now(key.0),
            Kind::Profiled => self.asks.is_known_now(key.0),
            _ => self.counts.is_known_now(key),
        }
    }

    /// The mean distance from one sampling point to the next, in bytes; 0 where every block is seen.
    pub(super) fn sampling_distance(&self) -> u64 {
        distance(self.sampling.base, self.sampling.level)
    }

    /// From now on events of `slot` belong to `pid`.
    pub(super) fn add_process(&mut self, slot: Slot, pid: Pid, modules: impl IntoIterator<Item = ModuleMapping>) {
        self.ledger.add_process(slot);
        self.symbols.add_process(slot, pid.0, modules);
        self.pids.push((slot, pid));
    }

    /// The process has ended: its id may become another's. Whether it was there.
    pub(super) fn ended(&mut self, slot: Slot) -> bool {
        let known = self.pids.len();
        self.pids.retain(|&(known, _)| known != slot);
        self.pids.len() < known
    }

    /// An ended target's slot is about to be another's: everything that is known by it is dropped. Its ledger comes back.
    pub(super) fn forget(&mut self, slot: Slot) -> Option<Box<ProcessLedger>> {
        self.symbols.remove_process(slot);
        self.counts.forget(slot);
        self.pages.forget(slot);
        self.small.forget(slot);
        self.asks.forget(slot);
        self.ledger.remove_process(slot)
    }
}
