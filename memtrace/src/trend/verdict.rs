//! The rules that turn a series into an answer.
//!
//! A stack is `growing` when the rise is (1) beyond chance, by Mann-Kendall with correction for autocorrelation or by
//! the signs of the changes, (2) not a step: one that explains the series better than a line is taken out before testing, (3) not undone: the
//! floor of the later half lies above that of the earlier half, and (4) not over: no tail of the window is level where
//! the part before it rose. The whole run is judged first; then its later parts, for leaks that start late, which must
//! also reach beyond anything held before. A stack whose blocks are rare (a staircase with long flats) is judged by the
//! times of its rises instead. A rise that clearly slows down stays `undecided`: a cache that is still filling.

use super::{
    series::{Sample, Series},
    slope::{Kendall, Point, Slope, inflation, p_mostly_rising, theil_sen},
};

/// Below this many intervals nothing is decided: five rises in a row happen by chance once in 32 times, and once in 720
/// for the order of six values.
pub const MIN_INTERVALS: usize = 5;

/// The most samples that are compared pair by pair: 4,000 slopes a window.
const OVERVIEW: usize = 90;

/// A rise less likely than this by chance counts.
const CHANCE: f64 = 0.008;

/// A part of the run is one of several looked at, so it has to show more.
const CHANCE_OF_A_PART: f64 = 0.002;

/// Standard deviations of a 95 % interval.
const Z95: f64 = 1.96;

/// What is said of a stack.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Verdict {
    /// It holds more and more.
    Growing,
    /// Too early, or the signs disagree.
    #[default]
    Undecided,
    /// What it holds is level, returns, or has stopped growing.
    Plateau,
}

impl Verdict {
    /// The name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Growing => "growing",
            Self::Undecided => "undecided",
            Self::Plateau => "plateau",
        }
    }
}

/// A verdict with what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The answer.
    pub verdict: Verdict,
    /// A score from 0 to 1, not a probability: how far the evidence is from what chance or noise would give. For
    /// `undecided`, at most 0.5: how far it leans to `growing`.
    pub confidence: f64,
    /// Sen's slope over the part of the run that decided.
    pub growth_bytes_per_hour: f64,
    /// Its 95 % interval.
    pub interval_bytes_per_hour: (f64, f64),
    /// Why, in a sentence.
    pub evidence: String,
}

impl Judgement {
    /// The judgement of a stack of which nothing is known.
    pub(super) fn unknown() -> Self {
        Self::new(Verdict::Undecided, 0.0, Slope::default(), "never observed".to_owned())
    }

    fn new(verdict: Verdict, confidence: f64, slope: Slope, evidence: String) -> Self {
        Self {
            verdict,
            confidence: confidence.clamp(0.0, 1.0),
            growth_bytes_per_hour: slope.estimate,
            interval_bytes_per_hour: (slope.low, slope.high),
            evidence,
        }
    }

    /// The same with less confidence, as events of the stack were lost.
    pub(super) fn with_losses(mut self) -> Self {
        self.confidence *= 0.7;
        self.evidence.push_str("; some events were lost, so the numbers may be off");
        self
    }
}

/// Judges one series.
pub(super) fn judge(series: &Series) -> Judgement {
    let run = points(&series.overview(OVERVIEW));
    let intervals = run.len().saturating_sub(1);
    let steps = Steps::of(&run);
    if intervals < MIN_INTERVALS {
        return too_early(&run, steps);
    }
    let (run, judgement) = if steps.is_rare(run.len()) {
        (&run[..], staircase(&run, steps))
    } else {
        let run = without_appearance(&run);
        (run, by_windows(run, steps))
    };
    if judgement.verdict == Verdict::Growing || series.samples().len() <= OVERVIEW {
        return judgement;
    }
    // In a long run the newest samples are dense where the overview has only a few.
    let recent = points(series.recent());
    let before = points(&series.samples()[..series.samples().len() - recent.len()]);
    match rising(&before, &recent, "the newest samples") {
        Some(part) if pace(run) == Pace::Steady && pace(&recent) == Pace::Steady => {
            let half = Window::test(&recent[recent.len() / 2..]);
            growing(&recent, &part, half, Steps::of(&recent))
        }
        _ => judgement,
    }
}

/// Judges by the tests of the whole run and its later parts.
fn by_windows(run: &[Point], steps: Steps) -> Judgement {
    let later = &run[run.len() / 2..];
    let whole = Window::test(run);
    let half = Window::test(later);
    let Some(best) = rising_part(run, whole) else {
        return not_rising(run, whole, half, steps);
    };
    let half_slope = half.slope(later);
    // A rise that is over, or nearly, leaves the later half with much less than its share.
    let least_share = if run.len() < 10 { 0.5 } else { 0.3 };
    let goes_on = plain_slope(later) >= least_share * plain_slope(best.points);
    match pace(run) {
        Pace::Stopped(tail) => {
            let evidence = format!("rose earlier, level over the last {tail} of {} samples", run.len());
            Judgement::new(Verdict::Plateau, certainty(tail, 0.0), half_slope, evidence)
        }
        Pace::Steady if goes_on => growing(run, &best, half, steps),
        // A warm-up before a steady rise looks slower, too; then the later half rises steadily by itself.
        Pace::Slower
            if goes_on
                && half.p < CHANCE_OF_A_PART
                && half.floor_rises
                && later.len() >= 12
                && pace(later) == Pace::Steady =>
        {
            growing(run, &Part { name: "the later half", window: half, points: later }, half, steps)
        }
        _ => {
            let evidence = "rises, but ever more slowly: a cache that fills looks like this".to_owned();
            Judgement::new(Verdict::Undecided, 0.5, half_slope, evidence)
        }
    }
}

/// The run without its first sample when that is the implied zero and the stack then appeared at about its full size.
fn without_appearance(run: &[Point]) -> &[Point] {
    let [first, rest @ ..] = run else { return run };
    if rest.len() < 6 || first.bytes > 0.0 {
        return run;
    }
    let mut levels: Vec<f64> = rest.iter().map(|point| point.bytes).collect();
    let middle = levels.len() / 2;
    let usual = *levels.select_nth_unstable_by(middle, f64::total_cmp).1;
    if rest[0].bytes > 0.5 * usual { rest } else { run }
}

/// The longest part of the run that rises beyond chance: all of it, or a later part.
fn rising_part(run: &[Point], whole: Window) -> Option<Part<'_>> {
    if whole.p < CHANCE && whole.floor_rises {
        return Some(Part { name: "the whole run", window: whole, points: run });
    }
    later_parts(run).find_map(|(name, part)| rising(&run[..run.len() - part.len()], part, name))
}

/// `part`, if it rises beyond chance and beyond what was held `before` it.
fn rising<'a>(before: &[Point], part: &'a [Point], name: &'static str) -> Option<Part<'a>> {
    let window = Window::test(part);
    let rises = window.p < CHANCE_OF_A_PART && window.floor_rises && is_new_territory(before, part);
    rises.then_some(Part { name, window, points: part })
}

/// A part of the run and what its test said.
struct Part<'a> {
    name: &'static str,
    window: Window,
    points: &'a [Point],
}

fn growing(run: &[Point], best: &Part, half: Window, steps: Steps) -> Judgement {
    // The later half on its own should agree; when it cannot tell (noise), the answer is a little less sure.
    let agrees = half.p < 0.1;
    let confidence = (1.0 - best.window.p.sqrt()) * if agrees { 1.0 } else { 0.85 };
    let evidence = format!(
        "rose in {} and fell in {} of {} intervals; over {} the chance of such a rise without growth is {}{}",
        steps.rises,
        steps.falls,
        run.len() - 1,
        best.name,
        chance(best.window.p),
        if agrees { "" } else { "; the later half alone is too noisy to tell" },
    );
    Judgement::new(Verdict::Growing, confidence, best.window.slope(best.points), evidence)
}

fn too_early(run: &[Point], steps: Steps) -> Judgement {
    let slope = Window::test(run).slope(run);
    let intervals = run.len().saturating_sub(1);
    let evidence = format!("only {intervals} of at least {MIN_INTERVALS} intervals seen");
    let lean = if steps.falls == 0 { 0.05 * steps.rises as f64 } else { 0.0 };
    Judgement::new(Verdict::Undecided, lean, slope, evidence)
}

/// Neither the run nor a later part of it rises beyond chance.
fn not_rising(run: &[Point], whole: Window, half: Window, steps: Steps) -> Judgement {
    let tail = &run[run.len() / 2..];
    let slope = half.slope(tail);
    let leans = (whole.p < 0.1 && whole.floor_rises) || (half.p < 0.05 && half.floor_rises);
    let over = run.last().is_some_and(|last| last.bytes <= 0.0) || matches!(pace(run), Pace::Stopped(_));
    if leans && !over {
        let evidence = format!(
            "may rise: the chance of this without growth is {}, too large to decide",
            chance(whole.p.min(half.p))
        );
        return Judgement::new(Verdict::Undecided, 0.5 * (1.0 - whole.p.min(half.p)), slope, evidence);
    }
    let evidence = if steps.rises + steps.falls == 0 {
        "has not changed".to_owned()
    } else {
        format!(
            "rose in {} and fell in {} of {} intervals, with no lasting rise",
            steps.rises,
            steps.falls,
            run.len() - 1
        )
    };
    // How much of what it holds could still be growth: the upper end of the slope over the later half.
    let level = tail.iter().fold(0.0f64, |most, point| most.max(point.bytes));
    let hours = tail.last().map_or(0.0, |point| point.hours) - tail.first().map_or(0.0, |point| point.hours);
    let doubt = if level > 0.0 { (slope.high.max(0.0) * hours / level).min(1.0) } else { 0.0 };
    Judgement::new(Verdict::Plateau, certainty(run.len(), doubt), slope, evidence)
}

/// A plateau's confidence: more samples help, a slope that could be large hurts.
fn certainty(samples: usize, doubt: f64) -> f64 {
    (1.0 - 1.0 / (samples as f64).sqrt()) * (1.0 - 0.5 * doubt)
}

/// A series that rises rarely and never falls: the gaps between its rises tell whether it goes on.
fn staircase(run: &[Point], steps: Steps) -> Judgement {
    let whole = Window::test(run);
    let hours = run.last().map_or(0.0, |point| point.hours) - run.first().map_or(0.0, |point| point.hours);
    let since = run.len() - 1 - steps.last_rise;
    let goes_on = since <= 2 * steps.longest_gap;
    let total = steps.total_rise;
    let one_step = total > 0.0 && steps.largest_rise > 0.6 * total;
    // From one rise to another, so that neither the first jump nor the flat after the last one counts.
    let mut slope = whole.slope(run);
    let mean = if hours > 0.0 { (total - steps.largest_rise).max(0.0) / hours } else { 0.0 };
    if steps.rises >= 4 && goes_on && !one_step {
        slope.estimate = mean;
        slope.low = slope.low.min(mean);
        slope.high = slope.high.max(mean);
        let p = p_mostly_rising(steps.rises, 0);
        let evidence = format!(
            "rose {} times in {} intervals and never fell, the last time {since} intervals ago",
            steps.rises,
            run.len() - 1
        );
        return Judgement::new(Verdict::Growing, 1.0 - p.sqrt(), slope, evidence);
    }
    if steps.rises == 3 && since <= steps.longest_gap && !one_step {
        let evidence = format!("rose {} times and never fell: too few to tell", steps.rises);
        return Judgement::new(Verdict::Undecided, 0.3, slope, evidence);
    }
    let tail = &run[run.len() / 2..];
    let level = Window::test(tail).slope(tail);
    if since == 0 && steps.rises >= 2 {
        let evidence = format!("rose {} times in {} intervals, the last time just now", steps.rises, run.len() - 1);
        return Judgement::new(Verdict::Undecided, 0.2, level, evidence);
    }
    let evidence = match steps.rises {
        0 => "has not changed".to_owned(),
        1 => format!("rose once, level for the {since} intervals since"),
        rises => format!("rose {rises} times, level for the last {since} intervals"),
    };
    Judgement::new(Verdict::Plateau, certainty(since + 1, 0.0), level, evidence)
}

/// How the series moves from sample to sample.
#[derive(Clone, Copy, Debug, Default)]
struct Steps {
    rises: usize,
    falls: usize,
    /// The index of the sample that rose last.
    last_rise: usize,
    /// The most samples from one rise to the next; the first rise (a stack appears) only starts the count.
    longest_gap: usize,
    largest_rise: f64,
    total_rise: f64,
}

impl Steps {
    fn of(run: &[Point]) -> Self {
        let mut steps = Self::default();
        for (index, pair) in run.windows(2).enumerate() {
            let change = pair[1].bytes - pair[0].bytes;
            if change > 0.0 {
                if steps.rises > 0 {
                    steps.longest_gap = steps.longest_gap.max(index + 1 - steps.last_rise);
                }
                steps.rises += 1;
                steps.last_rise = index + 1;
                steps.largest_rise = steps.largest_rise.max(change);
                steps.total_rise += change;
            } else if change < 0.0 {
                steps.falls += 1;
            }
        }
        steps
    }

    /// Never falls, and stands still in most intervals.
    fn is_rare(self, samples: usize) -> bool {
        self.falls == 0 && self.rises * 2 <= samples
    }
}

/// The test of one stretch of samples for a lasting rise.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// The chance of such a rise without growth.
    p: f64,
    /// Whether the least of the later half lies above the least of the earlier half.
    floor_rises: bool,
    /// How much more the pairs vary than independent values would.
    inflation: f64,
}

impl Window {
    fn test(points: &[Point]) -> Self {
        let none = Self { p: 1.0, floor_rises: false, inflation: 1.0 };
        if points.len() < 4 {
            return none;
        }
        let (points, _) = without_steps(points);
        let plain = Kendall::of(&points);
        if plain.p_rising() > 0.2 {
            // Most stacks of a healthy process end here, before any slope is computed.
            return Self { p: plain.p_rising(), ..none };
        }
        let slope = theil_sen(&points, plain, 0.0).estimate;
        let inflation = inflation(&points, slope);
        let steps = Steps::of(&points);
        // Two tests were made, so the smaller chance counts twice; for a clear trend both are small.
        let by_pairs = plain.inflated(inflation).p_rising();
        let by_signs = p_mostly_rising(steps.rises, steps.falls);
        let p = if inflation > 1.0 { by_pairs.min(2.0 * by_signs).max(plain.p_rising()) } else { by_pairs };
        let (early, late) = points.split_at(points.len() / 2);
        let hours = late.last().map_or(0.0, |point| point.hours) - early.first().map_or(0.0, |point| point.hours);
        let floor_rises = least(late) - least(early) > 0.1 * slope * hours;
        Self { p, floor_rises, inflation }
    }

    /// Sen's slope of the window, without a jump that outweighs the rest.
    fn slope(self, points: &[Point]) -> Slope {
        if points.len() < 2 {
            return Slope::default();
        }
        let (smooth, share) = without_steps(points);
        let points = if share > 0.2 { &smooth[..] } else { points };
        theil_sen(points, Kendall::of(points).inflated(self.inflation), Z95)
    }
}

fn points(samples: &[Sample]) -> Vec<Point> {
    samples
        .iter()
        .map(|sample| Point { hours: sample.elapsed_ms as f64 / 3_600_000.0, bytes: sample.bytes as f64 })
        .collect()
}

fn least(points: &[Point]) -> f64 {
    points.iter().fold(f64::INFINITY, |least, point| least.min(point.bytes))
}

/// The points without their steps, and the steps' share of the whole rise. A step is taken out where it explains the
/// points much better than a straight line does; twice, as a stack's appearance is a step already.
fn without_steps(points: &[Point]) -> (Vec<Point>, f64) {
    let mut rest = points.to_vec();
    let mut removed = 0.0;
    for _ in 0..2 {
        let Some((at, height)) = best_step(&rest) else { break };
        removed += height;
        for point in &mut rest[at..] {
            point.bytes -= height;
        }
    }
    let rise = points.last().map_or(0.0, |point| point.bytes) - points.first().map_or(0.0, |point| point.bytes);
    (rest, if rise > 0.0 { (removed / rise).min(1.0) } else { 0.0 })
}

/// Where the best upward step is and how high, if its squared error is well below the straight line's. For a straight
/// rise it never is, for a step of several deviations of the noise it is by far.
fn best_step(points: &[Point]) -> Option<(usize, f64)> {
    let n = points.len() as f64;
    let mean = |of: fn(&Point) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (mean_hours, mean_bytes) = (mean(|point| point.hours), mean(|point| point.bytes));
    let (mut hours, mut bytes, mut both) = (0.0, 0.0, 0.0);
    for point in points {
        let (x, y) = (point.hours - mean_hours, point.bytes - mean_bytes);
        hours += x * x;
        bytes += y * y;
        both += x * y;
    }
    if hours <= 0.0 || bytes <= 0.0 {
        return None;
    }
    let line_error = (bytes - both * both / hours).max(0.0);
    let mut below = 0.0;
    let (mut explained, mut best) = (0.0, None);
    for (index, point) in points.iter().enumerate().take(points.len() - 1) {
        below += point.bytes - mean_bytes;
        let (left, right) = ((index + 1) as f64, n - (index + 1) as f64);
        // The sum above the mean is minus the sum below.
        let height = -below / right - below / left;
        if height > 0.0 && height * height * left * right / n > explained {
            explained = height * height * left * right / n;
            best = Some((index + 1, height));
        }
    }
    best.filter(|_| bytes - explained < 0.7 * line_error)
}

/// The later parts that are long enough to be judged alone.
fn later_parts(run: &[Point]) -> impl Iterator<Item = (&'static str, &[Point])> {
    let count = run.len();
    [("the later two thirds", count * 2 / 3), ("the later half", count / 2), ("the last third", count / 3)]
        .into_iter()
        .filter(|&(_, length)| length >= 6)
        .map(move |(name, length)| (name, &run[count - length..]))
}

/// Whether the later half of `part` is mostly beyond what was held `before`, a few peaks aside.
fn is_new_territory(before: &[Point], part: &[Point]) -> bool {
    let mut peaks: Vec<f64> = before.iter().map(|point| point.bytes).collect();
    let mut late: Vec<f64> = part[part.len() / 2..].iter().map(|point| point.bytes).collect();
    if peaks.is_empty() || late.is_empty() {
        return true;
    }
    let (peak, middle) = ((peaks.len() - 1) * 95 / 100, late.len() / 2);
    let peak = *peaks.select_nth_unstable_by(peak, f64::total_cmp).1;
    *late.select_nth_unstable_by(middle, f64::total_cmp).1 > peak
}

/// Sen's slope with any steps in it.
fn plain_slope(points: &[Point]) -> f64 {
    theil_sen(points, Kendall::of(points), 0.0).estimate
}

/// How the end of a rise compares with what came before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Pace {
    Steady,
    /// The newest samples, so many, still rise, but clearly less.
    Slower,
    /// The newest samples, so many, do not rise.
    Stopped(usize),
}

/// Looks for a tail whose slope, at the upper end of its interval, is well below the slope before it. The shorter the
/// tail, the surer it has to be, as several are tried.
fn pace(run: &[Point]) -> Pace {
    let count = run.len();
    let mut pace = Pace::Steady;
    for (length, z) in [(count / 2, Z95), (count / 3, 2.1), (count / 4, 2.4)] {
        if length < 5 {
            continue;
        }
        let (before, tail) = run.split_at(count - length);
        let before = plain_slope(before);
        if before <= 0.0 {
            continue;
        }
        let pairs = Kendall::of(tail);
        let slope = theil_sen(tail, pairs, z);
        let slope = theil_sen(tail, pairs.inflated(inflation(tail, slope.estimate)), z);
        if slope.high < 0.45 * before {
            if pairs.p_rising() > 0.05 {
                return Pace::Stopped(length);
            }
            pace = Pace::Slower;
        }
    }
    if pace == Pace::Steady && slows(run) { Pace::Slower } else { pace }
}

/// Whether the last third rises at well under the pace of the middle third, and that under the pace of the first.
fn slows(run: &[Point]) -> bool {
    let third = run.len() / 3;
    if third < 4 {
        return false;
    }
    let slope = |part: &[Point]| theil_sen(part, Kendall::of(part), 1.645);
    let first = slope(&run[..third]);
    let middle = slope(&run[third..2 * third]);
    let last = slope(&run[run.len() - third..]);
    last.high < 0.7 * middle.estimate && last.high < 0.5 * first.estimate && middle.estimate < first.estimate
}

fn chance(p: f64) -> String {
    if p < 0.0001 { "below 0.0001".to_owned() } else { format!("{p:.4}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn series(values: &[u64]) -> Series {
        let mut series = Series::default();
        for (interval, &bytes) in (0..).zip(values) {
            series.push(Sample { elapsed_ms: interval * 5000, bytes, blocks: 1 });
        }
        series
    }

    fn verdict(values: impl IntoIterator<Item = u64>) -> Verdict {
        judge(&series(&values.into_iter().collect::<Vec<_>>())).verdict
    }

    #[test]
    fn fewer_than_five_intervals_are_too_early_however_steep() {
        for count in 0..=MIN_INTERVALS as u64 {
            assert_eq!(verdict((0..count).map(|step| step << 30)), Verdict::Undecided);
        }
    }

    #[test]
    fn a_plain_leak_is_decided_within_six_intervals() {
        for start in [0, 1 << 40] {
            assert_eq!(verdict((0..7).map(|step| if step == 0 { 0 } else { start + step * 4096 })), Verdict::Growing);
        }
    }

    #[test]
    fn one_block_every_few_intervals_is_growing_after_several() {
        assert_eq!(verdict((0..30).map(|step| step / 5 * 64)), Verdict::Growing);
        assert_ne!(verdict((0..10).map(|step| step / 5 * 64)), Verdict::Growing);
    }

    #[test]
    fn what_stopped_is_a_plateau() {
        assert_eq!(verdict((0..40).map(|step: u64| step.min(20) * 1000)), Verdict::Plateau);
        assert_eq!(verdict((0..40).map(|step: u64| step.min(8) / 2 * 1000)), Verdict::Plateau);
        assert_eq!(verdict((0..20).map(|step| if step < 10 { 5 } else { 500 })), Verdict::Plateau);
        assert_eq!(verdict([0, 7, 7, 7, 7, 7, 7]), Verdict::Plateau);
    }

    #[test]
    fn what_is_all_gone_is_a_plateau() {
        assert_eq!(verdict((0..40).map(|step| if step < 39 { step * 100 } else { 0 })), Verdict::Plateau);
    }

    #[test]
    fn a_leak_that_starts_after_days_is_seen() {
        let day = 24 * 3600 / 5;
        assert_eq!(
            verdict((0..3 * day + 40).map(|step: u64| 1000 + step.saturating_sub(3 * day) * 100)),
            Verdict::Growing
        );
    }

    #[test]
    fn a_leak_of_days_goes_on_being_one() {
        assert_eq!(verdict((0..60_000).map(|step| step * 10)), Verdict::Growing);
        assert_eq!(verdict((0..60_000).map(|step| step / 700 * 64)), Verdict::Growing);
    }

    #[test]
    fn ten_thousand_stacks_are_judged_in_an_interval() {
        let noisy = series(&(0..180).map(|step| 1_000_000 + step * 900 + step * 7919 % 50_000).collect::<Vec<_>>());
        let started = std::time::Instant::now();
        let growing = (0..1000).filter(|_| judge(&noisy).verdict == Verdict::Growing).count();
        let spent = started.elapsed();
        assert_eq!(growing, 1000);
        println!("{spent:?} for 1000 full, noisy, growing series");
        assert!(spent.as_secs_f64() < 5.0, "{spent:?}");
    }

    proptest! {
        #[test]
        fn any_series_has_a_judgement_in_range(values in proptest::collection::vec(any::<u64>(), 0..250)) {
            let judgement = judge(&series(&values));
            prop_assert!((0.0..=1.0).contains(&judgement.confidence));
            prop_assert!(judgement.growth_bytes_per_hour.is_finite());
            let (low, high) = judgement.interval_bytes_per_hour;
            prop_assert!(low <= judgement.growth_bytes_per_hour && judgement.growth_bytes_per_hour <= high);
            prop_assert!(!judgement.evidence.is_empty());
            prop_assert_eq!(judge(&series(&values)), judgement);
        }

        #[test]
        fn the_unit_does_not_matter(values in proptest::collection::vec(0u64..1000, 0..80)) {
            let scaled: Vec<u64> = values.iter().map(|value| value * 1024).collect();
            prop_assert_eq!(judge(&series(&values)).verdict, judge(&series(&scaled)).verdict);
        }

        #[test]
        fn what_only_shrinks_is_never_growing(drops in proptest::collection::vec(0u64..1000, 1..120)) {
            let mut level = 1_000_000;
            let values: Vec<u64> = drops.iter().map(|drop| { level -= drop; level }).collect();
            prop_assert_ne!(judge(&series(&values)).verdict, Verdict::Growing);
        }

        #[test]
        fn a_level_with_independent_noise_is_rarely_growing(seed in any::<u64>()) {
            // Rarely is not never: of 40 stacks at most 4.
            let mut state = seed | 1;
            let growing = (0..40).filter(|_| {
                let values: Vec<u64> = (0..30).map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    1_000_000 + state % 100_000
                }).collect();
                judge(&series(&values)).verdict == Verdict::Growing
            }).count();
            prop_assert!(growing <= 4, "{} of 40", growing);
        }
    }
}
