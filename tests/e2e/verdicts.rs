//! Running programs whose leaks are known: what leaks is called growing, by its function, and nothing else is.

use std::{path::Path, process::Command, thread::scope};

use anyhow::{Context, Result, anyhow, ensure};
use memtrace_tests::{Build, Memtrace, Target, report::Stack};

/// How many intervals each is watched.
const INTERVALS: usize = 36;

const INTERVAL: &str = "250ms";

/// A program with what is true of it.
struct Case {
    name: &'static str,
    start: fn() -> Result<Target>,
    /// Parts of names of functions, one for each place that leaks; empty when nothing leaks.
    leaks: &'static [&'static str],
}

fn behaviour(name: &'static str) -> Result<Target> {
    Target::start(&Build::c("behaviours.c"), &[name])
}

/// A script that prints `ready PID` and waits for a line before it begins.
fn script(interpreter: &[&str], text: &str) -> Result<Target> {
    let (program, options) = interpreter.split_first().context("an interpreter")?;
    let mut target = Target::spawn(Command::new(program).args(options).arg(text))?;
    let line = target.hear()?;
    ensure!(line.starts_with("ready "), "{program} said {line:?}");
    Ok(target)
}

/// The distribution's own: one in PATH may be a script that starts another process.
fn python(body: &str) -> Result<Target> {
    let system = if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" };
    let text = format!(
        "import os, sys, time, functools\nprint('ready', os.getpid(), flush=True)\nsys.stdin.readline()\n{body}"
    );
    script(&[system, "-c"], &text)
}

fn node(body: &str) -> Result<Target> {
    let text = format!("console.log('ready', process.pid); process.stdin.once('data', () => {{ {body} }})");
    script(&["node", "-e"], &text)
}

const CASES: &[Case] = &[
    Case { name: "plain leak", start: || behaviour("plain_leak"), leaks: &["leak_block"] },
    Case {
        name: "slow leak beside a large cache",
        start: || behaviour("slow_leak_beside_a_large_cache"),
        leaks: &["leak_seldom"],
    },
    Case { name: "late leak", start: || behaviour("late_leak"), leaks: &["leak_late"] },
    Case { name: "sessions, some never closed", start: || behaviour("sessions"), leaks: &["leak_session"] },
    Case {
        name: "C++",
        start: || Target::start(&Build::cpp("cpp_leak.cpp"), &[]),
        leaks: &["registry::Store", "lambda"],
    },
    Case { name: "Rust", start: || Target::start(&Build::rust("rust_leak.rs"), &[]), leaks: &["leak_by_name"] },
    Case {
        name: "a dict of Python that grows",
        start: || {
            python(
                "kept = {}\nn = 0\nwhile True:\n    n += 1\n    kept[n] = 'x' * (2000 + n % 50)\n    time.sleep(0.002)\n",
            )
        },
        leaks: &["PyEval_EvalCode"],
    },
    Case {
        name: "node keeps buffers",
        start: || {
            // Buffers that are not kept are freed by a collection of the whole heap only, so one has to be seen.
            node(
                "require('v8').setFlagsFromString('--expose-gc'); setInterval(require('vm').runInNewContext('gc'), 2000); \
                 const kept = []; setInterval(() => kept.push(Buffer.alloc(20000)), 4)",
            )
        },
        leaks: &["(anonymous)"],
    },
    Case { name: "full cache", start: || behaviour("full_cache"), leaks: &[] },
    Case { name: "batches", start: || behaviour("batches"), leaks: &[] },
    Case { name: "pool", start: || behaviour("pool"), leaks: &[] },
    Case { name: "table that is cleared", start: || behaviour("cleared_table"), leaks: &[] },
    Case { name: "queue", start: || behaviour("queue"), leaks: &[] },
    Case { name: "requests", start: || behaviour("only_requests"), leaks: &[] },
    Case { name: "table that is filled once", start: || behaviour("filled_once"), leaks: &[] },
    Case {
        name: "an lru_cache of Python",
        start: || {
            python(
                "@functools.lru_cache(maxsize=300)\ndef page(n):\n    return 'x' * (2000 + n % 50)\n\
                 n = 0\nwhile True:\n    n += 1\n    page(n)\n    time.sleep(0.002)\n",
            )
        },
        leaks: &[],
    },
    Case {
        name: "a table of sqlite that is trimmed",
        start: || {
            let mut sqlite = Target::spawn(Command::new("sqlite3").args(["-batch", ":memory:"]))?;
            sqlite.tell("create table t(id integer primary key, text); select 'made';")?;
            ensure!(sqlite.hear()? == "made", "sqlite3 made no table");
            Ok(sqlite)
        },
        leaks: &[],
    },
];

fn check(case: &Case) -> Result<()> {
    let mut target = (case.start)()?;
    let pid = target.pid().to_string();
    let options = ["--pid", &pid, "--format", "json", "--interval", INTERVAL, "--top", "100000"];
    let mut memtrace = Memtrace::start(&options)?;
    memtrace.attached()?;
    let is_sqlite = case.name.contains("sqlite");
    if !is_sqlite {
        target.tell("go")?;
    }
    for _ in 0..INTERVALS {
        if is_sqlite {
            target.tell("insert into t(text) values (hex(randomblob(500)));")?;
            target.tell("delete from t where id < (select max(id) from t) - 5;")?;
        }
        memtrace.next_report()?;
    }
    let report = memtrace.interrupt()?.final_report()?;
    let growing: Vec<_> = report.stacks.iter().filter(|stack| stack.verdict == "growing").collect();
    let top: Vec<_> = report.stacks.iter().take(3).collect();
    for leak in case.leaks {
        // V8 compiles functions anew while they run, and each time their blocks get another stack: together they grow.
        let together = report.groups.iter().any(|group| group.verdict == "growing" && group.name.contains(leak));
        let is_told = together || growing.iter().any(|stack| stack.mentions(leak));
        ensure!(is_told, "{leak} is not growing: {:?} {top:#?}", report.groups);
    }
    // Objects of JavaScript that stand for the Buffers are kept with them, and so its heap grows.
    let goes_with = |stack: &Stack| case.name.starts_with("node") && stack.mentions("v8::internal::MemoryAllocator");
    let known = |stack: &&&Stack| !goes_with(stack) && !case.leaks.iter().any(|leak| stack.mentions(leak));
    let others: Vec<_> = growing.iter().filter(known).collect();
    ensure!(others.is_empty(), "growing, but no leak: {others:#?}");
    Ok(())
}

#[test]
fn what_leaks_is_growing_and_nothing_else_is() {
    // Side by side, but not so many that they would starve each other.
    const AT_ONCE: usize = 6;
    let mut failures = Vec::new();
    for group in CASES.chunks(AT_ONCE) {
        scope(|threads| {
            let running: Vec<_> = group.iter().map(|case| (case.name, threads.spawn(|| check(case)))).collect();
            for (name, thread) in running {
                let result = thread.join().unwrap_or_else(|_| Err(anyhow!("panicked")));
                failures.extend(result.err().map(|error| format!("{name}: {error:#}")));
            }
        });
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), CASES.len(), failures.join("\n"));
}
