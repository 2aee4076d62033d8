//! Which objects live in V8's heaps, by type, and how many bytes of them there are: known at any time, without a collection, which V8 seldom
//! makes of a whole heap.
//!
//! In: the memory of the process, read from outside while it runs. Out: a [`Count`] for each name of a type, and one of all that can be
//! reached ([`reach`]) but for code and types, of which there are more as long as V8 compiles. The process is not stopped:
//! what is made, moved or dropped in the milliseconds of a look is in it or not.

mod chunks;
mod contents;
pub(super) mod kinds;
mod malloc;
mod names;

mod reach;
mod roots;

use std::{collections::HashMap, sync::Arc, time::Duration};

use self::{
    chunks::Extent,
    kinds::Kinds,
    names::Names,
    reach::{Places, Reached, Tally},
};
use super::heap::Heap;
use crate::{
    object::{
        Pid,
        maps::{self, Mapping},
    },
    runtime::{
        CREDIT, Language, PARTS,
        by_type::{ByType, Sum},
        count::{Count, Counted, Found},
    },
    target::pages::Pages,
    turns::{Turns, thread_time},
};

/// The most pages of memory of which it is asked whether they are there: 64 GiB.
const MAX_PAGES: u64 = 1 << 24;

/// The most processor time of a look: a heap of 307 MB takes some 2 s.
const LONGEST: Duration = Duration::from_secs(60);

/// How many objects of a thousand may be none, or not be there, in a look that is as good as any: some words that are looked at first lead to
/// where objects were.
const ASTRAY: u64 = 10;

/// How many more than twice as many as in the look before tell that objects were moved.
const LEAST_UNUSUAL: u64 = 40;

/// How many may in a look that is better than none: objects were being moved.
const MAX_ASTRAY: u64 = 50;

/// How many looks there are in a row at most, of which the best one counts.
const TRIES: usize = 3;

/// The most names of types that are told apart, and kept in mind.
const MAX_NAMES: usize = 1024;
const MAX_KNOWN: usize = 1 << 15;

/// Counts the objects of one process that can be reached.
#[derive(Debug)]
pub struct Live {
    pid: Pid,
    kinds: Kinds,
    names: Names,
    places: Places,
    /// Device and inode of the file that V8 is in.
    readable: ((u32, u32), u64),
    /// What types are called, by the word that refers to them, with what stands for the name.
    known: HashMap<u64, ((u64, u64), Arc<str>)>,
    /// How many references led to no object in the last look that counted.
    usual_astray: Option<u64>,
    types: ByType,
    turns: Turns,
}

impl Live {
    /// Of the process whose V8 is in the file `readable`. `None` if its constants do not say enough.
    pub fn new(pid: Pid, readable: ((u32, u32), u64), heap: Heap, constants: &HashMap<&str, u32>) -> Option<Self> {
        let number = |name| constants.get(name).and_then(|&number| u16::try_from(number).ok());
        let names = Names {
            heap,
            descriptors_begin: (*constants.get(kinds::DESCRIPTORS_BEGIN)?).into(),
            map_type: number(kinds::MAP)?,
        };
        let backing_store = constants.get(kinds::BACKING_STORE).map(|&place| place.into());
        let places = Places { instance_type: names.heap.layout.instance_type, backing_store };
        Some(Self {
            pid,
            places,
            kinds: Kinds::of(constants)?,
            names,
            readable,
            known: HashMap::new(),
            usual_astray: None,
            types: ByType::new(Language::Javascript, MAX_NAMES),
            turns: Turns::with_credit(CREDIT),
        })
    }

    /// Whether the pause after the last look is over.
    pub fn may_begin(&self) -> bool {
        self.turns.may_begin()
    }

    /// The objects of each type that can be reached now, and all of them; `None` when that could not be told, and when the process has ended.
    pub fn count(&mut self) -> Option<Found> {
        let begun = thread_time();
        let reached = self.best_look();
        let found = reached.map(|Reached { tallies, mut blocks, .. }| {
            blocks.sort_unstable();
            Found { counts: self.sum(&tallies), blocks: Some(blocks) }
        });
        self.turns.ended(thread_time() - begun, PARTS);
        found
    }

    /// Looks until no objects are moved meanwhile: what is moved may be missed, and all that only it refers to.
    fn best_look(&mut self) -> Option<Reached> {
        let mut best: Option<(u64, Reached)> = None;
        for _ in 0..TRIES {
            let Some((reached, is_steady)) = self.look() else { break };
            // What is weak was found out only now.
            if reached.learned {
                continue;
            }
            let objects: u64 = reached.tallies.iter().map(|tally| tally.objects).sum();
            let astray = (reached.astray + reached.absent).saturating_mul(1000) / objects.max(1);
            let unusual = |usual: u64| reached.astray > usual.saturating_mul(2).saturating_add(LEAST_UNUSUAL);
            if is_steady && astray <= ASTRAY && !self.usual_astray.is_some_and(unusual) {
                best = Some((objects, reached));
                break;
            }
            if astray <= MAX_ASTRAY && best.as_ref().is_none_or(|(most, _)| objects > *most) {
                best = Some((objects, reached));
            }
        }
        let (_, reached) = best?;
        self.usual_astray = Some(reached.astray);
        Some(reached)
    }

    /// Looks once, and says whether V8 has neither taken nor given back a page meanwhile, as it does to move objects and for large ones. `None`
    /// when the heaps cannot be read, are more than is looked at, or take too long.
    fn look(&mut self) -> Option<(Reached, bool)> {
        let mut pages = Pages::open(self.pid, MAX_PAGES)?;
        let (mappings, extents) = self.extents(&mut pages)?;
        let chunks = chunks::at(&extents, &mut pages)?;
        let stacks = roots::stacks(self.pid);
        let begin = roots::ranges(&mappings, self.readable, &stacks);
        let memory = &self.names.heap.memory;
        let reached = reach::reach(memory, chunks, &mut self.kinds, self.places, begin, &mut pages, LONGEST)?;
        let is_steady = Pages::open(self.pid, MAX_PAGES)
            .is_some_and(|mut pages| self.extents(&mut pages).is_some_and(|(_, now)| now == extents));
        (!reached.is_late).then_some((reached, is_steady))
    }

    /// What the process has mapped, and where the pages of its heaps are.
    fn extents(&mut self, pages: &mut Pages) -> Option<(Vec<Mapping>, Vec<Extent>)> {
        let mappings = maps::read(self.pid).ok().filter(|mappings| !mappings.is_empty())?;
        let memory = &mut self.names.heap.memory;
        memory.confine(&mappings);
        let extents = chunks::find(memory, &mappings, pages)?;
        Some((mappings, extents))
    }

    /// The sums by name, and that of all.
    fn sum(&mut self, tallies: &[Tally]) -> Vec<Count> {
        let (mut objects, mut bytes) = (0, 0u64);
        let mut sums: HashMap<Arc<str>, (u64, u64)> = HashMap::new();
        for tally in tallies.iter().filter(|tally| !tally.kind.is_in_table()) {
            let sum = sums.entry(self.name(tally)).or_default();
            *sum = (sum.0 + tally.objects, sum.1.saturating_add(tally.bytes));
            if tally.kind.is_of_program() {
                (objects, bytes) = (objects + tally.objects, bytes.saturating_add(tally.bytes));
            }
        }
        let mut sums: Vec<(Arc<str>, u64, u64)> = sums.into_iter().map(|(name, (n, bytes))| (name, n, bytes)).collect();
        sums.sort_by_key(|(_, _, bytes)| std::cmp::Reverse(*bytes));
        let all = Count::of_all(Counted::Reachable, Language::Javascript, objects, bytes);
        let sums = sums.into_iter().map(|(name, objects, bytes)| (name, Sum::exact(objects, bytes)));
        self.types.take(sums).chain([all]).collect()
    }

    /// What objects of a type are called.
    fn name(&mut self, tally: &Tally) -> Arc<str> {
        if let Some(name) = names::of_kind(tally.kind) {
            return name.into();
        }
        let identity = self.names.identity(tally.map).unwrap_or_default();
        if let Some((of, name)) = self.known.get(&tally.map)
            && *of == identity
        {
            return Arc::clone(name);
        }
        let name: Arc<str> = self.names.read(tally.map).into();
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(tally.map, (identity, Arc::clone(&name)));
        name
    }
}
