//! What it adds to the doubt of a finding that only a sample of the blocks was seen.
//!
//! A series of estimates rises and falls by the chance of what was drawn. What changed from one moment to another comes
//! from blocks that appeared in between and live, and from blocks that lived and went: blocks that lived all along were
//! either seen at both moments or at none. So its variance is at most that of all that came and went in between, and at
//! most that of what lived at the two moments together; the smaller of the two counts.

use super::{
    kendall::upper_tail,
    rules::Finding,
    series::{Series, Timed},
    thresholds,
    verdict::Verdict,
};
use crate::statistics::Z95;

/// How well a stack's bytes were known at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// Milliseconds since the attach.
    pub elapsed_ms: u64,
    /// The variance of the outstanding bytes.
    pub live: f64,
    /// The variance of all that came and all that went until then.
    pub turnover: f64,
}

impl Spread {
    /// That of what two stacks hold together, at the time of the first.
    pub fn plus(self, other: Self) -> Self {
        Self { live: self.live + other.live, turnover: self.turnover + other.turnover, ..self }
    }
}

impl Timed for Spread {
    fn elapsed_ms(&self) -> u64 {
        self.elapsed_ms
    }
}

/// Where no block was drawn there are, in 95 of 100 cases, at most so many times the bytes from one point to the next.
const UNSEEN: f64 = 3.7;

/// What changed in the stretch of time that decided.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// When it began, in milliseconds since the attach.
    pub from_ms: u64,
    /// Its recorded length in hours.
    pub hours: f64,
    /// By how many bytes the stack has come to hold more.
    pub rise: f64,
    /// What it holds, in bytes.
    pub level: f64,
    /// Mean bytes from one sampling point to the next.
    pub distance: f64,
}

/// Takes the doubt into account: a rise within it is none, and every rate's interval becomes as wide as it makes it.
pub fn doubt(finding: &mut Finding, spreads: &Series<Spread>, change: Change) {
    let Some(now) = spreads.samples().last() else { return };
    let before = spreads.samples().iter().rfind(|spread| spread.elapsed_ms <= change.from_ms);
    let before = before.copied().unwrap_or_default();
    let variance = (now.live + before.live).min(now.turnover - before.turnover).max(0.0);
    let deviation = variance.sqrt();
    if finding.verdict.is_leak() {
        let chance = if deviation > 0.0 { upper_tail(change.rise / deviation) } else { 0.0 };
        finding.chance = finding.chance.max(chance);
        if chance > thresholds::CHANCE_OF_THE_DRAW {
            finding.verdict = Verdict::Undecided;
            finding.confidence *= 0.5;
            finding.evidence.push_str("; too few of its blocks were sampled to be sure");
        }
    }
    let unsure = if deviation > 0.0 { Z95 * deviation } else { UNSEEN * change.distance };
    if change.hours > 0.0 {
        let slope = &mut finding.slope;
        let wider = |half: f64| half.hypot(unsure / change.hours);
        slope.low = slope.estimate - wider(slope.estimate - slope.low);
        slope.high = slope.estimate + wider(slope.high - slope.estimate);
    }
    if finding.verdict.is_level() && change.level > 0.0 {
        finding.confidence *= 1.0 - 0.5 * (unsure / change.level).min(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trend::slope::Slope;

    fn growing() -> Finding {
        let slope = Slope { estimate: 1000.0, low: 900.0, high: 1100.0 };
        Finding { chance: 0.001, ..Finding::new(Verdict::Growing, 0.9, slope, "grew".to_owned()) }
    }

    fn change(blocks: f64) -> Change {
        Change { from_ms: 0, hours: 1.0, rise: blocks * 100.0, level: blocks * 100.0, distance: 100.0 }
    }

    /// A leak of which so many blocks were drawn, each of which stands for 100 bytes.
    fn leak(blocks: f64) -> Series<Spread> {
        let mut spreads = Series::default();
        spreads.push(Spread::default());
        spreads.push(Spread { elapsed_ms: 3_600_000, live: blocks * 1e4, turnover: blocks * 1e4 });
        spreads
    }

    #[test]
    fn a_few_blocks_are_no_leak_yet_and_many_are() {
        let mut few = growing();
        doubt(&mut few, &leak(3.0), change(3.0));
        assert_eq!(few.verdict, Verdict::Undecided);
        assert!(few.evidence.contains("too few"), "{}", few.evidence);
        let mut many = growing();
        doubt(&mut many, &leak(30.0), change(30.0));
        assert_eq!(many.verdict, Verdict::Growing);
        // 1.96 times the root of 30 blocks of 100 bytes, beside the 100 that were there.
        assert!((many.slope.high - 1000.0 - 100f64.hypot(1073.5)).abs() < 1.0, "{:?}", many.slope);
    }

    #[test]
    fn blocks_that_lived_all_along_are_no_doubt_about_a_rise() {
        // A large cache that never changes, sampled, under a leak.
        let mut spreads = Series::default();
        spreads.push(Spread { elapsed_ms: 1, live: 1e12, turnover: 1e12 });
        spreads.push(Spread { elapsed_ms: 3_600_000, live: 1e12 + 1e6, turnover: 1e12 + 1e6 });
        let mut finding = growing();
        doubt(&mut finding, &spreads, Change { from_ms: 10, level: 1e7, ..change(100.0) });
        assert_eq!(finding.verdict, Verdict::Growing);
        // And one whose blocks are all replaced is.
        let mut spreads = Series::default();
        spreads.push(Spread { elapsed_ms: 1, live: 1e12, turnover: 1e12 });
        spreads.push(Spread { elapsed_ms: 3_600_000, live: 1e12, turnover: 9e12 });
        let mut finding = growing();
        doubt(&mut finding, &spreads, Change { from_ms: 10, level: 1e7, ..change(100.0) });
        assert_eq!(finding.verdict, Verdict::Undecided);
    }

    #[test]
    fn a_level_of_which_nothing_was_drawn_may_still_rise_a_little() {
        let mut finding = Finding::new(Verdict::Plateau, 0.8, Slope::default(), String::new());
        let mut spreads = Series::default();
        spreads.push(Spread { elapsed_ms: 0, live: 4e4, turnover: 4e4 });
        spreads.push(Spread { elapsed_ms: 1000, live: 4e4, turnover: 4e4 });
        doubt(&mut finding, &spreads, Change { rise: 0.0, level: 740.0, ..change(0.0) });
        assert!((finding.slope.high - 370.0).abs() < 1e-6 && (finding.confidence - 0.6).abs() < 1e-6, "{finding:?}");
    }
}
