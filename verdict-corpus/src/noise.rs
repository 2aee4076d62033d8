//! Random numbers from a seed: the same corpus for the same seed, whatever the version of a library.

/// Marsaglia's xorshift64.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// A generator for one run of one case: the run's seed, and which case it is.
    pub fn new(seed: u64, case: u64) -> Self {
        Self(mixed(seed ^ mixed(case)) | 1)
    }

    /// 0 to 1.
    pub fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About normal, with mean 0 and deviation 1.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// Exponential, with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -self.uniform().max(1e-12).ln()
    }

    /// A whole number from `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.uniform() * (high.max(low) - low + 1) as f64) as usize
    }

    /// Whether an event of this chance happens.
    pub fn happens(&mut self, chance: f64) -> bool {
        self.uniform() < chance
    }
}

/// S. Vigna's splitmix64: seeds that differ in a bit differ in half of the result's.
const fn mixed(seed: u64) -> u64 {
    let mut word = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
