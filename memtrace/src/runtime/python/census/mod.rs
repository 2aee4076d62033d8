//! Which objects live in a process that runs CPython, by type: how many, and how many bytes.
//!
//! In: the memory of the process, read from outside while it runs. Out: a [`Count`] for each name of a type. Objects of up to 512
//! bytes lie in *pools* of blocks of one size ([`super::pools`]); a pool is recognised by its head, a live object in it by its type
//! ([`types`]). Only pages that are in memory are read, so that nothing is swapped in and no empty page is touched. The process runs
//! on meanwhile: what is made or released in the few milliseconds of a census is in it or not.

mod types;

use std::{io, ops::Range, sync::Arc};

use self::types::{Kinds, START_BYTES, Types};
use super::{
    layout::Layout,
    pools::{Head, objects},
};
use crate::{
    object::{
        Pid,
        maps::{self, Mapping},
    },
    runtime::{
        CREDIT, LONGEST_TURN, Language, Memory, PARTS,
        blocks::{Block, each_start},
        by_type::{ByType, Sum},
        count::Count,
    },
    target::pages::Pages,
    turns::{Turns, thread_time},
};

/// The most bytes of pools that are read at once.
const PIECE: usize = 1 << 20;

/// The most bytes of pools that one census reads; of more, every second, fourth, ... pool is counted for all.
const MAX_POOL_BYTES: usize = 1 << 30;

/// The most places that are looked at for the head of a pool; of more, every second, fourth, ... is.
const MAX_HEADS: usize = 1 << 20;

/// The most pages of which it is asked whether they are in memory: 32 GiB. Mappings beyond them are left out.
const MAX_PAGES: u64 = 1 << 23;

/// The most names of types that are kept in mind.
const MAX_NAMES: usize = 1 << 14;

/// Counts the objects of one process.
#[derive(Debug)]
pub struct Census {
    pid: Pid,
    memory: Memory,
    kinds: Kinds,
    pool_bytes: usize,
    types: ByType,
    turns: Turns,
}

impl Census {
    /// Of the process whose interpreter is in the file `readable` (device and inode), and has the type of all types at `type_type`.
    ///
    /// # Errors
    ///
    /// When the memory of the process may not be read.
    pub fn open(pid: Pid, readable: ((u32, u32), u64), layout: &Layout, type_type: u64) -> io::Result<Self> {
        Ok(Self {
            pid,
            memory: Memory::open(pid, readable)?,
            kinds: Kinds { type_type, words_in_front: layout.words_in_front() },
            pool_bytes: layout.pool_bytes(),
            types: ByType::new(Language::Python, MAX_NAMES),
            turns: Turns::with_credit(CREDIT),
        })
    }

    /// Whether the pause after the last census is over.
    pub fn may_begin(&self) -> bool {
        self.turns.may_begin()
    }

    /// The live objects of each type now, in pools and in these blocks, which are in the order of their addresses; `None` when the process has
    /// ended.
    pub fn count(&mut self, blocks: &[Block]) -> Option<Vec<Count>> {
        let begun = thread_time();
        let found = self.read(blocks);
        self.turns.ended((thread_time() - begun).min(LONGEST_TURN), PARTS);
        found.map(|found| self.types.take(found).collect())
    }

    /// The name of each type with what its live objects come to.
    fn read(&mut self, blocks: &[Block]) -> Option<Vec<(Arc<str>, Sum)>> {
        let mappings = maps::read(self.pid).ok().filter(|mappings| !mappings.is_empty())?;
        self.memory.confine(&mappings);
        let mut addresses = self.places(&mappings)?;
        let mut stands_for = thin(&mut addresses, MAX_HEADS, self.pool_bytes as u64);
        addresses.retain(|&address| self.is_pool(address));
        let runs = runs(&addresses, self.pool_bytes as u64);
        let most = MAX_POOL_BYTES / self.pool_bytes;
        stands_for *= thin(&mut addresses, most, self.pool_bytes as u64 * stands_for);
        let mut types = Types::new(&self.memory, self.kinds, &mappings, &runs);
        self.read_pools(&addresses, &mut types);
        if let Some(mut pages) = Pages::open(self.pid, MAX_PAGES) {
            each_start(&self.memory, &mut pages, blocks, START_BYTES, |block, start| types.count_block(block, start));
        }
        Some(types.sums(stands_for).collect())
    }

    /// Where pools may begin, in pages that are in memory.
    fn places(&self, mappings: &[Mapping]) -> Option<Vec<u64>> {
        let mut pages = Pages::open(self.pid, MAX_PAGES)?;
        let mut places = Vec::new();
        for mapping in mappings.iter().filter(|mapping| may_have_pools(mapping)) {
            let last = mapping.end.saturating_sub(self.pool_bytes as u64 - 1);
            // Of a mapping that is too large nothing is looked at.
            let _ = pages.present(mapping.start..last, self.pool_bytes as u64, |address| places.push(address));
        }
        Some(places)
    }

    fn is_pool(&self, address: u64) -> bool {
        let head = self.memory.bytes::<{ Head::BYTES }>(address);
        head.is_some_and(|head| Head::read(&head, address, self.pool_bytes).is_some())
    }

    /// Reads the pools at these addresses, those that lie side by side at once.
    fn read_pools(&self, addresses: &[u64], types: &mut Types<'_>) {
        let mut buffer = vec![0; PIECE];
        for run in runs(addresses, self.pool_bytes as u64) {
            let mut start = run.start;
            while start < run.end {
                let bytes = PIECE.min((run.end - start) as usize);
                let piece = &mut buffer[..bytes];
                if self.memory.fill(start, piece).is_some() {
                    self.count_pools(start, piece, types);
                }
                start += bytes as u64;
            }
        }
    }

    fn count_pools(&self, start: u64, piece: &[u8], types: &mut Types<'_>) {
        for (index, pool) in piece.chunks_exact(self.pool_bytes).enumerate() {
            let address = start + (index * self.pool_bytes) as u64;
            objects(pool, address, |block| types.count(block));
        }
    }
}

/// Whether a mapping is anonymous memory of the process, as pymalloc asks the system for.
fn may_have_pools(mapping: &Mapping) -> bool {
    mapping.is_anonymous() && mapping.readable && mapping.writable
}

/// Leaves at most about `most` of these addresses, all multiples of `unit`: every second, fourth, ... Returned is how many each of
/// those that are left stands for.
fn thin(addresses: &mut Vec<u64>, most: usize, unit: u64) -> u64 {
    let step = addresses.len().div_ceil(most).next_power_of_two() as u64;
    if step > 1 {
        addresses.retain(|address| (address / unit).is_multiple_of(step));
    }
    step
}

/// The ranges that pools at these addresses, which ascend, make up.
fn runs(addresses: &[u64], pool_bytes: u64) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for &address in addresses {
        match runs.last_mut() {
            Some(run) if run.end == address => run.end += pool_bytes,
            _ => runs.push(address..address.saturating_add(pool_bytes)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_side_by_side_are_one_run() {
        assert_eq!(runs(&[], 4096), []);
        assert_eq!(runs(&[0x1000, 0x2000, 0x4000], 4096), [0x1000..0x3000, 0x4000..0x5000]);
    }

    #[test]
    fn each_of_those_that_are_left_stands_for_the_same_number() {
        let mut addresses: Vec<u64> = (0..1000).map(|index| index * 4096).collect();
        assert_eq!(thin(&mut addresses, 1000, 4096), 1);
        assert_eq!((thin(&mut addresses, 300, 4096), addresses.len()), (4, 250));
        // And once more, of what is left.
        assert_eq!((thin(&mut addresses, 200, 4 * 4096), addresses.len()), (2, 125));
    }
}
