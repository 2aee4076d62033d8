//! Moves events from the kernel into the ledger and the symbolizer.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
    time::Instant,
};

use memtrace_common::{
    Slot,
    sampling::{LEVELS, MAX_DISTANCE, Sampling, distance},
    unwind::StackEnd,
};

use super::{SessionError, notice, runtimes::Runtimes, state::State, unwinding::Unwinding};
use crate::{
    event::What,
    kernel::{
        deferred::Deferred,
        ring::{Position, Ring},
        sampler::Sampler,
    },
    ledger::{Distances, ProcessLedger},
    object::{
        maps::{self, Mapping},
        moved,
    },
    symbol::ModuleMapping,
    target::{Pid, called::called},
    turns::Turns,
};

/// The share of the time that reading maps for code that is new to us gets, as one part in this many.
const REFRESH_PARTS: u32 = 20;

/// The event sources.
pub(super) struct Feed {
    pub(super) ring: Ring,
    deferred: Deferred,
    /// What they feed.
    pub(super) state: State,
    pub(super) unwinding: Unwinding,
    runtimes: Runtimes,
    /// Deferred entries were read; when the ring has been drained to here they can be settled.
    settle_at: Option<Position>,
    refresh: Turns,
    /// What each target's executable mappings were when last looked at.
    code: HashMap<Slot, u64>,
    /// What files each target's executable mappings were of when last looked at, and targets that have mapped other files since.
    files: HashMap<Slot, u64>,
    new_files: Vec<Slot>,
    sampler: Option<Sampler>,
    distances: Distances,
}

/// A target has a new image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exec {
    pub(super) slot: Slot,
    pub(super) by_other_thread: bool,
}

impl Feed {
    pub(super) fn new(
        ring: Ring,
        deferred: Deferred,
        unwinding: Unwinding,
        runtimes: Runtimes,
    ) -> Result<Self, SessionError> {
        Ok(Self {
            ring,
            deferred,
            state: State::new()?,
            unwinding,
            runtimes,
            settle_at: None,
            refresh: Turns::default(),
            code: HashMap::new(),
            files: HashMap::new(),
            new_files: Vec::new(),
            sampler: None,
            distances: Distances::default(),
        })
    }

    /// Blocks are drawn through this from now on, at this mean distance in bytes.
    pub(super) fn sample(&mut self, sampler: Sampler, base: u64) -> Result<(), SessionError> {
        self.sampler = Some(sampler);
        self.set_sampling(Sampling { base, level: 1, filters: 1, notes: 1, window: 0 })
    }

    /// Every block is seen until [`draw_sparser`](Self::draw_sparser); the first distance will be `base` bytes.
    pub(super) fn may_sample(&mut self, sampler: Sampler, base: u64) -> Result<(), SessionError> {
        self.sampler = Some(sampler);
        self.set_sampling(Sampling { base, ..Sampling::default() })
    }

    /// Draws blocks at the next distance; false if that was the last.
    pub(super) fn draw_sparser(&mut self) -> Result<bool, SessionError> {
        let level = self.state.sampling.level + 1;
        if level >= LEVELS as u64 || distance(self.state.sampling.base, level) >= MAX_DISTANCE {
            return Ok(false);
        }
        self.set_sampling(Sampling { level, notes: 1, ..self.state.sampling })?;
        Ok(true)
    }

    /// Releases of blocks that are not known here stay in the kernel from now on. To be called when what was sent before
    /// [`draw_sparser`](Self::draw_sparser) is in the ledger. False if there are too many blocks; then every one is seen
    /// again.
    pub(super) fn filter_releases(&mut self) -> Result<bool, SessionError> {
        if self.state.sampling.filters != 0 {
            return Ok(true);
        }
        let Some(sampler) = &mut self.sampler else { return Ok(false) };
        let mut room = true;
        for (slot, process) in self.state.ledger.processes() {
            room = room && sampler.note(slot, process.addresses())?;
        }
        let sampling = if room {
            Sampling { filters: 1, ..self.state.sampling }
        } else {
            Sampling { level: 0, notes: 0, ..self.state.sampling }
        };
        self.set_sampling(sampling)?;
        Ok(room)
    }

    /// Probes come back that were away: calls that were open then are over.
    pub(super) fn begin_window(&mut self) -> Result<(), SessionError> {
        self.set_sampling(Sampling { window: self.state.sampling.window + 1, ..self.state.sampling })
    }

    fn set_sampling(&mut self, sampling: Sampling) -> Result<(), SessionError> {
        let Some(sampler) = &mut self.sampler else { return Ok(()) };
        // The ledger has to know a level before a block of it comes.
        if sampling.level > 0 {
            self.distances.set(sampling.level as u8, distance(sampling.base, sampling.level));
            self.state.ledger.sample(self.distances);
        }
        sampler.set(sampling)?;
        self.state.sampling = sampling;
        Ok(())
    }

    /// From now on events of `slot` belong to `pid`.
    pub(super) fn add_process(&mut self, slot: Slot, pid: Pid) -> Result<(), SessionError> {
        let mut mappings = maps::read(pid).unwrap_or_default();
        let (code, files) = (fingerprint(&mappings), file_fingerprint(&mappings));
        moved::restore(pid, &mut mappings);
        self.state.add_process(slot, pid, modules(pid, &mappings));
        self.unwinding.update(slot, pid, &mappings)?;
        look_for_counts(&mut self.state, slot, pid, &mappings);
        self.runtimes.look(slot, pid, &mappings, &mut self.state)?;
        self.code.insert(slot, code);
        self.files.insert(slot, files);
        Ok(())
    }

    /// The process has ended: its id may become another's, whose maps are none of ours.
    pub(super) fn ended(&mut self, slot: Slot) -> Result<(), SessionError> {
        if self.state.ended(slot) {
            self.unwinding.remove(slot)?;
            self.runtimes.ended(slot)?;
            self.state.symbols.set_reader(slot, None);
            self.state.counts.forget(slot);
            self.state.small.forget(slot);
            self.state.asks.end_one(slot);
        }
        Ok(())
    }

    /// An ended target's slot is about to be another's: everything that is known by it is dropped. Its ledger comes back.
    pub(super) fn forget(&mut self, slot: Slot) -> Option<Box<ProcessLedger>> {
        self.code.remove(&slot);
        // The map is there as long as the run.
        let _ = self.runtimes.forget(slot);
        let ledger = self.state.forget(slot);
        if let (Some(sampler), Some(ledger)) = (&mut self.sampler, &ledger) {
            sampler.forget(slot, ledger.addresses());
        }
        ledger
    }

    /// Looks whether targets have mapped other code since the last time: a library that is loaded while the target runs
    /// then has its tables and names before most of its allocations. (A stack through code that nobody knows makes
    /// [`run`](Self::run) look at once.) Then the tables that are used get room before others.
    pub(super) fn look_for_new_code(&mut self) -> Result<(), SessionError> {
        for (slot, pid) in self.state.processes().to_vec() {
            self.refresh_code(slot, pid)?;
        }
        self.unwinding.look(&self.state.ledger, &self.state.symbols)
    }

    /// The tables and names of a target that has mapped its libraries just now.
    pub(super) fn refresh(&mut self, slot: Slot) -> Result<(), SessionError> {
        let refreshed = self.state.process(slot).map_or(Ok(()), |pid| self.refresh_code(slot, pid));
        // Whoever asks for this looks at all files.
        self.new_files.retain(|&new| new != slot);
        refreshed
    }

    fn refresh_code(&mut self, slot: Slot, pid: Pid) -> Result<(), SessionError> {
        // One that has ended keeps what it had.
        let Ok(mut mappings) = maps::read(pid) else { return Ok(()) };
        self.state.symbols.confine_reader(slot, &mappings);
        self.runtimes.confine(slot, &mappings);
        self.state.counts.confine(slot, &mappings);
        self.state.small.confine(slot, &mappings);
        let now = fingerprint(&mappings);
        if !mappings.is_empty() && self.code.insert(slot, now) != Some(now) {
            let has_new_files = note_files(&mut self.files, &mut self.new_files, slot, &mappings);
            moved::restore(pid, &mut mappings);
            self.state.symbols.refresh(slot, modules(pid, &mappings));
            self.unwinding.update(slot, pid, &mappings)?;
            if has_new_files {
                self.state.pages.look(slot, pid, &mappings);
                self.state.asks.look(slot, pid, &mappings);
                self.runtimes.look(slot, pid, &mappings, &mut self.state)?;
            }
        }
        Ok(())
    }

    /// Targets that have mapped other files since the last time: there may be allocators in them.
    pub(super) fn take_new_files(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.new_files)
    }

    /// Takes what waited in the kernel, drains the ring, and settles what waited once all that was sent before has
    /// arrived. Returns the targets that replaced their image.
    pub(super) fn run(&mut self) -> Result<Vec<Exec>, SessionError> {
        let Self { ring, deferred, state, unwinding, runtimes, refresh, files, new_files, .. } = self;
        let sampler = &mut self.sampler;
        deferred.take(|key, block| state.ledger.defer(key, block))?;
        self.settle_at = Some(ring.written());
        let mut execs = Vec::new();
        let mut failed = Ok(());
        let drained = ring.drain(|event| match event.what {
            What::Stack { id, end, frames } => {
                let end = unwinding.end(event.slot, frames.iter(), end);
                // Two processors that meet a new stack at once send it twice, and its chain may be one of the two only.
                if !runtimes.is_complete(event.slot, id) && state.symbols.contains(event.slot, id) {
                    return;
                }
                let (frames, is_cut) = runtimes.frames(event.slot, id, frames.iter(), &mut state.symbols);
                let end = if is_cut { StackEnd::TooDeep } else { end };
                let observed = state.symbols.observe(event.slot, id, frames, end);
                if observed.unknown_addresses
                    && let Some(pid) = state.process(event.slot)
                    && let Some(mut mappings) = read_in_turn(refresh, pid)
                {
                    note_files(files, new_files, event.slot, &mappings);
                    moved::restore(pid, &mut mappings);
                    state.symbols.refresh(event.slot, modules(pid, &mappings));
                    failed = unwinding.update(event.slot, pid, &mappings);
                    // What is unknown even now is code that has gone; the report shows its address.
                    let _ = state.symbols.observe(event.slot, id, frames, end);
                }
            }
            What::Chain { id, chain } => runtimes.keep(event.slot, id, chain),
            What::Exec { by_other_thread } => {
                if let (Some(sampler), Some(process)) = (sampler.as_mut(), state.ledger.process(event.slot)) {
                    sampler.forget(event.slot, process.addresses());
                }
                state.ledger.apply(event);
                state.small.exec(event.slot, &mut state.ledger);
                if let Some(pid) = state.process(event.slot) {
                    let mappings = maps::read(pid).unwrap_or_default();
                    state.symbols.add_process(event.slot, pid.0, modules(pid, &mappings));
                    state.pages.forget(event.slot);
                    state.asks.forget(event.slot);
                    look_for_counts(state, event.slot, pid, &mappings);
                    failed = unwinding
                        .update(event.slot, pid, &mappings)
                        .and_then(|()| runtimes.forget(event.slot))
                        .and_then(|()| runtimes.look(event.slot, pid, &mappings, state));
                }
                execs.push(Exec { slot: event.slot, by_other_thread });
            }
            What::Pool(block) => {
                if let Some(pid) = state.process(event.slot) {
                    state.small.take(event.slot, pid, block);
                }
            }
            _ => state.ledger.apply(event),
        })?;
        state.undecodable += drained.undecodable;
        state.small.look();
        failed?;
        self.state.look_for_collections();
        self.state.asks.hear();
        if let Some(slot) = self.runtimes.due() {
            self.look_at_runtime(slot)?;
        }
        if let Some(position) = self.settle_at
            && self.ring.has_reached(position)
        {
            self.state.ledger.settle_deferred();
            self.settle_at = None;
        }
        Ok(execs)
    }

    /// Looks again at a target whose interpreter ran no code before.
    fn look_at_runtime(&mut self, slot: Slot) -> Result<(), SessionError> {
        match self.state.process(slot).map(|pid| (pid, maps::read(pid))) {
            Some((pid, Ok(mut mappings))) => {
                moved::restore(pid, &mut mappings);
                self.runtimes.look(slot, pid, &mappings, &mut self.state)
            }
            // It has ended.
            _ => self.runtimes.forget(slot),
        }
    }

    /// [`run`](Self::run) once more; tells whether all that was sent before has arrived and is settled.
    pub(super) fn catch_up(&mut self) -> Result<bool, SessionError> {
        self.run()?;
        Ok(self.settle_at.is_none())
    }
}

/// Looks whether the runtime of a target keeps books of its own memory, and says what of them cannot be read.
fn look_for_counts(state: &mut State, slot: Slot, pid: Pid, mappings: &[Mapping]) {
    state.pages.look(slot, pid, mappings);
    state.asks.look(slot, pid, mappings);
    if let Some(why) = state.counts.look(slot, pid, mappings, &state.ledger) {
        notice::runtime_refused(pid, &why);
    }
}

/// Stands for the executable mappings.
fn fingerprint(mappings: &[Mapping]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for mapping in mappings.iter().filter(|mapping| mapping.executable) {
        (mapping.start, mapping.end, mapping.offset, mapping.device, mapping.inode).hash(&mut hasher);
    }
    hasher.finish()
}

/// Stands for the files that are mapped to be executed.
fn file_fingerprint(mappings: &[Mapping]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut files: Vec<_> = mappings
        .iter()
        .filter(|mapping| mapping.executable && mapping.inode != 0)
        .map(|mapping| (mapping.device, mapping.inode))
        .collect();
    files.sort_unstable();
    files.dedup();
    files.hash(&mut hasher);
    hasher.finish()
}

/// Notes whether a target has mapped other files, which is returned.
fn note_files(files: &mut HashMap<Slot, u64>, new_files: &mut Vec<Slot>, slot: Slot, mappings: &[Mapping]) -> bool {
    let now = file_fingerprint(mappings);
    let is_new = files.insert(slot, now) != Some(now);
    if is_new && !new_files.contains(&slot) {
        new_files.push(slot);
    }
    is_new
}

/// The executable ones, as the symbolizer wants them; the program by the name that it was started by.
fn modules(pid: Pid, mappings: &[Mapping]) -> impl Iterator<Item = ModuleMapping> {
    let called = called(pid, mappings);
    let path = move |path: &Option<PathBuf>| match &called {
        Some(called) if path.as_deref() == Some(&called.path) => Some(called.link.clone()),
        _ => path.clone(),
    };
    mappings.iter().filter(|mapping| mapping.executable).map(move |mapping| ModuleMapping {
        start: mapping.start,
        end: mapping.end,
        file_offset: mapping.offset,
        device: mapping.device,
        inode: mapping.inode,
        path: path(&mapping.path),
    })
}

/// The mappings of a process, when it is time to read some: a JIT makes code that is new to us all the time.
fn read_in_turn(refresh: &mut Turns, pid: Pid) -> Option<Vec<Mapping>> {
    if !refresh.may_begin() {
        return None;
    }
    let begun = Instant::now();
    let mappings = maps::read(pid).ok();
    refresh.ended(begun.elapsed(), REFRESH_PARTS);
    mappings
}
