//! Which objects of V8's heaps can be reached, found while the process runs: from all words of its memory outside of the heaps
//! that point into them, through what these objects refer to.
//!
//! So that the memory this takes is bounded, whatever the heap, the objects of one page are looked at together: a page is read
//! when objects in it have been reached, and again when more have been. What is weak for V8 is weak here: references with that mark,
//! the keys of weak collections, and handles that wait for the end of their object.

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    ops::Range,
};

use super::{
    chunks::{CHUNK, Chunk, PAGE, index_of},
    kinds::{self, Kind, Kinds},
};
use crate::{
    object::{Pid, maps::Mapping},
    runtime::{Memory, memory::word_at},
    target::pages::Pages,
};

/// Bytes below the end of a stack that a function may use.
const RED_ZONE: u64 = 128;

/// The most threads whose stacks are looked for.
const MAX_THREADS: usize = 4096;

/// How many pages of a heap are kept at once: 16 MiB.
const CACHED: usize = 64;

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

/// Where the first element of an array is.
const FIRST_ELEMENT: usize = 16;

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

/// Where the words are from which the search begins: all memory that the process may write, but for what lies below the stack of a thread that
/// waits, which is left over from functions that have returned. `stacks` is where those stacks end.
pub fn roots<'m>(
    mappings: &'m [Mapping],
    readable: ((u32, u32), u64),
    stacks: &'m [u64],
) -> impl Iterator<Item = Range<u64>> + 'm {
    let is_root = move |mapping: &&Mapping| {
        let is_own = mapping.inode == 0 || (mapping.device, mapping.inode) == readable;
        let is_special = mapping.path.as_ref().is_some_and(|path| path.to_string_lossy().starts_with("[v"));
        mapping.readable && mapping.writable && is_own && !is_special
    };
    mappings.iter().filter(is_root).map(move |mapping| {
        let mut inside = stacks.iter().filter(|stack| (mapping.start..mapping.end).contains(*stack));
        match (inside.next(), inside.next()) {
            (Some(stack), None) => stack.saturating_sub(RED_ZONE).max(mapping.start) & !7..mapping.end,
            _ => mapping.start..mapping.end,
        }
    })
}

/// Where the stacks of those threads of a process end that wait (`/proc/PID/task/TID/syscall`).
pub fn stacks(pid: Pid) -> Vec<u64> {
    let Ok(threads) = fs::read_dir(pid.proc_path("task")) else { return Vec::new() };
    let stack = |thread: io::Result<fs::DirEntry>| {
        let waits = fs::read_to_string(thread.ok()?.path().join("syscall")).ok()?;
        let mut fields = waits.split_ascii_whitespace().rev();
        u64::from_str_radix(fields.nth(1)?.strip_prefix("0x")?, 16).ok()
    };
    threads.take(MAX_THREADS).filter_map(stack).collect()
}

/// Reaches all that can be reached.
pub fn reach(
    memory: &Memory,
    chunks: Vec<Chunk>,
    kinds: &mut Kinds,
    places: Places,
    roots: impl Iterator<Item = Range<u64>>,
    pages: &mut Pages,
) -> Option<Reached> {
    let mut search = Search {
        memory,
        chunks,
        kinds,
        places,
        queue: VecDeque::new(),
        cache: Cache::default(),
        types: HashMap::new(),
        recent: vec![(0, 0); RECENT].into(),
        tables: Vec::new(),
        found: Reached { tallies: Vec::new(), blocks: Vec::new(), astray: 0, absent: 0, learned: false },
    };
    search.begin(roots, pages)?;
    search.follow();
    search.follow_tables();
    Some(search.found)
}

struct Search<'m> {
    memory: &'m Memory,
    chunks: Vec<Chunk>,
    kinds: &'m mut Kinds,
    places: Places,
    /// Pages in which objects are still to be looked at.
    queue: VecDeque<usize>,
    cache: Cache,
    /// What is known of types, by the word that refers to them: an index in the tallies and the bytes of their objects.
    types: HashMap<u64, Option<(usize, u64)>>,
    recent: Box<[(u64, usize)]>,
    /// Tables of weak collections, as a word that refers to them, and their ends.
    tables: Vec<(u64, u64)>,
    found: Reached,
}

/// The contents of some pages, the latest that were read.
#[derive(Default)]
struct Cache {
    contents: Vec<(usize, Box<[u8]>)>,
    /// The one that was asked for last.
    last: usize,
    /// The one that was read last of those that took another's place.
    next: usize,
}

impl Search<'_> {
    /// Takes all words that refer to objects.
    fn begin(&mut self, roots: impl Iterator<Item = Range<u64>>, pages: &mut Pages) -> Option<()> {
        let mut left = MAX_ROOT_BYTES;
        for root in roots {
            let mut present: Vec<u64> = Vec::new();
            pages.present(root.start & !(PAGE - 1)..root.end, PAGE, |address| present.push(address))?;
            present.retain(|&address| index_of(&self.chunks, address).is_none());
            left = left.checked_sub(present.len() as u64 * PAGE)?;
            // What threads that only collect leave in their memory are lists of objects that are long dead.
            if is_arena(self.memory, root.start) && !self.has_isolate(&present) {
                continue;
            }
            each_piece(self.memory, &present, |address, bytes| {
                let before = (root.start.saturating_sub(address) as usize).min(bytes.len());
                bytes[..before].fill(0);
                self.take_roots(bytes);
            });
        }
        Some(())
    }

    /// Whether an isolate is in these pages: it has a table of objects that never die, which are in no heap, and nothing else has so many side by side.
    fn has_isolate(&self, pages: &[u64]) -> bool {
        let mut most = 0;
        each_piece(self.memory, pages, |_, bytes| {
            let mut run = 0;
            for word in bytes.as_chunks::<8>().0 {
                let word = u64::from_ne_bytes(*word);
                let is_immortal = word & MARK_BITS == MARK && index_of(&self.chunks, word - MARK).is_none();
                run = if is_immortal { run + 1 } else { 0 };
                most = most.max(run);
            }
        });
        most >= ISOLATE_WORDS
    }

    fn take_roots(&mut self, bytes: &[u8]) {
        for (at, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
            let word = u64::from_ne_bytes(*word);
            if word & MARK_BITS == MARK && !is_weak_handle(bytes, 8 * at) {
                self.refer(word);
            }
        }
    }

    /// A word refers to an object, if there is one.
    fn refer(&mut self, word: u64) {
        let Some(index) = index_of(&self.chunks, word - MARK) else { return };
        let chunk = &mut self.chunks[index];
        if chunk.reach(word - MARK) && !chunk.is_queued {
            chunk.is_queued = true;
            self.queue.push_back(index);
        }
    }

    /// Looks at all objects that have been reached, and those that these refer to.
    fn follow(&mut self) {
        while let Some(index) = self.queue.pop_front() {
            let mut from = 0;
            while let Some(word) = self.chunks[index].next_pending(from).or_else(|| self.chunks[index].next_pending(0))
            {
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
        if !chunk.is_present(&(address..(address + 16).min(end))) {
            self.found.absent += 1;
            return;
        }
        let contents = self.cache.get(self.memory, index, &self.chunks[index]);
        let at = (address - base) as usize;
        let word = |at: usize| word_at(&self.cache.contents[contents].1, at);
        let Some((map, second)) = word(at).zip(word(at + 8)) else { return };
        let first = word(at + FIRST_ELEMENT);
        let store = self.places.backing_store.and_then(|place| word(at + place as usize));
        let Some((tally, fixed)) = self.type_of(map) else {
            // The object has just been moved, and its new place stands here.
            if map & MARK_BITS == 0 && index_of(&self.chunks, map).is_some() {
                self.refer(map | MARK);
            } else {
                self.found.astray += 1;
            }
            return;
        };
        let mut kind = self.found.tallies[tally].kind;
        if self.found.tallies[tally].objects == 0
            && matches!(kind, Kind::Other(_))
            && first.is_some_and(|first| self.is_scope(first))
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
            && let Some(store) = store
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
            match word_at(&self.cache.contents[contents].1, at + offset) {
                Some(word) if word & MARK_BITS == MARK => self.refer(word),
                _ => {}
            }
        }
        if address + references.end > base + CHUNK {
            self.look_beyond(base + CHUNK..address + references.end);
        }
        if kind == Kind::WeakCollection
            && let Some(table) = word_at(&self.cache.contents[contents].1, at + kinds::TABLE as usize)
        {
            self.learn_table(table);
        }
    }

    /// Looks at the references of a large object that are behind the first piece of its page.
    fn look_beyond(&mut self, range: Range<u64>) {
        let mut buffer = vec![0; CHUNK as usize];
        let mut from = range.start;
        while from < range.end {
            let bytes = &mut buffer[..(range.end - from).min(CHUNK) as usize];
            if self.memory.fill(from, bytes).is_none() {
                self.found.absent += 1;
                return;
            }
            for word in bytes.as_chunks::<8>().0 {
                let word = u64::from_ne_bytes(*word);
                if word & MARK_BITS == MARK {
                    self.refer(word);
                }
            }
            from += bytes.len() as u64;
        }
    }

    /// Where the tally of a type is, and how many bytes its objects have; `None` for what is no type.
    fn type_of(&mut self, map: u64) -> Option<(usize, u64)> {
        let recent = (map >> 3) as usize % RECENT;
        if let (known, index @ 1..) = self.recent[recent]
            && known == map
        {
            let fixed = self.types.get(&map).copied().flatten()?.1;
            return Some((index - 1, fixed));
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
        if let Some((index, _)) = known {
            self.recent[recent] = (map, index + 1);
        }
        known
    }

    fn read_type(&mut self, map: u64) -> Option<(usize, u64)> {
        let head = self.describe(map)?;
        // What describes it is a type itself, of the type of types.
        let above = u64::from_ne_bytes(*head.first_chunk()?);
        if self.number(&self.describe(above)?).map(|number| self.kinds.kind(number)) != Some(Kind::Map) {
            return None;
        }
        let kind = self.kinds.kind(self.number(&head)?);
        self.found.tallies.push(Tally { map, kind, objects: 0, bytes: 0 });
        Some((self.found.tallies.len() - 1, 8 * u64::from(head[8])))
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
        let mut buffer = vec![0; CHUNK as usize];
        let mut at = from + kinds::FIRST_KEY;
        while at + 16 <= end {
            let bytes = &mut buffer[..((end - at) & !15).min(CHUNK) as usize];
            if self.memory.fill(at, bytes).is_none() {
                self.found.absent += 1;
                return;
            }
            for pair in bytes.as_chunks::<16>().0 {
                let (Some(key), Some(value)) = (word_at(pair, 0), word_at(pair, 8)) else { continue };
                if value & MARK_BITS == MARK && (is_last || self.lives(key)) {
                    self.refer(value);
                }
            }
            at += bytes.len() as u64;
        }
    }

    /// Whether a word refers to an object that has been reached, or to one that is in no heap and so never dies.
    fn lives(&self, word: u64) -> bool {
        word & MARK_BITS == MARK
            && index_of(&self.chunks, word - MARK).is_none_or(|index| self.chunks[index].has_reached(word - MARK))
    }
}

impl Cache {
    /// Where the contents of the first [`CHUNK`] of a page are among those that are kept.
    fn get(&mut self, memory: &Memory, index: usize, chunk: &Chunk) -> usize {
        if self.contents.get(self.last).is_some_and(|(of, _)| *of == index) {
            return self.last;
        }
        if let Some(place) = self.contents.iter().position(|(of, _)| *of == index) {
            self.last = place;
            return place;
        }
        let place = if self.contents.len() < CACHED {
            self.contents.push((index, vec![0; CHUNK as usize].into()));
            self.contents.len() - 1
        } else {
            self.next = (self.next + 1) % CACHED;
            self.contents[self.next].0 = index;
            self.next
        };
        fill(memory, chunk, &mut self.contents[place].1);
        self.last = place;
        place
    }
}

/// Reads what is present of the first [`CHUNK`] of a page; the rest is 0.
fn fill(memory: &Memory, chunk: &Chunk, contents: &mut [u8]) {
    contents.fill(0);
    let all = ((chunk.end - chunk.base).min(CHUNK) / PAGE) as usize;
    let is_present = |page: usize| {
        let from = chunk.base + page as u64 * PAGE;
        chunk.is_present(&(from..from + PAGE))
    };
    let mut page = 0;
    while page < all {
        let run = (page..all).take_while(|&page| is_present(page)).count();
        let bytes = page * PAGE as usize..(page + run) * PAGE as usize;
        if run > 0 && memory.fill(chunk.base + page as u64 * PAGE, &mut contents[bytes.clone()]).is_none() {
            contents[bytes].fill(0);
        }
        page += run + 1;
    }
}

/// Calls `found` with the address and the contents of pages at these addresses, as many at once as lie side by side. Those that cannot be
/// read are left out.
fn each_piece(memory: &Memory, pages: &[u64], mut found: impl FnMut(u64, &mut [u8])) {
    let mut buffer = vec![0; CHUNK as usize];
    for run in pages.chunk_by(|a, b| a + PAGE == *b) {
        for piece in run.chunks(buffer.len() / PAGE as usize) {
            let bytes = &mut buffer[..piece.len() * PAGE as usize];
            if memory.fill(piece[0], bytes).is_some() {
                found(piece[0], bytes);
            }
        }
    }
}

/// Whether a mapping that begins here is memory that glibc's `malloc` sets aside for a thread other than the first: at multiples of 64 MiB
/// (`HEAP_MAX_SIZE` in malloc/arena.c), with the address of its arena, which is behind the head of the first of its kind.
fn is_arena(memory: &Memory, start: u64) -> bool {
    const ALIGNED: u64 = 64 << 20;
    const HEADS: [u64; 2] = [0x20, 0x30];
    start.is_multiple_of(ALIGNED) && memory.word(start).is_some_and(|arena| HEADS.contains(&(arena % ALIGNED)))
}

/// Whether the word at this place of memory outside of the heaps is a handle that waits for the end of its object: handles lie side by
/// side (`GlobalHandles::Node` in src/handles/global-handles.cc), each with its number among them and what it is.
fn is_weak_handle(bytes: &[u8], at: usize) -> bool {
    /// Bytes of a handle, and where its number and its state are.
    const HANDLE: usize = 32;
    const NUMBER: usize = 10;
    const STATE: usize = 11;
    /// The lowest state of those that do not hold their object.
    const WEAK: u8 = 2;
    let number = |at: usize| bytes.get(at + NUMBER).copied();
    let (Some(own), Some(state)) = (number(at), bytes.get(at + STATE)) else { return false };
    if state & 3 < WEAK {
        return false;
    }
    let next = number(at + HANDLE).is_some_and(|next| own.checked_add(1) == Some(next));
    let before = at.checked_sub(HANDLE).and_then(number).is_some_and(|before| before.checked_add(1) == Some(own));
    next || before
}

#[cfg(test)]
mod tests {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    use super::*;
    use crate::{
        object::{Pid, maps},
        runtime::v8::live::{chunks, kinds::tests::kinds},
    };

    /// Bytes of the heap that is made: a page of many objects and one of a single object.
    const BYTES: u64 = 4 * CHUNK;
    const SINGLE: u64 = CHUNK;
    const MAP_BYTES: u64 = 80;

    /// Where the types are in the first page, and the first object that is made.
    const MAP: u64 = 0x200;
    const ELEMENTS: u64 = 0x300;
    const NUMBER: u64 = 0x400;
    const WEAK_MAP: u64 = 0x500;
    const TABLE: u64 = 0x600;
    const BUFFER: u64 = 0x700;
    const FIRST: u64 = 0x1000;

    /// A heap in the memory of this process, as V8 would make it.
    struct Made {
        mapped: *mut std::ffi::c_void,
        base: u64,
        roots: Vec<u64>,
    }

    impl Made {
        fn new() -> Self {
            // SAFETY: a new mapping, given back when this is dropped.
            let mapped = unsafe {
                mmap_anonymous(
                    std::ptr::null_mut(),
                    (BYTES + CHUNK) as usize,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::PRIVATE,
                )
            }
            .expect("there is room");
            let base = (mapped as u64).next_multiple_of(CHUNK);
            let mut made = Self { mapped, base, roots: Vec::new() };
            for (at, bytes) in [(0, CHUNK), (SINGLE, BYTES - SINGLE)] {
                let begin = base + at;
                [bytes, 4, 0x10_0000, begin + 0x140, begin + bytes].into_iter().zip(0..).for_each(|(word, index)| {
                    made.set(at + 8 * index, word);
                });
            }
            for (at, bytes, number) in [
                (MAP, MAP_BYTES, 278),
                (ELEMENTS, 0, 205),
                (NUMBER, 16, 130),
                (WEAK_MAP, 32, 2130),
                (TABLE, 0, 211),
                (BUFFER, 64, 2063),
            ] {
                made.set(at, base + MAP + MARK);
                made.set(at + 8, (bytes / 8) | (number << 32));
            }
            made
        }

        fn set(&mut self, at: u64, word: u64) {
            assert!(at + 8 <= BYTES);
            // SAFETY: within the mapping.
            unsafe { ((self.base + at) as *mut u64).write_volatile(word) };
        }

        /// A word that refers to what is there.
        fn to(&self, at: u64) -> u64 {
            self.base + at + MARK
        }

        /// Makes an array.
        fn array(&mut self, at: u64, of: u64, elements: &[u64]) {
            self.set(at, self.to(of));
            self.set(at + 8, (elements.len() as u64) << 32);
            elements.iter().zip(2..).for_each(|(&element, index)| self.set(at + 8 * index, element));
        }

        fn reach(&self, kinds: &mut Kinds) -> Reached {
            let pid = Pid(std::process::id());
            let mappings = maps::read(pid).expect("one's own mappings");
            let own: Vec<Mapping> = mappings
                .into_iter()
                .filter(|mapping| mapping.start < self.base + BYTES && mapping.end > self.base)
                .map(|mapping| Mapping { start: self.base, end: self.base + BYTES, ..mapping })
                .collect();
            let memory = Memory::open(pid, ((0, 0), 0)).expect("one's own memory");
            let mut pages = Pages::open(pid, 1 << 20).expect("one's own pages");
            let chunks = chunks::find(&memory, &own, &mut pages).expect("a heap");
            assert_eq!(chunks.len(), 2, "{chunks:?}");
            // Whole pages, as mappings are.
            let page = PAGE as usize / 8;
            let mut words = vec![0u64; self.roots.len().next_multiple_of(page) + page];
            let start = (words.as_ptr() as u64).next_multiple_of(PAGE);
            let first = (start - words.as_ptr() as u64) as usize / 8;
            words[first..first + self.roots.len()].copy_from_slice(&self.roots);
            let roots = start..start + 8 * self.roots.len().next_multiple_of(page) as u64;
            let places = Places { instance_type: 12, backing_store: Some(48) };
            reach(&memory, chunks, kinds, places, std::iter::once(roots), &mut pages).expect("a search")
        }
    }

    impl Drop for Made {
        fn drop(&mut self) {
            // SAFETY: mapped by `new`, and not used any more.
            unsafe { munmap(self.mapped, (BYTES + CHUNK) as usize) }.expect("it was mapped");
        }
    }

    /// How many objects of a kind were reached, and their bytes.
    fn of(reached: &Reached, kind: Kind) -> (u64, u64) {
        let of_kind = reached.tallies.iter().filter(|tally| tally.kind == kind);
        of_kind.fold((0, 0), |(objects, bytes), tally| (objects + tally.objects, bytes + tally.bytes))
    }

    #[test]
    fn all_that_is_referred_to_is_reached_once_and_nothing_else() {
        let mut made = Made::new();
        let number = |index: u64| FIRST + 0x100 * index;
        for index in 0..4 {
            made.set(number(index), made.to(NUMBER));
        }
        // One refers to the other and back, one weakly to a number, one to a number, and nothing to the last number.
        let (one, other) = (0x8000, 0x9000);
        made.array(one, ELEMENTS, &[made.to(other), made.to(number(0)), 7 << 32]);
        made.array(other, ELEMENTS, &[made.to(one), made.to(number(1)) | 2, made.to(number(0))]);
        made.array(0xa000, ELEMENTS, &[made.to(number(2))]);
        made.roots = vec![made.to(one), made.to(one)];
        let found = made.reach(&mut kinds());
        assert_eq!((of(&found, Kind::Number), of(&found, Kind::Elements).0), ((1, 16), 2));
        assert_eq!((found.astray, found.absent), (0, 0));
    }

    #[test]
    fn objects_larger_than_a_page_refer_from_all_of_it() {
        let mut made = Made::new();
        made.set(FIRST, made.to(NUMBER));
        let elements = (BYTES - SINGLE - 0x140 - 16) / 8 - 8;
        let large = SINGLE + 0x140;
        made.set(large, made.to(ELEMENTS));
        made.set(large + 8, elements << 32);
        // Of all pages of it something has to be there.
        for at in (large + 16..large + 16 + 8 * elements).step_by(PAGE as usize) {
            made.set(at, 1 << 32);
        }
        made.set(large + 16 + 8 * (elements - 1), made.to(FIRST));
        made.roots = vec![made.to(large)];
        let found = made.reach(&mut kinds());
        assert_eq!(of(&found, Kind::Number), (1, 16), "{found:?}");
        assert_eq!(of(&found, Kind::Elements), (1, 16 + 8 * (elements + 1)));
    }

    #[test]
    fn values_of_weak_collections_live_as_long_as_their_keys() {
        let mut made = Made::new();
        let (map, table) = (0x8000, 0x9000);
        let keys = [0xa000, 0xb000, 0xc000];
        let values = [0xd000, 0xe000, 0xf000];
        for (key, value) in keys.into_iter().zip(values) {
            made.array(key, ELEMENTS, &[]);
            made.array(value, ELEMENTS, &[]);
            made.set(value, made.to(NUMBER));
        }
        // The first key lives, the second by the value of the first, and the third does not.
        made.array(values[0], ELEMENTS, &[made.to(keys[1])]);
        made.set(map, made.to(WEAK_MAP));
        made.set(map + kinds::TABLE, made.to(table));
        let pairs: Vec<u64> =
            keys.into_iter().zip(values).flat_map(|(key, value)| [made.to(key), made.to(value)]).collect();
        made.array(table, TABLE, &[&[0, 0, 0], &pairs[..]].concat());
        made.roots = vec![made.to(map), made.to(keys[0])];
        let mut kinds = kinds();
        let first = made.reach(&mut kinds);
        assert!(first.learned, "what the table is was not known");
        let found = made.reach(&mut kinds);
        assert!(!found.learned);
        assert_eq!((of(&found, Kind::Number).0, of(&found, Kind::Elements).0), (1, 3), "{found:?}");
        assert_eq!(of(&found, Kind::WeakTable).0, 1);
    }

    #[test]
    fn the_memory_of_buffers_is_told_and_what_is_no_object_is_counted() {
        let mut made = Made::new();
        made.set(0x8000, made.to(BUFFER));
        made.set(0x8000 + 48, 0x7f00_1234_5000);
        made.set(0x9000, 0x1234_5671);
        // One that has just been moved, and where it is now.
        made.set(0xa000, made.base + 0xb000);
        made.set(0xb000, made.to(NUMBER));
        made.roots = vec![made.to(0x8000), made.to(0x9000), made.to(0xa000)];
        let found = made.reach(&mut kinds());
        assert_eq!((&found.blocks[..], found.astray), (&[0x7f00_1234_5000][..], 1));
        assert_eq!(of(&found, Kind::Number), (1, 16));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]
        #[test]
        fn whatever_a_heap_holds_the_search_ends(words in proptest::collection::vec((0u64..CHUNK, 0u64..16, 0u64..BYTES), 1..2000)) {
            let mut made = Made::new();
            let types = [MAP, ELEMENTS, NUMBER, WEAK_MAP, TABLE, BUFFER];
            for &(at, kind, value) in &words {
                let word = match kind {
                    0..6 => made.to(types[kind as usize]),
                    6..10 => value << 32,
                    10 => value,
                    _ => made.to(value & !7),
                };
                // The heads of the pages and what describes the type of types stay: else there is no heap.
                if at >= MAP + 16 {
                    made.set(at & !7, word);
                }
            }
            made.roots = words.iter().map(|&(at, ..)| made.to(at & !7)).collect();
            let mut kinds = kinds();
            for _ in 0..2 {
                let found = made.reach(&mut kinds);
                let objects: u64 = found.tallies.iter().map(|tally| tally.objects).sum();
                proptest::prop_assert!(objects <= 2 * CHUNK / 8);
            }
        }
    }

    #[test]
    fn a_stack_is_looked_at_from_its_end_on() {
        let text = b"1000-2000 rw-p 0 0:0 0\n3000-9000 rw-p 0 0:0 0\n9000-a000 r--p 0 0:0 0\n";
        let mappings = maps::parse(text).expect("three mappings");
        let ranges = |stacks: &[u64]| roots(&mappings, ((0, 0), 1), stacks).collect::<Vec<_>>();
        assert_eq!(ranges(&[0x4123, 0x9100]), [0x1000..0x2000, 0x40a0..0x9000]);
        assert_eq!(ranges(&[0x4000, 0x5000]), [0x1000..0x2000, 0x3000..0x9000], "whose the rest is is not known");
        assert_eq!(ranges(&[0x3010]), [0x1000..0x2000, 0x3000..0x9000]);
        // This thread reads, and another waits.
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let waiting = std::thread::spawn(move || wait.recv());
        let pid = Pid(std::process::id());
        let mappings = maps::read(pid).expect("one's own mappings");
        assert!(
            stacks(pid).iter().all(|stack| mappings.iter().any(|mapping| (mapping.start..mapping.end).contains(stack)))
        );
        drop(go);
        let _ = waiting.join();
    }

    #[test]
    fn handles_that_wait_for_the_end_of_their_object_are_told_by_their_numbers() {
        let mut bytes = [0; 96];
        for (handle, number_and_state) in bytes.chunks_exact_mut(32).zip([[4, 2], [5, 1], [6, 3]]) {
            handle[10..12].copy_from_slice(&number_and_state);
        }
        assert!(is_weak_handle(&bytes, 0) && !is_weak_handle(&bytes, 32) && is_weak_handle(&bytes, 64));
        bytes[42] = 9;
        assert!(!is_weak_handle(&bytes, 0) && !is_weak_handle(&bytes, 64), "others have no such neighbours");
        assert!(!is_weak_handle(&bytes, 90), "what is cut off is none");
    }
}
