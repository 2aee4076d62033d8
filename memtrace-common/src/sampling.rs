//! Sampling by bytes: which blocks are looked at, and how their record says so.
//!
//! Blocks are drawn as a Poisson process draws points on a line of bytes: between two points lie, on the average, as many
//! bytes as the *distance*, and a block is seen if a point falls into it. So a block of `size` bytes is seen with a chance of
//! `1 - exp(-size / distance)`, whatever was seen before. During a run the distance may rise; the *level* tells which one
//! held when a block appeared, and stands in the high bits of the size. Level 0: every block is seen.

/// How many levels there are, 0 included.
pub const LEVELS: usize = 16;

/// The largest mean distance between two sampling points, in bytes.
pub const MAX_DISTANCE: u64 = 1 << 40;

/// Where in a size the level begins. No call can succeed that asks for so many bytes.
const LEVEL_SHIFT: u32 = 60;

/// How the programs sample: the one value of the kernel's `SAMPLING` array.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Sampling {
    /// The mean distance from one point to the next at level 1, in bytes. It never changes during a run, so that the level
    /// alone says what held.
    pub base: u64,
    /// Below [`LEVELS`].
    pub level: u64,
    /// Not 0 if releases of blocks that are not in the kernel's set of seen ones stay in the kernel.
    pub filters: u64,
    /// Not 0 if allocations are put into that set.
    pub notes: u64,
    /// Changes when probes come back that were away: calls that were open then are over.
    pub window: u64,
}

const _: () = assert!(size_of::<Sampling>() == 40);

/// The mean distance at a level: four times as far from one level to the next. 0 at level 0, and at most [`MAX_DISTANCE`].
#[inline(always)]
pub const fn distance(base: u64, level: u64) -> u64 {
    if level == 0 || level >= LEVELS as u64 {
        return 0;
    }
    let shift = 2 * (level - 1);
    if base > MAX_DISTANCE >> shift { MAX_DISTANCE } else { base << shift }
}

/// A size with the level at which its block was seen.
pub const fn pack(size: u64, level: u64) -> u64 {
    (size & SIZE_MASK) | level << LEVEL_SHIFT
}

/// The bytes of a packed size.
pub const fn bytes(packed: u64) -> u64 {
    packed & SIZE_MASK
}

/// The level of a packed size.
pub const fn level(packed: u64) -> u8 {
    (packed >> LEVEL_SHIFT) as u8
}

const SIZE_MASK: u64 = (1 << LEVEL_SHIFT) - 1;

/// Bits after the binary point of a logarithm.
const FRACTION: u32 = 20;

/// The natural logarithm of 2, with 24 bits after the point.
const LN_2: u64 = 11_629_080;

/// Bytes to the next point: an exponential variable with this mean (at most [`MAX_DISTANCE`]), made of 64 random bits.
///
/// The error of the logarithm is below 2^-20, that of the mean below a millionth.
#[inline(always)]
pub fn exponential(random: u64, mean: u64) -> u64 {
    let random = random | 1;
    let zeros = random.leading_zeros();
    // In [1, 2), with 31 bits after the point.
    let mut mantissa = (random << zeros) >> 32;
    // Its binary logarithm, bit by bit: a number's square has twice its logarithm.
    let mut fraction = 0;
    let mut bit = 0;
    while bit < FRACTION {
        mantissa = (mantissa * mantissa) >> 31;
        // Without a branch: the verifier would look at every way through all of them.
        let carry = mantissa >> 32;
        mantissa >>= carry;
        fraction = fraction << 1 | carry;
        bit += 1;
    }
    let halvings = ((zeros as u64 + 1) << FRACTION) - fraction;
    // At most 2^26 · 2^24, then 2^30 · 2^40 in two steps.
    let natural = (halvings * LN_2) >> 24;
    let (high, low) = (mean >> 20, mean & ((1 << 20) - 1));
    natural * high + ((natural * low) >> FRACTION)
}

#[cfg(test)]
mod tests {
    use proptest::{
        prelude::Rng as _,
        test_runner::{RngAlgorithm, TestRng},
    };

    use super::*;

    #[test]
    fn a_size_keeps_its_level() {
        for level in 0..LEVELS as u64 {
            for size in [0, 1, 4096, (1 << 60) - 1] {
                let packed = pack(size, level);
                assert_eq!((bytes(packed), u64::from(super::level(packed))), (size, level));
            }
        }
    }

    #[test]
    fn each_level_is_four_times_as_far() {
        assert_eq!([0, 1, 2, 3].map(|level| distance(1000, level)), [0, 1000, 4000, 16_000]);
        assert_eq!([distance(1 << 39, 2), distance(u64::MAX, 15), distance(1, 16)], [MAX_DISTANCE, MAX_DISTANCE, 0]);
    }

    #[test]
    fn it_is_the_logarithm() {
        let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        for mean in [1, 1000, 512 << 10, MAX_DISTANCE] {
            for _ in 0..10_000 {
                let word = random.next_u64();
                let exact = -((word | 1) as f64 / 2f64.powi(64)).ln() * mean as f64;
                let found = exponential(word, mean) as f64;
                assert!((found - exact).abs() <= 2.0 + 3e-6 * mean as f64 * 44.0, "{word:#x} {mean}: {found} {exact}");
            }
        }
        // The ends of the scale.
        assert_eq!(exponential(u64::MAX, 1 << 20), 0);
        assert!(exponential(0, MAX_DISTANCE) > 40 * MAX_DISTANCE);
    }

    #[test]
    fn blocks_are_seen_with_the_chance_that_is_promised() {
        let distance = 10_000;
        let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        for size in [16u64, 500, 10_000, 50_000] {
            let (mut left, mut seen) = (exponential(random.next_u64(), distance), 0u32);
            let trials = 200_000;
            for _ in 0..trials {
                if left < size {
                    seen += 1;
                    left = exponential(random.next_u64(), distance);
                } else {
                    left -= size;
                }
            }
            let chance = -(-(size as f64) / distance as f64).exp_m1();
            let deviation = (chance * (1.0 - chance) / f64::from(trials)).sqrt();
            let share = f64::from(seen) / f64::from(trials);
            assert!((share - chance).abs() < 4.0 * deviation, "{size}: {share} is not {chance}");
        }
    }
}
