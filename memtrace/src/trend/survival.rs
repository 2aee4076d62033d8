//! What becomes of a stack's allocations: how many of each cohort were born, and how many still lived when it was looked.
//!
//! Blocks that live are right-censored: nobody knows yet how long they will. So survival is estimated as in a life table
//! with late entry (E. L. Kaplan and P. Meier, "Nonparametric estimation from incomplete observations", JASA 53, 1958,
//! grouped by cohorts; W. Y. Tsai, N. P. Jewell and M. C. Wang, Biometrika 74, 1987, for late entry): of the blocks that
//! were old already at an earlier look, how many died since? In a leak none did, however many younger ones did. In a
//! cache that evicts, a queue or a wave of sessions the old ones go first.

use super::{cohorts::Cohort as Stretch, thresholds};
use crate::ledger::Cohort;
use crate::statistics::MS_PER_HOUR;

/// The most earlier looks that are kept for a stack, spaced by the logarithm of their age.
const MAX_LOOKS: usize = 12;

/// What one stack allocated, by cohort, and what lived of it at each look.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Allocations and their bytes up to the last observation.
    counted: (u64, u64),
    born: Vec<Cohort>,
    looks: Vec<Look>,
}

#[derive(Clone, Debug)]
struct Look {
    at_ms: u64,
    alive: Vec<Cohort>,
}

impl Row {
    /// A row beside `cohorts` cohorts, in none of which anything was born.
    pub fn new(cohorts: usize) -> Self {
        Self { born: vec![Cohort::default(); cohorts], ..Self::default() }
    }

    /// A new cohort began, and `merged` took in its successor.
    pub fn push(&mut self, merged: Option<usize>) {
        self.born.push(Cohort::default());
        let Some(index) = merged else { return };
        let join = |row: &mut Vec<Cohort>| {
            if index + 1 < row.len() {
                let taken = row.remove(index + 1);
                row[index].blocks = row[index].blocks.saturating_add(taken.blocks);
                row[index].bytes = row[index].bytes.saturating_add(taken.bytes);
            }
        };
        join(&mut self.born);
        self.looks.iter_mut().for_each(|look| join(&mut look.alive));
    }

    /// The stack has allocated so many blocks and bytes since the attach; what is new was born in the newest cohort.
    pub fn count(&mut self, allocations: u64, bytes: u64) {
        if let Some(newest) = self.born.last_mut() {
            newest.blocks = newest.blocks.saturating_add(allocations.saturating_sub(self.counted.0));
            newest.bytes = newest.bytes.saturating_add(bytes.wrapping_sub(self.counted.1));
        }
        self.counted = (allocations, bytes);
    }

    /// What was allocated up to now is not looked at.
    pub fn skip(&mut self, allocations: u64, bytes: u64) {
        self.counted = (allocations, bytes);
    }

    /// Adds what another stack allocated, beside the same cohorts. Looks at its blocks are not added: those of the sum come
    /// with the next look, and only the looks that are equally old compare.
    pub fn add(&mut self, other: &Self) {
        for (born, added) in self.born.iter_mut().zip(&other.born) {
            born.blocks = born.blocks.saturating_add(added.blocks);
            born.bytes = born.bytes.saturating_add(added.bytes);
        }
        self.counted.0 = self.counted.0.saturating_add(other.counted.0);
        self.counted.1 = self.counted.1.wrapping_add(other.counted.1);
        if other.born.iter().any(|born| born.blocks > 0) {
            // What lived of the sum at earlier looks is not known.
            self.looks.retain(|look| look.alive.iter().zip(&other.born).all(|(_, born)| born.blocks == 0));
        }
    }

    /// It was looked which blocks live.
    pub fn look(&mut self, at_ms: u64, alive: &[Cohort]) {
        self.looks.retain(|look| look.at_ms < at_ms);
        self.looks.push(Look { at_ms, alive: alive.to_vec() });
        if self.looks.len() > MAX_LOOKS {
            let spacing = |index: usize| {
                let before = index.checked_sub(1).map_or(0, |before| self.looks[before].at_ms);
                let after = self.looks[index + 1].at_ms;
                (after - before) as f64 / (at_ms - self.looks[index].at_ms + 1) as f64
            };
            let nearest = (0..self.looks.len() - 1).min_by(|&a, &b| spacing(a).total_cmp(&spacing(b)));
            if let Some(index) = nearest {
                self.looks.remove(index);
            }
        }
    }

    /// What the cohorts born from `from_ms` on say, as seen at `now_ms`; `None` while there is too little to say.
    pub fn survival(&self, cohorts: &[Stretch], from_ms: u64, now_ms: u64) -> Option<Survival> {
        let from_ms = from_ms.max(cohorts.get(self.born.iter().position(|born| born.blocks > 0)?)?.start_ms);
        let span_ms = now_ms.checked_sub(from_ms)?;
        let newest = self.looks.last().filter(|look| now_ms - look.at_ms <= span_ms / 6)?;
        // Over how long deaths are counted, and how old a block must be to count: about a quarter of the time.
        let distance = |look: &&Look| ((newest.at_ms - look.at_ms).max(1) as f64 / (span_ms as f64 / 4.0)).ln().abs();
        let before = self.looks.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
        let lately_ms = newest.at_ms - before.at_ms;
        if before.at_ms <= from_ms || lately_ms == 0 {
            return None;
        }
        let mut found = Survival { lately_ms, older_than_ms: lately_ms, ..Survival::default() };
        let within = |index: &usize| cohorts[*index].start_ms >= from_ms;
        let at_risk: Vec<usize> = (0..cohorts.len().min(before.alive.len()))
            .filter(within)
            .filter(|&index| cohorts[index].end_ms + lately_ms <= before.at_ms)
            .collect();
        // The first cohort is the program's start, or the attach; what it holds often lives on in any program.
        let at_risk = if at_risk.len() >= 4 { &at_risk[1..] } else { &at_risk[..] };
        for (place, &index) in at_risk.iter().enumerate() {
            let had = before.alive[index].blocks;
            let freed = had.saturating_sub(newest.alive.get(index).map_or(0, |alive| alive.blocks));
            found.old.add(had, freed);
            if place * 2 < at_risk.len() {
                found.oldest.add(had, freed);
            }
        }
        let old: Vec<usize> = (0..cohorts.len().min(newest.alive.len()))
            .filter(within)
            .filter(|&index| cohorts[index].end_ms + lately_ms <= newest.at_ms)
            .collect();
        for &index in &old {
            found.born_blocks = found.born_blocks.saturating_add(self.born[index].blocks);
            found.born_bytes += self.born[index].bytes as f64;
            let living = newest.alive[index].blocks.min(self.born[index].blocks);
            found.living_blocks = found.living_blocks.saturating_add(living);
            found.living_bytes += newest.alive[index].bytes as f64;
            found.old_ms += cohorts[index].end_ms - cohorts[index].start_ms;
        }
        found.profile = Profile::of(old.iter().skip(1).map(|&index| (cohorts[index], newest.alive[index])).collect());
        let last_birth = self.born.iter().rposition(|born| born.blocks > 0).map_or(0, |index| cohorts[index].end_ms);
        found.barren_ms = now_ms.saturating_sub(last_birth);
        found.span_ms = span_ms;
        Some(found)
    }

    /// Bytes of memory that the row takes, about.
    #[cfg(test)]
    pub fn heap_bytes(&self) -> usize {
        let looks: usize = self.looks.iter().map(|look| look.alive.capacity()).sum();
        (self.born.capacity() + looks) * size_of::<Cohort>() + self.looks.capacity() * size_of::<Look>()
    }
}

/// Blocks that could have died, and those that did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Deaths {
    /// How many lived at the earlier look.
    pub at_risk: u64,
    /// How many of them were freed by the newest.
    pub freed: u64,
}

impl Deaths {
    fn add(&mut self, at_risk: u64, freed: u64) {
        self.at_risk = self.at_risk.saturating_add(at_risk);
        self.freed = self.freed.saturating_add(freed);
    }

    /// The share that died; `None` when there were too few to say.
    pub fn share(self) -> Option<f64> {
        (self.at_risk >= thresholds::LEAST_AT_RISK).then(|| self.freed as f64 / self.at_risk as f64)
    }
}

/// What the older cohorts still hold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Profile {
    /// How many cohorts are old enough.
    pub cohorts: usize,
    /// How many of those still hold something.
    pub holding: usize,
    /// What the later half of them holds for each hour, in units of what the earlier half does.
    pub evenness: f64,
    /// Bytes that an hour leaves behind.
    pub bytes_per_hour: f64,
    /// Half of the 95 % interval of that.
    pub half_width: f64,
}

impl Profile {
    fn of(old: Vec<(Stretch, Cohort)>) -> Self {
        let hours = |part: &[(Stretch, Cohort)]| {
            part.iter().map(|(stretch, _)| stretch.end_ms - stretch.start_ms).sum::<u64>() as f64 / MS_PER_HOUR
        };
        let bytes = |part: &[(Stretch, Cohort)]| part.iter().map(|(_, alive)| alive.bytes as f64).sum::<f64>();
        let total_hours = hours(&old);
        if old.len() < 2 || total_hours <= 0.0 {
            return Self::default();
        }
        let mean = bytes(&old) / total_hours;
        // Halves of equal time, as far as the cohorts allow.
        let middle = (1..old.len()).find(|&count| hours(&old[..count]) * 2.0 >= total_hours).unwrap_or(1);
        let (early, late) = old.split_at(middle);
        let rate = |part: &[(Stretch, Cohort)]| bytes(part) / hours(part).max(f64::MIN_POSITIVE);
        let spread: f64 = old
            .iter()
            .map(|(stretch, alive)| {
                let length = (stretch.end_ms - stretch.start_ms) as f64 / MS_PER_HOUR;
                (alive.bytes as f64 - mean * length).powi(2)
            })
            .sum();
        let count = old.len() as f64;
        let error = (spread * count / (count - 1.0)).sqrt() / total_hours;
        Self {
            cohorts: old.len(),
            holding: old.iter().filter(|(_, alive)| alive.blocks > 0).count(),
            evenness: if rate(early) > 0.0 { rate(late) / rate(early) } else { 0.0 },
            bytes_per_hour: mean,
            half_width: student95(old.len() - 1) * error,
        }
    }
}

/// The 97.5th percentile of Student's t, a bit rounded up.
pub fn student95(degrees: usize) -> f64 {
    const FEW: [f64; 10] = [12.71, 4.31, 3.19, 2.78, 2.58, 2.45, 2.37, 2.31, 2.27, 2.23];
    FEW.get(degrees.max(1) - 1).copied().unwrap_or(if degrees < 20 { 2.2 } else { 2.09 })
}

/// What is known of a stack's older blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Survival {
    /// The least age of what is called old.
    pub older_than_ms: u64,
    /// Over how long deaths were counted.
    pub lately_ms: u64,
    /// Deaths among the old.
    pub old: Deaths,
    /// Deaths among the oldest half of the cohorts.
    pub oldest: Deaths,
    /// Blocks that were born that long ago.
    pub born_blocks: u64,
    /// Bytes of the blocks in `born_blocks`.
    pub born_bytes: f64,
    /// How many of the blocks in `born_blocks` live.
    pub living_blocks: u64,
    /// Bytes of the blocks in `living_blocks`.
    pub living_bytes: f64,
    /// How long the stretch was in which the blocks in `born_blocks` were born, in milliseconds.
    pub old_ms: u64,
    /// What each older cohort left.
    pub profile: Profile,
    /// How long nothing has been born.
    pub barren_ms: u64,
    /// The time that was looked at.
    pub span_ms: u64,
}

impl Survival {
    /// The share of those born long ago that live.
    pub fn living_share(&self) -> f64 {
        if self.born_blocks == 0 { 0.0 } else { self.living_blocks as f64 / self.born_blocks as f64 }
    }

    /// Whether a rise at this rate is held by young blocks only, since the old ones keep being freed: a load that rises,
    /// not a leak.
    pub fn turns_over(&self, bytes_per_hour: f64) -> bool {
        let share = |deaths: Deaths, least: f64| deaths.share().is_none_or(|share| share >= least);
        let die = self.old.share().is_some_and(|share| share >= thresholds::DEATHS_OF_A_TURNOVER)
            && share(self.oldest, thresholds::DEATHS_OF_THE_OLDEST);
        // Had the old ones stayed, they would hold what rose while they were born.
        let rose = bytes_per_hour * self.old_ms as f64 / MS_PER_HOUR;
        let mean_bytes = self.born_bytes / self.born_blocks.max(1) as f64;
        let missed =
            self.born_blocks >= thresholds::LEAST_MISSED && rose >= thresholds::LEAST_MISSED as f64 * mean_bytes;
        let enough = missed || self.born_blocks >= thresholds::MANY_BORN;
        let gone = enough && self.living_bytes < thresholds::LEFT_OF_A_RISE * rose;
        let none_is_left = self.born_blocks >= thresholds::LEAST_BORN && self.living_blocks == 0;
        die || gone || none_is_left || self.replaces(bytes_per_hour)
    }

    /// Whether old blocks go by as many bytes as a rise at this rate has: they are replaced, not added to.
    pub fn replaces(&self, bytes_per_hour: f64) -> bool {
        let share = |deaths: Deaths| deaths.share().is_none_or(|share| share >= thresholds::DEATHS_OF_A_REPLACEMENT);
        let hours = self.lately_ms as f64 / MS_PER_HOUR;
        let freed_bytes = self.old.freed as f64 * self.living_bytes / self.living_blocks.max(1) as f64;
        self.old.share().is_some() && share(self.old) && share(self.oldest) && freed_bytes >= bytes_per_hour * hours
    }

    /// Whether the oldest blocks stay: next to none of them was freed lately.
    pub fn lasts(&self) -> bool {
        let deaths = if self.oldest.at_risk >= thresholds::LEAST_AT_RISK { self.oldest } else { self.old };
        deaths.share().is_some_and(|share| share <= thresholds::DEATHS_OF_WHAT_LASTS)
    }

    /// Whether nearly every cohort leaves blocks behind that then stay, and new ones go on being born.
    pub fn leaves_behind(&self) -> bool {
        let Profile { cohorts, holding, evenness, .. } = self.profile;
        self.lasts()
            && cohorts >= thresholds::LEAST_COHORTS
            && holding * 100 >= cohorts * thresholds::HOLDING_COHORTS_PERCENT
            && thresholds::EVENNESS.contains(&evenness)
            && self.barren_ms * thresholds::BARREN_PART <= self.span_ms
    }

    /// The end of a sentence, when there is something to say.
    pub fn clause(&self) -> Option<String> {
        let age = span(self.older_than_ms);
        if self.old.share().is_none() {
            let dead = self.born_blocks.saturating_sub(self.living_blocks);
            let many = self.born_blocks >= thresholds::MANY_BORN;
            return many.then(|| {
                let percent = 100.0 * dead as f64 / self.born_blocks as f64;
                format!("of the blocks allocated more than {age} ago {percent:.0} % are freed")
            });
        }
        Some(match self.old.freed {
            0 => format!("of the blocks older than {age} none was freed"),
            freed if freed.saturating_mul(100) < self.old.at_risk => {
                format!("of the blocks older than {age} almost none was freed")
            }
            freed => format!(
                "of the blocks older than {age} {:.0} % were freed in the last {}",
                (100.0 * freed as f64 / self.old.at_risk as f64).min(100.0),
                span(self.lately_ms)
            ),
        })
    }
}

/// A time for people: the largest unit of which there are two at least.
pub fn span(ms: u64) -> String {
    match ms {
        0..2000 => format!("{:.1} s", ms as f64 / 1000.0),
        2000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} days", ms / 86_400_000),
    }
}
