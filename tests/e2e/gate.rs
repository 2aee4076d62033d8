//! memtrace as a gate of a build: thresholds, suppressions, the files for CI systems, and the recipe of docs/ci.md.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{Build, Finished, Memtrace, Target, memtrace};
use roxmltree::Document;
use serde_json::Value;

/// Long enough for a verdict from two reports a second.
const RUN: [&str; 6] = ["--interval", "500ms", "--duration", "10s", "--format", "json"];

fn service(leak_bytes: &str) -> Result<Target> {
    started(Target::start(&Build::c("leaky_service.c"), &[leak_bytes, "1000", "200", "2000"])?)
}

/// A build of the service that has the same name in a folder of its own.
fn copy_of(build: &Build, folder: &Path) -> Result<Target> {
    fs::create_dir(folder)?;
    fs::copy(build.compile()?, folder.join("service"))?;
    started(Target::start_file(&folder.join("service"), &["100", "1000", "200", "2000"])?)
}

fn started(mut service: Target) -> Result<Target> {
    service.tell("go")?;
    Ok(service)
}

fn run(pids: &[u32], more: &[&str]) -> Result<Finished> {
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let mut arguments: Vec<&str> = RUN.into_iter().chain(["--fail-on-leak"]).collect();
    arguments.extend(pids.iter().flat_map(|pid| ["--pid", pid]));
    arguments.extend(more);
    Memtrace::start(&arguments)?.finish()
}

/// The last report with the fields that the harness does not know.
fn last(finished: &Finished) -> Result<Value> {
    Ok(serde_json::from_str(finished.output.last().with_context(|| format!("no report: {finished:?}"))?)?)
}

fn leak(report: &Value) -> Result<&Value> {
    let stacks = report["stacks"].as_array().context("stacks")?;
    stacks.iter().find(|stack| stack["frames"][0]["function"] == "leak_here").context("the leak's stack")
}

#[test]
fn a_suppressed_leak_is_shown_marked_and_lets_the_build_pass() -> Result<()> {
    let service = service("100")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("known.supp");
    fs::write(&file, "# known\nleak:^nothing_like_it$\nfunction:^leak_*re$\n")?;
    let finished = run(&[service.pid()], &["--suppressions", &file.to_string_lossy()])?;
    assert_eq!(finished.code(), Some(0), "{:?}", finished.errors);
    let report = last(&finished)?;
    let leak = leak(&report)?;
    assert_eq!((&leak["verdict"], &leak["suppressed"]), (&"growing".into(), &"function:^leak_*re$".into()));
    assert_eq!((&report["gate"]["suppressed_stacks"], &report["gate"]["failing_stacks"]), (&1.into(), &0.into()));
    assert_eq!(report["gate"]["suppressed_bytes"], leak["outstanding_bytes"]);
    let others = report["stacks"].as_array().context("stacks")?.iter();
    let holding: Vec<_> = others.filter(|stack| stack["outstanding_blocks"] != 0).collect();
    assert!(holding.len() > 1 && holding.last().is_some_and(|last| !last["suppressed"].is_null()), "{holding:#?}");
    let unused: Vec<_> =
        finished.errors.iter().filter(|line| line.contains("suppression matched no growing stack")).collect();
    assert!(unused.len() == 1 && unused[0].contains("leak:^nothing_like_it$") && unused[0].contains("known.supp:2"));
    service.exit()
}

#[test]
fn only_a_leak_as_fast_as_the_threshold_fails_the_build() -> Result<()> {
    let service = service("100")?;
    // 100 bytes a tick of a millisecond are 360 MB/h; no machine here is 300 times slower.
    let fast = run(&[service.pid()], &["--leak-threshold", "1MB/h"])?;
    assert_eq!(fast.code(), Some(3), "{:?}", fast.errors);
    let slow = run(&[service.pid()], &["--leak-threshold", "1GB/s"])?;
    assert_eq!(slow.code(), Some(0), "{:?}", slow.errors);
    let report = last(&slow)?;
    assert_eq!(leak(&report)?["verdict"], "growing");
    assert_eq!((&report["gate"]["slow_stacks"], &report["gate"]["failing_stacks"]), (&1.into(), &0.into()));
    service.exit()
}

/// Bytes an hour that a stack grew by in the later half of its series.
fn grew(stack: &Value) -> Result<f64> {
    let points = stack["series"].as_array().context("series")?;
    let half = &points[points.len() / 2..];
    let at = |point: Option<&Value>| -> Option<(f64, f64)> { Some((point?[0].as_f64()?, point?[1].as_f64()?)) };
    let (from, to) = at(half.first()).zip(at(half.last())).context("a series")?;
    Ok((to.1 - from.1) / (to.0 - from.0) * 3_600_000.0)
}

#[test]
fn a_buffer_that_realloc_hands_from_caller_to_caller_fails_the_build_and_they_are_named() -> Result<()> {
    let mut log = Target::start(&Build::c("realloc_log.c"), &[])?;
    log.tell("go")?;
    let finished = run(&[log.pid()], &[])?;
    assert_eq!(finished.code(), Some(3), "{:?}", finished.errors);
    let reports: Vec<Value> =
        finished.output.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?;
    // One sample is that of the attach; from the sixth interval on a verdict is possible.
    for report in reports.iter().skip(6) {
        assert_eq!(report["gate"]["failing_stacks"], 1, "{report:#}");
    }
    let report = reports.last().context("a report")?;
    let stacks = report["stacks"].as_array().context("stacks")?;
    let log_stack = &stacks[0];
    assert_eq!((&log_stack["verdict"], &log_stack["outstanding_blocks"]), (&"growing".into(), &1.into()));
    let (said, seen) = (log_stack["growth_bytes_per_hour"].as_f64().context("a rate")?, grew(log_stack)?);
    assert!((0.9..1.1).contains(&(said / seen)), "{said} B/h of {seen} B/h: {log_stack:#}");
    let enlargers = log_stack["enlarged_by"].as_array().context("enlarged_by")?;
    let names = |enlarger: &Value| enlarger["frames"].to_string();
    for handler in ["handle_get", "handle_put", "handle_delete"] {
        let by = enlargers.iter().find(|enlarger| names(enlarger).contains(handler)).context(handler)?;
        assert!((0.2..0.5).contains(&by["share"].as_f64().context("a share")?), "{by:#}");
    }
    // The others hold nothing: the buffer is not where it was enlarged last.
    assert!(stacks[1..].iter().all(|stack| stack["outstanding_blocks"] == 0), "{stacks:#?}");
    log.exit()
}

#[test]
fn suppressions_that_make_no_sense_are_bad_usage_with_file_and_line() -> Result<()> {
    let service = service("0")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("wrong.supp");
    fs::write(&file, "leak:fine\nrace:not_ours\n")?;
    let finished = run(&[service.pid()], &["--suppressions", &file.to_string_lossy()])?;
    assert_eq!(finished.code(), Some(2));
    assert_eq!(finished.errors.len(), 1, "{:?}", finished.errors);
    assert!(
        finished.errors[0].contains("wrong.supp:2") && finished.errors[0].contains("race"),
        "{:?}",
        finished.errors
    );
    service.exit()
}

#[test]
fn the_files_for_ci_have_every_leak_even_those_that_the_report_has_no_room_for() -> Result<()> {
    // Two programs: a leak in two processes of one program would be one leak.
    let folder = tempfile::tempdir()?;
    let (one, two) = (
        copy_of(&Build::c("leaky_service.c"), &folder.path().join("one"))?,
        copy_of(&Build::c("leaky_service.c").without_frame_pointers(), &folder.path().join("two"))?,
    );
    let (junit, sarif) = (folder.path().join("leaks.xml"), folder.path().join("leaks.sarif"));
    let files = ["--junit", &junit.to_string_lossy(), "--sarif", &sarif.to_string_lossy(), "--top", "1"];
    let finished = run(&[one.pid(), two.pid()], &files)?;
    assert_eq!(finished.code(), Some(3), "{:?}", finished.errors);
    assert_eq!(last(&finished)?["stacks"].as_array().map(Vec::len), Some(1));

    let text = fs::read_to_string(&junit)?;
    let document = Document::parse(&text)?;
    let failures = document.descendants().filter(|node| node.has_tag_name("failure"));
    let leaks = failures.filter(|node| node.text().is_some_and(|text| text.contains("#0 leak_here ")));
    assert_eq!(leaks.count(), 2, "{text}");

    let log: Value = serde_json::from_slice(&fs::read(&sarif)?)?;
    let results = log["runs"][0]["results"].as_array().context("results")?;
    assert_eq!(results.len(), 2, "{log:#}");
    for result in results {
        let place = &result["locations"][0]["physicalLocation"];
        assert!(
            place["artifactLocation"]["uri"].as_str().is_some_and(|uri| uri.ends_with("leaky_service.c")),
            "{place}"
        );
        assert!(place["region"]["startLine"].as_u64().is_some_and(|line| line > 0), "{place}");
    }
    // The same code in two processes, at two sets of addresses.
    let fingerprint = |result: &Value, name: &str| result["partialFingerprints"][name].as_str().map(str::to_owned);
    let stacks = [0, 1].map(|index| fingerprint(&results[index], "memtraceStack/v2"));
    assert_eq!(stacks[0], stacks[1]);
    // Two alerts all the same.
    let alerts = [0, 1].map(|index| fingerprint(&results[index], "primaryLocationLineHash"));
    assert!(alerts[0].is_some() && alerts[0] != alerts[1], "{alerts:?}");
    one.exit()?;
    two.exit()
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// Runs the recipe on a service that is built with these flags.
fn recipe(flags: &[&str], results: &Path) -> Result<Output> {
    let program = results.join("service");
    let compiled = Command::new("cc")
        .args(["-g", "-O2"])
        .args(flags)
        .arg(docs().join("ci/service.c"))
        .arg("-o")
        .arg(&program)
        .status()?;
    ensure!(compiled.success(), "the service does not compile");
    // Free a moment ago; the service says so if it is not any more.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let output = Command::new(docs().join("ci/leak-gate.sh"))
        .args([program.as_os_str(), port.as_ref()])
        .env("LOAD", format!("python3 {} {port}", docs().join("ci/load.py").display()))
        .env("MEMTRACE", memtrace::program()?)
        .envs([("DURATION", "12s"), ("INTERVAL", "500ms"), ("WARM_UP", "2")])
        .env("RESULTS", results)
        .output()?;
    Ok(output)
}

#[test]
fn the_recipe_of_the_page_fails_a_build_that_leaks_and_passes_the_fixed_one() -> Result<()> {
    memtrace::require_root()?;
    let folder = tempfile::tempdir()?;
    let leaking = recipe(&[], folder.path())?;
    assert_eq!(leaking.status.code(), Some(3), "{leaking:?}");
    assert!(String::from_utf8_lossy(&leaking.stdout).contains("1 stack keeps growing"), "{leaking:?}");
    let junit = fs::read_to_string(folder.path().join("leaks.xml"))?;
    assert!(Document::parse(&junit)?.descendants().any(|node| node.has_tag_name("failure")), "{junit}");
    let sarif = fs::read_to_string(folder.path().join("leaks.sarif"))?;
    assert!(sarif.contains("\"fullyQualifiedName\": \"remember\""), "{sarif}");

    let folder = tempfile::tempdir()?;
    let fixed = recipe(&["-DFIXED"], folder.path())?;
    assert_eq!(fixed.status.code(), Some(0), "{fixed:?}");
    let sarif: Value = serde_json::from_slice(&fs::read(folder.path().join("leaks.sarif"))?)?;
    assert_eq!(sarif["runs"][0]["results"], Value::Array(Vec::new()));
    Ok(())
}

#[test]
fn the_page_shows_the_script_that_is_tested() -> Result<()> {
    let page = fs::read_to_string(docs().join("ci.md"))?;
    for file in ["ci/leak-gate.sh", "ci/load.py"] {
        let script = fs::read_to_string(docs().join(file))?;
        assert!(page.contains(script.trim_end()), "docs/ci.md shows another {file}");
    }
    Ok(())
}
