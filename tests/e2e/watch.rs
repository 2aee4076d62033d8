//! Memory as a whole: the memory footprint of a run's report, and `memtrace watch`, which places no probe.

use std::process::Command;

use anyhow::{Context, Result};
use memtrace_tests::{
    Build, Memtrace, Report, Target, cgroup::LimitedCgroup, code::changed_libc_bytes, memtrace, wait,
};
use serde_json::Value;

/// Short enough for a test: a rate of the last four seconds.
const FAST: &[&str] = &["--interval", "200ms", "--window", "4s", "--format", "json"];

/// A service with a cache of 2 MB that leaks so many bytes every so many microseconds.
fn service(leak_bytes: &str, tick_us: &str) -> Result<Target> {
    let mut service = Target::start(&Build::c("leaky_service.c"), &[leak_bytes, tick_us])?;
    service.tell("go")?;
    Ok(service)
}

fn watch(target: &Target, more: &[&str]) -> Result<Memtrace> {
    let pid = target.pid().to_string();
    Memtrace::start(&[&["watch", "--pid", &pid], FAST, more].concat())
}

/// The next line of this event; those before it are kept in `seen`.
fn until(memtrace: &mut Memtrace, event: &str, seen: &mut Vec<Value>) -> Result<Value> {
    loop {
        let line: Value = serde_json::from_str(&memtrace.next_line()?)?;
        seen.push(line.clone());
        if line["event"] == event {
            return Ok(line);
        }
    }
}

fn events<'a>(lines: &'a [Value], event: &'a str) -> impl Iterator<Item = &'a Value> {
    lines.iter().filter(move |line| line["event"] == event)
}

fn all_lines(output: &[String]) -> Result<Vec<Value>> {
    output.iter().map(|line| serde_json::from_str(line).with_context(|| format!("reading {line}"))).collect()
}

#[test]
fn a_leak_alerts_and_the_trace_that_follows_names_the_function() -> Result<()> {
    let service = service("4000", "1000")?;
    let pid = service.pid();
    let more = ["--alert-growth", "100MB/h", "--escalate=4s", "--fail-on-alert"];
    let mut memtrace = watch(&service, &more)?;
    let mut seen = Vec::new();
    let first = until(&mut memtrace, "sample", &mut seen)?;
    assert_eq!((&first["schema"], &first["processes"][0]["pid"]), (&"memtrace-watch/1".into(), &pid.into()));
    assert!(changed_libc_bytes(pid)?.is_empty(), "watching places no probe");

    let alert = until(&mut memtrace, "alert", &mut seen)?;
    assert_eq!((&alert["alert"]["cause"], &alert["alert"]["pid"]), (&"growth".into(), &pid.into()));
    assert!(alert["alert"]["growth"]["low_bytes_per_hour"].as_f64().is_some_and(|low| low > 100e6), "{alert}");

    let trace = until(&mut memtrace, "trace", &mut seen)?;
    let report = Report::parse(&trace["trace"].to_string())?;
    assert!(report.is_final && report.grows("leak_here"), "{trace:#}");

    // It lets go of the target and goes on watching; the alert that is still on sets off no other trace.
    wait::until("the probes' end", || Ok(changed_libc_bytes(pid)?.is_empty().then_some(())))?;
    for _ in 0..10 {
        until(&mut memtrace, "sample", &mut seen)?;
    }
    let finished = memtrace.interrupt()?;
    assert_eq!(finished.code(), Some(3), "--fail-on-alert");
    let lines = all_lines(&finished.output)?;
    assert_eq!((events(&lines, "alert").count(), events(&lines, "trace").count()), (1, 1));
    let last = lines.last().context("an end")?;
    assert_eq!((&last["event"], &last["final"], &last["alerts"]), (&"end".into(), &true.into(), &1.into()));
    assert!(lines.iter().filter(|line| line["final"] == true).count() == 1);
    service.exit()
}

#[test]
fn a_level_program_does_not_alert() -> Result<()> {
    let mut service = service("0", "1000")?;
    wait::until("a full cache", || {
        let count: Value = service.count()?;
        Ok((count["ticks"].as_u64() > Some(3000)).then_some(()))
    })?;
    let memtrace = watch(&service, &["--alert-growth", "100MB/h", "--fail-on-alert", "--duration", "10s"])?;
    let finished = memtrace.finish()?;
    assert_eq!(finished.code(), Some(0), "{:?}", finished.errors);
    let lines = all_lines(&finished.output)?;
    assert_eq!(events(&lines, "alert").count(), 0);
    assert!(events(&lines, "sample").any(|line| line["processes"][0]["memory"]["growth"].is_object()));
    service.exit()
}

#[test]
fn watching_takes_no_capability_and_places_no_probe() -> Result<()> {
    let service = service("4000", "1000")?;
    let pid = service.pid().to_string();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(memtrace::program()?);
    command.args(["watch", "--pid", &pid]).args(FAST).args(["--alert-growth", "100MB/h", "--escalate=1s"]);
    let mut memtrace = Memtrace::spawn(&mut command)?;
    let mut seen = Vec::new();
    until(&mut memtrace, "alert", &mut seen)?;
    // The trace cannot be; the watch goes on all the same.
    for _ in 0..5 {
        until(&mut memtrace, "sample", &mut seen)?;
        assert!(changed_libc_bytes(service.pid())?.is_empty());
    }
    let finished = memtrace.interrupt()?;
    assert_eq!(finished.code(), Some(0));
    assert!(finished.errors.iter().any(|line| line.contains("cannot trace after the alert")), "{:?}", finished.errors);
    service.exit()
}

#[test]
fn the_end_of_the_last_process_ends_the_watch() -> Result<()> {
    let service = service("0", "1000")?;
    let mut memtrace = watch(&service, &[])?;
    until(&mut memtrace, "sample", &mut Vec::new())?;
    service.exit()?;
    let finished = memtrace.finish()?;
    assert_eq!(finished.code(), Some(0));
    let lines = all_lines(&finished.output)?;
    let last = lines.last().context("an end")?;
    assert_eq!((&last["event"], &last["processes"][0]["exited"]), (&"end".into(), &true.into()));
    assert_eq!(last["processes"][0]["memory"]["killed_for_memory"], false);
    Ok(())
}

#[test]
fn an_oom_kill_is_told_by_trace_and_watch_and_the_time_left_was_about_right() -> Result<()> {
    let group = LimitedCgroup::new(64 << 20)?;
    let mut service = group.start(&Build::c("leaky_service.c"), &["4000", "1000"])?;
    let pid = service.pid();
    let tracing = Memtrace::attach(pid, &[])?;
    service.tell("go")?;
    let watching = watch(&service, &[])?;
    assert!(!service.ended()?.success());
    let (traced, watched) = (tracing.finish()?, watching.finish()?);

    let report = traced.final_report()?;
    let memory = &report.process(pid)?.memory;
    assert_eq!((&memory["killed_for_memory"], &memory["oom_kills"]), (&true.into(), &1.into()), "{memory:#}");
    assert!(memory["since_attach"]["explained"].as_f64().is_some_and(|share| share > 0.8), "{memory:#}");
    assert_eq!((&memory["limit"]["of"], &memory["limit"]["limit_bytes"]), (&"cgroup".into(), &(64 << 20).into()));
    assert!(traced.errors.iter().any(|line| line.contains("OOM kill")), "{:?}", traced.errors);

    let lines = all_lines(&watched.output)?;
    let killed = events(&lines, "oom").next().context("an OOM line")?;
    assert_eq!((&killed["oom"]["pid"], &killed["oom"]["target_killed"]), (&pid.into(), &true.into()));
    let killed_ms = killed["elapsed_ms"].as_f64().context("a time")?;
    // What was foretold, against what came, from when the cgroup was a third full until it was two thirds full.
    let mut ratios: Vec<f64> = events(&lines, "sample")
        .filter_map(|line| {
            let limit = &line["processes"][0]["memory"]["limit"];
            let used = limit["used_bytes"].as_f64()? / limit["limit_bytes"].as_f64()?;
            let about = limit["left"]["about_ms"].as_f64().filter(|_| (0.33..0.67).contains(&used))?;
            Some(about / (killed_ms - line["elapsed_ms"].as_f64()?))
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let middle = *ratios.get(ratios.len() / 2).context("times left were told")?;
    assert!((0.33..3.0).contains(&middle), "{ratios:?}");
    Ok(())
}

#[test]
fn a_cgroup_is_watched_with_its_processes_until_it_is_gone() -> Result<()> {
    let group = LimitedCgroup::new(512 << 20)?;
    let mut service = group.start(&Build::c("leaky_service.c"), &["4000", "1000"])?;
    let idle = group.start(&Build::c("leaky_service.c"), &["0"])?;
    let directory = group.directory().to_str().context("a plain path")?.to_owned();
    let more = ["--alert-size", "20MB", "--escalate=2s"];
    let mut memtrace = Memtrace::start(&[&["watch", "--cgroup", &directory], FAST, &more].concat())?;
    let mut seen = Vec::new();
    let first = until(&mut memtrace, "sample", &mut seen)?;
    assert_eq!((&first["cgroup"]["process_count"], first["processes"].as_array().map(Vec::len)), (&2.into(), Some(0)));
    service.tell("go")?;
    let alert = until(&mut memtrace, "alert", &mut seen)?;
    assert_eq!((&alert["alert"]["cause"], &alert["alert"]["pid"]), (&"size".into(), &Value::Null));
    let trace = until(&mut memtrace, "trace", &mut seen)?;
    let report = Report::parse(&trace["trace"].to_string())?;
    assert!(report.stacks_of("leak_here").next().is_some(), "{trace:#}");
    assert_eq!(report.processes.len(), 2, "both were traced");
    let sample = until(&mut memtrace, "sample", &mut seen)?;
    assert_eq!(sample["cgroup"]["largest"][0]["pid"], service.pid());
    assert_eq!(sample["cgroup"]["limit"]["limit_bytes"], 512 << 20);
    service.exit()?;
    drop(idle);
    group.remove()?;
    let finished = memtrace.finish()?;
    assert_eq!(finished.code(), Some(0), "{:?}", finished.errors);
    Ok(())
}

#[test]
fn what_cannot_be_watched_is_refused_in_one_line() -> Result<()> {
    for (arguments, status) in [
        (&["watch", "--pid", "4294967295"][..], 1),
        (&["watch", "--cgroup", "/no/such/cgroup"], 1),
        (&["watch", "--cgroup", "/proc"], 1),
        (&["watch"], 2),
        (&["watch", "--pid", "1", "--alert-growth", "50MB"], 2),
    ] {
        let finished = Memtrace::start(arguments)?.finish()?;
        assert_eq!((finished.code(), finished.output.len()), (Some(status), 0), "{arguments:?}");
        assert_eq!(finished.errors.len(), 1, "{:?}", finished.errors);
    }
    Ok(())
}
