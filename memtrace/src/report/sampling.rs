//! What a report says where only a sample of the blocks was seen.

use serde::{Deserialize, Serialize};

use super::number::{bytes, of};
use crate::statistics::interval95;

/// How a run sampled blocks: how far apart, and how many it saw.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sampling {
    /// Bytes of allocations from one sampling point to the next, on the average; 0 while every block is seen.
    pub distance_bytes: u64,
    /// Heap blocks that were seen to appear.
    pub blocks_seen: u64,
}

/// How well a number of bytes is known that was estimated from a sample.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Estimate {
    /// Live blocks that were seen.
    pub blocks_seen: u64,
    /// In 95 of 100 samples the true number of outstanding bytes lies from the first to the second.
    pub outstanding_interval_bytes: (u64, u64),
}

impl Estimate {
    /// From a sum of bytes, its variance, and how many blocks it was made of.
    pub fn new(outstanding_bytes: u64, variance: f64, blocks_seen: u64) -> Self {
        let (low, high) = interval95(outstanding_bytes as f64, variance);
        Self { blocks_seen, outstanding_interval_bytes: (low as u64, high as u64) }
    }

    /// Both together, given what each was estimated to be. Errors of different stacks have nothing to do with each other.
    #[must_use]
    pub fn with(self, outstanding: u64, other: Self, other_outstanding: u64) -> Self {
        let reach = |estimate: u64, end: u64| estimate.abs_diff(end) as f64;
        let ((low, high), (other_low, other_high)) =
            (self.outstanding_interval_bytes, other.outstanding_interval_bytes);
        let sum = outstanding.saturating_add(other_outstanding);
        let below = reach(outstanding, low).hypot(reach(other_outstanding, other_low)) as u64;
        let above = reach(outstanding, high).hypot(reach(other_outstanding, other_high)) as u64;
        Self {
            blocks_seen: self.blocks_seen + other.blocks_seen,
            outstanding_interval_bytes: (sum.saturating_sub(below), sum.saturating_add(above)),
        }
    }

    /// `95%: 500 kB to 700 kB, from 12 blocks that were drawn`.
    pub fn sentence(&self) -> String {
        let (low, high) = self.outstanding_interval_bytes;
        let drawn = of(self.blocks_seen, "block that was drawn", "blocks that were drawn");
        format!("95%: {} to {}, from {drawn}", bytes(low), bytes(high))
    }
}

/// One sentence about the whole run.
pub fn note(sampling: Option<&Sampling>) -> Option<String> {
    let sampling = sampling.filter(|sampling| sampling.distance_bytes > 0)?;
    Some(format!(
        "Sampled: {}, one for every {} of allocations. What heap stacks hold is estimated from them.",
        of(sampling.blocks_seen, "heap block was looked at", "heap blocks were looked at"),
        bytes(sampling.distance_bytes),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_two_stacks_add_up_as_squares() {
        let one = Estimate { blocks_seen: 3, outstanding_interval_bytes: (70, 140) };
        let other = Estimate { blocks_seen: 4, outstanding_interval_bytes: (60, 130) };
        let both = one.with(100, other, 100);
        assert_eq!(both, Estimate { blocks_seen: 7, outstanding_interval_bytes: (150, 250) });
        let exact = Estimate { blocks_seen: 1, outstanding_interval_bytes: (5, 5) };
        assert_eq!(one.with(100, exact, 5).outstanding_interval_bytes, (75, 145));
    }

    #[test]
    fn a_run_that_sees_every_block_says_nothing() {
        assert_eq!(note(None), None);
        assert_eq!(note(Some(&Sampling { distance_bytes: 0, blocks_seen: 5 })), None);
        let said = note(Some(&Sampling { distance_bytes: 524_288, blocks_seen: 1 })).unwrap();
        assert!(said.starts_with("Sampled: 1 heap block was looked at, one for every 524 kB"), "{said}");
    }
}
