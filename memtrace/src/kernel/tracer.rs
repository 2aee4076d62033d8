//! Loads the programs, and holds the maps that user space reads and writes.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    thread::{self, JoinHandle},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, PerCpuArray},
};
use aya_obj::Object;
use memtrace_common::{
    Slot,
    arch::PAGE_BYTES,
    counter::{COUNTERS, TargetCounters},
    limits::{DEFAULT_RING_BYTES, MAX_SAMPLED, MAX_TARGETS},
    prediction::Prediction,
    target::{TargetState, running},
};

use super::{
    OBJECT, btf,
    deferred::Deferred,
    error::{KernelError, access},
    features,
    interpreters::Interpreters,
    links::Links,
    log::Log,
    multi::MultiPrograms,
    ring::{self, Ring},
    sampler::Sampler,
    shared::Shared,
    tables::Tables,
};
use crate::target::Pid;

/// What the programs are loaded with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The size of all rings together in bytes: a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Blocks smaller than this are left out.
    pub min_size: u64,
    /// Blocks larger than this are left out.
    pub max_size: u64,
    /// Rows of unwind tables that there is room for; at least one.
    pub unwind_rows: u32,
    /// Whether every remembered stack is walked again and compared.
    pub verify_stacks: bool,
    /// Whether blocks are sampled, or may come to be.
    pub samples: bool,
    /// Whether results of `malloc` are predicted where they can be.
    pub predicts: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ring_bytes: DEFAULT_RING_BYTES,
            min_size: 0,
            max_size: u64::MAX,
            unwind_rows: 1,
            verify_stacks: false,
            samples: false,
            predicts: true,
        }
    }
}

/// The loaded programs and their maps.
pub struct Tracer {
    pub(super) programs: Ebpf,
    /// What stands in for probes on mapping functions that another tracer keeps to itself.
    pub(super) by_system_call: Option<Links>,
    /// The functions that it stood in for since [`Tracer::take_refused`] was called last.
    pub(super) refused: Vec<String>,
    /// `None` where the kernel has no usable multi-uprobe links.
    pub(super) multi: Option<MultiPrograms>,
    counters: Array<MapData, [u64; COUNTERS]>,
    running: Array<MapData, u64>,
    remembered: PerCpuArray<MapData, [u64; 4]>,
    predictions: Array<MapData, Shared<Prediction>>,
    /// The number of the last one.
    prediction_number: u64,
    predicts: bool,
    targets: Array<MapData, Shared<TargetState>>,
    slots: HashMap<MapData, u32, u32>,
    /// Times that each slot has been given out.
    generations: Vec<u64>,
    free_slots: Vec<u16>,
    _log: Option<Log>,
    /// Keeps the maps of sampling in a run without, since programs that are loaded later refer to them.
    _unused_sampler: Option<Sampler>,
}

/// What loading needs and the options do not change, made ready by a thread of its own while the targets are looked at.
pub struct Preparation(JoinHandle<Prepared>);

struct Prepared {
    loader: EbpfLoader<'static>,
    /// The object for [`MultiPrograms`], if it can be read.
    object: Option<Object>,
    /// Where the kernel keeps the thread pointer; `None` if nothing can be predicted.
    thread_pointer: Option<u64>,
}

impl Preparation {
    /// Begins, in a thread of its own.
    pub fn begin() -> Self {
        Self(thread::spawn(Prepared::make))
    }

    fn finish(self) -> Prepared {
        // A thread that panicked leaves its work to us.
        self.0.join().unwrap_or_else(|_panicked| Prepared::make())
    }
}

impl Prepared {
    fn make() -> Self {
        // Both read the kernel's type information, millions of bytes.
        let loader = EbpfLoader::new();
        let thread_pointer = fs::read(features::BTF).ok().and_then(|btf| btf::thread_pointer(&btf));
        // Asks the kernel what it knows of type information, once.
        aya::features();
        Self { loader, object: Object::parse(OBJECT).ok(), thread_pointer }
    }
}

/// The tracer and its two sources of events.
pub struct Loaded {
    /// Programs and maps.
    pub tracer: Tracer,
    /// Events.
    pub ring: Ring,
    /// Blocks that waited in the kernel.
    pub deferred: Deferred,
    /// What the programs unwind by.
    pub tables: Tables,
    /// How they sample; `None` unless [`Options::samples`].
    pub sampler: Option<Sampler>,
    /// What the kernel side knows of the targets' interpreters.
    pub interpreters: Interpreters,
}

impl Tracer {
    /// Loads the programs; nothing is attached yet. Must run inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the object or a map.
    pub fn load(options: Options, preparation: Preparation) -> Result<Loaded, KernelError> {
        let namespace = fs::metadata("/proc/self/ns/pid").map_err(|source| KernelError::System {
            action: "reading the pid namespace in /proc/self/ns/pid",
            source,
        })?;
        let (rings, ring_bytes) = ring::division(options.ring_bytes);
        let ring_mask = rings as u64 - 1;
        let verify = u64::from(options.verify_stacks);
        let samples = u64::from(options.samples);
        let (device, inode) = (namespace.dev(), namespace.ino());
        // An empty table of so many blocks is 64 MiB, which the kernel fills with zeros.
        let drawn = if options.samples { MAX_SAMPLED as u32 } else { 1 };
        // Without the thread pointer nothing is predicted.
        let Prepared { loader, object, thread_pointer } = preparation.finish();
        let mut loader: EbpfLoader<'_> = loader;
        let mut programs = loader
            // Task storage is used by the programs only.
            .allow_unsupported_maps()
            .map_max_entries("EVENTS", options.ring_bytes / PAGE_BYTES as u32)
            .map_max_entries("POSITIONS", rings as u32)
            .map_max_entries("STACKS", options.ring_bytes / 4)
            .map_max_entries("ROWS", options.unwind_rows.max(1))
            .map_max_entries("SAMPLED", drawn)
            .override_global("RING_MASK", &ring_mask, true)
            .override_global("RING_BYTES", &ring_bytes, true)
            .override_global("VERIFY_REMEMBERED", &verify, true)
            .override_global("SAMPLES", &samples, true)
            .override_global("THREAD_POINTER", thread_pointer.as_ref().unwrap_or(&0), true)
            .override_global("MIN_SIZE", &options.min_size, true)
            .override_global("MAX_SIZE", &options.max_size, true)
            .override_global("NAMESPACE_DEVICE", &device, true)
            .override_global("NAMESPACE_INODE", &inode, true)
            .load(OBJECT)
            .map_err(|error| KernelError::Load(Box::new(error)))?;
        let multi = object.and_then(|object| MultiPrograms::load(&programs, object));
        let ring = Ring::new(ring::Maps {
            events: take(&mut programs, "EVENTS")?,
            positions: take(&mut programs, "POSITIONS")?,
            stacks: take(&mut programs, "STACKS")?,
            woken: take(&mut programs, "WOKEN")?,
        })?;
        let deferred = Deferred::new(take(&mut programs, "DEFERRED")?, take(&mut programs, "DEFERRED_COUNTS")?)?;
        let tables = Tables::new(
            take(&mut programs, "ROWS")?,
            take(&mut programs, "SEGMENTS")?,
            take(&mut programs, "SEGMENT_RANGES")?,
        )?;
        let interpreters = Interpreters::new(take(&mut programs, "INTERPRETERS")?)?;
        let sampler = Sampler::new(take(&mut programs, "SAMPLING")?, take(&mut programs, "SAMPLED")?)?;
        let (sampler, unused_sampler) = if options.samples { (Some(sampler), None) } else { (None, Some(sampler)) };
        let log = Log::start(&mut programs);
        let tracer = Self {
            counters: typed(&mut programs, "COUNTERS")?,
            remembered: typed(&mut programs, "REMEMBERED_COUNTS")?,
            running: typed(&mut programs, "RUNNING")?,
            predictions: typed(&mut programs, "PREDICTIONS")?,
            prediction_number: 0,
            predicts: thread_pointer.is_some() && options.predicts && features::has_sessions(),
            targets: typed(&mut programs, "TARGETS")?,
            slots: typed(&mut programs, "SLOTS")?,
            generations: Vec::new(),
            free_slots: Vec::new(),
            _log: log,
            _unused_sampler: unused_sampler,
            by_system_call: None,
            refused: Vec::new(),
            multi,
            programs,
        };
        Ok(Loaded { tracer, ring, deferred, tables, interpreters, sampler })
    }

    /// Gives a process a slot; `brk` is the end of its heap segment now, 0 if it has none, and `stack_end` that of its first
    /// thread's stack, 0 if that is not known.
    ///
    /// # Errors
    ///
    /// When all slots are taken or the map cannot be written.
    pub fn add_target(&mut self, pid: Pid, brk: u64, stack_end: u64) -> Result<Slot, KernelError> {
        let slot = match self.free_slots.pop() {
            Some(slot) => slot,
            None if self.generations.len() >= MAX_TARGETS => return Err(KernelError::TooManyTargets),
            None => {
                self.generations.push(0);
                // At most MAX_TARGETS, which 16 bits hold.
                (self.generations.len() - 1) as u16
            }
        };
        // Far enough apart that no exec of the earlier target had the same: equal addresses mean other code now.
        let generation = &mut self.generations[usize::from(slot)];
        *generation += 1 << 20;
        let state = TargetState { generation: *generation, brk, stack_end };
        self.targets.set(u32::from(slot), Shared(state), 0).map_err(access("TARGETS"))?;
        self.counters.set(u32::from(slot), [0; COUNTERS], 0).map_err(access("COUNTERS"))?;
        self.slots.insert(pid.0, u32::from(slot), 0).map_err(access("SLOTS"))?;
        Ok(Slot(slot))
    }

    /// Takes the slot of a target that has ended, so that another can have it. Its links must be detached and its events
    /// drained.
    ///
    /// # Errors
    ///
    /// When a map cannot be written.
    pub fn remove_target(&mut self, pid: Pid, slot: Slot) -> Result<(), KernelError> {
        self.set_running(slot, false)?;
        // The id may be another target's by now.
        if self.slots.get(&pid.0, 0).is_ok_and(|held| held == u32::from(slot.0)) {
            self.slots.remove(&pid.0).map_err(access("SLOTS"))?;
        }
        self.free_slots.push(slot.0);
        Ok(())
    }

    /// From now on the target's calls are recorded, or are not. Calls that have begun are finished either way.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn set_running(&mut self, slot: Slot, running: bool) -> Result<(), KernelError> {
        let value = if running { running::YES } else { running::NO };
        self.running.set(u32::from(slot.0), value, 0).map_err(access("RUNNING"))
    }

    /// No allocation that begins now is recorded in a session, until [`set_running`](Self::set_running): the probe that sees both of its
    /// ends is going to be taken away.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn close_sessions(&mut self, slot: Slot) -> Result<(), KernelError> {
        self.running.set(u32::from(slot.0), running::CLOSING, 0).map_err(access("RUNNING"))
    }

    /// Whether one program sees both ends of a call, and so may say at the entry that the return need not be seen.
    pub(super) fn has_sessions(&self) -> bool {
        self.multi.as_ref().is_some_and(MultiPrograms::has_sessions)
    }

    /// Whether probes in place are hit by a process whose first thread has ended after they were attached. Links for many sites
    /// compare processes since Linux 6.12 and memories before, as single probes do.
    pub fn outlives_first_threads(&self) -> bool {
        self.has_sessions()
    }

    /// From now on the target's results are predicted so, or not at all.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn set_prediction(&mut self, slot: Slot, prediction: Option<Prediction>) -> Result<(), KernelError> {
        let prediction = prediction.filter(|_| self.predicts);
        self.prediction_number += 1;
        let prediction = Prediction { number: self.prediction_number, ..prediction.unwrap_or_default() };
        self.predictions.set(u32::from(slot.0), Shared(prediction), 0).map_err(access("PREDICTIONS"))
    }

    /// How often a stack did not have to be walked, on all processors.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn remembered(&self) -> Result<RememberedCounts, KernelError> {
        let values = self.remembered.get(&0, 0).map_err(access("REMEMBERED_COUNTS"))?;
        let sum = |index: usize| values.iter().map(|counts| counts[index]).sum();
        Ok(RememberedCounts { hits: sum(0), misses: sum(1), wrong: sum(2), predicted: sum(3) })
    }

    /// What was lost, deferred or left out of the target in `slot` so far.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn counters(&self, slot: Slot) -> Result<TargetCounters, KernelError> {
        let values = self.counters.get(&u32::from(slot.0), 0).map_err(access("COUNTERS"))?;
        Ok(TargetCounters { values })
    }
}

/// How often a stack did not have to be walked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RememberedCounts {
    /// Stacks that equalled one that the thread remembered.
    pub hits: u64,
    /// Stacks that were walked.
    pub misses: u64,
    /// Remembered stacks that a walk contradicted; only `verify_stacks` finds out, and it must be 0.
    pub wrong: u64,
    /// Calls whose result was known at their entry, so that their return did not have to be seen.
    pub predicted: u64,
}

fn take(programs: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, KernelError> {
    programs.take_map(name).ok_or(KernelError::Map(name))
}

fn typed<M: TryFrom<aya::maps::Map>>(programs: &mut Ebpf, name: &'static str) -> Result<M, KernelError> {
    M::try_from(take(programs, name)?).map_err(|_wrong_type| KernelError::Map(name))
}
