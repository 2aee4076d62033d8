//! Generated programs: who allocates what, and when it is freed. Block by block, so that survival is what it would be.

use std::{collections::VecDeque, f64::consts::TAU};

use memtrace::parts::trend::Verdict::{self, Growing, Plateau, Sawtooth, Shrinking, Undecided};
use memtrace_common::StackId;

use crate::{
    heap::{Block, Heap},
    noise::Noise,
};

/// A kind of program.
pub struct Program {
    /// What it is.
    pub name: &'static str,
    /// What its tested stack should be called.
    pub label: Verdict,
    /// What it may be called as well.
    pub also: &'static [Verdict],
    /// Runs it for so many intervals.
    pub run: fn(&mut Heap, &mut Noise, usize),
}

/// Calls of the tested site in an interval of usual load.
const CALLS: usize = 40;

/// A size between half and one and a half of what is usual.
fn size(random: &mut Noise) -> usize {
    random.between(500, 1500)
}

/// Runs `call` about `calls` times in the interval, and ends it.
fn interval(heap: &mut Heap, random: &mut Noise, calls: f64, mut call: impl FnMut(&mut Heap, &mut Noise)) {
    let spread = calls.max(0.0).sqrt() * random.normal();
    let calls = (calls + spread).round().max(0.0) as usize;
    for _ in 0..calls {
        heap.wait(0.9 / calls as f64);
        call(heap, random);
    }
    heap.end_interval();
}

/// A wave of load: 1 on average.
fn wave(at: usize, period: f64, phase: f64) -> f64 {
    1.0 + 0.6 * (phase + TAU * at as f64 / period).sin()
}

/// Lifetimes of requests: a few hundredths of an interval.
fn request(heap: &mut Heap, random: &mut Noise) {
    let lifetime = 0.05 * random.exponential();
    let bytes = size(random);
    heap.alloc_for(bytes, lifetime);
}

/// A cache that holds `room` blocks, and evicts by `victim`, a place among so many.
fn cache(heap: &mut Heap, random: &mut Noise, n: usize, room: usize, victim: fn(&mut Noise, usize) -> usize) {
    let mut held: VecDeque<Block> = VecDeque::new();
    for at in 0..n {
        interval(heap, random, CALLS as f64, |heap, random| {
            if held.len() == room {
                let old = victim(random, held.len());
                if let Some(block) = held.remove(old) {
                    heap.free(block);
                }
            }
            let bytes = size(random);
            held.push_back(heap.alloc(bytes));
        });
        if held.len() == room && heap.full.is_none() {
            heap.full = Some(at + 1);
        }
    }
}

/// A share of the run, in intervals.
fn part(random: &mut Noise, n: usize, low: f64, high: f64) -> usize {
    ((low + (high - low) * random.uniform()) * n as f64).round().max(1.0) as usize
}

/// All of them.
pub const PROGRAMS: &[Program] = &[
    Program {
        name: "plain leak",
        label: Growing,
        also: &[],
        run: |h, r, n| {
            let calls = r.between(3, 60) as f64;
            (0..n).for_each(|_| interval(h, r, calls, |h, r| h.leak(size(r))));
        },
    },
    Program {
        name: "leak with hiccups of the machine",
        label: Growing,
        also: &[],
        run: |h, r, n| {
            let mut owed = 0.0;
            for _ in 0..n {
                owed += 30.0;
                // The machine stands still now and then; what was due comes with the next interval.
                let calls = if r.happens(0.08) { 0.0 } else { std::mem::take(&mut owed) };
                interval(h, r, calls, |h, r| h.leak(size(r)));
            }
        },
    },
    Program {
        name: "one request in twenty is kept",
        label: Growing,
        also: &[],
        run: |h, r, n| {
            (0..n).for_each(|_| {
                interval(
                    h,
                    r,
                    4.0 * CALLS as f64,
                    |h, r| if r.happens(0.05) { h.leak(size(r)) } else { request(h, r) },
                );
            });
        },
    },
    Program {
        name: "slow leak below a large cache",
        label: Growing,
        also: &[],
        run: |h, r, n| {
            // The cache stood before the leak was looked for.
            let mut held: VecDeque<Block> = (0..400).map(|_| h.alloc(1000)).collect();
            h.leaks_from_now();
            for _ in 0..n {
                interval(h, r, 2.5 * CALLS as f64, |h, r| {
                    if r.happens(0.05) {
                        h.leak(size(r));
                        return;
                    }
                    if let Some(block) = held.pop_front() {
                        h.free(block);
                    }
                    let bytes = size(r);
                    held.push_back(h.alloc(bytes));
                });
            }
        },
    },
    Program {
        name: "sessions, some never closed",
        label: Growing,
        also: &[],
        run: |h, r, n| {
            let lifetime = 0.5 + r.uniform();
            (0..n).for_each(|_| {
                interval(h, r, CALLS as f64, |h, r| {
                    if r.happens(0.15) {
                        h.leak(size(r));
                    } else {
                        let bytes = size(r);
                        let time = lifetime * r.exponential();
                        h.alloc_for(bytes, time);
                    }
                });
            });
        },
    },
    Program {
        name: "leak that starts late, after churn",
        label: Growing,
        also: &[],
        run: |h, r, n| {
            let start = part(r, n, 0.35, 0.5);
            for at in 0..n {
                if at == start {
                    h.leaks_from_now();
                }
                interval(h, r, 2.0 * CALLS as f64, |h, r| {
                    if at >= start && r.happens(0.4) { h.leak(size(r)) } else { request(h, r) }
                });
            }
        },
    },
    Program {
        name: "leak that starts late, beside a full pool",
        label: Growing,
        also: &[],
        run: |h, r, n| {
            (0..500).for_each(|_| {
                h.alloc(1000);
            });
            let start = part(r, n, 0.3, 0.5);
            for at in 0..n {
                if at == start {
                    h.leaks_from_now();
                }
                interval(h, r, CALLS as f64, |h, r| if at >= start { h.leak(size(r)) } else { request(h, r) });
            }
        },
    },
    Program {
        name: "leak that follows a daily wave",
        label: Growing,
        also: &[],
        run: |h, r, n| {
            let (period, phase) = (n as f64 / (3.0 + 3.0 * r.uniform()), 6.3 * r.uniform());
            for at in 0..n {
                interval(h, r, CALLS as f64 * wave(at, period, phase), |h, r| h.leak(size(r)));
            }
        },
    },
    Program {
        name: "leak in bursts",
        label: Growing,
        also: &[],
        run: |h, r, n| {
            for _ in 0..n {
                let calls = if r.happens(0.4) { 60.0 } else { 4.0 };
                interval(h, r, calls, |h, r| h.leak(size(r)));
            }
        },
    },
    Program {
        name: "table that only grows, rehashed at times",
        label: Growing,
        also: &[],
        run: |h, r, n| {
            let mut entries = 0;
            let mut array = h.alloc(1024);
            let mut room = 64;
            for _ in 0..n {
                interval(h, r, CALLS as f64, |h, r| {
                    h.leak(size(r));
                    entries += 1;
                    if entries == room {
                        room *= 2;
                        let larger = h.alloc(16 * room);
                        h.free(std::mem::replace(&mut array, larger));
                    }
                });
            }
        },
    },
    Program {
        name: "every batch forgets some",
        label: Growing,
        also: &[],
        run: |h, r, n| {
            for _ in 0..n {
                let batch: Vec<Block> = (0..200).map(|_| h.alloc(300)).collect();
                let kept = r.between(6, 14);
                batch[kept..].iter().for_each(|&block| h.free(block));
                (0..kept).for_each(|_| h.count_leaked(300));
                h.end_interval();
            }
        },
    },
    Program {
        name: "leak whose allocations are lost at times",
        label: Growing,
        also: &[],
        run: |h, r, n| {
            for at in 0..n {
                if at % 7 == 5 {
                    h.lose_allocations();
                }
                interval(h, r, CALLS as f64, |h, r| {
                    h.alloc(size(r));
                });
            }
        },
    },
    Program {
        name: "one buffer that grows and grows",
        label: Growing,
        also: &[],
        run: |h, r, n| {
            let mut bytes = 10_000;
            let mut buffer = h.alloc(bytes);
            h.leaks_from_now();
            for _ in 0..n {
                interval(h, r, 5.0, |h, r| {
                    let more = size(r);
                    bytes += more;
                    h.count_leaked(more);
                    h.free(buffer);
                    buffer = h.alloc(bytes);
                });
            }
        },
    },
    Program {
        name: "requests",
        label: Plateau,
        also: &[Sawtooth],
        run: |h, r, n| (0..n).for_each(|_| interval(h, r, 3.0 * CALLS as f64, request)),
    },
    Program {
        name: "cache, least recently added goes first",
        label: Plateau,
        also: &[Undecided],
        run: |h, r, n| {
            let room = CALLS * part(r, n, 0.2, 0.6);
            cache(h, r, n, room, |_, _| 0);
        },
    },
    Program {
        name: "cache, any goes",
        label: Plateau,
        also: &[Undecided],
        run: |h, r, n| {
            let room = CALLS * part(r, n, 0.2, 0.6);
            cache(h, r, n, room, |r, held| r.between(0, held - 1));
        },
    },
    Program {
        name: "cache, least recently used goes first",
        label: Plateau,
        also: &[Undecided],
        run: |h, r, n| {
            // Hits move blocks to the young end: a third of the blocks is hot.
            let room = CALLS * part(r, n, 0.2, 0.5);
            cache(h, r, n, room, |r, held| r.between(0, held / 3));
        },
    },
    Program {
        name: "entries with a time to live",
        label: Plateau,
        also: &[Undecided],
        run: |h, r, n| {
            let time = part(r, n, 0.1, 0.5);
            for _ in 0..n {
                interval(h, r, CALLS as f64, |h, r| {
                    let bytes = size(r);
                    h.alloc_for(bytes, time as f64);
                });
            }
        },
    },
    Program {
        name: "sessions of some length",
        label: Plateau,
        also: &[Undecided, Sawtooth],
        run: |h, r, n| {
            let time = 0.03 * n as f64 + 0.05 * n as f64 * r.uniform();
            (0..n).for_each(|_| {
                interval(h, r, CALLS as f64, |h, r| {
                    let (bytes, lifetime) = (size(r), time * r.exponential());
                    h.alloc_for(bytes, lifetime);
                });
            });
        },
    },
    Program {
        name: "sessions in a daily wave",
        label: Sawtooth,
        also: &[Plateau, Undecided, Shrinking],
        run: |h, r, n| {
            let (period, phase) = (n as f64 / (2.0 + 3.0 * r.uniform()), 6.3 * r.uniform());
            for at in 0..n {
                interval(h, r, CALLS as f64 * wave(at, period, phase), |h, r| {
                    let (bytes, lifetime) = (size(r), 0.8 * r.exponential());
                    h.alloc_for(bytes, lifetime);
                });
            }
        },
    },
    Program {
        name: "sessions under a load that rises",
        label: Undecided,
        also: &[Plateau],
        run: |h, r, n| {
            let time = 0.08 * n as f64;
            for at in 0..n {
                let load = 1.0 + 2.0 * at as f64 / n as f64;
                interval(h, r, CALLS as f64 * load, |h, r| {
                    let (bytes, lifetime) = (size(r), time * (0.5 + r.uniform()));
                    h.alloc_for(bytes, lifetime);
                });
            }
        },
    },
    Program {
        name: "batches, freed at their end",
        label: Sawtooth,
        also: &[Plateau, Undecided],
        run: |h, r, n| {
            let length = r.between(3, (n / 4).max(3));
            let mut held = Vec::new();
            for at in 0..n {
                interval(h, r, CALLS as f64, |h, r| held.push(h.alloc(size(r))));
                if at % length == length - 1 {
                    held.drain(..).for_each(|block| h.free(block));
                }
            }
        },
    },
    Program {
        name: "arenas of requests",
        label: Plateau,
        also: &[Sawtooth],
        run: |h, r, n| {
            for _ in 0..n {
                interval(h, r, 8.0, |h, r| {
                    let arena: Vec<Block> = (0..r.between(5, 40)).map(|_| h.alloc(256)).collect();
                    h.wait(0.005);
                    arena.into_iter().for_each(|block| h.free(block));
                });
            }
        },
    },
    Program {
        name: "table that grows and is cleared",
        label: Sawtooth,
        also: &[Plateau, Undecided],
        run: |h, r, n| {
            let limit = CALLS * (n / 5).max(2);
            let mut held = Vec::new();
            for _ in 0..n {
                interval(h, r, CALLS as f64, |h, r| {
                    if held.len() >= limit {
                        held.drain(..).for_each(|block| h.free(block));
                    }
                    held.push(h.alloc(size(r)));
                });
            }
        },
    },
    Program {
        name: "table that is filled once",
        label: Plateau,
        also: &[],
        run: |h, r, n| {
            let fill = part(r, n, 0.1, 0.6);
            for at in 0..n {
                if at < fill {
                    interval(h, r, CALLS as f64, |h, r| {
                        h.alloc(size(r));
                    });
                } else {
                    h.full.get_or_insert(at);
                    h.end_interval();
                }
            }
        },
    },
    Program {
        name: "start-up, then requests",
        label: Plateau,
        also: &[],
        run: |h, r, n| {
            (0..2000).for_each(|_| {
                h.alloc(size(r));
            });
            (0..n).for_each(|_| interval(h, r, CALLS as f64, request));
        },
    },
    Program {
        name: "batches whose leftovers go one batch later",
        label: Plateau,
        also: &[Sawtooth],
        run: |h, r, n| {
            let mut left: Vec<Block> = Vec::new();
            for _ in 0..n {
                let batch: Vec<Block> = (0..150).map(|_| h.alloc(size(r))).collect();
                left.drain(..).for_each(|block| h.free(block));
                for block in batch {
                    if r.happens(0.1) { left.push(block) } else { h.free(block) }
                }
                h.end_interval();
            }
        },
    },
    Program {
        name: "queue that is drained",
        label: Shrinking,
        also: &[Plateau],
        run: |h, r, n| {
            let mut held: VecDeque<Block> = (0..30 * n).map(|_| h.alloc(1000)).collect();
            for _ in 0..n {
                interval(h, r, 25.0, |h, _| {
                    if let Some(block) = held.pop_front() {
                        h.free(block);
                    }
                });
            }
        },
    },
    Program {
        name: "pool with a high-water mark",
        label: Plateau,
        also: &[Undecided],
        run: |h, r, n| {
            let mut pool = 0;
            for _ in 0..n {
                let wanted = 20 + (6.0 * r.normal().abs()) as usize;
                for _ in pool..wanted {
                    h.alloc(4096);
                }
                pool = pool.max(wanted);
                h.end_interval();
            }
        },
    },
    Program {
        name: "configuration that is loaded anew",
        label: Plateau,
        also: &[Sawtooth, Undecided],
        run: |h, r, n| {
            let mut held: Vec<Block> = Vec::new();
            let period = r.between(3, (n / 3).max(3));
            for at in 0..n {
                if at % period == 0 {
                    let fresh = (0..r.between(280, 320)).map(|_| h.alloc(200)).collect();
                    std::mem::replace(&mut held, fresh).into_iter().for_each(|block| h.free(block));
                }
                interval(h, r, 10.0, request);
            }
        },
    },
    Program {
        name: "log buffers that rotate",
        label: Sawtooth,
        also: &[Plateau, Undecided],
        run: |h, r, n| {
            let mut current: Vec<Block> = Vec::new();
            let mut last: Vec<Block> = Vec::new();
            for _ in 0..n {
                interval(h, r, 30.0, |h, _| current.push(h.alloc(512)));
                if current.len() > 200 {
                    last.drain(..).for_each(|block| h.free(block));
                    std::mem::swap(&mut current, &mut last);
                }
            }
        },
    },
    Program {
        name: "level cache beside a leak of another stack",
        label: Plateau,
        also: &[Undecided],
        run: |h, r, n| {
            let mut held: VecDeque<Block> = (0..200).map(|_| h.alloc(1000)).collect();
            for _ in 0..n {
                interval(h, r, CALLS as f64, |h, r| {
                    h.alloc_at(StackId(2), size(r));
                    if let Some(block) = held.pop_front() {
                        h.free(block);
                    }
                    held.push_back(h.alloc(1000));
                });
            }
        },
    },
    Program {
        name: "level cache whose allocations are lost at times",
        label: Plateau,
        also: &[Undecided, Sawtooth],
        run: |h, r, n| {
            let mut held: VecDeque<Block> = VecDeque::new();
            for at in 0..n {
                if at % 6 == 4 {
                    h.lose_allocations();
                }
                interval(h, r, CALLS as f64, |h, r| {
                    if held.len() >= 80
                        && let Some(block) = held.pop_front()
                    {
                        h.free(block);
                    }
                    held.push_back(h.alloc(size(r)));
                });
            }
        },
    },
];
