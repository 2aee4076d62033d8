//! Coroutines on stacks of their own, which allocate, switch, panic and are dropped half way.

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use corosensei::{Coroutine, CoroutineResult};

fn mix(hash: u64, value: u64) -> u64 {
    let mixed = (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

fn work(seed: u64) -> u64 {
    let mut all: Vec<_> = (0..20)
        .map(|number| {
            Coroutine::new(move |yielder, mut hash: u64| {
                let mut names = BTreeMap::new();
                for step in 0..10 {
                    names.insert(mix(hash, step) % 1000, "x".repeat((number * 7 + step as usize) % 300));
                    hash = yielder.suspend(names.values().map(String::len).sum::<usize>() as u64);
                }
                assert!(number % 7 != 3, "one of them panics");
                hash
            })
        })
        .collect();
    let mut hash = seed;
    for turn in 0..11 {
        for (number, coroutine) in all.iter_mut().enumerate() {
            // Every fifth is dropped half way.
            if coroutine.done() || (number % 5 == 4 && turn > 4) {
                continue;
            }
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| coroutine.resume(hash)));
            hash = mix(hash, match result {
                Ok(CoroutineResult::Yield(value) | CoroutineResult::Return(value)) => value,
                Err(_) => 77,
            });
        }
    }
    hash
}

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    println!("ready {}", std::process::id());
    let stop = std::env::var("STOP").expect("STOP names a file");
    let first = work(1);
    while !Path::new(&stop).exists() {
        assert_eq!(work(1), first);
    }
    println!("result {first:016x}");
    ExitCode::from(7)
}
