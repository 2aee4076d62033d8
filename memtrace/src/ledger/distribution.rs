//! Ages and sizes of the live blocks of chosen stacks: bounded memory, two significant digits. And how much of what
//! appeared in each stretch of time still lives.

use hdrhistogram::Histogram;

/// The largest age that is told apart: 100 years in milliseconds.
const MAX_AGE_MS: u64 = 100 * 366 * 24 * 3600 * 1000;

/// The largest size that is told apart: all of the addresses.
const MAX_SIZE: u64 = super::blocks::ADDRESS_END;

const NS_PER_MS: u64 = 1_000_000;

/// How old and how large the live blocks of a stack are. Larger values count as the largest that is told apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Milliseconds since they appeared.
    pub ages_ms: Histogram<u64>,
    /// Bytes.
    pub sizes: Histogram<u64>,
}

impl Distribution {
    /// One without blocks.
    pub fn new() -> Self {
        Self { ages_ms: histogram(MAX_AGE_MS), sizes: histogram(MAX_SIZE) }
    }

    /// Both together.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        // Both have the same bounds, so that nothing can be out of them.
        let _ = (self.ages_ms.add(&other.ages_ms), self.sizes.add(&other.sizes));
        self
    }

    /// Adds so many blocks that appeared at `time_ns`, as seen at `now_ns`.
    pub fn record(&mut self, size: u64, blocks: u64, time_ns: u64, now_ns: u64) {
        self.ages_ms.saturating_record_n(now_ns.saturating_sub(time_ns) / NS_PER_MS, blocks);
        self.sizes.saturating_record_n(size, blocks);
    }
}

/// What one stack still holds of the blocks that appeared in one stretch of time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cohort {
    /// Blocks, or pieces of mapped ranges, that live and were seen.
    pub blocks: u64,
    /// Bytes that those stand for.
    pub bytes: u64,
}

impl Cohort {
    /// Adds a live block that stands for so many bytes.
    pub fn add(&mut self, bytes: u64) {
        self.blocks += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl Default for Distribution {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::expect_used, reason = "fails only for bounds and digits out of order, and these are constants")]
fn histogram(max: u64) -> Histogram<u64> {
    Histogram::new_with_bounds(1, max, 2).expect("1 is below the bound and 2 digits are allowed")
}
