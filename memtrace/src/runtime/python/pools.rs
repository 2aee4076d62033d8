//! Pools: pieces of memory of one size that pymalloc divides into blocks of one size (Objects/obmalloc.c, `struct pool_header`; the
//! same in 3.8 to 3.15). All of it is the target's to shape.

use crate::runtime::memory::{half_word_at, word_at};

/// The sizes of blocks are this times 1 to 32.
const UNIT: usize = 16;
const CLASSES: u32 = 32;

/// Words of bits that are enough for the blocks of a pool, of 16 KiB at most.
const WORDS: usize = 16;
const MAX_BLOCKS: usize = 64 * WORDS;

/// Where its parts are in the head of a pool, in bytes.
mod at {
    pub(super) const LIVE: usize = 0;
    pub(super) const FREE: usize = 8;
    pub(super) const CLASS: usize = 36;
    pub(super) const NEXT: usize = 40;
    pub(super) const LAST: usize = 44;
}

/// What the head of a pool says, in so far as it agrees with itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// Bytes of a block.
    pub size: usize,
    /// Blocks that are in use.
    pub live: usize,
    /// Blocks that were ever handed out; those behind them have never been touched.
    touched: usize,
    /// The address of the first block that was given back; 0 if there is none.
    free: u64,
}

impl Head {
    /// How long the head of a pool is.
    pub const BYTES: usize = 48;

    /// Reads the head of a pool of so many bytes at an address; `None` if this is none, or no block of it is in use.
    pub fn read(head: &[u8], address: u64, pool_bytes: usize) -> Option<Self> {
        let number = |at: usize| half_word_at(head, at).map(|number| number as usize);
        let class = half_word_at(head, at::CLASS).filter(|&class| class < CLASSES)?;
        let size = (class as usize + 1) * UNIT;
        let room = pool_bytes.checked_sub(Self::BYTES)? / size;
        let (live, next) = (number(at::LIVE)?, number(at::NEXT)?);
        let touched = next.checked_sub(Self::BYTES).filter(|bytes| bytes.is_multiple_of(size))? / size;
        let is_possible =
            number(at::LAST)? == pool_bytes - size && touched <= room.min(MAX_BLOCKS) && (1..=touched).contains(&live);
        let free = word_at(head, at::FREE)?;
        let is_inside = free == 0 || free.checked_sub(address).is_some_and(|offset| offset < pool_bytes as u64);
        (is_possible && is_inside).then_some(Self { size, live, touched, free })
    }

    /// Bits of the blocks that were given back: a list through their first words.
    fn free_blocks(&self, pool: &[u8], address: u64) -> [u64; WORDS] {
        let mut bits = [0; WORDS];
        let mut free = self.free;
        for _ in 0..self.touched {
            let Some(index) = self.index(free, address) else { break };
            bits[index / 64] |= 1 << (index % 64);
            free = word_at(pool, Self::BYTES + index * self.size).unwrap_or(0);
        }
        bits
    }

    /// Which of the touched blocks begins here.
    fn index(&self, block: u64, address: u64) -> Option<usize> {
        let offset = usize::try_from(block.checked_sub(address)?).ok()?.checked_sub(Self::BYTES)?;
        (offset.is_multiple_of(self.size) && offset / self.size < self.touched).then_some(offset / self.size)
    }
}

/// Whether a block of a pool was given back; `None` if this is no pool, or no block of it was ever there.
pub fn is_free(pool: &[u8], address: u64, block: u64) -> Option<bool> {
    let head = Head::read(pool, address, pool.len())?;
    let index = head.index(block, address)?;
    Some(head.free_blocks(pool, address)[index / 64] >> (index % 64) & 1 != 0)
}

/// Calls `each` with every block of a pool that is in use; with none if this is no pool.
pub fn objects(pool: &[u8], address: u64, mut each: impl FnMut(&[u8])) {
    let Some(head) = Head::read(pool, address, pool.len()) else { return };
    let free = head.free_blocks(pool, address);
    let blocks = pool[Head::BYTES..].chunks_exact(head.size).take(head.touched);
    for (index, block) in blocks.enumerate() {
        if free[index / 64] >> (index % 64) & 1 == 0 {
            each(block);
        }
    }
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A pool of `live` blocks of a size in use, behind `free` that were given back.
    pub fn pool(pool_bytes: usize, address: u64, size: usize, free: usize, live: usize) -> Vec<u8> {
        let mut pool = vec![0; pool_bytes];
        let block = |index: usize| Head::BYTES + index * size;
        let mut put = |at: usize, bytes: &[u8]| pool[at..at + bytes.len()].copy_from_slice(bytes);
        put(at::LIVE, &(live as u32).to_ne_bytes());
        put(at::FREE, &if free > 0 { address + block(free - 1) as u64 } else { 0 }.to_ne_bytes());
        put(at::CLASS, &(size as u32 / 16 - 1).to_ne_bytes());
        put(at::NEXT, &(block(free + live) as u32).to_ne_bytes());
        put(at::LAST, &((pool_bytes - size) as u32).to_ne_bytes());
        (1..free).for_each(|index| put(block(index), &(address + block(index - 1) as u64).to_ne_bytes()));
        pool
    }

    fn count(pool: &[u8], address: u64) -> (usize, usize) {
        let mut found = (0, 0);
        objects(pool, address, |block| found = (found.0 + 1, found.1 + block.len()));
        found
    }

    #[test]
    fn blocks_in_use_are_found_and_those_that_were_given_back_are_not() {
        for (pool_bytes, size, free, live) in
            [(4096, 48, 0, 1), (4096, 48, 7, 70), (16384, 16, 21, 1000), (16384, 512, 1, 30)]
        {
            let pool = pool(pool_bytes, 0x7000_0000, size, free, live);
            assert_eq!(count(&pool, 0x7000_0000), (live, live * size), "{pool_bytes} {size}");
            assert_eq!(count(&pool[..pool_bytes / 2], 0x7000_0000), (0, 0), "a pool of another size");
        }
        assert_eq!(count(&pool(4096, 0x7000_0000, 48, 7, 0), 0x7000_0000), (0, 0), "none is in use");
        assert_eq!(count(&pool(4096, 0x7000_0000, 48, 7, 7), 0x8000_0000), (0, 0), "it is another's");
    }

    proptest! {
        /// However a pool is damaged, no more blocks are found than it has room for.
        #[test]
        fn damaged_pools_have_at_most_the_blocks_that_fit(
            (size, free, live) in (1usize..=32).prop_flat_map(|class| {
                let room = (16384 - Head::BYTES) / (16 * class);
                (Just(16 * class), 0..room / 2, 1..=room / 2)
            }),
            damage in prop::collection::vec((0usize..16384, any::<u8>()), 0..40),
            head in prop::collection::vec((0usize..Head::BYTES, any::<u8>()), 0..3),
            address in prop_oneof![Just(0u64), Just(u64::MAX - 16383), any::<u64>().prop_map(|address| address & !16383)],
        ) {
            let base = address.min(u64::MAX - (1 << 20));
            let mut pool = pool(16384, base, size, free, live);
            for (at, byte) in damage.into_iter().chain(head) {
                pool[at] = byte;
            }
            let (blocks, bytes) = count(&pool, address);
            prop_assert!(bytes <= 16384 - Head::BYTES && blocks <= bytes / 16);
        }

        #[test]
        fn random_bytes_are_read_whatever_they_are(bytes in prop::collection::vec(any::<u8>(), 0..5000), address in any::<u64>()) {
            let (_, found) = count(&bytes, address);
            prop_assert!(found <= bytes.len());
        }
    }
}
