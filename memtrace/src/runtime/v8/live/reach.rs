//! Which objects of V8's heaps can be reached, found while the process runs: from all words of its memory outside of the heaps
//! that point into them, through what these objects refer to.
//!
//! So that the memory this takes is bounded, whatever the heap, the objects of one page are looked at together: a page is read
//! when objects in it have been reached, and again when more have been. What is weak for V8 is weak here: references with that mark,
//! the keys of weak collections, and handles that wait for the end of their object.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    time::Duration,
};

use super::{
    super::layout::{ELEMENTS, SIZE},
    chunks::{CHUNK, Chunk, PAGE, index_of},
    contents::{Cache, each_piece},
    kinds::{self, Kind, Kinds},
    malloc,
    roots::{Root, is_arena, is_weak_handle},
};
use crate::{runtime::Memory, target::pages::Pages, turns::thread_time};

/// The most bytes outside of the heaps that are looked at.
const MAX_ROOT_BYTES: u64 = 8 << 30;

/// The most buffers whose memory is told.
const MAX_BLOCKS: usize = 1 << 20;

/// The most types of objects that are told apart.
const MAX_TYPES: usize = 1 << 17;

/// The most tables of weak collections.
const MAX_TABLES: usize = 1 << 16;

/// The most turns in which keys of weak collections are found to live.
const MAX_TURNS: usize = 64;

/// How many words that refer to objects of no heap are side by side in an isolate: V8 has some 700 such roots.
const ISOLATE_WORDS: usize = 128;

/// How many of the first of these are types at least, and at how many such tables it is looked.
const ISOLATE_TYPES: usize = 16;
const MAX_TABLES_OF_ISOLATES: usize = 64;

/// How many objects are looked at from one look at the clock to the next.
const LOOKS_BETWEEN: u64 = 1024;

/// What types are looked up by first, most of the time with success.
const RECENT: usize = 1 << 12;

/// What a tagged word has in its lowest bits that refers to an object.
const MARK: u64 = 1;
const MARK_BITS: u64 = 7;

/// What objects of one type hold.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// The type, as a word that refers to it.
    pub map: u64,
    /// What it stands for.
    pub kind: Kind,
    /// Bytes of each of its objects; 0 where they differ.
    fixed: u64,
    /// Objects that have been reached.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// What has been found of the objects of a process.
#[derive(Debug)]
pub struct Reached {
    /// By type.
    pub tallies: Vec<Tally>,
    /// Where the memory of buffers is.
    pub blocks: Vec<u64>,
    /// How many references led to what is no object, as they do where objects are moved at this moment.
    pub astray: u64,
    /// How many objects lie in memory that is swapped out.
    pub absent: u64,
    /// Whether the search was given up, since it took too long.
    pub is_late: bool,
    /// Whether it was found out only now what tables of weak collections are.
    pub learned: bool,
}

/// Where what is looked for is in objects.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// In what describes a type: its number.
    pub instance_type: u64,
    /// In a buffer: the address of its memory; `None` where that is not known.
    pub backing_store: Option<u64>,
}

/// Reaches all that can be reached, in so much processor time at most, whatever the memory holds.
pub fn reach(
    memory: &Memory,
    chunks: Vec<Chunk>,
    kinds: &mut Kinds,
    places: Places,
    roots: impl Iterator<Item = Root>,
    pages: &mut Pages,
    longest: Duration,
) -> Option<Reached> {
    let mut search = Search {
        memory,
        pages,
        chunks,
        kinds,
        places,
        until: thread_time() + longest,
        queue: VecDeque::new(),
        cache: Cache::default(),
        types: HashMap::new(),
        recent: vec![(0, 0); RECENT].into(),
        tables: Vec::new(),
        found: Reached {
            tallies: Vec::new(),
            blocks: Vec::new(),
            astray: 0,
            absent: 0,
            is_late: false,
            learned: false,
        },
    };
    search.begin(roots)?;
    search.follow();
    search.follow_tables();
    Some(search.found)
}

struct Search<'m> {
    memory: &'m Memory,
    pages: &'m mut Pages,
    chunks: Vec<Chunk>,
    kinds: &'m mut Kinds,
    places: Places,
    /// The processor time of this thread at which it is given up.
    until: Duration,
    /// Pages in which objects are still to be looked at.
    queue: VecDeque<usize>,
    cache: Cache,
    /// Where the tallies of types are, by the word that refers to them; `None` for what is no type.
    types: HashMap<u64, Option<usize>>,
    /// Types that were looked up lately, by some bits of the word, and one more than where their tallies are.
    recent: Box<[(u64, usize)]>,
    /// Where tables of weak collections begin and end.
    tables: Vec<(u64, u64)>,
    found: Reached,
}

impl Search<'_> {
    /// Takes all words that refer to objects.
    fn begin(&mut self, roots: impl Iterator<Item = Root>) -> Option<()> {
        let mut left = MAX_ROOT_BYTES;
        for Root { range: root, is_heap } in roots {
            let mut present: Vec<u64> = Vec::new();
            self.pages.present(root.start & !(PAGE - 1)..root.end, PAGE, |address| present.push(address))?;
            present.retain(|&address| index_of(&self.chunks, address).is_none());
            left = left.checked_sub(present.len() as u64 * PAGE)?;
            // What threads that only collect leave in their memory are lists of objects that are long dead.
            if is_arena(self.memory, root.start) && !self.has_isolate(&present) {
                continue;
            }
            let unused = if is_heap { malloc::unused(self.memory, root.clone(), &present) } else { Vec::new() };
            let mut unused = unused.into_iter().peekable();
            each_piece(self.memory, &present, |address, bytes| {
                let end = address + bytes.len() as u64;
                let place = |at: u64| (at.clamp(address, end) - address) as usize;
                bytes[..place(root.start)].fill(0);
                while let Some(range) = unused.peek().filter(|range| range.start < end) {
                    bytes[place(range.start)..place(range.end)].fill(0);
                    // What goes on in the next piece is looked at again there.
                    if range.end > end {
                        break;
                    }
                    unused.next();
                }
                self.take_roots(bytes);
            });
        }
        Some(())
    }

    /// Whether an isolate is in these pages: it has a table of objects that never die, which are in no heap, and nothing else has so many side by
    /// side. The first of them are types; what is left over of lists of dead objects has none.
    fn has_isolate(&self, pages: &[u64]) -> bool {
        let (mut is_found, mut looks) = (false, 0);
        each_piece(self.memory, pages, |_, bytes| {
            let words = bytes.as_chunks::<8>().0;
            let word = |at: usize| u64::from_ne_bytes(words[at]);
            let mut run = 0;
            for at in 0..words.len() {
                let is_immortal = word(at) & MARK_BITS == MARK && index_of(&self.chunks, word(at) - MARK).is_none();
                run = if is_immortal { run + 1 } else { 0 };
                if run == ISOLATE_WORDS && looks < MAX_TABLES_OF_ISOLATES {
                    looks += 1;
                    let types = (at + 1 - run..=at).filter(|&at| self.is_type(word(at))).count();
                    is_found |= types >= ISOLATE_TYPES;
                }
            }
        });
        is_found
    }

    /// Whether a word refers to what describes a type.
    fn is_type(&self, word: u64) -> bool {
        self.number_of(word).is_some_and(|number| self.kinds.kind(number) == Kind::Map)
    }

    fn take_roots(&mut self, bytes: &[u8]) {
        for (at, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
            let word = u64::from_ne_bytes(*word);
            if word & MARK_BITS == MARK && !is_weak_handle(bytes, 8 * at) {
                self.refer(word);
            }
        }
    }

    /// Reaches the object that a word refers to, if it refers to one.
    fn refer(&mut self, word: u64) {
        if word & MARK_BITS != MARK {
            return;
        }
        let Some(index) = index_of(&self.chunks, word - MARK) else { return };
        let chunk = &mut self.chunks[index];
        if chunk.reach(word - MARK) && !chunk.is_queued {
            chunk.is_queued = true;
            self.queue.push_back(index);
        }
    }

    /// Looks at all objects that have been reached, and those that these refer to.
    fn follow(&mut self) {
        let mut looks = 0u64;
        while let Some(index) = self.queue.pop_front() {
            let mut from = 0;
            while let Some(word) = self.chunks[index].next_pending(from).or_else(|| self.chunks[index].next_pending(0))
            {
                if looks.is_multiple_of(LOOKS_BETWEEN) && self.is_late() {
                    return self.queue.clear();
                }
                looks += 1;
                from = word;
                self.look(index, self.chunks[index].base + 8 * word as u64);
            }
            self.chunks[index].is_queued = false;
        }
    }

    /// Looks at one object.
    fn look(&mut self, index: usize, address: u64) {
        let chunk = &self.chunks[index];
        let (base, end) = (chunk.base, chunk.end);
        let head = address..(address + 16).min(end);
        if !(chunk.is_present(&head) || self.renew(index) && self.chunks[index].is_present(&head)) {
            self.found.absent += 1;
            return;
        }
        let mut contents = self.cache.get(self.memory, index, &self.chunks[index]);
        let at = (address - base) as usize;
        // There was nothing yet when the page was read.
        if self.cache.word(contents, at) == Some(0) && self.renew(index) {
            contents = self.cache.get(self.memory, index, &self.chunks[index]);
        }
        let word = |search: &Self, offset: u64| search.cache.word(contents, at + offset as usize);
        let Some((map, second)) = word(self, 0).zip(word(self, SIZE)) else { return };
        let Some(tally) = self.type_of(map) else {
            // The object has just been moved, and its new place stands here.
            if map & MARK_BITS == 0 && index_of(&self.chunks, map).is_some() {
                self.refer(map | MARK);
            } else {
                self.found.astray += 1;
            }
            return;
        };
        let Tally { mut kind, fixed, objects, .. } = self.found.tallies[tally];
        if objects == 0
            && matches!(kind, Kind::Other(_))
            && word(self, ELEMENTS).is_some_and(|first| self.is_scope(first))
        {
            kind = Kind::Context;
            self.found.tallies[tally].kind = kind;
        }
        let shape = kind.shape(fixed, second);
        let bytes = shape.bytes.min(end - address);
        self.found.tallies[tally].objects += 1;
        self.found.tallies[tally].bytes += bytes;
        if kind == Kind::ArrayBuffer
            && self.found.blocks.len() < MAX_BLOCKS
            && let Some(store) = self.places.backing_store.and_then(|place| word(self, place))
        {
            self.found.blocks.push(store);
        }
        if kind == Kind::WeakTable {
            if self.tables.len() < MAX_TABLES {
                self.tables.push((address, address + bytes));
            }
            return;
        }
        let weak = match kind {
            Kind::WeakCell => kinds::WEAK_CELL_WORDS,
            Kind::WeakRef => kinds::WEAK_REF_WORDS,
            _ => 0..0,
        };
        let references = shape.references.start..shape.references.end.min(bytes);
        let inside = references.start as usize..(references.end as usize).min(CHUNK as usize - at);
        for offset in inside.step_by(8).filter(|&offset| !weak.contains(&(offset as u64))) {
            if let Some(found) = word(self, offset as u64) {
                self.refer(found);
            }
        }
        if address + references.end > base + CHUNK {
            self.look_beyond(base + CHUNK..address + references.end);
        }
        if kind == Kind::WeakCollection
            && let Some(table) = word(self, kinds::TABLE)
        {
            self.learn_table(table);
        }
    }

    /// Reads a page anew, as it is by now. Whether it may be.
    fn renew(&mut self, index: usize) -> bool {
        let is_renewed = self.chunks[index].renew(self.pages).is_some();
        if is_renewed {
            self.cache.forget(index);
        }
        is_renewed
    }

    /// Looks at the references of a large object that are behind the first piece of its page.
    fn look_beyond(&mut self, range: Range<u64>) {
        self.each_of(range, |search, [word]| search.refer(word));
    }

    /// Calls `found` with all words of a range, `N` at a time. What cannot be read is noted.
    fn each_of<const N: usize>(&mut self, range: Range<u64>, mut found: impl FnMut(&mut Self, [u64; N])) {
        let unit = 8 * N as u64;
        let mut buffer = vec![0; CHUNK as usize];
        let mut at = range.start;
        while at + unit <= range.end && !self.is_late() {
            let bytes = &mut buffer[..(range.end - at).min(CHUNK) as usize / unit as usize * unit as usize];
            if self.memory.fill(at, bytes).is_none() {
                self.found.absent += 1;
                return;
            }
            for words in bytes.as_chunks::<8>().0.as_chunks::<N>().0 {
                found(self, words.map(u64::from_ne_bytes));
            }
            at += bytes.len() as u64;
        }
    }

    /// Whether the search has taken too long.
    fn is_late(&mut self) -> bool {
        self.found.is_late = self.found.is_late || thread_time() > self.until;
        self.found.is_late
    }

    /// Where the tally of a type is; `None` for what is no type.
    fn type_of(&mut self, map: u64) -> Option<usize> {
        let recent = (map >> 3) as usize % RECENT;
        if let (known, next @ 1..) = self.recent[recent]
            && known == map
        {
            return Some(next - 1);
        }
        let known = match self.types.get(&map) {
            Some(known) => *known,
            None => {
                let known = self.read_type(map);
                if self.types.len() < MAX_TYPES {
                    self.types.insert(map, known);
                }
                known
            }
        };
        if let Some(index) = known {
            self.recent[recent] = (map, index + 1);
        }
        known
    }

    fn read_type(&mut self, map: u64) -> Option<usize> {
        let head = self.describe(map)?;
        // What describes it is a type itself, of the type of types.
        let above = u64::from_ne_bytes(*head.first_chunk()?);
        if self.number(&self.describe(above)?).map(|number| self.kinds.kind(number)) != Some(Kind::Map) {
            return None;
        }
        let kind = self.kinds.kind(self.number(&head)?);
        self.found.tallies.push(Tally { map, kind, fixed: 8 * u64::from(head[8]), objects: 0, bytes: 0 });
        Some(self.found.tallies.len() - 1)
    }

    /// The first bytes of what describes a type.
    fn describe(&self, map: u64) -> Option<[u8; 16]> {
        let is_possible = map & MARK_BITS == MARK && (1 << 16..1 << 47).contains(&map);
        if is_possible { self.memory.bytes(map - MARK) } else { None }
    }

    fn number(&self, head: &[u8; 16]) -> Option<u16> {
        let at = usize::try_from(self.places.instance_type).ok()?;
        Some(u16::from_ne_bytes(head.get(at..at + 2)?.try_into().ok()?))
    }

    /// Whether a word refers to the names of a function's variables, as the first element of what has their values does.
    fn is_scope(&self, word: u64) -> bool {
        self.number_of(word).is_some_and(|number| self.kinds.kind(number) == Kind::Scope)
    }

    /// The number of the type of the object that a word refers to.
    fn number_of(&self, word: u64) -> Option<u16> {
        let map = if word & MARK_BITS == MARK { self.memory.word(word - MARK)? } else { return None };
        self.number(&self.describe(map)?)
    }

    /// A weak collection has this table.
    fn learn_table(&mut self, table: u64) {
        if let Some(number) = self.number_of(table) {
            self.found.learned |= self.kinds.learn_weak_table(number);
        }
    }

    /// Values of weak collections live as long as their keys: which do is asked again until no more are found.
    fn follow_tables(&mut self) {
        for turn in 0..MAX_TURNS {
            let is_last = turn == MAX_TURNS - 1;
            let mut index = 0;
            // More may be found meanwhile.
            while let Some(&(from, end)) = self.tables.get(index) {
                self.follow_table(from, end, is_last);
                index += 1;
            }
            if self.queue.is_empty() {
                return;
            }
            self.follow();
        }
    }

    fn follow_table(&mut self, from: u64, end: u64, is_last: bool) {
        self.each_of(from + kinds::FIRST_KEY..end, |search, [key, value]| {
            if is_last || search.lives(key) {
                search.refer(value);
            }
        });
    }

    /// Whether a word refers to an object that has been reached, or to one that is in no heap and so never dies.
    fn lives(&self, word: u64) -> bool {
        word & MARK_BITS == MARK
            && index_of(&self.chunks, word - MARK).is_none_or(|index| self.chunks[index].has_reached(word - MARK))
    }
}

#[cfg(test)]
mod tests;
