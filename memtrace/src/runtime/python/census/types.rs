//! Types of objects: which block is an object, and what its type is called.
//!
//! An object has its type's address behind its count of references. It begins at its block, or behind the two words that the
//! collector of cycles keeps, or behind two more for its attributes and weak references: its type's flags say which, and only there
//! it is looked for. Whether there is a type at an address is read once in a census.

use std::{collections::HashMap, ops::Range, sync::Arc};

use super::super::layout::TYPE;
use crate::{
    object::maps::Mapping,
    runtime::{Memory, blocks::Block, by_type::Sum, memory::word_at},
};

/// The most types that are told apart in one census.
const MAX_TYPES: usize = 1 << 14;

/// The most addresses of one census at which a type is looked for in memory.
const MAX_LOOKS: usize = 1 << 17;

/// The most bytes of a type's name; longer ones are cut.
const MAX_NAME: usize = 128;

/// Where a type has what is read of it, in bytes (`PyTypeObject`, the same in 3.8 to 3.15).
const NAME: usize = 24;
const BASIC_SIZE: usize = 32;
const FLAGS: usize = 168;
const TYPE_BYTES: usize = FLAGS + 8;

/// Flags of types (Include/object.h): it may be used; its objects are known to the collector of cycles; it is a type of types.
const IS_READY: u64 = 1 << 12;
const HAS_COLLECTOR: u64 = 1 << 14;
const IS_METATYPE: u64 = 1 << 31;

/// The most bytes of an object without its items.
const MAX_BASIC_SIZE: u64 = 1 << 20;

/// Where objects begin in their blocks: the most words in front of them are four.
const OFFSETS: [usize; 3] = [0, 16, 32];

/// How many of the first bytes of a block say which object is in it.
pub const START_BYTES: u64 = 48;

/// Answers that are kept at hand: as a power of two.
const AT_HAND: u32 = 12;

/// What tells types from other memory.
#[derive(Clone, Copy, Debug)]
pub struct Kinds {
    /// The address of the type of all types.
    pub type_type: u64,
    /// Flags of types whose objects have two more words in front.
    pub words_in_front: u64,
}

/// A type that was found, and the sum of its live objects.
#[derive(Clone, Debug)]
struct Found {
    name: Arc<str>,
    /// Where in their blocks its objects begin.
    offset: usize,
    objects: u64,
    bytes: u64,
    /// What those come to that are in blocks of their own.
    large: Sum,
}

/// The types of one process in one census.
pub struct Types<'a> {
    memory: &'a Memory,
    kinds: Kinds,
    /// Where types may be, and where the pools are, in which there is none: a type is larger than any block of theirs.
    writable: Vec<Range<u64>>,
    pools: &'a [Range<u64>],
    found: Vec<Found>,
    known: HashMap<u64, Option<usize>>,
    /// Of what was asked lately.
    at_hand: Box<[(u64, Option<usize>)]>,
}

impl<'a> Types<'a> {
    /// Nothing has been read yet. The pools lie in ranges that ascend.
    pub fn new(memory: &'a Memory, kinds: Kinds, mappings: &[Mapping], pools: &'a [Range<u64>]) -> Self {
        let writable = mappings.iter().filter(|mapping| mapping.writable);
        Self {
            memory,
            kinds,
            writable: writable.map(|mapping| mapping.start..mapping.end).collect(),
            pools,
            found: Vec::new(),
            known: HashMap::new(),
            at_hand: vec![(0, None); 1 << AT_HAND].into(),
        }
    }

    /// Counts a block for the type of the object in it, if it is one.
    pub fn count(&mut self, block: &[u8]) {
        if let Some(index) = object(block, |address| self.at(address)) {
            let found = &mut self.found[index];
            found.objects += 1;
            found.bytes += block.len() as u64;
        }
    }

    /// Counts a block of the allocator, of which these are the first bytes, for the type of the object in it, if it is one.
    pub fn count_block(&mut self, block: &Block, start: &[u8]) {
        if let Some(index) = object(start, |address| self.at(address)) {
            self.found[index].large.add(block.sum());
        }
    }

    /// The name of each type and what its live objects come to; each object in a pool that was seen stands for so many.
    pub fn sums(self, stands_for: u64) -> impl Iterator<Item = (Arc<str>, Sum)> {
        let times = move |number: u64| number.saturating_mul(stands_for);
        self.found.into_iter().map(move |found| {
            let mut sum = Sum::exact(times(found.objects), times(found.bytes));
            sum.add(found.large);
            (found.name, sum)
        })
    }

    /// Which type is at this address, and where its objects begin in their blocks.
    fn at(&mut self, address: u64) -> Option<(usize, usize)> {
        if !address.is_multiple_of(8) || address < 4096 || address >> 47 != 0 {
            return None;
        }
        let place = (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - AT_HAND)) as usize;
        if self.at_hand[place].0 != address {
            self.at_hand[place] = (address, self.find(address));
        }
        let index = self.at_hand[place].1?;
        Some((index, self.found[index].offset))
    }

    fn find(&mut self, address: u64) -> Option<usize> {
        if is_within(self.pools, address) || !is_within(&self.writable, address) {
            return None;
        }
        if let Some(&known) = self.known.get(&address) {
            return known;
        }
        if self.known.len() >= MAX_LOOKS || self.found.len() >= MAX_TYPES {
            return None;
        }
        let found = self.read(address).map(|found| {
            self.found.push(found);
            self.found.len() - 1
        });
        self.known.insert(address, found);
        found
    }

    fn read(&self, address: u64) -> Option<Found> {
        let Kinds { type_type, words_in_front } = self.kinds;
        let bytes = self.memory.bytes::<TYPE_BYTES>(address)?;
        let flags = word_at(&bytes, FLAGS)?;
        let metatype = word_at(&bytes, TYPE as usize)?;
        let is_type = flags & IS_READY != 0
            && (16..MAX_BASIC_SIZE).contains(&word_at(&bytes, BASIC_SIZE)?)
            && (metatype == type_type || self.is_metatype(metatype));
        let words = usize::from(flags & HAS_COLLECTOR != 0) + usize::from(flags & words_in_front != 0);
        let name = is_type.then(|| self.name(word_at(&bytes, NAME)?)).flatten()?;
        Some(Found { name, offset: 16 * words, objects: 0, bytes: 0, large: Sum::default() })
    }

    /// Whether this is a class of classes.
    fn is_metatype(&self, address: u64) -> bool {
        self.memory.bytes::<TYPE_BYTES>(address).is_some_and(|bytes| {
            word_at(&bytes, TYPE as usize) == Some(self.kinds.type_type)
                && word_at(&bytes, FLAGS).is_some_and(|flags| flags & IS_METATYPE != 0)
        })
    }

    /// The text at this address; `None` if there is none.
    fn name(&self, address: u64) -> Option<Arc<str>> {
        /// What is mapped is so in units of this.
        const PAGE: u64 = 4096;
        let to_end = (PAGE - address % PAGE).min(MAX_NAME as u64);
        let most = MAX_NAME as u64;
        let bytes = self.memory.at_most(address, most, most).or_else(|| self.memory.at_most(address, to_end, most))?;
        let text = bytes.split(|&byte| byte == 0).next().filter(|text| !text.is_empty())?;
        Some(String::from_utf8_lossy(text).into())
    }
}

/// Whether one of these ranges, which ascend, has an address.
fn is_within(ranges: &[Range<u64>], address: u64) -> bool {
    let next = ranges.partition_point(|range| range.end <= address);
    ranges.get(next).is_some_and(|range| range.start <= address)
}

/// The type of the object in a block. `type_at` says which type is at an address, and where the objects of that type begin.
fn object<T>(block: &[u8], mut type_at: impl FnMut(u64) -> Option<(T, usize)>) -> Option<T> {
    OFFSETS.into_iter().find_map(|offset| {
        let references = word_at(block, offset)?;
        let (found, begins) =
            is_alive(references).then(|| type_at(word_at(block, offset + TYPE as usize)?)).flatten()?;
        (begins == offset).then_some(found)
    })
}

/// Whether an object with this count of references is in use. One that is kept for later has none, or the address of the next one
/// there. From 3.14 on the highest 16 bits are flags.
fn is_alive(references: u64) -> bool {
    references as u32 != 0 && references >> 32 & 0xffff == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::runtime::python::pools;

    #[test]
    fn objects_are_found_where_their_type_says_that_they_begin() {
        let words = |words: &[u64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        let type_at = |address: u64| match address {
            0x1000 => Some(("int", 0)),
            0x2000 => Some(("dict", 16)),
            0x3000 => Some(("Session", 32)),
            _ => None,
        };
        assert_eq!(object(&words(&[1, 0x1000]), type_at), Some("int"));
        assert_eq!(object(&words(&[0, 8, 1, 0x2000]), type_at), Some("dict"));
        assert_eq!(object(&words(&[7, 7, 0, 8, 3, 0x3000]), type_at), Some("Session"));
        assert_eq!(object(&words(&[1, 0x2000]), type_at), None, "it begins elsewhere");
        assert_eq!(object(&words(&[0, 0x1000]), type_at), None, "nothing refers to it");
        assert_eq!(object(&words(&[0x7f12_3456_7890, 0x1000]), type_at), None, "it is kept for later");
        assert_eq!(object(&words(&[1]), type_at), None);
        assert_eq!(object(&[], type_at), None);
    }

    proptest! {
        /// Whatever types there seem to be.
        #[test]
        fn blocks_of_any_content_are_at_most_one_object_each(
            class in 1usize..=32,
            content in prop::collection::vec(any::<u64>(), 500),
            begins in 0usize..64,
        ) {
            let room = (4096 - pools::Head::BYTES) / (16 * class);
            let mut pool = pools::tests::pool(4096, 0x10000, 16 * class, 0, room);
            for (to, from) in pool[pools::Head::BYTES..].chunks_exact_mut(8).zip(&content) {
                to.copy_from_slice(&from.to_ne_bytes());
            }
            let mut found = 0;
            pools::objects(&pool, 0x10000, |block| found += usize::from(object(block, |_| Some(((), begins))).is_some()));
            prop_assert!(found <= room);
        }
    }
}
