//! A labelled corpus of generated shapes: the measure of the verdict is precision and recall, not taste.
//!
//! Rules were chosen with the seeds below. With 400 other seeds: precision 0.984 and recall 0.969 at 20 intervals, 0.993
//! and 0.999 at 60. A first tooth or a cache that fills for the whole run cannot be told from a leak: most of the errors at 6.

use super::{Trend, Verdict};

/// Marsaglia's xorshift64; the corpus must not change with a library's version.
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 0 to 1.
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About normal, with mean 0 and deviation 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// One step of the steady leaks, in bytes an interval.
const STEP: f64 = 100_000.0;

const LENGTHS: [usize; 4] = [6, 12, 20, 60];
/// Deviations in steps.
const NOISES: [f64; 4] = [0.0, 0.3, 1.0, 2.0];
const SEEDS: u64 = 40;

struct Case {
    shape: &'static str,
    leaks: bool,
    make: fn(usize, f64, &mut Noise) -> Vec<f64>,
}

fn series(count: usize, noise: f64, random: &mut Noise, value: impl Fn(usize) -> f64) -> Vec<f64> {
    (0..count).map(|index| value(index) + noise * STEP * random.normal()).collect()
}

/// A random phase or period from `low` to `high`.
fn between(random: &mut Noise, low: usize, high: usize) -> usize {
    low + (random.uniform() * (high - low + 1) as f64) as usize
}

const CASES: &[Case] = &[
    Case { shape: "linear", leaks: true, make: |n, s, r| series(n, s, r, |i| STEP * (i + 1) as f64) },
    Case { shape: "linear on a base", leaks: true, make: |n, s, r| series(n, s, r, |i| 40.0 * STEP + STEP * i as f64) },
    Case {
        shape: "slow, under a large noisy base",
        leaks: true,
        make: |n, s, r| series(n, 1.0 + s, r, |i| 5000.0 * STEP + STEP * i as f64),
    },
    Case {
        shape: "accelerating",
        leaks: true,
        make: |n, s, r| series(n, s, r, |i| STEP * ((i + 1) as f64 + (i * i) as f64 / n as f64)),
    },
    Case {
        shape: "warm-up, then linear",
        leaks: true,
        make: |n, s, r| series(n, s, r, |i| 20.0 * STEP * (1.0 - (-(i as f64)).exp()) + STEP * i as f64),
    },
    Case {
        shape: "staircase",
        leaks: true,
        make: |n, s, r| {
            let flat = between(r, 2, (n / 6).clamp(2, 6));
            series(n, s, r, |i| STEP * flat as f64 * ((i / flat) + 1) as f64)
        },
    },
    Case {
        shape: "uneven staircase",
        leaks: true,
        make: |n, s, r| {
            let mut level = 0.0;
            let levels: Vec<f64> = (0..n)
                .map(|_| {
                    level += if r.uniform() < 0.45 { 2.0 * STEP } else { 0.0 };
                    level
                })
                .collect();
            series(n, s, r, |i| levels[i])
        },
    },
    Case {
        shape: "late start",
        leaks: true,
        make: |n, s, r| series(n, s, r, |i| 10.0 * STEP + 2.0 * STEP * (i as f64 - n as f64 * 0.5).max(0.0)),
    },
    Case {
        shape: "bursts over linear",
        leaks: true,
        make: |n, s, r| {
            let bursts: Vec<f64> = (0..n).map(|_| if r.uniform() < 0.15 { 15.0 * STEP } else { 0.0 }).collect();
            series(n, s, r, |i| STEP * (i + 1) as f64 + bursts[i])
        },
    },
    Case {
        shape: "uneven increments",
        leaks: true,
        make: |n, s, r| {
            let mut level = 0.0;
            let levels: Vec<f64> = (0..n)
                .map(|_| {
                    level += -STEP * r.uniform().max(1e-9).ln();
                    level
                })
                .collect();
            series(n, s, r, |i| levels[i])
        },
    },
    Case { shape: "level", leaks: false, make: |n, s, r| series(n, s, r, |_| 1000.0 * STEP) },
    Case { shape: "small level", leaks: false, make: |n, s, r| series(n, s, r, |_| 3.0 * STEP) },
    Case {
        shape: "fills for half, then level",
        leaks: false,
        make: |n, s, r| series(n, s, r, |i| 2.0 * STEP * (i + 1).min(n / 2) as f64),
    },
    Case {
        shape: "fills early, then level",
        leaks: false,
        make: |n, s, r| series(n, s, r, |i| 4.0 * STEP * (i + 1).min(n / 4) as f64),
    },
    Case {
        shape: "saturates",
        leaks: false,
        make: |n, s, r| series(n, s, r, |i| 30.0 * STEP * (1.0 - (-6.0 * (i + 1) as f64 / n as f64).exp())),
    },
    Case {
        shape: "one step",
        leaks: false,
        make: |n, s, r| {
            let at = between(r, 1, n - 2);
            series(n, s, r, |i| 10.0 * STEP + if i >= at { 15.0 * STEP } else { 0.0 })
        },
    },
    Case {
        shape: "two steps",
        leaks: false,
        make: |n, s, r| {
            let at = between(r, 1, n / 3);
            series(n, s, r, |i| STEP * (10.0 + if i >= at { 8.0 } else { 0.0 } + if i >= n / 2 { 8.0 } else { 0.0 }))
        },
    },
    Case {
        shape: "churn around a level",
        leaks: false,
        make: |n, s, r| {
            let mut away = 0.0;
            (0..n)
                .map(|_| {
                    away = 0.6 * away + (0.2 + s) * STEP * r.normal();
                    50.0 * STEP + away
                })
                .collect()
        },
    },
    Case {
        shape: "sawtooth with full return",
        leaks: false,
        make: |n, s, r| {
            let period = between(r, 3, n * 7 / 10);
            series(n, s, r, |i| 2.0 * STEP * (i % period) as f64)
        },
    },
    Case {
        shape: "uneven sawtooth",
        leaks: false,
        make: |n, s, r| {
            let mut level = 0.0;
            let top = 8.0;
            let levels: Vec<f64> = (0..n)
                .map(|_| {
                    level = if level > top * (0.5 + 0.5 * r.uniform()) { 0.0 } else { level + 1.5 * r.uniform() };
                    level * STEP
                })
                .collect();
            series(n, s, r, |i| levels[i])
        },
    },
    Case {
        shape: "batch up and down",
        leaks: false,
        make: |n, s, r| series(n, s, r, |i| 3.0 * STEP * (i.min(n - 1 - i)) as f64),
    },
    Case {
        shape: "one spike",
        leaks: false,
        make: |n, s, r| {
            let at = between(r, 1, n - 2);
            series(n, s, r, |i| 10.0 * STEP + if i == at { 60.0 * STEP } else { 0.0 })
        },
    },
    Case {
        shape: "slow wave",
        leaks: false,
        make: |n, s, r| {
            let phase = r.uniform() * 6.3;
            series(n, s, r, |i| STEP * (20.0 + 10.0 * (phase + 12.6 * i as f64 / n as f64).sin()))
        },
    },
];

fn judged(values: &[f64]) -> Verdict {
    let mut trend = Trend::new();
    for (interval, &value) in (1..).zip(values) {
        trend.begin_interval(interval * 5000);
        trend.observe(0u8, interval * 5000, value.max(0.0) as u64, 1);
    }
    trend.judge(0).verdict
}

#[derive(Clone, Copy, Default)]
struct Count {
    growing: usize,
    undecided: usize,
    plateau: usize,
}

impl Count {
    fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Growing => self.growing += 1,
            Verdict::Undecided => self.undecided += 1,
            Verdict::Plateau => self.plateau += 1,
        }
    }

    fn all(self) -> usize {
        self.growing + self.undecided + self.plateau
    }
}

fn run(case: &Case, length: usize, noise: f64) -> Count {
    let mut count = Count::default();
    for seed in 0..SEEDS {
        let mut random = Noise::new(seed + 1 + 1000 * length as u64);
        for _ in 0..20 {
            random.uniform();
        }
        count.add(judged(&(case.make)(length, noise, &mut random)));
    }
    count
}

#[test]
fn leaks_are_told_from_what_is_not() {
    let mut measured = Vec::new();
    for length in LENGTHS {
        let (mut leaks, mut others) = (Count::default(), Count::default());
        for case in CASES {
            let mut line = String::new();
            for noise in NOISES {
                let count = run(case, length, noise);
                line.push_str(&format!(" {:3}/{:3}/{:3}", count.growing, count.undecided, count.plateau));
                let sum = if case.leaks { &mut leaks } else { &mut others };
                sum.growing += count.growing;
                sum.undecided += count.undecided;
                sum.plateau += count.plateau;
            }
            println!("{length:3} {:30}{line}", case.shape);
        }
        let precision = leaks.growing as f64 / (leaks.growing + others.growing).max(1) as f64;
        let recall = leaks.growing as f64 / leaks.all() as f64;
        println!(
            "{length:3} leaks {}/{}/{}, others {}/{}/{}: precision {precision:.4}, recall {recall:.4}",
            leaks.growing, leaks.undecided, leaks.plateau, others.growing, others.undecided, others.plateau
        );
        measured.push((length, precision, recall));
    }
    for (length, precision, recall) in measured {
        let (least_precision, least_recall) = if length >= 20 { (0.98, 0.95) } else { (0.0, 0.0) };
        assert!(precision >= least_precision, "precision {precision} at {length} intervals");
        assert!(recall >= least_recall, "recall {recall} at {length} intervals");
    }
}

#[test]
fn what_is_level_is_called_a_plateau() {
    let level = ["level", "small level", "fills for half, then level", "fills early, then level", "one step"];
    for length in [20, 60] {
        let (mut plateau, mut all) = (0, 0);
        for case in CASES.iter().filter(|case| level.contains(&case.shape)) {
            for noise in &NOISES[..3] {
                let count = run(case, length, *noise);
                plateau += count.plateau;
                all += count.all();
            }
        }
        let share = f64::from(plateau as u32) / f64::from(all as u32);
        println!("{length:3} level shapes: {share:.4} plateau");
        assert!(share >= 0.93, "{share} at {length} intervals");
    }
}

#[test]
fn a_plain_leak_is_decided_within_twelve_intervals() {
    for case in CASES.iter().filter(|case| case.shape.starts_with("linear")) {
        for noise in &NOISES[..3] {
            assert_eq!(run(case, 12, *noise).growing, SEEDS as usize, "{} with noise {noise}", case.shape);
        }
        for noise in &NOISES[..2] {
            assert!(run(case, 6, *noise).growing * 10 >= SEEDS as usize * 9, "{} with noise {noise}", case.shape);
        }
    }
}
