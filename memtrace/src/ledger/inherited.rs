//! What a process got from its parent by fork.
//!
//! A child is attached a moment after its fork, and its parent has gone on meanwhile. So a parent keeps the blocks that it
//! released lately: those and its live ones, as far as they are older than the fork, are what the child began with.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::blocks::LiveBlock;

/// The most blocks that are noted for all children together, some 20 to 40 bytes each. A child for which there is no room
/// gets none, and its releases of such blocks are unmatched.
pub const MAX_BLOCKS: u64 = 1 << 22;

/// The most released blocks that are kept.
const MAX_RECENT: usize = 1 << 17;

/// How long they are kept: longer than it takes until a child is attached.
const RECENT_NS: u64 = 2_000_000_000;

/// Blocks that a process did not allocate itself, by address, with their sizes.
#[derive(Debug, Default)]
pub struct Inherited(HashMap<u64, u64>);

impl Inherited {
    /// Of these blocks, if there are no more of them than `most`.
    pub fn new(most: u64, blocks: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut found = HashMap::new();
        for (address, size) in blocks {
            if found.len() as u64 >= most {
                return Self::default();
            }
            found.insert(address, size);
        }
        Self(found)
    }

    /// Takes a block away; its size, if it was there.
    pub fn take(&mut self, address: u64) -> Option<u64> {
        // Most processes have none.
        if self.0.is_empty() { None } else { self.0.remove(&address) }
    }

    /// Puts a block back that was taken by mistake.
    pub fn put_back(&mut self, address: u64, size: u64) {
        self.0.insert(address, size);
    }

    /// All of them: address and size.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(&address, &size)| (address, size))
    }

    /// How many there are, and their bytes.
    pub fn sums(&self) -> (u64, u64) {
        (self.0.len() as u64, self.0.values().fold(0, |sum, size| sum.wrapping_add(*size)))
    }
}

/// Blocks that a process released lately, oldest release first.
#[derive(Debug, Default)]
pub struct Recent(VecDeque<(LiveBlock, u64)>);

impl Recent {
    /// The block was released at this time.
    pub fn push(&mut self, block: LiveBlock, released_ns: u64) {
        while self.0.len() >= MAX_RECENT || self.0.front().is_some_and(|(_, at)| at + RECENT_NS < released_ns) {
            self.0.pop_front();
        }
        self.0.push_back((block, released_ns));
    }

    /// The blocks that lived at this time: address and size.
    pub fn alive_at(&self, time_ns: u64) -> impl Iterator<Item = (u64, u64)> {
        let lived = move |&&(block, released_ns): &&(LiveBlock, u64)| block.time_ns < time_ns && time_ns <= released_ns;
        self.0.iter().filter(lived).map(|(block, _)| (block.address, block.size))
    }

    /// Forgets them: they are of an image that is gone.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
