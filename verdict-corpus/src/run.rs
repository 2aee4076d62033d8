//! Judges the generated cases.

use memtrace::parts::trend::{Judgement, Observation, Trend, Verdict};

use crate::{
    heap::{Heap, INTERVAL_MS},
    noise::Noise,
    programs::{PROGRAMS, Program},
    shapes::{NOISES, SHAPES, Shape},
};

/// How many intervals the cases have.
pub const LENGTHS: [usize; 5] = [6, 12, 20, 60, 400];

/// How much is run.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Of what the cases are made.
    pub seed: u64,
    /// How many of each series, length and noise.
    pub series: usize,
    /// How many of each program and length.
    pub programs: usize,
    /// How many of those are judged after each interval instead of at their end.
    pub watched: usize,
}

/// What was said of one case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The kind of case.
    pub name: &'static str,
    /// Whether it was a program, and not a series.
    pub is_program: bool,
    /// How many intervals it had.
    pub length: usize,
    /// Standard deviations of noise, in steps; 0 for programs, which make their own.
    pub noise: f64,
    /// What it should be called.
    pub label: Verdict,
    /// What it may be called as well.
    pub also: &'static [Verdict],
    /// What was said at its end.
    pub judgement: Judgement,
    /// Bytes an hour, where that is defined.
    pub true_rate: Option<f64>,
    /// When it was full.
    pub full: Option<usize>,
    /// The verdict after each interval, with their number; empty when only the end was judged.
    pub history: Vec<(usize, Verdict)>,
}

/// Runs all generated cases.
pub fn generated(effort: Effort) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for (number, shape) in (0..).zip(SHAPES) {
        for length in LENGTHS {
            for (level, noise) in (0..).zip(NOISES) {
                // A long one takes as long as twenty others.
                let runs = if length > 100 { effort.series.div_ceil(8) } else { effort.series };
                for run in 0..runs as u64 {
                    let case = number << 48 | (length as u64) << 32 | level << 24 | run;
                    outcomes.push(series(
                        shape,
                        length,
                        noise,
                        &mut Noise::new(effort.seed, case),
                        run < effort.watched as u64,
                    ));
                }
            }
        }
    }
    for (number, program) in (0..).zip(PROGRAMS) {
        for length in LENGTHS {
            let runs = if length > 100 { effort.programs.div_ceil(8) } else { effort.programs };
            for run in 0..runs as u64 {
                let case = 1 << 60 | number << 48 | (length as u64) << 32 | run;
                outcomes.push(simulated(
                    program,
                    length,
                    &mut Noise::new(effort.seed, case),
                    run < effort.watched as u64,
                ));
            }
        }
    }
    outcomes
}

/// From which interval on a case is judged.
fn judged_from(length: usize, watched: bool) -> usize {
    if watched && length <= 60 { 5 } else { length }
}

fn series(shape: &Shape, length: usize, noise: f64, random: &mut Noise, watched: bool) -> Outcome {
    let made = (shape.make)(length, noise, random);
    let from = judged_from(length, watched);
    let mut trend = Trend::new();
    let mut history = Vec::new();
    for (interval, value) in (1..).zip(&made.values) {
        trend.begin_interval(interval * INTERVAL_MS, interval * INTERVAL_MS * 1_000_000);
        let bytes = value.max(0.0) as u64;
        trend.observe(0u8, Observation { bytes, blocks: bytes / 500, ..Observation::default() });
        if interval as usize >= from {
            history.push((interval as usize, trend.judge(0)));
        }
    }
    outcome(history, |judgement, history| Outcome {
        name: shape.name,
        is_program: false,
        length,
        noise,
        label: shape.label,
        also: shape.also,
        judgement,
        true_rate: made.rate.map(|rate| rate * 3_600_000.0 / INTERVAL_MS as f64),
        full: made.full,
        history,
    })
}

fn simulated(program: &Program, length: usize, random: &mut Noise, watched: bool) -> Outcome {
    let mut heap = Heap::new(judged_from(length, watched));
    (program.run)(&mut heap, random, length);
    let history = std::mem::take(&mut heap.judgements);
    outcome(history, |judgement, history| Outcome {
        name: program.name,
        is_program: true,
        length,
        noise: 0.0,
        label: program.label,
        also: program.also,
        judgement,
        true_rate: heap.true_rate(),
        full: heap.full,
        history,
    })
}

fn outcome(
    mut judgements: Vec<(usize, Judgement)>,
    make: impl FnOnce(Judgement, Vec<(usize, Verdict)>) -> Outcome,
) -> Outcome {
    let history = judgements.iter().map(|(interval, judgement)| (*interval, judgement.verdict)).collect();
    match judgements.pop() {
        Some((_, last)) => make(last, history),
        // Every case has an interval, and its last is judged.
        None => make(Trend::<u8>::new().judge(0), history),
    }
}
