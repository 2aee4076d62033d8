//! Go programs that call C, which may call Go again: stacks go on from one stack to the other, to where they began.

use std::path::PathBuf;

use anyhow::{Context, Result};
use memtrace_tests::{Finished, Memtrace, Report, Stack, Target, fixture, go};

/// How Go programs are built: loaded where they were linked or anywhere, with symbols or without.
const BUILDS: [(&str, &[&str]); 4] = [
    ("cgo_calls", &[]),
    ("cgo_calls_stripped", &["-ldflags=-s -w"]),
    ("cgo_calls_pie", &["-buildmode=pie"]),
    ("cgo_calls_pie_stripped", &["-buildmode=pie", "-ldflags=-s -w"]),
];

fn build(name: &str) -> Result<PathBuf> {
    let (_, flags) = BUILDS.iter().find(|(other, _)| *other == name).context("a build of this name")?;
    go::build("cgo_calls", name, flags, true)
}

/// Gives the program orders while it is traced, each walk taken anew and compared with what is remembered.
fn trace(name: &str, orders: &[&str]) -> Result<Finished> {
    let mut target = Target::start_file(&build(name)?, &[])?;
    let memtrace = Memtrace::attach(target.pid(), &["--verify-stacks"])?;
    for order in orders {
        target.tell(order)?;
        target.hear()?;
    }
    let finished = memtrace.interrupt()?;
    target.exit()?;
    Ok(finished)
}

fn report(name: &str, orders: &[&str]) -> Result<Report> {
    let report = trace(name, orders)?.final_report()?;
    assert_eq!(report.tracer.stacks_wrong, 0, "{name}");
    assert!(report.losses().is_empty(), "{name}: {:?}", report.loss);
    assert!(report.tracer.stacks_short.is_empty(), "{name}: {:?}", report.tracer);
    Ok(report)
}

/// The line of the fixture that has this text, behind the line that has the other one.
fn line(behind: &str, text: &str) -> Result<u32> {
    let source = std::fs::read_to_string(fixture::sources().join("cgo_calls/main.go"))?;
    let lines = || source.lines().enumerate();
    let begin = lines().find(|(_, line)| line.contains(behind)).context("the first line is there")?.0;
    let found = lines().skip(begin + 1).find(|(_, line)| line.contains(text)).context("the second line is there")?;
    Ok(found.0 as u32 + 1)
}

/// Function, file and line of the frames that are the program's own code in Go, the innermost first.
fn own(stack: &Stack) -> Vec<(String, u32)> {
    let is_own = |name: &str| name.starts_with("main.") && !name.contains("._C") && !name.contains("._cgo");
    let frames = stack.frames.iter().filter(|frame| frame.function.as_deref().is_some_and(is_own));
    frames
        .map(|frame| {
            assert_eq!(frame.language, "go", "{frame:?}");
            assert!(frame.file.as_deref().is_some_and(|file| file.ends_with("cgo_calls/main.go")), "{frame:?}");
            (frame.function.clone().unwrap_or_default(), frame.line.unwrap_or(0))
        })
        .collect()
}

/// The functions of a stack that has everything up to where the goroutine or thread began.
fn functions(stack: &Stack) -> Vec<&str> {
    assert_eq!(stack.truncated, None, "{stack:#?}");
    stack.real_frames().map(|frame| frame.function.as_deref().unwrap_or("?")).collect()
}

/// The stacks that have this function of the program.
fn with<'a>(report: &'a Report, function: &'a str) -> Vec<&'a Stack> {
    report.stacks.iter().filter(|stack| own(stack).iter().any(|(name, _)| name == function)).collect()
}

#[test]
fn goroutines_that_call_c_by_turns_have_each_its_own_callers_however_the_program_was_built() -> Result<()> {
    const TURNS: u64 = 300;
    for (name, _) in BUILDS {
        let report = report(name, &[&format!("turns {TURNS}")])?;
        for (caller, starter) in [("main.one", "main.turns.func1"), ("main.other", "main.turns.func2")] {
            let stacks = with(&report, caller);
            assert_eq!(stacks.len(), 1, "{name}: {stacks:#?}");
            assert_eq!((stacks[0].allocations, stacks[0].outstanding_bytes), (TURNS, TURNS * 1000), "{name}");
            let function = caller.trim_start_matches("main.");
            let call = line(&format!("func {function}()"), "C.keep_in_c")?;
            let go = line("go func() {", &format!("{function}()"))?;
            let expected = [(caller.to_owned(), call), (starter.to_owned(), go)];
            assert_eq!(own(stacks[0]), expected, "{name}: {:#?}", stacks[0]);
            let all = functions(stacks[0]);
            assert_eq!(all.last(), Some(&"runtime.goexit"), "{name}: {all:?}");
            // C's functions come first; in a stripped program they may be without names.
            let call = all.iter().position(|&function| function == "runtime.asmcgocall").context("Go calls C")?;
            assert!((1..=2).contains(&call) && all[call..].contains(&"runtime.cgocall"), "{name}: {all:?}");
        }
        // The two call with the same stack pointer in C, from the same place of C.
        assert!(report.tracer.stacks_remembered > TURNS, "{name}: {:?}", report.tracer);
    }
    Ok(())
}

#[test]
fn the_headline_names_the_function_in_go_that_asks_c_for_memory() -> Result<()> {
    for (name, _) in BUILDS {
        let report = report(name, &["malloc 100"])?;
        let stacks = with(&report, "main.straight");
        assert_eq!(stacks.len(), 1, "{name}: {stacks:#?}");
        let users: Vec<_> = stacks[0].frames.iter().filter(|frame| frame.user).collect();
        let first = users.first().context("a frame of the user's")?;
        assert_eq!(first.function.as_deref(), Some("main.straight"), "{name}: {:#?}", stacks[0]);
        assert_eq!(first.line, Some(line("func straight()", "C.malloc")?), "{name}");
    }
    Ok(())
}

#[test]
fn stacks_through_c_and_go_in_turns_are_whole_also_when_goroutines_move_meanwhile() -> Result<()> {
    for (name, _) in BUILDS {
        let report = report(name, &["callback 20", "grow 20"])?;
        let stacks = with(&report, "main.inGo");
        assert_eq!(stacks.len(), 1, "{name}: {stacks:#?}");
        assert_eq!(stacks[0].allocations, 40, "{name}");
        let named = own(stacks[0]);
        let names: Vec<_> = named.iter().map(|(name, _)| name.as_str()).collect();
        let (called, again) = ("main.calledFromC", "main.again");
        let expected =
            ["main.inGo", called, again, called, again, called, again, "main.main.func1", "main.apart.func1"];
        assert_eq!(names, expected, "{name}");
        let all = functions(stacks[0]);
        assert_eq!(all.last(), Some(&"runtime.goexit"), "{name}: {all:?}");
        let count = |function: &str| all.iter().filter(|&&other| other == function).count();
        assert_eq!(
            (count("runtime.asmcgocall"), count("runtime.cgocallback"), count("crosscall2")),
            (4, 3, 3),
            "{all:?}"
        );
        if !name.contains("stripped") {
            assert_eq!(count("through_c"), 3, "{name}: {all:?}");
        }
    }
    Ok(())
}

#[test]
fn a_thread_of_c_that_calls_go_is_walked_to_where_it_began() -> Result<()> {
    for (name, _) in BUILDS {
        let report = report(name, &["thread 10"])?;
        let stacks = with(&report, "main.inGo");
        assert_eq!(stacks.len(), 1, "{name}: {stacks:#?}");
        assert_eq!(stacks[0].allocations, 10, "{name}");
        let all = functions(stacks[0]);
        assert!(all.contains(&"main.again") && all.contains(&"start_thread"), "{name}: {all:?}");
        if !name.contains("stripped") {
            let behind = all.iter().rposition(|&function| function == "crosscall2").context("C called Go")?;
            assert_eq!(all[behind + 2..behind + 5], ["through_c", "thread_of_c", "start_thread"], "{name}: {all:?}");
        }
    }
    Ok(())
}
