//! The fixtures themselves, without memtrace: they build, they speak their protocol, and what they say of themselves is
//! true. No root needed.

use std::process::Command;

use anyhow::Result;
use memtrace_tests::{Build, Target};
use serde_json::Value;

/// Compares what every_call says of itself with what a preloaded witness counted.
fn check_against_shim(build: &Build) -> Result<()> {
    let shim = Build::preloaded("count_shim.c", build).compile()?;
    for (threads, seed) in [("1", "1"), ("4", "2"), ("8", "3")] {
        let mut command = Command::new(build.compile()?);
        let mut target = Target::spawn(command.args([threads, seed, "50"]).env("LD_PRELOAD", &shim))?;
        assert!(target.hear()?.starts_with("ready "));
        target.tell("go")?;
        let witnessed: Value = target.hear_json()?;
        let counted: Value = target.hear_json()?;
        assert_eq!(counted, witnessed);
        assert!(counted["allocations"].as_u64() > Some(1000));
        assert!(counted["mapped_bytes"].as_u64() > Some(0));
        target.exit()?;
    }
    Ok(())
}

#[test]
fn fixtures_count_themselves_right() -> Result<()> {
    check_against_shim(&Build::c("every_call.c"))
}

#[test]
fn fixtures_count_themselves_right_without_frame_pointers() -> Result<()> {
    check_against_shim(&Build::c("every_call.c").without_frame_pointers())
}

#[test]
fn fixtures_count_themselves_right_on_musl() -> Result<()> {
    check_against_shim(&Build::musl("every_call.c"))
}

#[test]
fn churn_holds_as_many_blocks_as_it_has_slots() -> Result<()> {
    let mut churn = Target::start(&Build::c("churn.c"), &["2", "100", "500"])?;
    churn.tell("go")?;
    let mut before = 0;
    for _ in 0..3 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let count: Value = churn.count()?;
        assert_eq!(count["outstanding_blocks"], 200);
        let allocations = count["allocations"].as_u64().unwrap_or(0);
        assert!(allocations > before, "{allocations} after {before}");
        before = allocations;
        churn.tell("resume")?;
    }
    churn.exit()
}

#[test]
fn the_service_leaks_and_fills_its_cache() -> Result<()> {
    let mut service = Target::start(&Build::c("leaky_service.c"), &["100", "100", "50", "10"])?;
    service.tell("go")?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    let count: Value = service.count()?;
    assert_eq!(count["cached_blocks"], 50);
    assert!(count["leaked_blocks"].as_u64() > Some(50));
    service.exit()
}

#[test]
fn a_target_ends_with_its_input() -> Result<()> {
    for source in ["leaky_service.c", "churn.c", "thread_exit.c"] {
        let mut target = Target::start(&Build::c(source), &[])?;
        target.close_input();
        assert!(target.ended()?.success(), "{source}");
    }
    Ok(())
}

#[test]
fn jumps_and_abandoned_calls_happen_and_do_no_harm() -> Result<()> {
    let mut target = Target::start(&Build::c("longjmp_handler.c"), &["3000"])?;
    target.tell("go")?;
    let count: Value = target.hear_json()?;
    assert!(count["jumps"].as_u64() > Some(0));
    assert_eq!(count["abandoned"], 300);
    assert_eq!(count["outstanding_blocks"], 3000);
    target.exit()
}

#[test]
fn a_program_execs_itself_and_goes_on() -> Result<()> {
    let mut target = Target::start(&Build::c("execer.c"), &[])?;
    target.tell("go")?;
    assert_eq!(target.hear()?, "kept 300");
    target.tell("exec")?;
    assert_eq!(target.hear()?, format!("ready {}", target.pid()));
    assert!(target.count_line()?.starts_with("leaked "));
    target.exit()
}

#[test]
fn the_other_fixtures_run_and_end_well() -> Result<()> {
    let mut forker = Target::start(&Build::c("forker.c"), &["3"])?;
    forker.tell("go")?;
    assert_eq!(forker.hear_json::<Value>()?["allocations"], 12);
    forker.exit()?;

    let mut threads = Target::start(&Build::c("thread_exit.c"), &[])?;
    threads.tell("go")?;
    let count: Value = threads.count()?;
    assert_eq!(count["threads"], count["leaked"]);

    for build in [Build::cpp("cpp_leak.cpp"), Build::rust("rust_leak.rs")] {
        let mut target = Target::start(&build, &[])?;
        target.tell("go")?;
        target.exit()?;
    }
    assert!(Target::start(&Build::c("exiter.c"), &["1000"])?.ended()?.success());
    Target::start(&Build::freestanding("static_pause.c"), &[])?;
    Ok(())
}

#[test]
fn this_kernel_runs_32_bit_programs() -> Result<()> {
    // What bad_input.rs needs in order to show memtrace one; a kernel without it fails here with the reason.
    Target::start(&Build::freestanding("static_pause.c").for_i386(), &[]).map(drop)
}
