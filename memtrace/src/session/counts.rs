//! What the targets' runtimes say of their own memory: asked at each interval, and put into the ledger as what stacks hold.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use memtrace_common::{Slot, StackId};

use super::{censuses::Censuses, key::Key, notice};
use crate::{
    ledger::{self, Kind, Ledger, Precision, StackTotals},
    object::maps::{self, Mapping},
    runtime::{
        Census, Language, Objects,
        count::{Count, Counted, Sampled, State},
        go,
    },
    symbol::Symbolizer,
    target::Pid,
};

/// How often a target is looked at whose books are not found, once an interval.
const LOOKS: u32 = 20;

/// The most names of types that are kept in mind, of all targets together.
const MAX_NAMES: usize = 1 << 16;

/// The runtimes of the targets that keep books, and the censuses of those that keep none.
#[derive(Default)]
pub(super) struct Counts {
    programs: HashMap<Slot, Program>,
    /// Targets whose books were not found yet, and how often they are looked at yet.
    waiting: HashMap<Slot, (Pid, u32)>,
    censuses: Censuses,
    /// Of each target of which there was a census: whether it was the first one.
    turns: HashMap<(Slot, Language), Turn>,
    /// What the last census of each target has found of memory outside of its heap, and when it was taken, by the monotonic clock.
    blocks: HashMap<Slot, (u64, Vec<u64>)>,
    /// Targets of which there was a census when runtimes were asked the last time.
    fresh: HashSet<(Slot, Language)>,
    /// Whether heaps are left out, whose pages are watched.
    without_heaps: bool,
    said: Said,
}

struct Program {
    go: Box<go::Program>,
    turn: Turn,
}

/// Whether something has been asked before: what it holds the first time it may have held for long.
#[derive(Clone, Copy, Default)]
struct Turn {
    was_asked: bool,
    is_first: bool,
}

impl Turn {
    fn next(&mut self) {
        self.is_first = !std::mem::replace(&mut self.was_asked, true);
    }
}

/// What the ledger has no place for.
#[derive(Default)]
struct Said {
    /// What goroutines of a place do, as of the last look.
    states: HashMap<Key, State>,
    /// What types are called, and of which language they are. An id stands for a name, in whichever target, and stays when that ends.
    names: HashMap<StackId, (Arc<str>, Language)>,
}

impl Counts {
    /// From now on the objects in a target's blocks are counted by type. Looks whether its runtime keeps books that can be read; returned is what of them cannot, as a sentence.
    pub(super) fn look(&mut self, slot: Slot, pid: Pid, mappings: &[Mapping], ledger: &Ledger) -> Option<String> {
        self.forget(slot);
        self.censuses.add(slot, Census::open(pid, None), ledger);
        self.look_again(slot, pid, mappings, LOOKS)
    }

    /// Looks at a target so many times more, if not all is found. A program that has only begun has made none of its books yet.
    fn look_again(&mut self, slot: Slot, pid: Pid, mappings: &[Mapping], looks: u32) -> Option<String> {
        match go::find(pid, mappings) {
            go::Finding::Nothing => None,
            go::Finding::Refused(why) => Some(why),
            go::Finding::Partly(_) if looks > 1 => {
                self.waiting.insert(slot, (pid, looks - 1));
                None
            }
            go::Finding::Partly(None) => Some(
                "This Go program keeps its heap's sample and its goroutines elsewhere than memtrace expects: they are not read."
                    .to_owned(),
            ),
            go::Finding::Partly(Some(go)) | go::Finding::Found(go) => {
                let unread = self.unread(&go);
                self.programs.insert(slot, Program { go, turn: Turn::default() });
                unread
            }
        }
    }

    /// What of a program's books cannot be read, as a sentence.
    fn unread(&self, go: &go::Program) -> Option<String> {
        if !go.has_goroutines() {
            return Some("The goroutines of this Go program were not found: they are not counted.".to_owned());
        }
        let why = go.heap_is_unknown().filter(|_| !self.without_heaps)?;
        Some(format!("{why}: who allocates in it is not known; --mode growth shows who touches its memory first."))
    }

    /// Looks at targets again that have only begun.
    fn look_at_waiting(&mut self) {
        for (slot, (pid, looks)) in std::mem::take(&mut self.waiting) {
            // One that has ended is looked at no more.
            let Ok(mappings) = maps::read(pid) else { continue };
            if let Some(why) = self.look_again(slot, pid, &mappings, looks) {
                notice::runtime_refused(pid, &why);
            }
        }
    }

    /// From now on the objects of a target's interpreter are counted by type as well.
    pub(super) fn add_census(&mut self, slot: Slot, pid: Pid, objects: Objects, ledger: &Ledger) {
        self.censuses.add(slot, Census::open(pid, Some(objects)), ledger);
        self.turns.retain(|(of, _), _| *of != slot);
    }

    /// What a target maps from now on.
    pub(super) fn confine(&mut self, slot: Slot, mappings: &[Mapping]) {
        if let Some(program) = self.programs.get_mut(&slot) {
            program.go.confine(mappings);
        }
    }

    /// The target has ended, or runs another program.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.programs.remove(&slot);
        self.waiting.remove(&slot);
        self.censuses.forget(slot);
        self.blocks.remove(&slot);
        self.turns.retain(|(of, _), _| *of != slot);
        self.said.states.retain(|key, _| key.0 != slot);
    }

    /// From now on heaps are left out: who touches their pages is asked in another way.
    pub(super) fn leave_out_heaps(&mut self) {
        self.without_heaps = true;
    }

    /// Asks all runtimes, and puts what they say into the ledger. `now_ns` is by the monotonic clock.
    pub(super) fn ask(&mut self, now_ns: u64, ledger: &mut Ledger, symbols: &mut Symbolizer) {
        self.look_at_waiting();
        for (&slot, program) in &mut self.programs {
            program.turn.next();
            let is_wanted = |count: &&Count| !self.without_heaps || count.counted == Counted::Goroutines;
            for count in program.go.count(now_ns).iter().filter(is_wanted) {
                self.said.take(slot, count, ledger, symbols);
            }
        }
        self.fresh.clear();
        let (fresh, turns, said, blocks) = (&mut self.fresh, &mut self.turns, &mut self.said, &mut self.blocks);
        self.censuses.take(ledger, |ledger, slot, begun_ns, found| {
            for count in &found.counts {
                // The later of two is the one.
                if fresh.insert((slot, count.language)) {
                    turns.entry((slot, count.language)).or_default().next();
                }
                said.take(slot, count, ledger, symbols);
            }
            if let Some(found) = found.blocks {
                blocks.insert(slot, (begun_ns, found));
            }
        });
    }

    /// Puts what a target's runtime told of its objects, since it was asked, into the ledger. After [`Self::ask`].
    pub(super) fn take_told(&mut self, slot: Slot, told: &[Count], ledger: &mut Ledger, symbols: &mut Symbolizer) {
        for count in told {
            if self.fresh.insert((slot, count.language)) {
                self.turns.entry((slot, count.language)).or_default().next();
            }
            self.said.take(slot, count, ledger, symbols);
        }
    }

    /// Where the blocks are that objects of a target hold which can be reached, and when that was so, by the monotonic clock; `None` where it is
    /// not known.
    pub(super) fn reachable_blocks(&self, slot: Slot) -> Option<(u64, &[u64])> {
        self.blocks.get(&slot).filter(|(_, blocks)| !blocks.is_empty()).map(|(at_ns, blocks)| (*at_ns, &**blocks))
    }

    /// Whether what a target holds by its runtime's books, or by a census, was asked for the first time just now.
    pub(super) fn is_first(&self, key: Key) -> bool {
        let (slot, _, kind) = key;
        let turn = match kind {
            _ if kind.begins_at_attach() => None,
            Kind::Type => self.turns.get(&(slot, self.language(key))),
            _ if is_java_heap(key) => self.turns.get(&(slot, Language::Java)),
            _ => self.programs.get(&slot).map(|program| &program.turn),
        };
        turn.is_some_and(|turn| turn.is_first)
    }

    /// Whether what a key holds was looked at when runtimes were asked the last time: censuses make pauses.
    pub(super) fn is_known_now(&self, key: Key) -> bool {
        match key.2 {
            Kind::Type => self.fresh.contains(&(key.0, self.language(key))),
            _ => !is_java_heap(key) || self.fresh.contains(&(key.0, Language::Java)),
        }
    }

    /// The language of a type. That of all that can be reached of V8's heap, which has no name, is JavaScript.
    fn language(&self, key: Key) -> Language {
        self.said.names.get(&key.1).map_or(Language::Javascript, |(_, language)| *language)
    }

    /// What a type is called, and of which language it is; `None` for what is none.
    pub(super) fn type_name(&self, key: Key) -> Option<(&str, Language)> {
        self.said.names.get(&key.1).filter(|_| key.2 == Kind::Type).map(|(name, language)| (&**name, *language))
    }

    /// What a type is called from now on.
    #[cfg(test)]
    pub(super) fn name_type(&mut self, id: StackId, name: &str, language: Language) {
        self.said.names.insert(id, (name.into(), language));
    }

    /// Whether a target's runtime keeps books that are read.
    pub(super) fn has(&self, slot: Slot) -> bool {
        self.programs.contains_key(&slot)
    }

    /// What goroutines do of the stack that reports know by this id.
    pub(super) fn state_of(&self, id: &str) -> Option<&State> {
        let id = StackId(u64::from_str_radix(id, 16).ok()?);
        self.said.states.iter().find(|((_, known, _), _)| *known == id).map(|(_, state)| state)
    }

    /// What goroutines of a place do; `None` for other stacks.
    pub(super) fn state(&self, key: Key) -> Option<&State> {
        self.said.states.get(&key)
    }
}

impl Said {
    /// Puts a count into the ledger, and keeps the rest of it.
    fn take(&mut self, slot: Slot, count: &Count, ledger: &mut Ledger, symbols: &mut Symbolizer) {
        let key = key(slot, count);
        if !count.place.is_empty() && !symbols.contains(slot, key.1) {
            // What lies in no known module is code that has no name.
            let _ = symbols.observe_written(slot, key.1, &count.place);
        }
        match &count.state {
            Some(state) => _ = self.states.insert(key, state.clone()),
            None => _ = self.states.remove(&key),
        }
        if let Some(name) = &count.name
            && self.names.len() < MAX_NAMES
        {
            self.names.entry(key.1).or_insert_with(|| (Arc::clone(name), count.language));
        }
        ledger.set_count(slot, entry(key, count));
    }
}

/// By which id the heap of a Java virtual machine is one stack.
const JAVA_HEAP: StackId = StackId(0x6a61_7661_6865_6170);

/// Whether a key is that of such a heap.
pub(super) fn is_java_heap((_, id, kind): Key) -> bool {
    id == JAVA_HEAP && kind == Kind::Managed
}

/// What tells a place from all others.
fn key(slot: Slot, count: &Count) -> Key {
    if (count.counted, count.language) == (Counted::Heap, Language::Java) {
        return (slot, JAVA_HEAP, Kind::Managed);
    }
    let kind = match count.counted {
        Counted::Objects => Kind::Managed,
        Counted::Goroutines => Kind::Goroutine,
        Counted::Heap => Kind::WholeHeap,
        Counted::Type => Kind::Type,
        Counted::Reachable => return reachable(slot),
    };
    let mut hasher = DefaultHasher::new();
    (kind, count.language, &count.name, &count.place).hash(&mut hasher);
    (slot, StackId(hasher.finish()), kind)
}

/// Under which key it is kept what can be reached of a target's heap.
pub(super) fn reachable(slot: Slot) -> Key {
    (slot, StackId(0x7265_6163_6861_626c), Kind::Type)
}

fn entry((_, id, kind): Key, count: &Count) -> ledger::Count {
    ledger::Count {
        totals: StackTotals {
            id,
            kind,
            outstanding_bytes: count.bytes,
            outstanding_blocks: count.objects,
            allocations: count.ever,
            allocated_bytes: count.ever_bytes,
            moves: 0,
            moved_bytes: 0,
        },
        precision: count.sampled.map(precision),
    }
}

/// How well the ledger knows what a runtime's sample says.
pub(super) fn precision(Sampled { held, ever, held_variance, turnover_variance }: Sampled) -> Precision {
    Precision { live_seen: held, ever_seen: ever, live: held_variance, turnover: turnover_variance.max(held_variance) }
}
