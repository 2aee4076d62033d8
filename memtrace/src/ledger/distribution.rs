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
    /// A distribution without blocks yet.
    pub fn new() -> Self {
        Self { ages_ms: histogram(MAX_AGE_MS), sizes: histogram(MAX_SIZE) }
    }

    /// One without blocks that grows with what it holds: cheaper to clear, if it is to be used for many small groups.
    fn growing() -> Self {
        Self { ages_ms: growing_histogram(), sizes: growing_histogram() }
    }

    fn add(&mut self, live: &Live) {
        // Fails only for values beyond these bounds.
        let _ = self.ages_ms.record_n(live.age_ms.min(MAX_AGE_MS), live.blocks.into());
        let _ = self.sizes.record_n(live.size.min(MAX_SIZE), live.blocks.into());
    }

    fn clear(&mut self) {
        self.ages_ms.reset();
        self.sizes.reset();
    }
}

/// Live blocks of one age and size, which belong to one of several groups.
#[derive(Clone, Copy, Debug)]
struct Live {
    group: u32,
    blocks: u32,
    size: u64,
    age_ms: u64,
}

/// The distributions of groups of stacks while blocks are looked at in any order: kept as whichever takes less memory of a
/// pair of histograms for each group (70 kB), and 24 bytes for each block.
#[derive(Debug)]
pub struct Distributions {
    groups: usize,
    now_ns: u64,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Histograms(Vec<Distribution>),
    Blocks(Vec<Live>),
}

impl Distributions {
    /// Groups for which there are always histograms.
    const FEW: usize = 64;

    /// For so many groups; ages are as seen at `now_ns`.
    pub fn new(groups: usize, now_ns: u64) -> Self {
        let kept = if groups <= Self::FEW {
            Kept::Histograms(vec![Distribution::new(); groups])
        } else {
            Kept::Blocks(Vec::new())
        };
        Self { groups, now_ns, kept }
    }

    /// Adds so many blocks of one size that appeared at `time_ns`.
    pub fn record(&mut self, group: usize, size: u64, blocks: u64, time_ns: u64) {
        let age_ms = self.now_ns.saturating_sub(time_ns) / NS_PER_MS;
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        // More groups than 2^32 would not fit into memory.
        let live = Live { group: group as u32, blocks, size, age_ms };
        match &mut self.kept {
            Kept::Histograms(groups) => groups[group].add(&live),
            Kept::Blocks(all) if all.len() * size_of::<Live>() < self.groups * HISTOGRAM_BYTES => all.push(live),
            Kept::Blocks(all) => {
                let mut groups = vec![Distribution::new(); self.groups];
                all.iter().chain([&live]).for_each(|live| groups[live.group as usize].add(live));
                self.kept = Kept::Histograms(groups);
            }
        }
    }

    /// Hands out the distribution of each group that has blocks, in the order of the groups.
    pub fn each(self, mut visit: impl FnMut(usize, &Distribution)) {
        match self.kept {
            Kept::Histograms(groups) => {
                let filled = groups.iter().enumerate().filter(|(_, group)| !group.sizes.is_empty());
                filled.for_each(|(index, group)| visit(index, group));
            }
            Kept::Blocks(mut all) => {
                all.sort_unstable_by_key(|live| live.group);
                let mut group = Distribution::growing();
                for blocks in all.chunk_by(|a, b| a.group == b.group) {
                    group.clear();
                    blocks.iter().for_each(|live| group.add(live));
                    visit(blocks[0].group as usize, &group);
                }
            }
        }
    }
}

/// What a pair of histograms takes, about.
const HISTOGRAM_BYTES: usize = 70_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_makes_no_difference_how_blocks_are_kept() {
        let many = 3 * Distributions::FEW;
        let mut kept = [Distributions::new(many, 5_000_000_000), Distributions::new(many, 5_000_000_000)];
        kept[1].kept = Kept::Histograms(vec![Distribution::new(); many]);
        let groups = (0..many).filter(|group| group % 3 != 1);
        for (index, group) in groups.clone().cycle().take(10_000).enumerate() {
            let (size, time_ns) = (index as u64 * 37 % 5000, index as u64 * 499_979);
            kept.iter_mut().for_each(|kept| kept.record(group, size, 1 + index as u64 % 3, time_ns));
        }
        let [blocks, histograms] = kept.map(|kept| {
            let mut found = Vec::new();
            let values = |histogram: &Histogram<u64>| {
                [0.1, 0.5, 0.99].map(|share| histogram.value_at_quantile(share)).map(|value| value.min(histogram.max()))
            };
            kept.each(|group, found_in| found.push((group, values(&found_in.ages_ms), values(&found_in.sizes))));
            found
        });
        assert!(blocks.iter().map(|(group, ..)| *group).eq(groups));
        assert!(blocks == histograms);
    }

    #[test]
    fn more_blocks_than_histograms_take_become_histograms() {
        let groups = Distributions::FEW + 1;
        let mut distributions = Distributions::new(groups, 0);
        let most = (groups * HISTOGRAM_BYTES).div_ceil(size_of::<Live>());
        (0..=most).for_each(|block| distributions.record(block % groups, 1, 1, 0));
        assert!(matches!(distributions.kept, Kept::Histograms(_)));
        let mut blocks = 0;
        distributions.each(|_, distribution| blocks += distribution.sizes.len());
        assert_eq!(blocks, most as u64 + 1);
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

#[expect(clippy::expect_used, reason = "fails only for more than 5 digits, and this is a constant")]
fn growing_histogram() -> Histogram<u64> {
    Histogram::new(2).expect("2 digits are allowed")
}

#[expect(clippy::expect_used, reason = "fails only for bounds and digits out of order, and these are constants")]
fn histogram(max: u64) -> Histogram<u64> {
    Histogram::new_with_bounds(1, max, 2).expect("1 is below the bound and 2 digits are allowed")
}
