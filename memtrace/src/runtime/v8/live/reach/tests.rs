use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::*;
use crate::{
    object::{
        Pid,
        maps::{self, Mapping},
    },
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
        self.reach_within(kinds, Duration::from_secs(60))
    }

    fn reach_within(&self, kinds: &mut Kinds, longest: Duration) -> Reached {
        let pid = Pid(std::process::id());
        let mappings = maps::read(pid).expect("one's own mappings");
        let own: Vec<Mapping> = mappings
            .into_iter()
            .filter(|mapping| mapping.start < self.base + BYTES && mapping.end > self.base)
            .map(|mapping| Mapping { start: self.base, end: self.base + BYTES, ..mapping })
            .collect();
        let memory = Memory::open(pid, ((0, 0), 0)).expect("one's own memory");
        let mut pages = Pages::open(pid, 1 << 20).expect("one's own pages");
        let extents = chunks::find(&memory, &own, &mut pages).expect("a heap");
        let chunks = chunks::at(&extents, &mut pages).expect("a heap");
        assert_eq!(chunks.len(), 2, "{chunks:?}");
        // Whole pages, as mappings are.
        let page = PAGE as usize / 8;
        let mut words = vec![0u64; self.roots.len().next_multiple_of(page) + page];
        let start = (words.as_ptr() as u64).next_multiple_of(PAGE);
        let first = (start - words.as_ptr() as u64) as usize / 8;
        words[first..first + self.roots.len()].copy_from_slice(&self.roots);
        let roots = start..start + 8 * self.roots.len().next_multiple_of(page) as u64;
        let places = Places { instance_type: 12, backing_store: Some(48) };
        reach(
            &memory,
            chunks,
            kinds,
            places,
            std::iter::once(Root { range: roots, is_heap: false }),
            &mut pages,
            longest,
        )
        .expect("a search")
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
fn a_search_that_takes_too_long_is_given_up() {
    let mut made = Made::new();
    made.array(0x8000, ELEMENTS, &[]);
    made.roots = vec![made.to(0x8000)];
    let found = made.reach_within(&mut kinds(), Duration::ZERO);
    assert!(found.is_late && of(&found, Kind::Elements) == (0, 0), "{found:?}");
    assert!(!made.reach(&mut kinds()).is_late);
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
