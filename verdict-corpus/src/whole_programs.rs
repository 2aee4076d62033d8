//! Programs of many stacks for the gate: what each does in an interval. Of the leaking ones nothing that leaks is ever freed;
//! the sound ones free everything within two intervals, but for what they keep from their first on.

use std::collections::VecDeque;

use memtrace_common::StackId;

use crate::{
    gate::{Held, Process, stack},
    noise::Noise,
};

/// What a program does in the interval of this number, from 1 on.
type Step = Box<dyn FnMut(&mut Process, &mut Noise, usize)>;

/// A kind of program.
pub struct Whole {
    /// What it is.
    pub name: &'static str,
    /// Whether the callers of its stacks call each other.
    pub is_recursive: bool,
    /// Starts one.
    pub start: fn(&mut Noise) -> Step,
}

/// Runs `call` so many times, spread over the interval.
fn calls(process: &mut Process, random: &mut Noise, many: usize, mut call: impl FnMut(&mut Process, &mut Noise)) {
    let spread = (many as f64).sqrt() * 0.5 * random.normal();
    let many = (many as f64 + spread).round().max(1.0) as usize;
    for _ in 0..many {
        process.wait(0.9 / many as f64);
        call(process, random);
    }
}

fn size(random: &mut Noise) -> u64 {
    random.between(100, 900) as u64
}

/// One of so many stacks of a function.
fn any_of(random: &mut Noise, function: u64, many: usize) -> StackId {
    let path = random.between(0, many - 1) as u64;
    stack(function, [path & 15, path >> 4 & 15, path >> 8])
}

/// Requests of many stacks that are served and done with.
fn serve(process: &mut Process, random: &mut Noise, many: usize) {
    let mut open: VecDeque<Held> = VecDeque::new();
    calls(process, random, many, |process, random| {
        let function = 1 + random.between(0, 4) as u64;
        let stack = any_of(random, function, 40);
        let bytes = size(random);
        open.push_back(process.alloc(stack, bytes));
        if open.len() > 8
            && let Some(done) = open.pop_front()
        {
            process.free(done);
        }
    });
    open.into_iter().for_each(|held| process.free(held));
}

/// A program without a state.
fn stateless(step: fn(&mut Process, &mut Noise, usize)) -> Step {
    Box::new(step)
}

/// Those that leak.
pub const LEAKING: &[Whole] = &[
    Whole {
        name: "one stack, among requests",
        is_recursive: false,
        start: |_| {
            stateless(|process, random, _| {
                serve(process, random, 100);
                calls(process, random, 20, |process, random| {
                    let bytes = size(random);
                    process.alloc(stack(9, [1, 1, 1]), bytes);
                });
            })
        },
    },
    Whole {
        name: "three stacks of different functions",
        is_recursive: false,
        start: |_| {
            stateless(|process, random, _| {
                serve(process, random, 50);
                calls(process, random, 60, |process, random| {
                    let stack = stack(9 + random.between(0, 2) as u64, [1, 1, 1]);
                    let bytes = size(random);
                    process.alloc(stack, bytes);
                });
            })
        },
    },
    Whole {
        name: "one function over 300 callers",
        is_recursive: false,
        start: |_| {
            stateless(|process, random, _| {
                serve(process, random, 50);
                calls(process, random, 40, |process, random| {
                    let bytes = size(random);
                    process.alloc(any_of(random, 9, 300), bytes);
                });
            })
        },
    },
    Whole {
        name: "recursion over 1,024 paths",
        is_recursive: true,
        start: |_| {
            stateless(|process, random, _| {
                calls(process, random, 50, |process, random| {
                    let mut side = || random.between(1, 2) as u64;
                    let path = [side() | side() << 2, side() | side() << 2, side() | side() << 2];
                    process.alloc(stack(9, path), 48);
                });
            })
        },
    },
    Whole {
        name: "twelve instances of a template, each many callers",
        is_recursive: false,
        start: |_| {
            stateless(|process, random, _| {
                serve(process, random, 50);
                calls(process, random, 60, |process, random| {
                    let instance = 20 + random.between(0, 11) as u64;
                    let bytes = size(random);
                    process.alloc(any_of(random, instance, 20), bytes);
                });
            })
        },
    },
    Whole {
        name: "a function whose stacks change as it is compiled",
        is_recursive: false,
        start: |random| {
            let changes = [random.between(3, 12), random.between(13, 30)];
            Box::new(move |process, random, at| {
                serve(process, random, 50);
                let tier = changes.iter().filter(|&&change| at >= change).count() as u64;
                calls(process, random, 30, |process, random| {
                    let bytes = size(random);
                    process.alloc(stack(9, [1 + tier, 1, 1]), bytes);
                });
            })
        },
    },
    Whole {
        name: "a buffer that moves between callers by realloc",
        is_recursive: false,
        start: |_| {
            let mut buffer: Option<Held> = None;
            Box::new(move |process, random, _| {
                serve(process, random, 50);
                calls(process, random, 6, |process, random| {
                    let caller = stack(9, [1 + random.between(0, 3) as u64, 1, 1]);
                    buffer = Some(match buffer {
                        Some(held) => process.realloc(held, caller, held.bytes() + size(random)),
                        None => process.alloc(caller, 20_000),
                    });
                });
            })
        },
    },
    Whole {
        name: "one request in ten is kept, by many stacks",
        is_recursive: false,
        start: |_| {
            stateless(|process, random, _| {
                calls(process, random, 200, |process, random| {
                    let stack = any_of(random, 9, 60);
                    let bytes = size(random);
                    let held = process.alloc(stack, bytes);
                    if !random.happens(0.1) {
                        process.free(held);
                    }
                });
            })
        },
    },
    Whole {
        name: "leak beside tables of the start",
        is_recursive: false,
        start: |_| {
            stateless(|process, random, at| {
                if at == 1 {
                    for _ in 0..400 {
                        let stack = any_of(random, 7, 30);
                        process.alloc(stack, 1000);
                    }
                }
                serve(process, random, 50);
                calls(process, random, 25, |process, random| {
                    let bytes = size(random);
                    process.alloc(stack(9, [1, 1, 1]), bytes);
                });
            })
        },
    },
    Whole {
        name: "leak that jitters by a half",
        is_recursive: false,
        start: |_| {
            stateless(|process, random, _| {
                let many = (40.0 * (0.5 + random.uniform())) as usize;
                calls(process, random, many, |process, random| {
                    let bytes = size(random);
                    process.alloc(any_of(random, 9, 4), bytes);
                });
            })
        },
    },
];

/// Those that do not.
pub const SOUND: &[Whole] = &[
    Whole {
        name: "requests of many stacks",
        is_recursive: false,
        start: |_| stateless(|process, random, _| serve(process, random, 200)),
    },
    Whole {
        name: "requests under a load that jumps",
        is_recursive: false,
        start: |_| {
            stateless(|process, random, _| {
                let many = random.between(20, 300);
                serve(process, random, many);
            })
        },
    },
    Whole {
        name: "a recursion that frees its tree",
        is_recursive: true,
        start: |_| {
            stateless(|process, random, _| {
                let mut tree = Vec::new();
                calls(process, random, 100, |process, random| {
                    let mut side = || random.between(1, 2) as u64;
                    let path = [side() | side() << 2, side() | side() << 2, side() | side() << 2];
                    tree.push(process.alloc(stack(9, path), 48));
                });
                tree.into_iter().for_each(|held| process.free(held));
            })
        },
    },
    Whole {
        name: "tables of the start, then requests",
        is_recursive: false,
        start: |_| {
            stateless(|process, random, at| {
                if at == 1 {
                    for _ in 0..500 {
                        let stack = any_of(random, 7, 100);
                        process.alloc(stack, 1000);
                    }
                }
                serve(process, random, 100);
            })
        },
    },
    Whole {
        name: "sessions that last up to an interval and a half",
        is_recursive: false,
        start: |_| {
            let mut open: VecDeque<(f64, Held)> = VecDeque::new();
            let mut now = 0.0;
            Box::new(move |process, random, at| {
                calls(process, random, 60, |process, random| {
                    now += 0.015;
                    while open.front().is_some_and(|(end, _)| *end <= now) {
                        open.pop_front().into_iter().for_each(|(_, held)| process.free(held));
                    }
                    let stack = any_of(random, 9, 30);
                    let bytes = size(random);
                    open.push_back((now + 0.5 + random.uniform(), process.alloc(stack, bytes)));
                });
                now = at as f64;
            })
        },
    },
    Whole {
        name: "a cache that was full before, entry for entry",
        is_recursive: false,
        start: |_| {
            let mut held: VecDeque<Held> = VecDeque::new();
            Box::new(move |process, random, _| {
                // Small enough to be full within the first interval.
                calls(process, random, 80, |process, random| {
                    if held.len() == 40 {
                        held.pop_front().into_iter().for_each(|held| process.free(held));
                    }
                    let stack = any_of(random, 9, 20);
                    let bytes = size(random);
                    held.push_back(process.alloc(stack, bytes));
                });
            })
        },
    },
    Whole {
        name: "buffers that move between callers and end",
        is_recursive: false,
        start: |_| {
            stateless(|process, random, _| {
                for _ in 0..10 {
                    process.wait(0.09);
                    let mut buffer = process.alloc(stack(9, [1, 1, 1]), 1000);
                    for _ in 0..random.between(1, 8) {
                        let caller = stack(9, [1 + random.between(0, 3) as u64, 1, 1]);
                        buffer = process.realloc(buffer, caller, buffer.bytes() + size(random));
                    }
                    process.free(buffer);
                }
            })
        },
    },
    Whole {
        name: "requests whose stacks change as they are compiled",
        is_recursive: false,
        start: |random| {
            let change = random.between(3, 30);
            Box::new(move |process, random, at| {
                let tier = u64::from(at >= change);
                let mut open = Vec::new();
                calls(process, random, 60, |process, random| {
                    let bytes = size(random);
                    open.push(process.alloc(stack(9, [1 + tier, 1 + random.between(0, 9) as u64, 1]), bytes));
                });
                open.into_iter().for_each(|held| process.free(held));
            })
        },
    },
    Whole {
        name: "batches, a few of whose blocks go one batch later",
        is_recursive: false,
        start: |_| {
            let mut left: Vec<Held> = Vec::new();
            Box::new(move |process, random, _| {
                let mut batch = Vec::new();
                calls(process, random, 100, |process, random| {
                    let stack = any_of(random, 9, 50);
                    let bytes = size(random);
                    batch.push(process.alloc(stack, bytes));
                });
                left.drain(..).for_each(|held| process.free(held));
                for held in batch {
                    if random.happens(0.1) { left.push(held) } else { process.free(held) }
                }
            })
        },
    },
    Whole {
        name: "an idle program",
        is_recursive: false,
        start: |_| {
            stateless(|process, random, at| {
                if at == 1 {
                    for _ in 0..50 {
                        let stack = any_of(random, 7, 10);
                        process.alloc(stack, 300);
                    }
                }
            })
        },
    },
];
