//! What the pools of small blocks of a CPython process hold, as their heads say: read from outside while the process runs.

use std::{collections::HashSet, io};

use super::pools::{self, Head};
use crate::{
    object::{
        Pid,
        maps::{self, Mapping},
    },
    runtime::Memory,
    target::pages::Pages,
};

/// What reports call the small objects of which it is not known who allocates them.
pub const HEAP: &str = "heap of Python's small objects";

/// Sizes that pools have, in bytes, the larger one first: from 3.10 on, and before.
const POOL_BYTES: [u64; 2] = [16 << 10, 4 << 10];

/// The most pages of which it is asked whether they are in memory: 16 GiB.
const MAX_PAGES: u64 = 1 << 22;

/// Pools that lie closer together than this are asked for together, in bytes.
const NEAR: u64 = 1 << 20;

/// A pool of small blocks, and what it holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pool {
    /// Where it begins.
    pub address: u64,
    /// How large it is, in bytes.
    pub bytes: u32,
    /// How large its blocks are, in bytes.
    pub block_bytes: u32,
    /// Blocks that are in use.
    pub live: u32,
}

/// Reads the heads of pools in one process.
#[derive(Debug)]
pub struct PoolReader {
    pid: Pid,
    memory: Memory,
}

impl PoolReader {
    /// Opens the memory of a process.
    ///
    /// # Errors
    ///
    /// When it may not be read, or the process has ended.
    pub fn open(pid: Pid) -> io::Result<Self> {
        // Pools are in no file.
        let mut reader = Self { pid, memory: Memory::open(pid, ((0, 0), 0))? };
        reader.look();
        Ok(reader)
    }

    /// Learns what the process maps now. False if it has ended.
    pub fn look(&mut self) -> bool {
        let mappings = maps::read(self.pid).unwrap_or_default();
        self.confine(&mappings);
        !mappings.is_empty()
    }

    /// What the process maps from now on: where a file is mapped nothing is read.
    pub fn confine(&mut self, mappings: &[Mapping]) {
        self.memory.confine(mappings);
    }

    /// The pool that a block is in, with what it holds; `None` if it is in none any more.
    pub fn around(&self, block: u64) -> Option<Pool> {
        POOL_BYTES.into_iter().find_map(|bytes| self.read(block & !(bytes - 1), bytes))
    }

    /// The pool that begins at an address, with what it holds; `None` if no block of it is in use any more, or none ever was.
    pub fn at(&self, address: u64) -> Option<Pool> {
        POOL_BYTES.into_iter().find_map(|bytes| self.read(address, bytes))
    }

    fn read(&self, address: u64, pool_bytes: u64) -> Option<Pool> {
        let head = self.memory.bytes::<{ Head::BYTES }>(address)?;
        let known = Head::read(&head, address, usize::try_from(pool_bytes).ok()?)?;
        Some(Pool { address, bytes: pool_bytes as u32, block_bytes: known.size as u32, live: known.live as u32 })
    }

    /// Whether a block of a pool was given back, and nobody has taken it since. True if the pool is gone.
    pub fn is_free(&self, address: u64, pool_bytes: u32, block: u64) -> bool {
        let pool = self.memory.at_most(address, pool_bytes.into(), POOL_BYTES[0]);
        pool.is_none_or(|pool| pools::is_free(&pool, address, block).unwrap_or(true))
    }

    /// Which of these addresses, which ascend, are in pages that are in memory now. What is in swap stays there.
    pub fn present(&self, addresses: &[u64]) -> HashSet<u64> {
        let wanted: HashSet<u64> = addresses.iter().copied().collect();
        let mut found = HashSet::new();
        let Some(mut pages) = Pages::open(self.pid, MAX_PAGES) else { return found };
        for near in addresses.chunk_by(|before, next| next - before < NEAR) {
            let (Some(first), Some(last)) = (near.first(), near.last()) else { continue };
            let step = POOL_BYTES[1];
            let _ = pages.present(*first..last.saturating_add(1), step, |address| {
                if wanted.contains(&address) {
                    found.insert(address);
                }
            });
        }
        found
    }
}
