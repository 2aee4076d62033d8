//! One stack's judgement: what its series of bytes and blocks say, and what the survival of its blocks says to that.
//!
//! Survival has the last word where it has one. Rising, but the old blocks keep being freed: a queue, a wave or a cache
//! that turns over, `undecided`. Not clearly rising (noise, a leak below a large cache), but nearly every cohort leaves
//! blocks behind of which then none is freed: `growing`, at the rate at which they are left.

use super::{
    gaps::Gaps,
    rules::{self, Finding},
    sampled::{self, Change, Spread},
    series::{Sample, Series},
    slope::{Point, Slope},
    survival::Survival,
    thresholds,
    verdict::Verdict,
};
use crate::statistics::MS_PER_HOUR;

/// The most samples that are compared pair by pair: 4,000 slopes a window.
const OVERVIEW: usize = 90;

/// A finding with the survival that it was weighed against.
#[derive(Clone, Debug)]
pub struct Weighed {
    /// The finding.
    pub finding: Finding,
    /// The survival, where it is known.
    pub survival: Option<Survival>,
    /// Survival alone would be enough to say `growing`.
    pub confirmed: bool,
}

/// What is known of a sample of the blocks.
#[derive(Clone, Copy, Debug)]
pub struct Drawn<'a> {
    /// The series' spread.
    pub spreads: &'a Series<Spread>,
    /// Mean bytes from one sampling point to the next.
    pub distance: f64,
}

/// Judges one series; `survival` tells that of the blocks born from a time on. `drawn` is given where the series is of
/// estimates.
pub fn judge(
    series: &Series,
    gaps: &Gaps,
    drawn: Option<Drawn<'_>>,
    survival: impl Fn(u64) -> Option<Survival>,
) -> Weighed {
    let mut finding = by_series(series, gaps, |sample| sample.bytes);
    let unclear = finding.verdict.may_hide_a_rise() && !finding.over;
    if unclear && finding.slope.estimate > 0.0 {
        // Blocks of mixed sizes make bytes noisy where their number is not.
        let blocks = by_series(series, gaps, |sample| sample.blocks);
        if blocks.verdict.is_leak() && blocks.chance < thresholds::CHANCE_OF_BLOCKS {
            let evidence = format!("its number of blocks {}", blocks.evidence);
            finding = Finding { confidence: 0.8 * blocks.confidence, slope: finding.slope, evidence, ..blocks };
        }
    }
    let now_ms = series.samples().last().map_or(0, |sample| sample.elapsed_ms);
    let recorded = now_ms.saturating_sub(gaps.within(0, now_ms)) as f64 / MS_PER_HOUR;
    let from_ms = now_ms.saturating_sub(((recorded - finding.from_hours).max(0.0) * MS_PER_HOUR) as u64);
    let from_ms = if finding.from_hours <= 0.0 { 0 } else { from_ms };
    let lately = survival(from_ms);
    // What a part of the run is too short to show, the whole may: that nothing in it lives as long as the run.
    let replaced = from_ms > 0 && survival(0).is_some_and(|whole| whole.replaces(finding.slope.estimate));
    let hours = recorded - finding.from_hours.max(0.0);
    let mut weighed = weigh(finding, series, lately, replaced);
    if let Some(Drawn { spreads, distance }) = drawn {
        let bytes = |sample: Option<&Sample>| sample.map_or(0.0, |sample| sample.bytes as f64);
        let level = bytes(series.samples().last());
        let rise = level - bytes(series.samples().iter().rfind(|sample| sample.elapsed_ms <= from_ms));
        sampled::doubt(&mut weighed.finding, spreads, Change { from_ms, hours, rise, level, distance });
        weighed.confirmed &= weighed.finding.verdict.is_leak();
    }
    weighed
}

fn weigh(mut finding: Finding, series: &Series, survival: Option<Survival>, replaced: bool) -> Weighed {
    let Some(known) = survival else { return Weighed { finding, survival, confirmed: false } };
    let mut confirmed = false;
    if finding.verdict.is_leak() {
        // One buffer that is allocated anew whenever it grows has no old blocks either; but its blocks become larger.
        if (replaced || known.turns_over(finding.slope.estimate)) && !larger_blocks(series) {
            finding.verdict = Verdict::Undecided;
            finding.confidence = 0.4;
            finding.evidence.push_str(", but its old blocks keep being freed");
        } else if known.lasts() {
            confirmed = known.leaves_behind() || finding.chance < thresholds::CHANCE_THAT_LASTING_BLOCKS_CONFIRM;
            finding.confidence += 0.5 * (1.0 - finding.confidence);
        } else {
            finding.confidence *= 0.9;
        }
    } else if !finding.over
        && series.samples().len() > thresholds::SAMPLES_BEFORE_SURVIVAL_DECIDES
        && finding.verdict.may_leave_blocks_behind()
        && known.leaves_behind()
        && finding.slope.high >= thresholds::SLOPE_OF_WHAT_IS_LEFT * known.profile.bytes_per_hour
    {
        let rate = known.profile.bytes_per_hour;
        let half = known.profile.half_width;
        finding.verdict = Verdict::Growing;
        finding.confidence = 0.85;
        finding.chance = 0.0;
        finding.slope = Slope { estimate: rate, low: rate - half, high: rate + half };
        finding.evidence = format!(
            "in {} of {} older cohorts some blocks were never freed",
            known.profile.holding, known.profile.cohorts
        );
        confirmed = true;
    }
    if let Some(clause) = known.clause() {
        finding.evidence.push_str("; ");
        finding.evidence.push_str(&clause);
    }
    Weighed { finding, survival, confirmed }
}

/// Whether the stack holds the same few blocks all along, which are larger in the later half of the samples than in the
/// earlier one: a buffer that is allocated anew whenever it grows.
fn larger_blocks(series: &Series) -> bool {
    let held = || series.samples().iter().filter(|sample| sample.bytes > 0);
    let (fewest, most) =
        held().fold((u64::MAX, 0), |(fewest, most), sample| (sample.blocks.min(fewest), sample.blocks.max(most)));
    let middle = |part: &[Sample]| {
        let held = part.iter().filter(|sample| sample.bytes > 0);
        let mut sizes: Vec<f64> = held.map(|sample| sample.bytes as f64 / sample.blocks.max(1) as f64).collect();
        sizes.sort_unstable_by(f64::total_cmp);
        sizes.get(sizes.len() / 2).copied()
    };
    let (early, late) = series.samples().split_at(series.samples().len() / 2);
    most as f64 <= thresholds::SAME_NUMBER_OF_BLOCKS * fewest as f64
        && middle(early).zip(middle(late)).is_some_and(|(early, late)| late >= early * thresholds::LARGER_BLOCKS)
}

/// What one of the series of a stack says.
fn by_series(series: &Series, gaps: &Gaps, value: impl Fn(&Sample) -> u64 + Copy) -> Finding {
    let run = gaps.points(&series.overview(OVERVIEW), value);
    if series.samples().len() <= OVERVIEW {
        return rules::judge(&run, None);
    }
    // In a long run the newest samples are dense where the overview has only a few.
    let all: Vec<Point> = gaps.points(series.samples(), value);
    let (before, recent) = all.split_at(all.len().saturating_sub(series.recent().len()));
    rules::judge(&run, Some((before, recent)))
}
