//! Stacks that lead through code without call frame information, and stacks that coroutines have made for themselves: all
//! of them are whole.

use anyhow::{Context, Result, ensure};
use memtrace_tests::{Build, Memtrace, Report, Target, report::Totals};

/// How many blocks a fixture makes of each kind.
const TIMES: u64 = 1000;

/// The functions of a stack by name, the caller of the allocator first.
fn functions(stack: &memtrace_tests::Stack) -> Vec<&str> {
    stack.real_frames().map(|frame| frame.function.as_deref().unwrap_or("?")).collect()
}

/// Traces a fixture from its `go` to what it says then.
fn traced(build: &Build) -> Result<(String, Report)> {
    let mut target = Target::start(build, &[&TIMES.to_string()])?;
    let memtrace = Memtrace::attach(target.pid(), &["--verify-stacks"])?;
    target.tell("go")?;
    let said = target.hear()?;
    let report = memtrace.interrupt()?.final_report()?;
    target.exit()?;
    ensure!(report.losses().is_empty(), "{:?}", report.losses());
    Ok((said, report))
}

/// All stacks are whole, and those of `caller` hold a thousand blocks, below `main` if it is not a coroutine's.
fn assert_whole(report: &Report, caller: &str, within: &[&str]) -> Result<()> {
    assert_eq!(report.tracer.stacks_short.values().sum::<u64>(), 0, "{:?}: {:#?}", report.tracer, report.stacks);
    assert_eq!(report.tracer.stacks_wrong, 0, "{:?}", report.tracer);
    let stacks: Vec<_> = report.stacks.iter().filter(|stack| functions(stack).contains(&caller)).collect();
    let stack = stacks.first().with_context(|| format!("no stack of {caller} in {:#?}", report.stacks))?;
    assert_eq!(stacks.len(), 1, "{stacks:#?}");
    assert_eq!((stack.allocations, stack.outstanding_blocks), (TIMES, TIMES), "{stack:#?}");
    let found = functions(stack);
    let mut rest = found.iter();
    assert!(within.iter().all(|wanted| rest.any(|function| function == wanted)), "{within:?} in {found:?}");
    Ok(())
}

#[test]
fn blocks_that_musl_allocates_for_its_callers_have_whole_stacks_up_to_main() -> Result<()> {
    let plain = Build::musl("libc_callers.c");
    for build in [plain.clone(), plain.clone().without_frame_pointers(), plain.without_frame_pointers().flag("-static")]
    {
        let (said, report) = traced(&build)?;
        let count: Totals = serde_json::from_str(&said)?;
        let process = report.processes.first().context("a process")?;
        assert_eq!(process.totals, count, "{build:?}");
        assert_whole(&report, "load_config", &["load_config", "main"])?;
        assert_whole(&report, "log_line", &["log_line", "main"])?;
        assert_eq!(report.tracer.stacks_complete, count.allocations, "{build:?}");
    }
    Ok(())
}

#[test]
fn stacks_of_coroutines_end_where_the_coroutines_begin() -> Result<()> {
    for build in [Build::c("coroutines.c"), Build::c("coroutines.c").without_frame_pointers()] {
        let (_, report) = traced(&build)?;
        assert_whole(&report, "work_in_context", &["keep_block", "work_in_context", "begin_context"])?;
        assert_whole(&report, "work_by_hand", &["keep_block", "work_by_hand", "begin_by_hand"])?;
        assert_eq!(report.tracer.stacks_complete, 2 * TIMES);
    }
    Ok(())
}

#[test]
fn stacks_of_boosts_fibers_end_where_the_fibers_begin() -> Result<()> {
    let build = Build::cpp("fibers.cpp").without_frame_pointers().flag("-Wl,--no-as-needed").flag("-lboost_context");
    let (_, report) = traced(&build)?;
    assert_whole(&report, "work_in_fiber", &["keep_block", "work_in_fiber"])?;
    assert_eq!(report.tracer.stacks_complete, TIMES);
    Ok(())
}
