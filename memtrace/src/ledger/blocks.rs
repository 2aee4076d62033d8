//! The live heap blocks of one process: 24 bytes a block, found by address.
//!
//! The table is cut into shards, so that growing moves one shard's blocks and never holds everything twice. The shards
//! take unequal parts of the addresses, from 1 to nearly 2 in a geometric row: were they equal, all would double at
//! the same count of blocks, and just after it half of the memory would be unused. As it is, at any count some shards
//! are full and some have just grown. A block costs 40 to 43 bytes while their number grows, and up to 47 when it has
//! been steady for long (see `make_room`).

use hashbrown::{HashMap, HashTable, hash_table::Entry};

/// How many shards there are.
const SHARDS: usize = 256;

/// How many bits of the hash choose the shard.
const CHOICE_BITS: u32 = 12;

/// The shard of each value of those bits.
static SHARD_OF: [u8; 1 << CHOICE_BITS] = shard_choices();

/// The first address that a packed block cannot hold; user space ends far below it.
pub const ADDRESS_END: u64 = 1 << 48;

/// The size that stands in a packed block for one that does not fit; the true one is in a table beside.
const OVERSIZE: u64 = (1 << 44) - 1;

/// Tables below this many buckets are not worth shrinking.
const SMALLEST_SHRUNK: usize = 64;

/// A block that was allocated and not freed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LiveBlock {
    /// Where it begins; below [`ADDRESS_END`].
    pub address: u64,
    /// Requested bytes.
    pub size: u64,
    /// The level of sampling at which it was seen, below 16.
    pub level: u8,
    /// The index of its stack, see [`super::stacks::Stacks`].
    pub stack: u32,
    /// When it appeared, below 2^60, which a machine reaches after 36 years.
    pub time_ns: u64,
}

/// A block in three words: address (48 bits) and the low 16 bits of the size; the size's high 28 bits and the stack
/// (32); the level (4 bits) and the time (60).
#[derive(Clone, Copy)]
struct Packed([u64; 3]);

const _: () = assert!(size_of::<Packed>() == 24);

/// The bits of a time.
const TIME_BITS: u32 = 60;

const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

const fn stamp(block: &LiveBlock) -> u64 {
    (block.level as u64) << TIME_BITS | (block.time_ns & TIME_MASK)
}

impl Packed {
    const fn new(block: &LiveBlock) -> Self {
        let size = if block.size < OVERSIZE { block.size } else { OVERSIZE };
        Self([block.address << 16 | (size & 0xffff), (size >> 16) << 32 | block.stack as u64, stamp(block)])
    }

    const fn address(&self) -> u64 {
        self.0[0] >> 16
    }

    const fn time_ns(&self) -> u64 {
        self.0[2] & TIME_MASK
    }

    const fn level(&self) -> u8 {
        (self.0[2] >> TIME_BITS) as u8
    }

    const fn size(&self) -> u64 {
        (self.0[1] >> 32) << 16 | (self.0[0] & 0xffff)
    }

    fn unpack(self, oversize: &HashMap<u64, u64>) -> LiveBlock {
        let address = self.address();
        let size = match self.size() {
            OVERSIZE => oversize.get(&address).copied().unwrap_or(OVERSIZE),
            size => size,
        };
        LiveBlock { address, size, level: self.level(), stack: self.0[1] as u32, time_ns: self.time_ns() }
    }
}

/// The live blocks of a process, by address.
pub struct Blocks {
    shards: Box<[HashTable<Packed>]>,
    /// Sizes of [`OVERSIZE`] bytes and more, by address.
    oversize: HashMap<u64, u64>,
}

impl Default for Blocks {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| HashTable::new()).collect(), oversize: HashMap::new() }
    }
}

impl Blocks {
    /// Inserts a block, and returns the one that was there.
    pub fn insert(&mut self, block: LiveBlock) -> Option<LiveBlock> {
        let (address, packed) = (block.address, Packed::new(&block));
        let hash = hash(address);
        let shard = &mut self.shards[shard_index(hash)];
        if shard.len() == shard.capacity() {
            make_room(shard);
        }
        let old = match shard.entry(hash, |other| other.address() == address, rehash) {
            Entry::Occupied(mut entry) => {
                let old = entry.get().unpack(&self.oversize);
                *entry.get_mut() = packed;
                self.forget_oversize(&old);
                Some(old)
            }
            Entry::Vacant(entry) => {
                entry.insert(packed);
                None
            }
        };
        if block.size >= OVERSIZE {
            self.oversize.insert(address, block.size);
        }
        old
    }

    /// Removes the block at `address` if it appeared at `time_ns` or before.
    pub fn remove_older(&mut self, address: u64, time_ns: u64) -> Option<LiveBlock> {
        let hash = hash(address);
        let shard = &mut self.shards[shard_index(hash)];
        let entry = shard.find_entry(hash, |other| other.address() == address).ok()?;
        if entry.get().time_ns() > time_ns {
            return None;
        }
        let (packed, _) = entry.remove();
        shrink_when_empty(shard);
        let block = packed.unpack(&self.oversize);
        self.forget_oversize(&block);
        Some(block)
    }

    /// Removes the block at `address`; `None` when there is none.
    pub fn remove(&mut self, address: u64) -> Option<LiveBlock> {
        self.remove_older(address, u64::MAX)
    }

    /// When the block at `address` appeared, if there is one.
    pub fn time_ns(&self, address: u64) -> Option<u64> {
        self.find(address).map(Packed::time_ns)
    }

    /// The block at `address`, if there is one.
    pub fn get(&self, address: u64) -> Option<LiveBlock> {
        self.find(address).map(|packed| packed.unpack(&self.oversize))
    }

    fn find(&self, address: u64) -> Option<&Packed> {
        let hash = hash(address);
        self.shards[shard_index(hash)].find(hash, |other| other.address() == address)
    }

    /// How many blocks live.
    pub fn len(&self) -> usize {
        self.shards.iter().map(HashTable::len).sum()
    }

    /// Every live block, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = LiveBlock> {
        self.shards.iter().flatten().map(|packed| packed.unpack(&self.oversize))
    }

    /// Bytes of memory that the table takes.
    #[cfg(test)]
    pub fn heap_bytes(&self) -> usize {
        let shards: usize = self.shards.iter().map(HashTable::allocation_size).sum();
        shards + size_of_val(&*self.shards) + self.oversize.allocation_size()
    }

    fn forget_oversize(&mut self, block: &LiveBlock) {
        if block.size >= OVERSIZE {
            self.oversize.remove(&block.address);
        }
    }
}

/// Makes room for one more block in a shard that has none left.
///
/// Left alone, hashbrown doubles a table that is more than half full even when what fills it are the marks of removed
/// entries, and a program that allocates and frees at a steady level would end with a third of its table in use. So a
/// table with enough such marks is rebuilt at its size instead.
fn make_room(shard: &mut HashTable<Packed>) {
    let whole = whole_capacity(shard);
    if shard.len() > whole / 2 && shard.len() < whole - whole / 16 {
        let mut fresh = HashTable::with_capacity(whole);
        for packed in shard.drain() {
            fresh.insert_unique(rehash(&packed), packed, rehash);
        }
        *shard = fresh;
    } else {
        shard.reserve(1, rehash);
    }
}

/// Halves a shard of which a quarter is in use.
fn shrink_when_empty(shard: &mut HashTable<Packed>) {
    let buckets = shard.num_buckets();
    if buckets >= SMALLEST_SHRUNK && shard.len() < buckets / 4 {
        // 7/8 of half the buckets: the most that a table of that size holds.
        shard.shrink_to(buckets / 16 * 7, rehash);
    }
}

/// How many entries the table could hold were none of its places marked as removed.
fn whole_capacity(shard: &HashTable<Packed>) -> usize {
    shard.num_buckets() / 8 * 7
}

fn rehash(packed: &Packed) -> u64 {
    hash(packed.address())
}

/// One multiplication to 128 bits, both halves folded: allocators' addresses differ in few bits, and every one of them
/// must reach both the low bits (the place) and the high ones (the shard and hashbrown's tag).
const fn hash(address: u64) -> u64 {
    let product = address as u128 * 0x9e37_79b9_7f4a_7c15;
    product as u64 ^ (product >> 64) as u64
}

/// Bits that neither the place in a shard nor the tag (the highest seven) is made of.
fn shard_index(hash: u64) -> usize {
    usize::from(SHARD_OF[(hash >> 44) as usize & ((1 << CHOICE_BITS) - 1)])
}

/// Cuts the values of the choice bits so that shard `i` gets a part in proportion to 2^(i / SHARDS).
const fn shard_choices() -> [u8; 1 << CHOICE_BITS] {
    /// 2^(1 / 256) - 1, in units of 2^-32.
    const STEP: u64 = 11_644_838;
    let mut choices = [0; 1 << CHOICE_BITS];
    // 2^(shard / 256), in units of 2^-32; runs from 1 to 2.
    let mut power: u64 = 1 << 32;
    let mut shard = 0;
    let mut choice = 0;
    while shard < SHARDS {
        power += (power * STEP) >> 32;
        // The shard's part ends at (2^((shard + 1) / 256) - 1) of the whole; the last takes what rounding left.
        let end = if shard == SHARDS - 1 { 1 << CHOICE_BITS } else { (power - (1 << 32)) >> (32 - CHOICE_BITS) };
        while choice < end {
            choices[choice as usize] = shard as u8;
            choice += 1;
        }
        shard += 1;
    }
    choices
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        time::{Duration, Instant},
    };

    use proptest::prelude::*;

    use super::*;

    const MILLION: u64 = 1_000_000;

    fn block(number: u64) -> LiveBlock {
        // Neighbours of 48 bytes, as a heap of small blocks has them.
        let address = 0x7f12_0000_0010 + number * 48;
        LiveBlock { address, size: number % 4096, level: 0, stack: number as u32 % 1000, time_ns: number }
    }

    fn rate(events: u64, took: Duration) -> f64 {
        events as f64 / took.as_secs_f64() / 1e6
    }

    fn bytes_a_block(blocks: &Blocks) -> f64 {
        blocks.heap_bytes() as f64 / blocks.len() as f64
    }

    #[test]
    fn ten_million_blocks_take_at_most_48_bytes_each() {
        let mut blocks = Blocks::default();
        let began = Instant::now();
        let mut worst: f64 = 0.0;
        for number in 0..10 * MILLION {
            blocks.insert(block(number));
            if number % (MILLION / 4) == MILLION / 4 - 1 {
                worst = worst.max(bytes_a_block(&blocks));
            }
        }
        println!("{:.1} M inserts/s, {:.1} bytes a block", rate(10 * MILLION, began.elapsed()), bytes_a_block(&blocks));
        println!("at most {worst:.1} bytes a block on the way");
        assert_eq!(blocks.len(), 10_000_000);
        assert!(bytes_a_block(&blocks) <= 48.0);
        assert!(worst <= 48.0);

        let began = Instant::now();
        for number in 0..10 * MILLION {
            assert_eq!(blocks.remove(block(number).address), Some(block(number)));
        }
        println!("{:.1} M removals/s, {} bytes left", rate(10 * MILLION, began.elapsed()), blocks.heap_bytes());
        assert!(blocks.heap_bytes() < 1 << 20, "an empty table keeps {} bytes", blocks.heap_bytes());
    }

    #[test]
    fn a_steady_level_of_blocks_that_come_and_go_takes_at_most_48_bytes_each() {
        let mut worst: f64 = 0.0;
        for level in [256_000, 300_000, 350_000, 400_000, 450_000] {
            let mut blocks = Blocks::default();
            let mut live: Vec<u64> = (0..level).collect();
            live.iter().for_each(|&number| assert_eq!(blocks.insert(block(number)), None));
            for number in level..level + MILLION {
                // Any of them goes, old or young.
                let victim = &mut live[(hash(number) % level) as usize];
                assert!(blocks.remove(block(*victim).address).is_some());
                *victim = number;
                blocks.insert(block(number));
                if number % (MILLION / 16) == 0 {
                    worst = worst.max(bytes_a_block(&blocks));
                }
            }
        }
        println!("at most {worst:.1} bytes a block");
        assert!(worst <= 48.0, "{worst} bytes a block");
    }

    #[test]
    fn shards_take_parts_in_a_geometric_row() {
        let mut parts = [0u32; SHARDS];
        SHARD_OF.iter().for_each(|&shard| parts[usize::from(shard)] += 1);
        assert!(parts.iter().all(|&part| (10..=23).contains(&part)), "{parts:?}");
        let half: u32 = parts[..SHARDS / 2].iter().sum();
        // The first half of the row has 2^(1/2) - 1 of the whole.
        assert!((1690..=1704).contains(&half), "{half}");
    }

    fn any_block() -> impl Strategy<Value = LiveBlock> {
        let size = prop_oneof![0..100u64, OVERSIZE - 2..OVERSIZE + 2, Just(u64::MAX)];
        let address = prop_oneof![0..20u64, ADDRESS_END - 20..ADDRESS_END];
        let time_ns = 0..1u64 << TIME_BITS;
        (address, size, 0..16u8, any::<u32>(), time_ns).prop_map(|(address, size, level, stack, time_ns)| LiveBlock {
            address,
            size,
            level,
            stack,
            time_ns,
        })
    }

    proptest! {
        #[test]
        fn the_table_behaves_as_a_map(steps in prop::collection::vec((any_block(), any::<bool>()), 0..200)) {
            let mut blocks = Blocks::default();
            let mut model = BTreeMap::new();
            for (block, insert) in steps {
                if insert {
                    prop_assert_eq!(blocks.insert(block), model.insert(block.address, block));
                } else {
                    prop_assert_eq!(blocks.remove(block.address), model.remove(&block.address));
                }
                prop_assert_eq!(blocks.len(), model.len());
                let mut live: Vec<_> = blocks.iter().collect();
                live.sort_by_key(|block| block.address);
                prop_assert!(live.into_iter().eq(model.values().copied()));
                let oversize = model.values().filter(|block| block.size >= OVERSIZE).count();
                prop_assert_eq!(blocks.oversize.len(), oversize);
            }
        }
    }
}
