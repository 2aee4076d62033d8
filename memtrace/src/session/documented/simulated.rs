//! A simulated run: what stacks allocate and keep in each second, and what the verdict says of it.

use std::collections::VecDeque;

use crate::{
    ledger::Cohort,
    report::{
        focus::SinceMark,
        sample,
        snapshot::{Frame, Quantiles, Stack},
    },
    session::describe::say,
    trend::{Observation, Trend},
};

/// Milliseconds of an interval.
pub(super) const INTERVAL_MS: u64 = 1000;

/// What one stack does.
pub(super) struct Behaviour {
    /// The caller of the allocator first.
    pub(super) frames: Vec<Frame>,
    /// The size of each block in bytes.
    pub(super) size: u64,
    /// How many blocks are allocated in an interval.
    pub(super) births: fn(u64) -> u64,
    /// How many blocks are kept at most; the oldest go first.
    pub(super) keeps: usize,
}

/// A stack as it develops. Blocks are known by when they were allocated, in milliseconds since the attach.
struct Course<'a> {
    behaviour: &'a Behaviour,
    alive: VecDeque<u64>,
    allocations: u64,
}

impl Course<'_> {
    fn advance(&mut self, interval: u64) {
        let births = (self.behaviour.births)(interval);
        let start_ms = (interval - 1) * INTERVAL_MS;
        self.alive.extend((0..births).map(|birth| start_ms + birth * INTERVAL_MS / births));
        self.allocations += births;
        let gone = self.alive.len().saturating_sub(self.behaviour.keeps);
        self.alive.drain(..gone);
    }

    fn observation(&self) -> Observation {
        let blocks = self.alive.len() as u64;
        Observation {
            bytes: blocks * self.behaviour.size,
            blocks,
            allocations: self.allocations,
            allocated_bytes: self.allocations * self.behaviour.size,
            precision: None,
        }
    }

    /// What lives of each cohort; `from_ms` is when the first one began.
    fn cohorts(&self, ends_ns: &[u64], from_ms: u64) -> Vec<Cohort> {
        let mut cohorts = vec![Cohort::default(); ends_ns.len()];
        for &birth_ms in self.alive.iter().filter(|&&birth_ms| birth_ms >= from_ms) {
            let cohort = &mut cohorts[ends_ns.partition_point(|&end_ns| end_ns <= birth_ms * 1_000_000)];
            cohort.blocks += 1;
            cohort.bytes += self.behaviour.size;
        }
        cohorts
    }

    /// The stack's numbers at `now_ms`, without a verdict.
    fn stack(&self, number: usize, now_ms: u64) -> Stack {
        let Observation { bytes, blocks, allocations, allocated_bytes, .. } = self.observation();
        let age = |part: usize| now_ms - self.alive[(self.alive.len() - 1) * part / 100];
        let size = self.behaviour.size;
        Stack {
            id: format!("{number:016x}"),
            outstanding_bytes: bytes,
            outstanding_blocks: blocks,
            allocations,
            allocated_bytes,
            age_ms: (blocks > 0).then(|| Quantiles { p50: age(50), p99: age(1), max: age(0) }),
            size_bytes: (blocks > 0).then_some(Quantiles { p50: size, p99: size, max: size }),
            frames: self.behaviour.frames.clone(),
            ..sample::stack()
        }
    }
}

/// The stacks of a run of so many intervals, in the order of a report; `mark` is the interval after which a measuring window
/// begins.
pub(super) fn run(behaviours: &[Behaviour], intervals: u64, mark: Option<u64>) -> Vec<Stack> {
    let course = |behaviour| Course { behaviour, alive: VecDeque::new(), allocations: 0 };
    let mut courses: Vec<Course<'_>> = behaviours.iter().map(course).collect();
    let mut trend = Trend::new();
    let from_ms = mark.unwrap_or(0) * INTERVAL_MS;
    for interval in 1..=intervals {
        let now_ms = interval * INTERVAL_MS;
        courses.iter_mut().for_each(|course| course.advance(interval));
        if mark == Some(interval) {
            trend = Trend::beginning_at(now_ms);
        } else {
            trend.begin_interval(now_ms, now_ms * 1_000_000);
        }
        for (key, course) in courses.iter().enumerate() {
            trend.observe(key, course.observation());
            let alive = course.cohorts(trend.cohort_ends_ns(), from_ms);
            trend.look(key, &alive);
        }
    }
    judged(&courses, &trend, intervals * INTERVAL_MS, mark.map(|_| from_ms))
}

fn judged(courses: &[Course<'_>], trend: &Trend<usize>, now_ms: u64, mark_ms: Option<u64>) -> Vec<Stack> {
    let keys: Vec<usize> = (0..courses.len()).collect();
    let judgements = trend.judge_all(&keys);
    let mut stacks = Vec::new();
    for ((key, course), judgement) in keys.iter().zip(courses).zip(judgements) {
        let mut stack = course.stack(*key, now_ms);
        say(&mut stack, judgement);
        stack.series = trend.series(*key).iter().map(|sample| (sample.elapsed_ms, sample.bytes)).collect();
        stack.since_mark = mark_ms.map(|mark_ms| {
            let blocks = course.alive.iter().filter(|&&birth_ms| birth_ms >= mark_ms).count() as u64;
            let outstanding_bytes = blocks * course.behaviour.size;
            SinceMark { window_ms: now_ms - mark_ms, outstanding_bytes, outstanding_blocks: blocks }
        });
        stacks.push(stack);
    }
    stacks
}
