//! Counts what was said, prints it, and compares it with the bars.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter, Write as _},
};

use memtrace::parts::trend::Verdict;

use crate::{
    gate::Answers,
    leaks::{INTERVALS, Stability},
    recorded::Replayed,
    run::{LENGTHS, Outcome},
};

/// From this many intervals on the bars hold: before, a cache that fills and a leak are the same thing.
const JUDGED_FROM: usize = 20;

const LEAST_PRECISION: f64 = 0.98;
const LEAST_RECALL: f64 = 0.95;
/// A plain leak is decided by then.
const LATEST_DECISION: usize = 12;
/// Of the leaks of which nothing is freed, once they are growing, the share that stays so after every later interval.
const LEAST_STABLE: f64 = 0.995;
/// Of whole programs, the share about which the gate is right after every interval.
const LEAST_RIGHT: f64 = 0.99;
const LARGEST_RATE_ERROR: f64 = 0.1;
const LEAST_COVERAGE: f64 = 0.9;
/// Of the cases that are no leaks, so many have to get a verdict that fits.
const LEAST_FITTING: f64 = 0.9;
/// What is a plain leak. One whose first intervals fall into pauses of the machine is none.
const PLAIN: [&str; 3] = ["linear", "linear on a base", "plain leak"];

/// The number of cases by label and verdict.
#[derive(Clone, Copy, Debug, Default)]
pub struct Matrix([[usize; 5]; 5]);

impl Matrix {
    fn of<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Self {
        let mut matrix = Self::default();
        for outcome in outcomes {
            matrix.0[outcome.label as usize][outcome.judgement.verdict as usize] += 1;
        }
        matrix
    }

    /// Of what is called growing, the share that is.
    pub fn precision(&self) -> f64 {
        let called: usize = self.0.iter().map(|row| row[Verdict::Growing as usize]).sum();
        share(self.0[Verdict::Growing as usize][Verdict::Growing as usize], called)
    }

    /// Of what grows, the share that is called growing.
    pub fn recall(&self) -> f64 {
        let row = self.0[Verdict::Growing as usize];
        share(row[Verdict::Growing as usize], row.iter().sum())
    }
}

impl Display for Matrix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12}", "is \\ said")?;
        Verdict::ALL.iter().try_for_each(|verdict| write!(f, "{:>11}", verdict.as_str()))?;
        for (label, row) in Verdict::ALL.iter().zip(&self.0) {
            write!(f, "\n{:>12}", label.as_str())?;
            row.iter().try_for_each(|count| write!(f, "{count:>11}"))?;
        }
        Ok(())
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// Everything that was measured, as text, and which bars were missed.
pub struct Measured {
    /// For people.
    pub text: String,
    /// One line for each bar that was missed.
    pub failures: Vec<String>,
}

/// Measures the generated cases; with `details` each kind of case by itself.
pub fn measure(outcomes: &[Outcome], details: bool) -> Measured {
    let mut measured = Measured { text: String::new(), failures: Vec::new() };
    if details {
        measured.kinds(outcomes);
    }
    measured.lengths(outcomes);
    measured.fitting(outcomes);
    measured.latency(outcomes);
    measured.after_fill(outcomes);
    measured.rates(outcomes);
    measured
}

impl Measured {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn bar(&mut self, what: &str, value: f64, least: f64) {
        // A number that is none fails as well.
        if value.is_nan() || value < least {
            self.failures.push(format!("{what} is {value:.4}, and has to be {least} at least"));
        }
    }

    /// The verdicts of each kind of case, by length.
    fn kinds(&mut self, outcomes: &[Outcome]) {
        let mut counts: BTreeMap<(bool, String), BTreeMap<usize, [usize; 5]>> = BTreeMap::new();
        for outcome in outcomes {
            let noise = if outcome.is_program { String::new() } else { format!(", noise {}", outcome.noise) };
            let kind = counts.entry((outcome.is_program, format!("{}{noise}", outcome.name))).or_default();
            kind.entry(outcome.length).or_default()[outcome.judgement.verdict as usize] += 1;
        }
        self.line("growing/undecided/sawtooth/plateau/shrinking by number of intervals");
        for ((_, name), lengths) in counts {
            let mut line = format!("{name:48}");
            for (length, [a, b, c, d, e]) in lengths {
                let _ = write!(line, " {length}: {a}/{b}/{c}/{d}/{e} ");
            }
            self.line(&line);
        }
        self.line("");
    }

    fn lengths(&mut self, outcomes: &[Outcome]) {
        for length in LENGTHS {
            let matrix = Matrix::of(outcomes.iter().filter(|outcome| outcome.length == length));
            let (precision, recall) = (matrix.precision(), matrix.recall());
            self.line(&format!("after {length} intervals: precision {precision:.4}, recall {recall:.4} for growing"));
        }
        let all = Matrix::of(outcomes.iter().filter(|outcome| outcome.length >= JUDGED_FROM));
        let (precision, recall) = (all.precision(), all.recall());
        self.line(&format!("after {JUDGED_FROM} and more: precision {precision:.4}, recall {recall:.4}"));
        self.bar(&format!("precision after {JUDGED_FROM} intervals and more"), precision, LEAST_PRECISION);
        self.bar(&format!("recall after {JUDGED_FROM} intervals and more"), recall, LEAST_RECALL);
        for (what, is_program) in [("series", false), ("programs", true)] {
            let judged = outcomes.iter().filter(|o| o.length >= JUDGED_FROM && o.is_program == is_program);
            let matrix = Matrix::of(judged);
            self.line(&format!("\ngenerated {what} of {JUDGED_FROM} intervals and more\n{matrix}"));
            self.line(&format!("precision {:.4}, recall {:.4}", matrix.precision(), matrix.recall()));
        }
    }

    /// What was recorded of real programs; each stack has to be right.
    pub fn recorded(&mut self, replayed: &[Replayed]) {
        let (mut stacks, mut growing) = (0, 0);
        for program in replayed {
            let leaking = program.stacks.iter().any(|(leaks, ..)| *leaks);
            let found = program.stacks.iter().any(|(leaks, _, verdict, _)| *leaks && verdict.is_leak());
            if leaking && !found {
                self.failures
                    .push(format!("the recorded leak of {} is not growing: {:?}", program.name, program.stacks));
            }
            for (leaks, function, verdict, evidence) in &program.stacks {
                stacks += 1;
                growing += usize::from(verdict.is_leak());
                if verdict.is_leak() && !leaks {
                    self.failures.push(format!("{function} of {} is called growing: {evidence}", program.name));
                }
            }
        }
        self.line(&format!("recorded: {growing} of {stacks} stacks of {} programs are growing", replayed.len()));
    }

    /// Leaks of which nothing is freed: none that was growing is to have another verdict later.
    pub fn stability(&mut self, leaks: &Stability) {
        let Stability { once_growing, never, changed_back, when } = leaks;
        self.line(&format!(
            "leaks that free nothing, judged after every interval up to {INTERVALS}: {once_growing} were growing, {never} \
             never; {changed_back} changed back {when:?}"
        ));
        self.bar("the share of leaks that were growing at some time", share(*once_growing, once_growing + never), 1.0);
        self.bar("the share of leaks that stay growing", 1.0 - share(*changed_back, *once_growing), LEAST_STABLE);
    }

    /// Whole programs: the run is to fail at every count of intervals where there is a leak, and at none where there is not.
    pub fn gate(&mut self, answers: &Answers, details: bool) {
        let Answers { leaking, passed, sound, failed, asked, wrong, when } = answers;
        let at: BTreeMap<&str, Vec<usize>> =
            when.iter().map(|(&name, wrong)| (name, wrong.iter().map(|&(at, _)| at).collect())).collect();
        self.line(&format!(
            "the gate, asked after every interval: {passed} of {leaking} leaking programs passed at some time, {failed} of {sound} \
             sound ones failed; {wrong} of {asked} answers were wrong {at:?}"
        ));
        if details {
            for (name, (at, why)) in when.iter().flat_map(|(name, wrong)| wrong.iter().map(move |wrong| (name, wrong)))
            {
                self.line(&format!("  {name}, after {at} intervals: {why}"));
            }
        }
        let programs = leaking + sound;
        self.bar(
            "the share of programs that the gate is right about",
            1.0 - share(passed + failed, programs),
            LEAST_RIGHT,
        );
    }

    fn fitting(&mut self, outcomes: &[Outcome]) {
        let judged: Vec<&Outcome> = outcomes.iter().filter(|o| o.length >= JUDGED_FROM && !o.label.is_leak()).collect();
        let fits = |o: &&&Outcome| o.judgement.verdict == o.label || o.also.contains(&o.judgement.verdict);
        let fitting = share(judged.iter().filter(fits).count(), judged.len());
        self.line(&format!("\nof what does not grow, {fitting:.4} has a verdict that fits"));
        self.bar("the share of fitting verdicts", fitting, LEAST_FITTING);
    }

    /// When plain leaks are decided, and whether they stay so.
    fn latency(&mut self, outcomes: &[Outcome]) {
        let (mut decided, mut late, mut judged, mut flickers) = (Vec::new(), 0, 0usize, 0usize);
        let plain = |o: &&Outcome| PLAIN.contains(&o.name) && o.noise <= 0.3 && o.history.len() > LATEST_DECISION - 5;
        for outcome in outcomes.iter().filter(plain) {
            let growing = |verdict: Verdict| verdict.is_leak();
            let at = outcome.history.iter().find(|(_, verdict)| growing(*verdict)).map_or(usize::MAX, |(at, _)| *at);
            decided.push(at);
            late += usize::from(at > LATEST_DECISION);
            let after = outcome.history.iter().filter(|(at, _)| *at >= LATEST_DECISION);
            after.for_each(|(_, verdict)| {
                judged += 1;
                flickers += usize::from(!growing(*verdict));
            });
        }
        decided.sort_unstable();
        let Some(median) = decided.get(decided.len() / 2) else {
            return self.failures.push("no plain leak was watched".to_owned());
        };
        let last = decided
            .last()
            .map_or_else(String::new, |last| if *last == usize::MAX { "never".to_owned() } else { last.to_string() });
        self.line(&format!(
            "plain leaks: {} decided after {median} intervals in the median, the last after {last}; \
             {flickers} of {judged} later verdicts were another",
            decided.len()
        ));
        self.bar("the share of plain leaks decided in time", 1.0 - share(late, decided.len()), 1.0);
        self.bar("the share of steady verdicts on plain leaks", 1.0 - share(flickers, judged), 0.99);
    }

    /// What was full is not called growing.
    fn after_fill(&mut self, outcomes: &[Outcome]) {
        let (mut judged, mut growing) = (0usize, BTreeMap::<&str, usize>::new());
        for outcome in outcomes.iter().filter(|o| o.length >= JUDGED_FROM && (o.is_program || o.noise <= 0.3)) {
            let Some(full) = outcome.full else { continue };
            // The end of a fill shows after some intervals only.
            let known = full + (full / 4).max(6);
            for (_, verdict) in outcome.history.iter().filter(|(at, _)| *at >= known) {
                judged += 1;
                if verdict.is_leak() {
                    *growing.entry(outcome.name).or_default() += 1;
                }
            }
        }
        let count: usize = growing.values().sum();
        self.line(&format!("caches after their fill: {count} of {judged} verdicts are growing {growing:?}"));
        self.bar("verdicts on full caches", judged as f64, 100.0);
        self.bar("the share of full caches not called growing", 1.0 - share(count, judged), 1.0);
    }

    fn rates(&mut self, outcomes: &[Outcome]) {
        let mut by_length: BTreeMap<usize, (Vec<f64>, usize)> = BTreeMap::new();
        let growing = |o: &&Outcome| o.length >= JUDGED_FROM && o.judgement.verdict.is_leak();
        let mut missed: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for outcome in outcomes.iter().filter(growing) {
            let Some(rate) = outcome.true_rate.filter(|_| outcome.label.is_leak()) else { continue };
            let (errors, inside) = by_length.entry(outcome.length).or_default();
            errors.push((outcome.judgement.growth_bytes_per_hour / rate - 1.0).abs());
            let (low, high) = outcome.judgement.interval_bytes_per_hour;
            let hit = low <= rate && rate <= high;
            *inside += usize::from(hit);
            let miss = missed.entry(outcome.name).or_default();
            *miss = (miss.0 + usize::from(!hit), miss.1 + 1);
        }
        let (mut all, mut within, mut covered) = (0, 0, 0);
        for (length, (mut errors, inside)) in by_length {
            errors.sort_unstable_by(f64::total_cmp);
            let close = errors.iter().filter(|&&error| error <= LARGEST_RATE_ERROR).count();
            let median = errors[errors.len() / 2];
            self.line(&format!(
                "rates after {length} intervals: error {:.1} % in the median, {:.1} % at most in 9 of 10; {:.1} % of {} \
                 within 10 %; {:.1} % of the true ones are inside the interval",
                100.0 * median,
                100.0 * errors[errors.len() * 9 / 10],
                100.0 * share(close, errors.len()),
                errors.len(),
                100.0 * share(inside, errors.len()),
            ));
            self.bar(
                &format!("1 - the median error of rates after {length} intervals"),
                1.0 - median,
                1.0 - LARGEST_RATE_ERROR,
            );
            all += errors.len();
            within += close;
            covered += inside;
        }
        self.line(&format!(
            "all rates: {:.1} % within 10 %, {:.1} % of the true ones inside the interval",
            100.0 * share(within, all),
            100.0 * share(covered, all)
        ));
        let mut worst: Vec<_> = missed.into_iter().filter(|(_, (misses, _))| *misses > 0).collect();
        worst.sort_by_key(|(_, (misses, _))| std::cmp::Reverse(*misses));
        self.line(&format!("outside most often: {:?}", &worst[..worst.len().min(8)]));
        self.bar("the share of true rates inside the interval", share(covered, all), LEAST_COVERAGE);
    }
}
