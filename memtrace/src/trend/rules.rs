//! The rules that turn one series into a finding.
//!
//! A series grows when its rise is (1) beyond chance, by Mann-Kendall with correction for autocorrelation or by the signs
//! of the changes, (2) not a step: one that explains the series better than a line is taken out before testing, (3) not
//! undone: the floor of the later half lies above that of the earlier half, and (4) not over: no tail is level where
//! the part before it rose. The whole run is judged first; then its later parts, for leaks that start late, which must
//! also reach beyond anything held before. A stack whose blocks are rare (a staircase with long flats) is judged by the
//! times of its rises instead. A rise that clearly slows down stays `undecided`: a cache that is still filling.

use super::{
    bend::since_bend,
    kendall::p_mostly_rising,
    pace::{Pace, pace, plain_slope, stood_still_before},
    sawtooth::{shrinks, teeth},
    slope::{Point, Slope},
    steps::{Steps, most, without_appearance},
    thresholds,
    verdict::Verdict,
    window::{Part, Window, rising, rising_part},
};

/// What a series says by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The answer.
    pub verdict: Verdict,
    /// 0 to 1.
    pub confidence: f64,
    /// Of the part that decided.
    pub slope: Slope,
    /// Why.
    pub evidence: String,
    /// The chance of such a rise without growth; 1 for what does not grow.
    pub chance: f64,
    /// Where the part that decided begins, in hours of recorded time.
    pub from_hours: f64,
    /// It rose, and the newest samples say that this is over.
    pub over: bool,
}

impl Finding {
    /// A finding of anything but growth.
    pub fn new(verdict: Verdict, confidence: f64, slope: Slope, evidence: String) -> Self {
        let confidence = confidence.clamp(0.0, 1.0);
        Self { verdict, confidence, slope, evidence, chance: 1.0, from_hours: 0.0, over: false }
    }

    fn over(self) -> Self {
        Self { over: true, ..self }
    }
}

/// Judges a series: `run` are points of all of it, evenly spaced; `recent` the newest ones where they are denser, with
/// what came `before` them.
pub fn judge(run: &[Point], recent: Option<(&[Point], &[Point])>) -> Finding {
    let intervals = run.len().saturating_sub(1);
    let steps = Steps::of(run);
    if intervals < thresholds::MIN_INTERVALS {
        return too_early(run, steps);
    }
    let (run, finding) = if steps.is_rare(run.len()) {
        (run, staircase(run, steps))
    } else {
        // The intervals that are counted are those of the shorter run.
        let run = without_appearance(run);
        (run, by_windows(run, Steps::of(run)))
    };
    let Some((before, recent)) = recent else { return finding };
    if finding.verdict.is_leak() {
        // The overview is coarse at its end; the newest samples may know that the rise is over.
        return match pace(recent) {
            Pace::Stopped(tail)
                if !Steps::of(recent).is_rare(recent.len()) && !stood_still_before(run, recent, tail) =>
            {
                stopped(recent, tail)
            }
            _ => finding,
        };
    }
    match rising(before, recent, "the newest samples") {
        Some(part) if pace(run) == Pace::Steady && pace(recent) == Pace::Steady => {
            let half = Window::test(&recent[recent.len() / 2..]);
            growing(recent, &part, half, Steps::of(recent))
        }
        _ => finding,
    }
}

/// Judges by the tests of the whole run and its later parts.
fn by_windows(run: &[Point], steps: Steps) -> Finding {
    let later = &run[run.len() / 2..];
    let whole = Window::test(run);
    let half = Window::test(later);
    let Some(best) = rising_part(run, whole) else {
        return not_rising(run, whole, half, steps);
    };
    let half_slope = half.slope(later);
    let least_share = if run.len() < thresholds::SHORT_RUN {
        thresholds::LATER_SHARE_OF_A_SHORT_RUN
    } else {
        thresholds::LATER_SHARE
    };
    let goes_on = plain_slope(later) >= least_share * plain_slope(best.points);
    match pace(run) {
        Pace::Stopped(tail) => stopped(run, tail),
        Pace::Paused(tail) => {
            let evidence = format!("rose, but stood still in the newest {tail} intervals");
            Finding::new(Verdict::Undecided, 0.4, half_slope, evidence).over()
        }
        Pace::Steady if goes_on => growing(run, &best, half, steps),
        // A warm-up before a steady rise looks slower, too; then the later half rises steadily by itself.
        Pace::Slower
            if goes_on
                && half.p < thresholds::CHANCE_AFTER_A_FILL
                && half.floor_rises
                && later.len() >= thresholds::LEAST_SAMPLES_AFTER_A_FILL
                && pace(later) == Pace::Steady =>
        {
            growing(run, &Part { name: "the later half", window: half, points: later }, half, steps)
        }
        _ => {
            let evidence = "rises ever more slowly, as a cache that fills does".to_owned();
            Finding::new(Verdict::Undecided, 0.5, half_slope, evidence)
        }
    }
}

fn stopped(run: &[Point], tail: usize) -> Finding {
    let level = &run[run.len() - tail..];
    let evidence = format!("rose earlier, level over the last {tail} of {} samples", run.len());
    Finding::new(Verdict::Plateau, certainty(tail, 0.0), Window::test(level).slope(level), evidence).over()
}

fn growing(run: &[Point], best: &Part, half: Window, steps: Steps) -> Finding {
    // When the later half on its own cannot tell (noise), the answer is a little less sure.
    let agrees = half.p < thresholds::CHANCE_THAT_AGREES;
    let confidence = (1.0 - best.window.p.sqrt()) * if agrees { 1.0 } else { 0.85 };
    let intervals = run.len() - 1;
    let fell = if steps.falls > 0 { format!(", fell in {}", steps.falls) } else { String::new() };
    let over = if best.points.len() < run.len() { format!(", steadily over {}", best.name) } else { String::new() };
    let evidence = format!("grew in {} of {intervals} intervals{fell}{over}", steps.rises);
    Finding {
        chance: best.window.p,
        from_hours: best.points.first().map_or(0.0, |point| point.hours),
        ..Finding::new(Verdict::Growing, confidence, rate(best), evidence)
    }
}

/// How fast it grows now: since the bend, where there is one.
fn rate(part: &Part) -> Slope {
    let since = since_bend(part.points);
    let window = if since.len() < part.points.len() { Window::test(since) } else { part.window };
    window.slope(since)
}

fn too_early(run: &[Point], steps: Steps) -> Finding {
    let slope = Window::test(run).slope(run);
    let intervals = run.len().saturating_sub(1);
    let evidence = format!("only {intervals} of at least {} intervals seen", thresholds::MIN_INTERVALS);
    let lean = if steps.falls == 0 { 0.05 * steps.rises as f64 } else { 0.0 };
    Finding::new(Verdict::Undecided, lean, slope, evidence)
}

/// Neither the run nor a later part of it rises beyond chance.
fn not_rising(run: &[Point], whole: Window, half: Window, steps: Steps) -> Finding {
    let tail = &run[run.len() / 2..];
    let slope = half.slope(tail);
    let intervals = run.len() - 1;
    if let Some(chance) = shrinks(run) {
        let evidence = format!("fell in {} and rose in {} of {intervals} intervals", steps.falls, steps.rises);
        return Finding::new(Verdict::Shrinking, 1.0 - chance.sqrt(), slope, evidence);
    }
    if let Some(teeth) = teeth(run) {
        let evidence = format!("went up {} times and came back {} times", teeth.ups, teeth.downs);
        let confidence = 1.0 - 1.0 / (1.0 + teeth.ups.min(teeth.downs) as f64);
        return Finding::new(Verdict::Sawtooth, confidence, slope, evidence);
    }
    let leans = (whole.p < thresholds::CHANCE_THAT_LEANS && whole.floor_rises)
        || (half.p < thresholds::CHANCE_THAT_THE_LATER_HALF_LEANS && half.floor_rises);
    let over = run.last().is_some_and(|last| last.value <= 0.0) || matches!(pace(run), Pace::Stopped(_));
    if leans && !over {
        let chance = whole.p.min(half.p);
        let evidence = format!(
            "grew in {}, fell in {} of {intervals} intervals: too little to tell from chance",
            steps.rises, steps.falls
        );
        return Finding::new(Verdict::Undecided, 0.5 * (1.0 - chance), slope, evidence);
    }
    let evidence = if steps.rises + steps.falls == 0 {
        "has not changed".to_owned()
    } else {
        format!("grew in {} and fell in {} of {intervals} intervals, with no lasting rise", steps.rises, steps.falls)
    };
    // How much of what it holds could still be growth: the upper end of the slope over the later half.
    let level = most(tail);
    let hours = tail.last().map_or(0.0, |point| point.hours) - tail.first().map_or(0.0, |point| point.hours);
    let doubt = if level > 0.0 { (slope.high.max(0.0) * hours / level).min(1.0) } else { 0.0 };
    Finding::new(Verdict::Plateau, certainty(run.len(), doubt), slope, evidence)
}

/// A plateau's confidence: more samples help, a slope that could be large hurts.
fn certainty(samples: usize, doubt: f64) -> f64 {
    (1.0 - 1.0 / (samples as f64).sqrt()) * (1.0 - 0.5 * doubt)
}

/// A series that rises rarely and never falls: the gaps between its rises tell whether it goes on.
fn staircase(run: &[Point], steps: Steps) -> Finding {
    let whole = Window::test(run);
    let hours = run.last().map_or(0.0, |point| point.hours) - run.first().map_or(0.0, |point| point.hours);
    let since = run.len() - 1 - steps.last_rise;
    let goes_on = since <= thresholds::MOST_GAPS_SINCE_A_STAIR * steps.longest_gap;
    let rarer = steps.late_gap > thresholds::RARER * steps.early_gap;
    let total = steps.total_rise;
    let one_step = total > 0.0 && steps.largest_rise > thresholds::ONE_STEP * total;
    // From one rise to another, so that neither the first jump nor the flat after the last one counts.
    let mut slope = whole.slope(run);
    let mean = if hours > 0.0 { (total - steps.largest_rise).max(0.0) / hours } else { 0.0 };
    if steps.rises >= thresholds::LEAST_STAIRS && goes_on && !one_step && !rarer {
        slope.estimate = mean;
        slope.low = slope.low.min(mean);
        slope.high = slope.high.max(mean);
        let chance = p_mostly_rising(steps.rises, 0);
        let evidence = format!("grew in {} of {} intervals and never fell", steps.rises, run.len() - 1);
        return Finding { chance, ..Finding::new(Verdict::Growing, 1.0 - chance.sqrt(), slope, evidence) };
    }
    if steps.rises >= thresholds::FEW_STAIRS && since <= steps.longest_gap && !one_step {
        let why = if rarer { "ever more rarely" } else { "too few to tell" };
        let evidence = format!("grew in {} of {} intervals and never fell: {why}", steps.rises, run.len() - 1);
        return Finding::new(Verdict::Undecided, 0.3, slope, evidence);
    }
    let tail = &run[run.len() / 2..];
    let level = Window::test(tail).slope(tail);
    if since == 0 && steps.rises >= thresholds::STAIRS_JUST_NOW {
        let evidence = format!("grew in {} of {} intervals, the last time just now", steps.rises, run.len() - 1);
        return Finding::new(Verdict::Undecided, 0.2, level, evidence);
    }
    let evidence = match steps.rises {
        0 => "has not changed".to_owned(),
        1 => format!("rose once, level for the {since} intervals since"),
        rises => format!("rose {rises} times, level for the last {since} intervals"),
    };
    let finding = Finding::new(Verdict::Plateau, certainty(since + 1, 0.0), level, evidence);
    if steps.rises > 1 { finding.over() } else { finding }
}
