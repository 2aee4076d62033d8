//! Generated series: the bytes of one stack, interval by interval, with noise of chosen strength added.

use std::f64::consts::TAU;

use memtrace::parts::trend::Verdict::{self, Growing, Plateau, Sawtooth, Shrinking, Undecided};

use crate::noise::Noise;

/// One step of the steady leaks, in bytes an interval.
pub const STEP: f64 = 100_000.0;

/// Standard deviations of the noise, in steps.
pub const NOISES: [f64; 4] = [0.0, 0.3, 1.0, 2.0];

/// A series with what is true of it.
pub struct Made {
    /// Bytes after each interval.
    pub values: Vec<f64>,
    /// Bytes an interval, if it grows at a defined rate.
    pub rate: Option<f64>,
    /// After how many intervals it is full, if it fills.
    pub full: Option<usize>,
}

impl From<Vec<f64>> for Made {
    fn from(values: Vec<f64>) -> Self {
        Self { values, rate: None, full: None }
    }
}

impl Made {
    fn rate(self, rate: f64) -> Self {
        Self { rate: Some(rate), ..self }
    }

    fn full(self, full: usize) -> Self {
        Self { full: Some(full), ..self }
    }
}

/// A kind of series.
pub struct Shape {
    /// What it is.
    pub name: &'static str,
    /// What it should be called.
    pub label: Verdict,
    /// What it may be called as well.
    pub also: &'static [Verdict],
    /// Makes one of so many intervals with so much noise.
    pub make: fn(usize, f64, &mut Noise) -> Made,
}

fn series(count: usize, noise: f64, random: &mut Noise, value: impl Fn(usize) -> f64) -> Made {
    Made::from((0..count).map(|index| value(index) + noise * STEP * random.normal()).collect::<Vec<_>>())
}

/// Levels that add up, with noise on top.
fn summed(count: usize, noise: f64, random: &mut Noise, mut change: impl FnMut(&mut Noise) -> f64) -> Made {
    let mut level = 0.0;
    let levels: Vec<f64> = (0..count)
        .map(|_| {
            level += change(random);
            level
        })
        .collect();
    series(count, noise, random, |index| levels[index])
}

/// All of them.
pub const SHAPES: &[Shape] = &[
    Shape {
        name: "linear",
        label: Growing,
        also: &[],
        make: |n, s, r| series(n, s, r, |i| STEP * (i + 1) as f64).rate(STEP),
    },
    Shape {
        name: "linear on a base",
        label: Growing,
        also: &[],
        make: |n, s, r| series(n, s, r, |i| 40.0 * STEP + STEP * i as f64).rate(STEP),
    },
    Shape {
        name: "slow, under a large noisy base",
        label: Growing,
        also: &[],
        make: |n, s, r| series(n, 1.0 + s, r, |i| 5000.0 * STEP + STEP * i as f64).rate(STEP),
    },
    Shape {
        name: "accelerating",
        label: Growing,
        also: &[],
        make: |n, s, r| series(n, s, r, |i| STEP * ((i + 1) as f64 + (i * i) as f64 / n as f64)),
    },
    Shape {
        name: "warm-up, then linear",
        label: Growing,
        also: &[],
        make: |n, s, r| series(n, s, r, |i| 20.0 * STEP * (1.0 - (-(i as f64)).exp()) + STEP * i as f64).rate(STEP),
    },
    Shape {
        name: "staircase",
        label: Growing,
        also: &[],
        make: |n, s, r| {
            let flat = r.between(2, (n / 6).clamp(2, 6));
            series(n, s, r, |i| STEP * flat as f64 * ((i / flat) + 1) as f64).rate(STEP)
        },
    },
    Shape {
        name: "uneven staircase",
        label: Growing,
        also: &[],
        make: |n, s, r| summed(n, s, r, |r| if r.happens(0.45) { 2.0 * STEP } else { 0.0 }).rate(0.9 * STEP),
    },
    Shape {
        name: "late start",
        label: Growing,
        also: &[],
        make: |n, s, r| {
            series(n, s, r, |i| 10.0 * STEP + 2.0 * STEP * (i as f64 - n as f64 * 0.5).max(0.0)).rate(2.0 * STEP)
        },
    },
    Shape {
        name: "bursts over linear",
        label: Growing,
        also: &[],
        make: |n, s, r| {
            let bursts: Vec<f64> = (0..n).map(|_| if r.happens(0.15) { 15.0 * STEP } else { 0.0 }).collect();
            series(n, s, r, |i| STEP * (i + 1) as f64 + bursts[i]).rate(STEP)
        },
    },
    Shape {
        name: "uneven increments",
        label: Growing,
        also: &[],
        make: |n, s, r| summed(n, s, r, |r| STEP * r.exponential()).rate(STEP),
    },
    Shape {
        name: "linear with hiccups",
        label: Growing,
        also: &[],
        make: |n, s, r| {
            // The machine stands still for an interval; what was due comes with the next.
            let late: Vec<f64> = (0..n).map(|_| if r.happens(0.1) { 1.0 } else { 0.0 }).collect();
            series(n, s, r, |i| STEP * ((i + 1) as f64 - late[i])).rate(STEP)
        },
    },
    Shape {
        name: "linear under a daily wave",
        label: Growing,
        also: &[],
        make: |n, s, r| {
            let (phase, cycles) = (6.3 * r.uniform(), 2.0 + 3.0 * r.uniform());
            let height = 0.06 * n as f64 * STEP;
            series(n, s, r, |i| {
                STEP * (i + 1) as f64 + height * (1.0 + (phase + TAU * cycles * i as f64 / n as f64).sin())
            })
            .rate(STEP)
        },
    },
    Shape {
        name: "leak below a sawtooth",
        label: Growing,
        also: &[],
        make: |n, s, r| {
            let period = r.between(3, 5);
            series(n, s, r, |i| STEP * (i + 1) as f64 + STEP * (i % period) as f64).rate(STEP)
        },
    },
    Shape { name: "level", label: Plateau, also: &[], make: |n, s, r| series(n, s, r, |_| 1000.0 * STEP) },
    Shape { name: "small level", label: Plateau, also: &[Sawtooth], make: |n, s, r| series(n, s, r, |_| 3.0 * STEP) },
    Shape {
        name: "fills for half, then level",
        label: Plateau,
        also: &[],
        make: |n, s, r| series(n, s, r, |i| 2.0 * STEP * (i + 1).min(n / 2) as f64).full(n / 2),
    },
    Shape {
        name: "fills early, then level",
        label: Plateau,
        also: &[],
        make: |n, s, r| series(n, s, r, |i| 4.0 * STEP * (i + 1).min(n / 4) as f64).full(n / 4),
    },
    Shape {
        name: "saturates",
        label: Plateau,
        also: &[Undecided],
        make: |n, s, r| series(n, s, r, |i| 30.0 * STEP * (1.0 - (-6.0 * (i + 1) as f64 / n as f64).exp())),
    },
    Shape {
        name: "one step",
        label: Plateau,
        also: &[],
        make: |n, s, r| {
            let at = r.between(1, n - 2);
            series(n, s, r, |i| 10.0 * STEP + if i >= at { 15.0 * STEP } else { 0.0 })
        },
    },
    Shape {
        name: "two steps",
        label: Plateau,
        also: &[Undecided],
        make: |n, s, r| {
            let at = r.between(1, n / 3);
            series(n, s, r, |i| STEP * (10.0 + if i >= at { 8.0 } else { 0.0 } + if i >= n / 2 { 8.0 } else { 0.0 }))
        },
    },
    Shape {
        name: "churn around a level",
        label: Plateau,
        also: &[Sawtooth],
        make: |n, s, r| {
            let mut away = 0.0;
            let walk = |_| {
                away = 0.6 * away + (0.2 + s) * STEP * r.normal();
                50.0 * STEP + away
            };
            Made::from((0..n).map(walk).collect::<Vec<_>>())
        },
    },
    Shape {
        name: "sawtooth with full return",
        label: Sawtooth,
        also: &[Plateau, Undecided],
        make: |n, s, r| {
            let period = r.between(3, n * 7 / 10);
            series(n, s, r, |i| 2.0 * STEP * (i % period) as f64)
        },
    },
    Shape {
        name: "uneven sawtooth",
        label: Sawtooth,
        also: &[Plateau, Undecided],
        make: |n, s, r| {
            let mut level = 0.0;
            let levels: Vec<f64> = (0..n)
                .map(|_| {
                    level = if level > 8.0 * (0.5 + 0.5 * r.uniform()) { 0.0 } else { level + 1.5 * r.uniform() };
                    level * STEP
                })
                .collect();
            series(n, s, r, |i| levels[i])
        },
    },
    Shape {
        name: "batch up and down",
        label: Shrinking,
        also: &[Plateau, Sawtooth],
        make: |n, s, r| series(n, s, r, |i| 3.0 * STEP * (i.min(n - 1 - i)) as f64),
    },
    Shape {
        name: "one spike",
        label: Plateau,
        also: &[],
        make: |n, s, r| {
            let at = r.between(1, n - 2);
            series(n, s, r, |i| 10.0 * STEP + if i == at { 60.0 * STEP } else { 0.0 })
        },
    },
    Shape {
        name: "slow wave",
        label: Sawtooth,
        also: &[Plateau, Shrinking, Undecided],
        make: |n, s, r| {
            let phase = r.uniform() * 6.3;
            series(n, s, r, |i| STEP * (20.0 + 10.0 * (phase + 12.6 * i as f64 / n as f64).sin()))
        },
    },
    Shape {
        name: "many waves",
        label: Sawtooth,
        also: &[Plateau],
        make: |n, s, r| {
            let (phase, cycles) = (6.3 * r.uniform(), (n as f64 / 8.0).clamp(2.0, 7.0));
            series(n, s, r, |i| STEP * (20.0 + 15.0 * (phase + TAU * cycles * i as f64 / n as f64).sin()))
        },
    },
    Shape {
        name: "drains",
        label: Shrinking,
        also: &[],
        make: |n, s, r| series(n, s, r, |i| STEP * (2 * n - i) as f64),
    },
    Shape {
        name: "drains by decay",
        label: Shrinking,
        also: &[Plateau],
        make: |n, s, r| series(n, s, r, |i| 40.0 * STEP * (-2.0 * i as f64 / n as f64).exp()),
    },
    Shape {
        name: "high-water mark",
        label: Plateau,
        also: &[Undecided],
        make: |n, s, r| {
            let mut top = 0.0f64;
            let levels: Vec<f64> = (0..n)
                .map(|_| {
                    top = top.max(10.0 + r.exponential() * 4.0);
                    top * STEP
                })
                .collect();
            series(n, s.min(0.3), r, |i| levels[i])
        },
    },
];
