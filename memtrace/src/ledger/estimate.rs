//! What sampled blocks stand for, and how far the sums may be off.
//!
//! A block that is seen with the chance p stands for 1/p blocks of its size (D. G. Horvitz and D. J. Thompson, "A
//! generalization of sampling without replacement from a finite universe", JASA 47, 1952): sums of these are right on the
//! average, and (1 - p) / p² times the square of its bytes is its part of the variance of such a sum. Sums are of
//! integers, so that what a release takes away is exactly what the allocation brought.

use memtrace_common::sampling::LEVELS;

/// Bits after the binary point of a number of blocks.
const FRACTION: u32 = 16;

/// The mean distance of sampling points at each level, in bytes; 0 where every block is seen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Distances([u64; LEVELS]);

impl Distances {
    /// From now on `level` means this distance. Level 0 means 0 and nothing else.
    pub const fn set(&mut self, level: u8, distance: u64) {
        if level != 0 && (level as usize) < LEVELS {
            self.0[level as usize] = distance;
        }
    }

    /// The mean distance between samples at a level, in bytes.
    pub fn get(&self, level: u8) -> u64 {
        self.0.get(usize::from(level)).copied().unwrap_or(0)
    }

    /// The chance with which a block of this size is seen at this level.
    pub fn chance(&self, size: u64, level: u8) -> f64 {
        match self.get(level) {
            0 => 1.0,
            // The programs count a block without bytes as one byte.
            distance => -(-(size.max(1) as f64) / distance as f64).exp_m1(),
        }
    }

    /// What a block stands for that was seen at this level.
    pub fn weigh(&self, size: u64, level: u8) -> Weight {
        if self.get(level) == 0 {
            return Weight::exact(1, size);
        }
        let chance = self.chance(size, level);
        let stands_for = 1.0 / chance;
        let bytes = size as f64;
        Weight {
            // A float that is too large becomes the largest integer.
            blocks: (stands_for * f64::from(1u32 << FRACTION)).round() as u64,
            bytes: (bytes * stands_for).round() as u64,
            variance: ((1.0 - chance) * (bytes * stands_for).powi(2)).round() as u128,
        }
    }
}

/// What one block stands for, or the sum of several.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Weight {
    /// In units of 2^-16.
    blocks: u64,
    bytes: u64,
    /// Of the bytes.
    variance: u128,
}

impl Weight {
    /// Of blocks that stand for themselves.
    pub const fn exact(blocks: u64, bytes: u64) -> Self {
        Self { blocks: blocks << FRACTION, bytes, variance: 0 }
    }

    /// The estimated number of live blocks.
    pub const fn blocks(&self) -> u64 {
        (self.blocks + (1 << (FRACTION - 1))) >> FRACTION
    }

    /// Bytes; they wrap as all sums of bytes do.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The variance of the bytes, in bytes squared.
    pub const fn variance(&self) -> f64 {
        self.variance as f64
    }

    /// Adds another estimate, and its error.
    pub const fn add(&mut self, other: Self) {
        self.blocks = self.blocks.wrapping_add(other.blocks);
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.variance = self.variance.wrapping_add(other.variance);
    }

    /// Takes one away that was added.
    pub const fn take(&mut self, other: Self) {
        self.blocks = self.blocks.wrapping_sub(other.blocks);
        self.bytes = self.bytes.wrapping_sub(other.bytes);
        self.variance = self.variance.wrapping_sub(other.variance);
    }
}

/// How well the sums of a stack, or of a process, are known from the blocks that were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Precision {
    /// Live blocks that were seen.
    pub live_seen: u64,
    /// Blocks that were ever seen.
    pub ever_seen: u64,
    /// The variance of the outstanding bytes.
    pub live: f64,
    /// The variance of all bytes that came, and of all that went, together.
    pub turnover: f64,
}

impl Precision {
    /// Adds the blocks and the error of another stack.
    pub fn add(&mut self, other: Self) {
        self.live_seen += other.live_seen;
        self.ever_seen += other.ever_seen;
        self.live += other.live;
        self.turnover += other.turnover;
    }
}

#[cfg(test)]
mod tests {
    use proptest::{
        prelude::*,
        test_runner::{RngAlgorithm, TestRng},
    };

    use super::*;
    use crate::statistics::interval95;

    #[test]
    fn without_sampling_a_block_is_a_block() {
        let weight = Distances::default().weigh(100, 0);
        assert_eq!((weight.blocks(), weight.bytes(), weight.variance()), (1, 100, 0.0));
    }

    #[test]
    fn small_blocks_stand_for_many_and_large_ones_for_themselves() {
        let mut distances = Distances::default();
        distances.set(1, 512 << 10);
        let small = distances.weigh(64, 1);
        // 1 / (1 - exp(-x)) is 1/x + 1/2 for small x.
        assert_eq!(small.blocks(), 8193);
        assert_eq!(small.bytes(), (512 << 10) + 32);
        let large = distances.weigh(64 << 20, 1);
        assert_eq!((large.blocks(), large.bytes()), (1, 64 << 20));
        assert!(distances.weigh(0, 1).bytes() == 0);
    }

    /// A program with blocks of every size that allocates and releases, sampled a thousand times.
    #[test]
    fn the_truth_lies_within_the_interval_as_often_as_is_said() {
        let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        // Few and many samples, uniform and mixed sizes.
        let programs: [(&[u64], usize, u64); 4] = [
            (&[64], 40_000, 64 << 10),
            (&[64], 200_000, 512 << 10),
            (&[16, 100, 700, 5000, 40_000], 3000, 64 << 10),
            (&[32, 256, 4096], 30_000, 512 << 10),
        ];
        for (sizes, blocks, distance) in programs {
            let mut distances = Distances::default();
            distances.set(1, distance);
            let chances: Vec<f64> = sizes.iter().map(|&size| -(-(size as f64) / distance as f64).exp_m1()).collect();
            let (mut within, mut error, mut variance) = (0, 0.0, 0.0);
            for _ in 0..1000 {
                let (mut truth, mut live) = (0u64, Weight::default());
                for index in 0..blocks {
                    let kind = index % sizes.len();
                    let weight = distances.weigh(sizes[kind], 1);
                    let seen = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64 <= chances[kind];
                    let stays = random.next_u64().is_multiple_of(4);
                    if seen {
                        live.add(weight);
                    }
                    if stays {
                        truth += sizes[kind];
                    } else if seen {
                        live.take(weight);
                    }
                }
                let (low, high) = interval95(live.bytes() as f64, live.variance());
                within += u32::from((low..=high).contains(&(truth as f64)));
                error += live.bytes() as f64 - truth as f64;
                variance += live.variance();
            }
            let deviations = error / variance.sqrt();
            println!("{sizes:?} {distance}: {within} of 1000 within, off by {deviations:.2} standard deviations");
            assert!((930..=970).contains(&within), "{sizes:?} {distance}: {within} of 1000");
            assert!(deviations.abs() < 3.0, "{sizes:?} {distance}: {deviations}");
        }
    }

    proptest! {
        #[test]
        fn what_is_added_can_be_taken_away(
            blocks in prop::collection::vec((0u64..1 << 45, 0u8..16), 0..50),
            distance in 1u64..1 << 40,
        ) {
            let mut distances = Distances::default();
            (1..16).for_each(|level| distances.set(level, distance << (level / 4)));
            let mut sum = Weight::default();
            blocks.iter().for_each(|&(size, level)| sum.add(distances.weigh(size, level)));
            blocks.iter().rev().for_each(|&(size, level)| sum.take(distances.weigh(size, level)));
            prop_assert_eq!(sum, Weight::default());
        }
    }
}
