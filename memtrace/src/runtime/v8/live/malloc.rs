//! Which memory of glibc's `malloc` holds nothing that anybody refers to: what was written there is left over, and lists of V8's collector are full
//! of objects that are long dead.
//!
//! In: the memory that `malloc` gets by moving the program's end (`[heap]`), in which chunks lie side by side: each says how large it is, and
//! whether the one before it is in use (malloc/malloc.c). Out: what is free, the part of a block of handles that is not in use, and
//! what data is read into.

use std::ops::Range;

use super::chunks::PAGE;
use crate::runtime::{Memory, memory::word_at};

/// Bytes in front of what a chunk holds; the second word has its size, and marks in the lowest bits.
const HEAD: u64 = 16;
const MARKS: u64 = 7;
const IS_BEFORE_IN_USE: u64 = 1;

/// The least bytes of a chunk.
const LEAST: u64 = 32;

/// Bytes that are read at once.
const PIECE: usize = 1 << 18;

/// The most chunks that are looked at, and the most ranges that are told: what is behind counts as used.
const MAX_CHUNKS: usize = 1 << 24;
const MAX_UNUSED: usize = 1 << 18;

/// Bytes of the chunk of a block of handles, and of its handles (`HandleScopeImplementer`: a KiB of words but two).
const HANDLES_CHUNK: u64 = 8192;
const HANDLES: u64 = 1022 * 8;

/// The most blocks of handles, and of chunks that may be an isolate.
const MAX_BLOCKS: usize = 256;

/// The least bytes of an isolate: it says how far its block of handles is in use.
const LEAST_ISOLATE: u64 = 16 << 10;

/// Bytes that files and sockets are read into at once (`uv__read` in libuv), and what an allocator may add to them.
const READ_INTO: u64 = 64 << 10;
const ADDED: u64 = 128;

/// The ranges in `heap` that hold nothing, in order, as far as these pages of it are there that are in memory, in order. Where no chunks are
/// found all is used.
pub fn unused(memory: &Memory, heap: Range<u64>, present: &[u64]) -> Vec<Range<u64>> {
    let window = Window { memory, present, start: 0, bytes: Vec::new() };
    let mut chunks = Chunks { window, heap, unused: Vec::new(), handles: Vec::new(), large: Vec::new() };
    chunks.walk();
    chunks.look_for_handles();
    let mut unused = chunks.unused;
    unused.sort_unstable_by_key(|range| range.start);
    unused
}

struct Chunks<'m> {
    window: Window<'m>,
    heap: Range<u64>,
    unused: Vec<Range<u64>>,
    /// Where blocks of handles may begin.
    handles: Vec<u64>,
    /// What is large enough for an isolate.
    large: Vec<Range<u64>>,
}

impl Chunks<'_> {
    /// Goes from chunk to chunk.
    fn walk(&mut self) {
        let mut before: Option<Range<u64>> = None;
        let mut at = self.heap.start;
        for _ in 0..MAX_CHUNKS {
            let Some(size) = self.window.word(at + 8) else { return };
            let (bytes, is_before_in_use) = (size & !MARKS, size & IS_BEFORE_IN_USE != 0);
            let Some(end) = at.checked_add(bytes).filter(|&end| bytes >= LEAST && end <= self.heap.end) else { return };
            if let Some(before) = before {
                if is_before_in_use { self.used(before) } else { self.is_unused(before) }
            }
            let chunk = at + HEAD..end;
            // What is behind the last one that was given away is free.
            if end == self.heap.end {
                return self.is_unused(chunk);
            }
            before = Some(chunk);
            at = end;
        }
    }

    fn is_unused(&mut self, range: Range<u64>) {
        if self.unused.len() < MAX_UNUSED {
            self.unused.push(range);
        }
    }

    /// A chunk is in use. What it holds ends one word into the next.
    fn used(&mut self, chunk: Range<u64>) {
        let bytes = chunk.end - chunk.start + 8;
        if chunk.end - chunk.start + HEAD == HANDLES_CHUNK && self.handles.len() < MAX_BLOCKS {
            self.handles.push(chunk.start);
        } else if (READ_INTO..=READ_INTO + ADDED).contains(&bytes) {
            self.is_unused(chunk);
        } else if bytes >= LEAST_ISOLATE && self.large.len() < MAX_BLOCKS {
            self.large.push(chunk);
        }
    }

    /// Where the next handle goes, and where its block ends, stand side by side in an isolate.
    fn look_for_handles(&mut self) {
        if self.handles.is_empty() {
            return;
        }
        for range in std::mem::take(&mut self.large) {
            let mut next = 0;
            for at in range.step_by(8) {
                let Some(word) = self.window.word(at) else { break };
                let begin = word.wrapping_sub(HANDLES);
                if next >= begin && next < word && self.handles.binary_search(&begin).is_ok() {
                    self.is_unused(next..word);
                }
                next = word;
            }
        }
    }
}

/// Reads words one after the other, a piece of memory at a time.
struct Window<'m> {
    memory: &'m Memory,
    present: &'m [u64],
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// The word at an address; `None` if it is not in memory.
    fn word(&mut self, address: u64) -> Option<u64> {
        let known = |window: &Self| word_at(&window.bytes, usize::try_from(address.checked_sub(window.start)?).ok()?);
        known(self).or_else(|| {
            let pages = &self.present[self.present.binary_search(&(address & !(PAGE - 1))).ok()?..];
            let run =
                pages.windows(2).take(PIECE / PAGE as usize - 1).take_while(|pair| pair[0] + PAGE == pair[1]).count();
            self.start = pages[0];
            self.bytes.resize((run + 1) * PAGE as usize, 0);
            if self.memory.fill(self.start, &mut self.bytes).is_none() {
                self.bytes.clear();
            }
            known(self)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Pid, maps};

    /// Chunks of these sizes, each with whether it is in use, in memory of this process; the last one is what is left.
    fn heap(sizes: &[(u64, bool)]) -> Vec<u64> {
        let mut words: Vec<u64> = Vec::new();
        let mut is_before_in_use = true;
        for &(bytes, is_in_use) in sizes {
            words.extend([0, bytes | u64::from(is_before_in_use)]);
            words.extend(std::iter::repeat_n(0, bytes as usize / 8 - 2));
            is_before_in_use = is_in_use;
        }
        words
    }

    fn found(words: &[u64]) -> Vec<Range<u64>> {
        let pid = Pid(std::process::id());
        let mut memory = Memory::open(pid, ((0, 0), 0)).expect("one's own memory");
        memory.confine(&maps::read(pid).expect("one's own mappings"));
        let start = words.as_ptr() as u64;
        let end = start + 8 * words.len() as u64;
        let present: Vec<u64> = (start & !(PAGE - 1)..end).step_by(PAGE as usize).collect();
        let unused = unused(&memory, start..end, &present);
        unused.into_iter().map(|range| range.start - start..range.end - start).collect()
    }

    #[test]
    fn what_is_free_is_told_and_what_is_left_at_the_end() {
        let words = heap(&[(64, true), (48, false), (32, true), (160, false)]);
        assert_eq!(found(&words), [80..112, 160..304]);
        assert_eq!(
            found(&heap(&[(64, true), (READ_INTO + 16, true), (48, true), (32, true)])).len(),
            2,
            "it is read into"
        );
    }

    #[test]
    fn of_handles_only_those_behind_the_next_one_are_unused() {
        let mut words = heap(&[(HANDLES_CHUNK, true), (LEAST_ISOLATE + 32, true), (32, true)]);
        let begin = words.as_ptr() as u64 + HEAD;
        let isolate = HANDLES_CHUNK as usize / 8 + 100;
        words[isolate] = begin + 24;
        assert_eq!(found(&words).len(), 1, "where it ends is not said");
        words[isolate + 1] = begin + HANDLES;
        assert_eq!(found(&words)[0], HEAD + 24..HEAD + HANDLES);
    }

    #[test]
    fn what_are_no_chunks_is_used() {
        assert_eq!(found(&[0; 100]), []);
        assert_eq!(found(&[u64::MAX; 100]), []);
        let mut words = heap(&[(64, true), (48, false), (32, true), (160, false)]);
        words[9] = 4096;
        assert_eq!(found(&words), []);
    }

    proptest::proptest! {
        #[test]
        fn any_memory_ends_and_ranges_lie_inside(words in proptest::collection::vec(proptest::num::u64::ANY, 0..400)) {
            let bytes = 8 * words.len() as u64;
            assert!(found(&words).iter().all(|range| range.start <= range.end && range.end <= bytes));
        }

        #[test]
        fn chunks_of_any_size_are_told(sizes in proptest::collection::vec((4u64..100, proptest::bool::ANY), 1..60)) {
            let sizes: Vec<(u64, bool)> = sizes.into_iter().map(|(units, is_in_use)| (units / 2 * 2 * 8, is_in_use)).collect();
            let free = sizes[..sizes.len() - 1].iter().filter(|(_, is_in_use)| !is_in_use).count();
            assert_eq!(found(&heap(&sizes)).len(), free + 1);
        }
    }
}
