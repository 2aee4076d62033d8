//! Go's heap by where objects were allocated, from the sample that the runtime itself keeps (runtime/mprof.go).
//!
//! The runtime draws an object for each 512 KiB that are allocated, and keeps a record for each place and size: how many were
//! allocated, how many the collector found dead. Deaths are known only when a collection has ended, and the runtime makes the counters
//! of its published part wait for that. An object that was allocated since has not been looked at, so that a heap always seems to
//! grow until the next collection. What is held now is therefore estimated: what was alive at the last collection, and of what was
//! allocated since the share that has survived collections up to then.

use std::{collections::HashMap, sync::Arc};

use crate::runtime::{
    Language, Memory,
    count::{Count, Counted, Sampled},
    pages::Pages,
};

/// The most records that are followed.
const MAX_RECORDS: usize = 1 << 18;

/// The most addresses of a place (`maxStack` and `maxProfStackDepth` of Go are 32 and 1024).
const MAX_PLACE: u64 = 1024;

/// How many of them are taken.
const MAX_FRAMES: usize = 127;

/// The type of record for memory (`memProfile` in runtime/mprof.go).
const OF_MEMORY: u64 = 1;

/// Bytes in front of a record's addresses.
const HEAD_BYTES: u64 = 48;

/// Words behind a record's addresses: counters of what is published, and three times as many of what is not. Up to Go 1.26 they are
/// objects allocated and dead and the bytes of both; from 1.27 on the bytes are left out.
const WORDS: usize = 16;
const WITH_BYTES: usize = 4;
const WITHOUT_BYTES: usize = 2;

/// Objects allocated and dead, published, and in the three parts that are not.
type Counters = [(u64, u64); 4];

/// How many objects have to be drawn before the share of survivors is taken from recent collections alone.
const ENOUGH: u64 = 16;

/// How many collections are kept in mind.
const MAX_HISTORY: usize = 16;

/// Reads the heap of one process.
#[derive(Debug)]
pub struct Heap {
    /// Where the pointer to the first record is, and the mean distance of sampling points; no place where that is not known.
    first: u64,
    rate: Option<u64>,
    records: HashMap<u64, Record>,
    places: Vec<Arc<[u64]>>,
    by_addresses: HashMap<Arc<[u64]>, usize>,
    /// How many words each part of a record has; `None` until a record tells.
    stride: Option<usize>,
    /// Objects in each of the three parts that are not published yet, as read the last time.
    pending: [u64; 3],
    /// The part that takes what is allocated now.
    current: Option<usize>,
}

/// Objects of one size that one place allocates.
#[derive(Debug)]
struct Record {
    place: usize,
    size: u64,
    /// Where its counters are.
    counters: u64,
    published: History,
    seen: History,
    /// How many drawn objects had been allocated and had died at the last look, and how many were held then.
    last: (u64, u64, f64),
    /// Drawn objects that came or went and may have changed what is held, from look to look.
    changed: f64,
}

/// How many objects were allocated and how many of them were dead, at the last collections.
#[derive(Debug, Default)]
struct History(Vec<(u64, u64)>);

impl History {
    fn push(&mut self, allocated: u64, dead: u64) {
        match self.0.last_mut() {
            Some(last) if last.0 == allocated => last.1 = last.1.max(dead),
            _ => {
                if self.0.len() == MAX_HISTORY {
                    self.0.remove(0);
                }
                self.0.push((allocated, dead));
            }
        }
    }

    /// The share of what was allocated that survived: over the last collections, as many as it takes, or over all time. `None` if
    /// nothing was allocated.
    fn survivors(&self) -> Option<f64> {
        let &(allocated, dead) = self.0.last()?;
        let before = self.0.iter().rev().find(|before| allocated.saturating_sub(before.0) >= ENOUGH);
        let (allocated_before, dead_before) = before.copied().unwrap_or_default();
        let (allocated, dead) = (allocated - allocated_before, dead.saturating_sub(dead_before));
        (allocated > 0).then(|| (1.0 - dead as f64 / allocated as f64).clamp(0.0, 1.0))
    }
}

/// What a record says, in drawn objects.
#[derive(Clone, Copy, Debug, Default)]
struct Drawn {
    allocated: u64,
    dead: u64,
    published: u64,
    published_dead: u64,
    current: u64,
}

/// Finds where the list of records is: the first of these places that leads to records. A program that has not drawn an object
/// yet has none, and is taken for one that will if there is but one such place, or but one that several functions name.
pub fn prove(places: &[u64], rates: &[u64], memory: &Memory) -> Option<Heap> {
    let mut pages = Pages::of(memory);
    let is_list = |&&place: &&u64| {
        let record = memory.word(place).filter(|&record| record != 0);
        record.and_then(|record| head(record, &mut pages)).is_some()
    };
    let empty = || only(places).filter(|&&place| memory.word(place) == Some(0));
    let &first = places.iter().find(is_list).or_else(empty)?;
    // By symbol there is one; of several the one that has the usual value.
    let usual = |&&place: &&u64| rates.len() == 1 || memory.word(place) == Some(USUAL_RATE);
    Some(Heap {
        first,
        rate: rates.iter().find(usual).copied(),
        records: HashMap::new(),
        places: Vec::new(),
        by_addresses: HashMap::new(),
        stride: None,
        pending: [0; 3],
        current: None,
    })
}

/// The place that there is no choice about: the only one, or the only one that is there twice, since two functions name it.
fn only(places: &[u64]) -> Option<&u64> {
    let named_twice = |(at, place): &(usize, &u64)| places[..*at].contains(place);
    let mut found = places.iter().enumerate().filter(|place| places.len() == 1 || named_twice(place));
    let (_, place) = found.next()?;
    found.next().is_none().then_some(place)
}

/// The mean distance of sampling points, where the program does not set another one.
const USUAL_RATE: u64 = 512 << 10;

/// The next record, the size of objects, and how many addresses there are; `None` if this is no record.
fn head(record: u64, pages: &mut Pages<'_>) -> Option<(u64, u64, u64)> {
    let [_, next, kind, _, size, count] = pages.words(record)?;
    (kind == OF_MEMORY && count <= MAX_PLACE && record.is_multiple_of(8)).then_some((next, size, count))
}

impl Heap {
    /// The mean distance of sampling points; 0 where the program draws nothing, since nothing in it reads the sample.
    pub fn rate(&self, memory: &Memory) -> Option<u64> {
        match self.rate {
            Some(rate) => memory.word(rate).filter(|&rate| rate <= 1 << 40),
            None => Some(USUAL_RATE),
        }
    }

    /// What each place of the program holds now, by the estimate.
    pub fn count(&mut self, memory: &Memory) -> Option<Vec<Count>> {
        let rate = self.rate(memory)?;
        let mut pages = Pages::of(memory);
        self.learn(&mut pages)?;
        let mut read: Vec<(&mut Record, [u64; WORDS])> = Vec::with_capacity(self.records.len());
        for record in self.records.values_mut() {
            let mut words = [0; WORDS];
            let (first, rest) = words.split_at_mut(4 * WITHOUT_BYTES);
            first.copy_from_slice(&pages.words::<{ 4 * WITHOUT_BYTES }>(record.counters)?);
            // Where a record has no more, other things follow, or nothing.
            if let Some(more) = pages.words::<{ WORDS - 4 * WITHOUT_BYTES }>(record.counters + 8 * first.len() as u64) {
                rest.copy_from_slice(&more);
            }
            read.push((record, words));
        }
        self.stride = self.stride.or_else(|| stride(&read));
        let Some(stride) = self.stride else { return Some(Vec::new()) };
        let mut read: Vec<(&mut Record, Counters)> =
            read.into_iter().map(|(record, words)| (record, counters(&words, stride))).collect();
        // Nonsense is left out: the process may be ending, or have been read at an unlucky moment.
        read.retain(|(_, counters)| counters.iter().all(|&(allocated, dead)| allocated <= MOST && dead <= MOST));
        let part = |part: usize| read.iter().map(|(_, counters)| counters[part + 1].0).fold(0, u64::wrapping_add);
        let pending = [part(0), part(1), part(2)];
        self.current = current(self.current, std::mem::replace(&mut self.pending, pending), pending);
        let mut counts: Vec<Count> = self.places.iter().map(|place| nothing(Counted::Objects, place)).collect();
        let mut whole = nothing(Counted::Heap, &Arc::default());
        for (record, counters) in read {
            let drawn = drawn(&counters, self.current);
            let held = record.held(&drawn);
            let draws = Draws { ever: drawn.allocated, held, changed: record.changed(&drawn, held) };
            add(&mut counts[record.place], record.size, rate, draws);
            add(&mut whole, record.size, rate, draws);
        }
        counts.push(whole);
        Some(counts)
    }

    /// Follows the list up to the first record that is known: new ones come in front.
    fn learn(&mut self, pages: &mut Pages<'_>) -> Option<()> {
        let mut at = pages.word(self.first)?;
        while at != 0 && !self.records.contains_key(&at) && self.records.len() < MAX_RECORDS {
            let (next, size, count) = head(at, pages)?;
            let mut addresses = Vec::new();
            for index in 0..count.min(MAX_FRAMES as u64) {
                let address = pages.word(at + HEAD_BYTES + 8 * index)?;
                // Skipped ones are 0.
                addresses.extend(Some(address).filter(|&address| address != 0));
            }
            let addresses: Arc<[u64]> = addresses.into();
            let places = &mut self.places;
            let place = *self.by_addresses.entry(addresses).or_insert_with_key(|addresses| {
                places.push(Arc::clone(addresses));
                places.len() - 1
            });
            self.records.insert(at, Record::new(place, size, at + HEAD_BYTES + 8 * count));
            at = next;
        }
        Some(())
    }
}

/// Which part takes what is allocated now, from what the parts held before and hold now. A collection publishes the part behind it, which
/// is then empty and the next one. `None` while nothing tells.
fn current(known: Option<usize>, before: [u64; 3], now: [u64; 3]) -> Option<usize> {
    let has_changed = |part: &usize| now[*part] != before[*part];
    match known {
        Some(current) => [2, 1].map(|ahead| (current + ahead) % 3).into_iter().find(has_changed).or(known),
        None => (0..3).find(has_changed).filter(|_| (0..3).filter(has_changed).count() == 1),
    }
}

/// No record has drawn more objects than that.
const MOST: u64 = 1 << 48;

/// How many words each part of a record has, by most of those that count anything; `None` if none does.
fn stride(read: &[(&mut Record, [u64; WORDS])]) -> Option<usize> {
    let (mut with, mut without) = (0, 0);
    for (record, words) in read.iter().filter(|(_, words)| words[..4 * WITHOUT_BYTES].iter().any(|&word| word > 0)) {
        let is_with =
            |part: &[u64]| part[2] == part[0].wrapping_mul(record.size) && part[3] == part[1].wrapping_mul(record.size);
        *(if words.chunks_exact(WITH_BYTES).all(is_with) { &mut with } else { &mut without }) += 1;
    }
    (with + without > 0).then_some(if with > without { WITH_BYTES } else { WITHOUT_BYTES })
}

fn counters(words: &[u64; WORDS], stride: usize) -> Counters {
    [0, 1, 2, 3].map(|part| (words[part * stride], words[part * stride + 1]))
}

/// What a record says.
fn drawn(counters: &Counters, current: Option<usize>) -> Drawn {
    let sum = |of: fn(&(u64, u64)) -> u64| counters.iter().map(of).fold(0, u64::saturating_add);
    Drawn {
        allocated: sum(|part| part.0),
        dead: sum(|part| part.1),
        published: counters[0].0,
        published_dead: counters[0].1,
        current: current.map_or(0, |part| counters[part + 1].0),
    }
}

impl Record {
    fn new(place: usize, size: u64, counters: u64) -> Self {
        let (published, seen) = (History::default(), History::default());
        Self { place, size, counters, published, seen, last: (0, 0, 0.0), changed: 0.0 }
    }

    /// How many drawn objects may have changed what is held, over all looks. What is held changes by objects that came since the last look and
    /// live, and by objects that lived then and are gone: at most as many as came and went at all, and as lived at the two looks together.
    fn changed(&mut self, drawn: &Drawn, held: f64) -> f64 {
        let (allocated, dead, before) = std::mem::replace(&mut self.last, (drawn.allocated, drawn.dead, held));
        let moved = drawn.allocated.saturating_sub(allocated).saturating_add(drawn.dead.saturating_sub(dead));
        self.changed += (moved as f64).min(before + held);
        self.changed
    }

    /// How many drawn objects are held now, by the estimate.
    ///
    /// There are two: by what is published, which is a collection behind and right, and by what is not, in which the dead of the last
    /// collection may not all be counted yet, so that it is too high at times. The lower one is taken.
    fn held(&mut self, drawn: &Drawn) -> f64 {
        let before = drawn.allocated.saturating_sub(drawn.current);
        self.published.push(drawn.published, drawn.published_dead);
        self.seen.push(before, drawn.dead);
        let estimate = |allocated: u64, dead: u64, history: &History| {
            let since = drawn.allocated.saturating_sub(allocated) as f64;
            let share = history.survivors()?;
            Some(allocated.saturating_sub(dead) as f64 + share * since)
        };
        let published = estimate(drawn.published, drawn.published_dead, &self.published);
        let seen = estimate(before, drawn.dead, &self.seen);
        // Where no collection has looked at any of them yet, nothing is known to be held.
        published.into_iter().chain(seen).reduce(f64::min).unwrap_or(0.0)
    }
}

fn nothing(counted: Counted, place: &Arc<[u64]>) -> Count {
    Count {
        counted,
        language: Language::Go,
        name: None,
        place: Arc::clone(place),
        bytes: 0,
        objects: 0,
        ever: 0,
        ever_bytes: 0,
        sampled: Some(Sampled::default()),
        state: None,
    }
}

/// Drawn objects of one size.
#[derive(Clone, Copy, Debug)]
struct Draws {
    /// All that ever were.
    ever: u64,
    /// Those that are held, by the estimate.
    held: f64,
    /// Those by whose coming and going what is held has changed, at most.
    changed: f64,
}

/// Adds drawn objects of one size.
fn add(count: &mut Count, size: u64, rate: u64, Draws { ever, held, changed }: Draws) {
    // What one that was drawn stands for (`scaleHeapSample` in runtime/pprof of Go).
    let stands_for = if rate <= 1 { 1.0 } else { 1.0 / -(-(size.max(1) as f64) / rate as f64).exp_m1() };
    let bytes = size as f64;
    let variance = stands_for * (stands_for - 1.0) * bytes * bytes;
    // Floats that are too large become the largest integers.
    count.bytes = count.bytes.saturating_add((held * stands_for * bytes) as u64);
    count.objects = count.objects.saturating_add((held * stands_for).round() as u64);
    count.ever = count.ever.saturating_add((ever as f64 * stands_for).round() as u64);
    count.ever_bytes = count.ever_bytes.wrapping_add((ever as f64 * stands_for * bytes) as u64);
    if let Some(sampled) = &mut count.sampled {
        sampled.held += held.round() as u64;
        sampled.ever += ever;
        sampled.held_variance += held * variance;
        sampled.turnover_variance += changed * variance;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Go keeps of one place: objects allocated and dead, published and in three parts, and the number of collections.
    #[derive(Default)]
    struct Profile {
        counters: Counters,
        cycle: usize,
        live: u64,
    }

    impl Profile {
        fn allocate(&mut self, objects: u64) {
            self.counters[1 + (self.cycle + 2) % 3].0 += objects;
            self.live += objects;
        }

        /// So many of the objects are found dead.
        fn collect(&mut self, dead: u64) {
            self.cycle += 1;
            let part = 1 + self.cycle % 3;
            let (allocated, gone) = std::mem::take(&mut self.counters[part]);
            self.counters[0].0 += allocated;
            self.counters[0].1 += gone;
            self.counters[1 + (self.cycle + 1) % 3].1 += dead;
            self.live -= dead;
        }
    }

    /// What is held by the estimate after each step of a program.
    fn estimates(steps: usize, step: impl Fn(usize, &mut Profile)) -> Vec<(f64, u64)> {
        let (mut profile, mut known, mut pending) = (Profile::default(), None, [0; 3]);
        let mut record = Record::new(0, 64, 0);
        let mut all = Vec::new();
        for at in 0..steps {
            step(at, &mut profile);
            let now = [1, 2, 3].map(|part| profile.counters[part].0);
            known = current(known, std::mem::replace(&mut pending, now), now);
            all.push((record.held(&drawn(&profile.counters, known)), profile.live));
        }
        all
    }

    #[test]
    fn of_several_places_the_one_that_two_functions_name_is_the_list() {
        assert_eq!(only(&[8]), Some(&8));
        assert_eq!(only(&[8, 16, 24, 16, 32]), Some(&16));
        assert_eq!((only(&[]), only(&[8, 16]), only(&[8, 16, 8, 16])), (None, None, None));
    }

    #[test]
    fn a_leak_is_seen_between_collections_as_well() {
        let all = estimates(60, |at, profile| {
            profile.allocate(5);
            if at % 20 == 10 {
                profile.collect(0);
            }
        });
        // Once a collection has looked.
        assert!(all[11..].iter().all(|&(held, live)| (held - live as f64).abs() < 1e-9), "{all:?}");
    }

    #[test]
    fn garbage_that_waits_for_a_collection_is_not_held() {
        let all = estimates(100, |at, profile| {
            profile.allocate(5);
            if at % 20 == 10 {
                profile.collect(profile.live);
            }
        });
        assert!(all.iter().skip(32).all(|&(held, _)| held < 1.0), "{all:?}");
    }

    #[test]
    fn a_cache_that_is_full_stays_level() {
        let all = estimates(200, |at, profile| {
            profile.allocate(5);
            if at % 20 == 10 {
                profile.collect(profile.live.saturating_sub(100));
            }
        });
        assert!(all.iter().skip(90).all(|&(held, _)| (99.0..=125.0).contains(&held)), "{all:?}");
    }

    #[test]
    fn garbage_is_no_doubt_about_what_is_held_and_what_takes_the_place_of_others_is() {
        let mut record = Record::new(0, 64, 0);
        let drawn = |allocated, dead| Drawn { allocated, dead, ..Drawn::default() };
        assert_eq!(record.changed(&drawn(10, 0), 10.0), 10.0);
        // Nothing is held any more from here on, whatever comes and goes.
        assert_eq!(record.changed(&drawn(1010, 1010), 0.0), 20.0);
        assert_eq!(record.changed(&drawn(9010, 9010), 0.0), 20.0);
        // Three are kept, and then others in their places.
        assert_eq!(record.changed(&drawn(9013, 9010), 3.0), 23.0);
        assert_eq!(record.changed(&drawn(9016, 9013), 3.0), 29.0);
    }

    #[test]
    fn the_part_that_takes_what_is_allocated_is_found_and_followed() {
        assert_eq!(current(None, [0; 3], [0; 3]), None);
        assert_eq!(current(None, [0; 3], [0, 4, 0]), Some(1));
        assert_eq!(current(Some(1), [0, 4, 0], [0, 9, 0]), Some(1));
        // One collection, and two.
        assert_eq!(current(Some(1), [0, 9, 3], [0, 9, 1]), Some(2));
        assert_eq!(current(Some(1), [2, 9, 3], [1, 9, 0]), Some(0));
    }

    #[test]
    fn records_with_and_without_bytes_are_told_apart() {
        let record = |size| Record::new(0, size, 0);
        let mut some = [record(64), record(4096)];
        let with = |size: u64| {
            let mut words = [0; WORDS];
            words[..8].copy_from_slice(&[7, 2, 7 * size, 2 * size, 1, 0, size, 0]);
            words
        };
        let mut without = [0; WORDS];
        without[..8].copy_from_slice(&[7, 2, 1, 0, 3, 0, 0, 0]);
        let [first, second] = &mut some;
        assert_eq!(stride(&[(&mut *first, with(64)), (&mut *second, with(4096))]), Some(WITH_BYTES));
        assert_eq!(stride(&[(&mut *first, without), (&mut *second, [0; WORDS])]), Some(WITHOUT_BYTES));
        assert_eq!(stride(&[(first, [0; WORDS])]), None);
    }
}
