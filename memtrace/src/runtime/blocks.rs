//! The live blocks of a process's allocator, as memtrace knows them: what lies at their beginnings says what many of them are.

use super::{Memory, by_type::Sum};
use crate::target::pages::Pages;

/// The most pages that are looked at together: one bit of a word stands for each.
const WINDOW_PAGES: u64 = 64;

/// A block that was allocated since the attach and lives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// Where it begins.
    pub address: u64,
    /// Requested bytes.
    pub bytes: u64,
    /// The chance with which a block like it is among those that are looked at; 1 where all are.
    pub chance: f32,
}

impl Block {
    /// What it stands for (as in `ledger/estimate.rs`).
    pub fn sum(&self) -> Sum {
        let chance = f64::from(self.chance).clamp(f64::MIN_POSITIVE, 1.0);
        let bytes = self.bytes as f64 / chance;
        Sum { objects: 1.0 / chance, bytes, seen: 1, variance: (1.0 - chance) * bytes * bytes }
    }
}

/// Calls `found` with each of these blocks, which are in the order of their addresses, and its first bytes, `most` of them or all that it
/// has. Left out are blocks in pages that are not in memory now, so that nothing is swapped in and no empty page is touched.
pub fn each_start(
    memory: &Memory,
    pages: &mut Pages,
    blocks: &[Block],
    most: u64,
    mut found: impl FnMut(&Block, &[u8]),
) {
    let page_bytes = rustix::param::page_size() as u64;
    let mut buffer = vec![0; (WINDOW_PAGES * page_bytes) as usize];
    let end = |block: &Block| block.address.saturating_add(block.bytes.min(most));
    let mut rest = blocks;
    while let Some(first) = rest.first() {
        let start = first.address / page_bytes * page_bytes;
        // Its pages in this window, as bits.
        let bits = |block: &Block| {
            let last = (end(block).max(block.address + 1) - 1 - start) / page_bytes;
            (last < WINDOW_PAGES).then(|| ones(last + 1) & !ones((block.address - start) / page_bytes))
        };
        let inside = rest.iter().take_while(|block| bits(block).is_some()).count().max(1);
        let (window, behind) = rest.split_at(inside);
        rest = behind;
        let wanted = window.iter().filter_map(bits).fold(0, |all, bits| all | bits);
        let mut present = 0u64;
        let pages_end = start.saturating_add(page_bytes * u64::from(u64::BITS - wanted.leading_zeros()));
        let seen = pages.present(start..pages_end, page_bytes, |page| present |= 1 << ((page - start) / page_bytes));
        if seen.is_none() {
            return;
        }
        let there = read(memory, start, page_bytes, wanted & present, &mut buffer);
        for block in window {
            let Some(bits) = bits(block).filter(|bits| bits & !there == 0) else { continue };
            debug_assert!(bits != 0, "a block has a first byte");
            let from = (block.address - start) as usize;
            let to = (end(block) - start) as usize;
            found(block, &buffer[from..to]);
        }
    }
}

/// As many of the lowest bits as are asked for.
const fn ones(number: u64) -> u64 {
    if number >= 64 { u64::MAX } else { (1 << number) - 1 }
}

/// Reads the wanted pages behind `start` to where they belong in the buffer, those side by side at once. Returned are those that were read.
fn read(memory: &Memory, start: u64, page_bytes: u64, wanted: u64, buffer: &mut [u8]) -> u64 {
    let (mut left, mut there) = (wanted, 0);
    while left != 0 {
        let first = u64::from(left.trailing_zeros());
        let pages = u64::from((left >> first).trailing_ones());
        let bits = ones(first + pages) & !ones(first);
        let into = &mut buffer[(first * page_bytes) as usize..((first + pages) * page_bytes) as usize];
        if memory.fill(start + first * page_bytes, into).is_some() {
            there |= bits;
        }
        left &= !bits;
    }
    there
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    use super::*;
    use crate::object::Pid;

    fn open() -> (Memory, Pages) {
        let pid = Pid(std::process::id());
        let memory = Memory::open(pid, ((0, 0), 0)).expect("one's own memory");
        (memory, Pages::open(pid, 1 << 20).expect("one's own pages"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_first_bytes_are_those_that_are_there(
            mut places in prop::collection::vec((0usize..1 << 20, 0u64..100), 1..200),
            most in 1u64..64,
        ) {
            let numbers: Vec<u8> = (0..(1usize << 20) + 100).map(|at| (at ^ at >> 8 ^ at >> 15) as u8).collect();
            let begin = numbers.as_ptr() as u64;
            places.sort_unstable();
            let blocks: Vec<Block> =
                places.iter().map(|&(at, bytes)| Block { address: begin + at as u64, bytes, chance: 1.0 }).collect();
            let (memory, mut pages) = open();
            let mut found = Vec::new();
            each_start(&memory, &mut pages, &blocks, most, |block, bytes| found.push((*block, bytes.to_vec())));
            let expected: Vec<_> = blocks.iter().zip(&places).map(|(block, &(at, bytes))| {
                (*block, numbers[at..at + bytes.min(most) as usize].to_vec())
            }).collect();
            prop_assert_eq!(found, expected);
        }

        /// Addresses that are nowhere, or at the end of all of them.
        #[test]
        fn blocks_that_are_not_there_are_left_out(
            mut places in prop::collection::vec((any::<u64>(), any::<u64>()), 1..50),
            most in 1u64..64,
        ) {
            places.sort_unstable();
            let blocks: Vec<Block> =
                places.iter().map(|&(address, bytes)| Block { address: address >> 16, bytes, chance: 1.0 }).collect();
            let (memory, mut pages) = open();
            each_start(&memory, &mut pages, &blocks, most, |block, bytes| {
                assert_eq!(bytes.len() as u64, block.bytes.min(most));
            });
        }
    }

    #[test]
    fn blocks_in_pages_that_nobody_touched_are_left_out() {
        let page = rustix::param::page_size();
        // SAFETY: a new mapping, given back below.
        let untouched = unsafe {
            mmap_anonymous(std::ptr::null_mut(), 64 * page, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }
        .expect("there is room");
        let first = untouched as u64;
        let block = |at: usize| Block { address: first + at as u64, bytes: 100, chance: 1.0 };
        let (memory, mut pages) = open();
        let mut found = Vec::new();
        // SAFETY: within the mapping.
        unsafe { untouched.cast::<u8>().add(9 * page).write_volatile(1) };
        let blocks = [block(8 * page), block(9 * page), block(10 * page - 4), block(40 * page)];
        each_start(&memory, &mut pages, &blocks, 8, |block, _| found.push(*block));
        assert_eq!(found, [block(9 * page)], "not one that ends in such a page either");
        // SAFETY: mapped above, and not used any more.
        unsafe { munmap(untouched, 64 * page) }.expect("it was mapped");
    }

    #[test]
    fn a_block_that_is_seen_by_chance_stands_for_more() {
        let block = |chance| Block { address: 0x1000, bytes: 100, chance };
        assert_eq!(block(1.0).sum(), Sum { objects: 1.0, bytes: 100.0, seen: 1, variance: 0.0 });
        assert_eq!(block(0.25).sum(), Sum { objects: 4.0, bytes: 400.0, seen: 1, variance: 0.75 * 160_000.0 });
        assert!(block(0.0).sum().objects > 1e100, "it cannot be, and is no error");
    }
}
