//! The heaps of V8 in a process, and what V8 counts of its collections of the whole of each, read from outside without a probe.
//!
//! A heap is a part of an isolate, of which the main thread has one and each worker thread another. A heap holds the address of its isolate,
//! which is that of the heap less what is known: words that point so far before themselves are looked for in the memory of the
//! process. What is found is proved by its parts, which hold the heap's address.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::fs::FileExt as _,
};

use super::counters::{self, BEGIN, Layout, Live};
use crate::{
    object::{
        Pid,
        mapped::MappedObject,
        maps::{self, Mapping},
        symbols::ElfFile,
    },
    runtime::{Memory, PARTS, memory::word_at},
    target::pages::Pages,
    turns::{Turns, thread_time},
};

/// The function that collects a whole heap.
const COLLECT: &str = "_ZN2v88internal4Heap11MarkCompactEv";

/// An exported function that finds the heap of an isolate.
const STATISTICS: &str = "_ZN2v87Isolate17GetHeapStatisticsEPNS_14HeapStatisticsE";

/// The most code that is looked at of a function.
const MAX_CODE: u64 = 4 << 10;

/// The most code that is looked through for a function that has no name.
const MAX_TEXT: u64 = 256 << 20;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// The most pages of memory in which heaps are looked for: 1 GiB.
const MAX_PAGES: u64 = 1 << 18;

/// The most heaps of one process.
const MAX_HEAPS: usize = 256;

/// Bytes of a heap among which the addresses of its parts are.
const PARTS_BYTES: u64 = 4 << 10;

/// The most parts of a heap that are looked at.
const MAX_PARTS: usize = 128;

/// How many parts of a heap have to hold its address.
const PROOFS: usize = 8;

/// Bytes of an isolate that change while its thread allocates: it begins with what compiled code needs at hand.
const BUSY_BYTES: u64 = 4 << 10;

/// The largest bytes that a heap can be said to hold: more is no heap.
const MAX_LIVE: u64 = 1 << 44;

/// All heaps of V8 that were found in one process.
#[derive(Debug)]
pub struct Heaps {
    pid: Pid,
    memory: Memory,
    layout: Layout,
    /// Bytes from the beginning of an isolate to its heap.
    in_isolate: u64,
    found: Vec<u64>,
    /// How many threads there were when heaps were looked for.
    threads: Option<usize>,
    turns: Turns,
}

/// One heap at one moment, as V8 itself counts it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counted {
    /// Where it is: it stands for the heap while that lives.
    pub address: u64,
    /// How many collections of the whole of it there were since it was made.
    pub collections: u32,
    /// Bytes of objects that lived at the end of the last one; 0 if there was none.
    pub live_bytes: u64,
    /// Stands for what changes while a thread allocates in it: equal twice, nothing was allocated.
    pub activity: u64,
}

impl Heaps {
    /// The heaps of the V8 that a process has mapped with this file.
    ///
    /// # Errors
    ///
    /// Why they cannot be read, as the end of a sentence.
    pub fn open(pid: Pid, object: &MappedObject, mappings: &[Mapping]) -> Result<Heaps, &'static str> {
        const UNREADABLE: &str = "its program cannot be read";
        let (_, file) = object.open().map_err(|_| UNREADABLE)?;
        let elf = file.try_clone().ok().and_then(|file| ElfFile::parse(file).ok()).ok_or(UNREADABLE)?;
        let known = elf.symbols(&[COLLECT, STATISTICS], |name| name).map_err(|_| UNREADABLE)?;
        let code_at = |address| elf.code_at(address, MAX_CODE).ok();
        let of = |name| known.get(name).map(|symbol| symbol.address);
        let in_isolate = of(STATISTICS)
            .and_then(|address| counters::heap_in_isolate(code_at(address)?, address))
            .ok_or("it does not say where its heaps are")?;
        let named = of(COLLECT).and_then(|address| counters::layout(code_at(address)?, address, code_at));
        let layout =
            named.or_else(|| search(&file, &elf)).ok_or("where it counts its collections was not found in its code")?;
        let mut memory = Memory::open(pid, (object.device, object.inode)).map_err(|_| "its memory cannot be read")?;
        memory.confine(mappings);
        Ok(Heaps { pid, memory, layout, in_isolate, found: Vec::new(), threads: None, turns: Turns::default() })
    }

    /// What V8 says of each heap now; heaps that have gone are left out, and those that were collected at this very moment.
    /// New ones are looked for when there are other threads than before.
    pub fn look(&mut self) -> Vec<Counted> {
        self.find();
        let (memory, layout, in_isolate) = (&self.memory, self.layout, self.in_isolate);
        self.found.retain(|&heap| memory.word(heap + layout.isolate) == Some(heap - in_isolate));
        self.found.iter().filter_map(|&heap| self.read(heap)).collect()
    }

    /// Where heaps are, also those of which nothing can be said at this moment.
    pub fn addresses(&self) -> &[u64] {
        &self.found
    }

    fn read(&self, address: u64) -> Option<Counted> {
        let Layout { state, collections, live, .. } = self.layout;
        // Before what it counts, since it is counted before it is noted what lives.
        let is_busy = self.memory.half_word(address + state)? != 0;
        let live_bytes = match live {
            Live::Heap(at) => self.memory.word(address + at)?,
            Live::Object { at, live } => {
                let object = self.memory.word(address + at)?;
                self.memory.word(object).filter(|&of| of == address)?;
                self.memory.word(object.checked_add(live)?)?
            }
        };
        let collections = self.memory.half_word(address + collections)?;
        let busy = self.memory.at_most(address - self.in_isolate, BUSY_BYTES, BUSY_BYTES)?;
        let mut hasher = DefaultHasher::new();
        busy.hash(&mut hasher);
        let heap = Counted { address, collections, live_bytes, activity: hasher.finish() };
        (!is_busy && live_bytes < MAX_LIVE && collections < u32::MAX / 2).then_some(heap)
    }

    /// Looks for heaps if there are other threads than when that was done last, or no heap yet.
    fn find(&mut self) {
        if !self.turns.may_begin() {
            return;
        }
        let begun = thread_time();
        let threads = std::fs::read_dir(self.pid.proc_path("task")).map(Iterator::count).ok();
        if self.found.is_empty() || threads != self.threads {
            let mappings = maps::read(self.pid).unwrap_or_default();
            self.memory.confine(&mappings);
            let mut found: Vec<u64> = Vec::new();
            if let Some(mut pages) = Pages::open(self.pid, MAX_PAGES) {
                for mapping in mappings.iter().filter(|mapping| may_have_heaps(mapping)) {
                    self.find_in(mapping, &mut pages, &mut found);
                }
            }
            self.found = found;
            self.threads = threads;
        }
        self.turns.ended(thread_time() - begun, PARTS);
    }

    /// Looks for heaps in one mapping, as far as it is in memory.
    fn find_in(&self, mapping: &Mapping, pages: &mut Pages, found: &mut Vec<u64>) {
        let page_bytes = rustix::param::page_size() as u64;
        let mut present: Vec<u64> = Vec::new();
        // Of a mapping that is too large nothing is looked at.
        let _ = pages.present(mapping.start..mapping.end, page_bytes, |address| present.push(address));
        let mut buffer = vec![0; PIECE];
        for run in present.chunk_by(|a, b| a + page_bytes == *b) {
            for pages in run.chunks(PIECE / page_bytes as usize) {
                let bytes = &mut buffer[..pages.len() * page_bytes as usize];
                if self.memory.fill(pages[0], bytes).is_none() {
                    continue;
                }
                let before = self.layout.isolate + self.in_isolate;
                for (word, at) in bytes.as_chunks::<8>().0.iter().zip((pages[0]..).step_by(8)) {
                    if u64::from_ne_bytes(*word).wrapping_add(before) == at && found.len() < MAX_HEAPS {
                        let heap = at - self.layout.isolate;
                        if self.is_heap(heap) {
                            found.push(heap);
                        }
                    }
                }
            }
        }
    }

    /// Whether a heap is at this address: many of its parts know it.
    fn is_heap(&self, heap: u64) -> bool {
        let Some(parts) = self.memory.at_most(heap, PARTS_BYTES, PARTS_BYTES) else { return false };
        let mut looked: Vec<u64> = Vec::new();
        let mut proofs = 0;
        for part in (0..parts.len()).step_by(8).filter_map(|at| word_at(&parts, at)) {
            let is_address = part.is_multiple_of(8) && (1 << 16..1 << 47).contains(&part);
            if !is_address || looked.contains(&part) || heap.abs_diff(part) < PARTS_BYTES || looked.len() >= MAX_PARTS {
                continue;
            }
            looked.push(part);
            let Some(words) = self.memory.bytes::<128>(part) else { continue };
            proofs += usize::from((0..128).step_by(8).any(|at| word_at(&words, at) == Some(heap)));
        }
        proofs >= PROOFS
    }
}

/// Whether a mapping may be what `malloc` gives: isolates are in it.
fn may_have_heaps(mapping: &Mapping) -> bool {
    mapping.readable && mapping.writable && mapping.inode == 0 && (mapping.path.is_none() || mapping.is_heap())
}

/// The layout by the one function in all of the file's code that does what `Heap::MarkCompact` does; `None` if there is none, or
/// more than one.
fn search(file: &File, elf: &ElfFile<File>) -> Option<Layout> {
    let text = elf.section_place(b".text").ok().flatten()?;
    let mut buffer = vec![0; PIECE + MAX_CODE as usize];
    let mut found = None;
    let mut from = 0;
    while from < text.bytes.min(MAX_TEXT) {
        let length = usize::try_from(text.bytes - from).ok()?.min(buffer.len());
        let bytes = &mut buffer[..length];
        file.read_exact_at(bytes, text.file_offset.checked_add(from)?).ok()?;
        for at in (0..length.min(PIECE)).filter(|&at| bytes[at..].starts_with(&BEGIN)) {
            // `mov dword [rdi+...], 2`
            if bytes.get(at + 6..at + 10) != Some(&[2, 0, 0, 0]) {
                continue;
            }
            let code = &bytes[at..length.min(at + MAX_CODE as usize)];
            let address = text.address.checked_add(from)?.checked_add(at as u64)?;
            if let Some(layout) = counters::layout(code, address, |address| elf.code_at(address, MAX_CODE).ok())
                && found.replace(layout).is_some()
            {
                return None;
            }
        }
        from += PIECE as u64;
    }
    found
}
