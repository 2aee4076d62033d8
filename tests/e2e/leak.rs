//! The main job: of a service that leaks in one place, fills a cache in another and churns in a third, the leak is named.

use anyhow::Result;
use memtrace_tests::{Build, Memtrace, Report, Target};
use rustix::process::Signal;

/// Long enough for a verdict from one report a second.
const LONG: &str = "20s";

/// A service whose cache is full after about a second.
fn service(leak_bytes: &str) -> Result<Target> {
    let mut service = Target::start(&Build::c("leaky_service.c"), &[leak_bytes, "1000", "700", "2000"])?;
    service.tell("go")?;
    Ok(service)
}

fn attach(target: &Target, more: &[&str]) -> Result<Memtrace> {
    Memtrace::attach(target.pid(), more)
}

/// Lets a few intervals pass, and checks that none of their reports is final.
fn watch(memtrace: &mut Memtrace, intervals: usize) -> Result<()> {
    for _ in 0..intervals {
        assert!(!memtrace.next_report()?.is_final);
    }
    Ok(())
}

fn shows_the_leak(report: &Report) -> bool {
    report.stacks_of("leak_here").any(|stack| stack.outstanding_blocks > 100)
}

#[test]
fn the_leak_is_ranked_first_and_growing_and_the_cache_is_not() -> Result<()> {
    let service = service("100")?;
    let report = attach(&service, &["--duration", LONG])?.finish()?.final_report()?;
    let first = report.stacks.first().map(|stack| (stack.caller(), stack.verdict.as_str()));
    assert_eq!(first, Some(("leak_here", "growing")));
    assert!(!report.grows("cache_fill") && !report.grows("churn"), "{:#?}", report.stacks);
    let leak = &report.stacks[0];
    // 100 bytes a tick of at least a millisecond, on a busy machine at most some times slower.
    assert!((20e6..400e6).contains(&leak.growth_bytes_per_hour), "{leak:?}");
    assert_eq!(leak.frames[0].file.as_deref().and_then(|file| file.rsplit('/').next()), Some("leaky_service.c"));
    assert!(leak.frames[0].line.is_some());
    assert!(leak.mentions("serve_request") && leak.mentions("main"), "whole with frame pointers: {leak:?}");
    service.exit()
}

#[test]
fn the_json_report_keeps_the_contract() -> Result<()> {
    let service = service("100")?;
    let finished = attach(&service, &["--duration", "5s"])?.finish()?;
    let reports = finished.reports()?;
    assert!(reports.len() >= 4, "one report a second: {}", reports.len());
    for pair in reports.windows(2) {
        assert!(pair[0].elapsed_ms <= pair[1].elapsed_ms && pair[0].at <= pair[1].at);
    }
    let report = finished.final_report()?;
    assert_eq!(report.schema, "memtrace/1");
    assert!((4_000..8_000).contains(&report.elapsed_ms), "{}", report.elapsed_ms);
    assert!(report.loss.contains_key("allocations_dropped"));
    assert!(report.loss.contains_key("releases_deferred"));
    assert!(report.loss.contains_key("releases_dropped"));
    let process = report.process(service.pid())?;
    assert!(process.command.contains("leaky_service") && !process.exited && process.rss_bytes > 0);
    let totals = process.totals;
    assert_eq!(totals.allocations - totals.frees, totals.outstanding_blocks);
    assert_eq!(totals.allocated_bytes - totals.freed_bytes, totals.outstanding_bytes);
    for stack in &report.stacks {
        assert!(u64::from_str_radix(stack.id.trim_start_matches("0x"), 16).is_ok(), "{}", stack.id);
        assert_eq!(stack.pid, service.pid());
        assert!(["heap", "map"].contains(&stack.kind.as_str()) && (0.0..=1.0).contains(&stack.confidence));
        assert!(!stack.frames.is_empty() && stack.frames.iter().all(|frame| frame.address.starts_with("0x")));
        assert_eq!(stack.age_ms.is_some(), stack.outstanding_blocks > 0, "{stack:?}");
        assert!(stack.series.windows(2).all(|pair| pair[0].0 < pair[1].0), "{:?}", stack.series);
    }
    service.exit()
}

#[test]
fn the_text_report_names_the_leak_before_the_cache() -> Result<()> {
    let service = service("100")?;
    let pid = service.pid().to_string();
    let finished = Memtrace::start(&["--pid", &pid, "--interval", "1s", "--duration", LONG])?.finish()?;
    assert_eq!(finished.code(), Some(0), "{:?}", finished.errors);
    let text = finished.output.join("\n");
    let leak = text.rfind("leak_here");
    assert!(leak.is_some() && text.contains("growing"), "{text}");
    let last_report = text.rfind("cache_fill").map_or(text.as_str(), |cache| &text[..cache]);
    assert!(last_report.contains("leak_here"), "{text}");
    assert!(!text.contains('\u{1b}'), "no escape sequences in a pipe: {text:?}");
    service.exit()
}

#[test]
fn only_a_leak_makes_fail_on_leak_exit_with_3() -> Result<()> {
    let leaking = service("100")?;
    let finished = attach(&leaking, &["--duration", LONG, "--fail-on-leak"])?.finish()?;
    assert_eq!(finished.code(), Some(3), "{:?}", finished.errors);
    assert!(finished.final_report()?.grows("leak_here"));
    leaking.exit()?;

    let sound = service("0")?;
    let finished = attach(&sound, &["--duration", LONG, "--fail-on-leak"])?.finish()?;
    assert_eq!(finished.code(), Some(0), "{:?} {:?}", finished.errors, finished.output.last());
    sound.exit()?;

    let mut churn = Target::start(&Build::c("churn.c"), &["1", "500", "1000", "1000"])?;
    let memtrace = attach(&churn, &["--duration", "10s", "--fail-on-leak"])?;
    churn.tell("go")?;
    assert_eq!(memtrace.finish()?.code(), Some(0));
    Ok(())
}

#[test]
fn interrupt_and_terminate_give_a_final_report() -> Result<()> {
    for signal in [Signal::INT, Signal::TERM] {
        let service = service("100")?;
        let mut memtrace = attach(&service, &[])?;
        watch(&mut memtrace, 2)?;
        memtrace.signal(signal)?;
        let finished = memtrace.finish()?;
        assert_eq!(finished.code(), Some(0), "{signal:?}");
        assert!(shows_the_leak(&finished.final_report()?), "{signal:?}");
        service.exit()?;
    }
    Ok(())
}

#[test]
fn the_end_of_the_target_gives_a_final_report_with_names() -> Result<()> {
    let service = service("100")?;
    let pid = service.pid();
    let mut memtrace = attach(&service, &[])?;
    watch(&mut memtrace, 2)?;
    service.exit()?;
    let finished = memtrace.finish()?;
    assert_eq!(finished.code(), Some(0));
    let report = finished.final_report()?;
    assert!(report.process(pid)?.exited);
    assert!(shows_the_leak(&report), "{:#?}", report.stacks);
    Ok(())
}

#[test]
fn a_killed_target_gives_a_final_report_with_names() -> Result<()> {
    let service = service("100")?;
    let mut memtrace = attach(&service, &[])?;
    watch(&mut memtrace, 2)?;
    service.signal(Signal::KILL)?;
    drop(service);
    assert!(shows_the_leak(&memtrace.finish()?.final_report()?));
    Ok(())
}

#[test]
fn the_report_goes_to_the_output_file_and_nothing_else_does() -> Result<()> {
    let service = service("100")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("report.json");
    let path = file.to_string_lossy().into_owned();
    let finished = attach(&service, &["--duration", "3s", "--output", &path])?.finish()?;
    assert_eq!((finished.code(), finished.output.len()), (Some(0), 0), "{:?}", finished.output);
    let written = std::fs::read_to_string(&file)?;
    let last = written.lines().last().map(Report::parse).transpose()?;
    assert!(last.is_some_and(|report| report.is_final && shows_the_leak(&report)));
    service.exit()
}

#[test]
fn two_targets_are_kept_apart() -> Result<()> {
    let (leaking, sound) = (service("100")?, service("0")?);
    let other = sound.pid().to_string();
    let mut memtrace = attach(&leaking, &["--pid", &other])?;
    watch(&mut memtrace, 3)?;
    let report = memtrace.interrupt()?.final_report()?;
    assert_eq!(report.processes.len(), 2);
    assert!(report.stacks_of("leak_here").all(|stack| stack.pids == [leaking.pid()]) && shows_the_leak(&report));
    // The stack that both have is one line, which names both.
    let caches: Vec<_> = report.stacks_of("cache_fill").collect();
    assert_eq!(caches.len(), 1, "{caches:#?}");
    assert!([leaking.pid(), sound.pid()].iter().all(|pid| caches[0].pids.contains(pid)), "{caches:#?}");
    leaking.exit()?;
    sound.exit()
}

#[test]
fn leaks_of_cpp_and_rust_are_named_without_mangling() -> Result<()> {
    let cases = [
        (Build::cpp("cpp_leak.cpp"), "registry::Store<registry::Session>"),
        (Build::rust("rust_leak.rs"), "cache::leak_by_name"),
    ];
    for (build, name) in cases {
        let mut target = Target::start(&build, &[])?;
        let memtrace = attach(&target, &["--duration", LONG])?;
        target.tell("go")?;
        let report = memtrace.finish()?.final_report()?;
        let named = report.stacks.iter().any(|stack| stack.verdict == "growing" && stack.mentions(name));
        assert!(named, "{name} in {:#?}", report.stacks);
        target.exit()?;
    }
    Ok(())
}
