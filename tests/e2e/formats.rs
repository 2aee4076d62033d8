//! Every form of report does what it is for: pprof opens profiles, a browser opens pages and flame graphs, and saved runs
//! can be shown and compared again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use memtrace_tests::{Build, Finished, Memtrace, Report, Stack, Target, browser, memtrace::program};
use rustix::process::Signal;
use tempfile::TempDir;

/// A service that leaks and fills a cache.
fn service() -> Result<Target> {
    let mut service = Target::start(&Build::c("leaky_service.c"), &["100", "1000", "700", "2000"])?;
    service.tell("go")?;
    Ok(service)
}

/// A run saved until its leak was known; its last report.
fn saved(service: &Target, file: &Path) -> Result<Report> {
    let mut memtrace = Memtrace::attach(service.pid(), &[])?;
    memtrace.report_where("the leak", |report| report.grows("leak_here"))?;
    let finished = memtrace.interrupt()?;
    fs::write(file, finished.output.join("\n") + "\n")?;
    finished.final_report()
}

/// A folder with a saved run in it.
fn run_in_folder() -> Result<(TempDir, PathBuf, Report)> {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run.json");
    let service = service()?;
    let report = saved(&service, &run)?;
    service.exit()?;
    Ok((folder, run, report))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}

fn memtrace(arguments: &[&str]) -> Result<Finished> {
    Memtrace::start(arguments)?.finish()
}

/// The saved run in another form, in a file of that name.
fn again(run: &Path, name: &str, more: &[&str]) -> Result<PathBuf> {
    let file = run.with_file_name(name);
    let mut arguments = vec!["report", text(run)?, "--output", text(&file)?];
    arguments.extend(more);
    let finished = memtrace(&arguments)?;
    assert_eq!((finished.code(), finished.output.len(), finished.errors.len()), (Some(0), 0, 0), "{finished:?}");
    Ok(file)
}

/// What the stacks that a function asked for add up to.
fn sum(report: &Report, function: &str, of: impl Fn(&Stack) -> u64) -> u64 {
    report.stacks_of(function).map(of).sum()
}

/// The rows of `go tool pprof -top`: function, what it asked for itself in bytes or blocks.
fn pprof(arguments: &[&str], files: &[&Path]) -> Result<Vec<(String, String)>> {
    let folder = tempfile::tempdir()?;
    let output = Command::new("go")
        .args(["tool", "pprof", "-top", "-nodecount=1000", "-nodefraction=0", "-unit=b"])
        .args(arguments)
        .args(files)
        .env("PPROF_TMPDIR", folder.path())
        .env("HOME", folder.path())
        .stdin(Stdio::null())
        .output()
        .context("running go tool pprof")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("pprof refused: {}", String::from_utf8_lossy(&output.stderr));
    }
    let rows = text.lines().skip_while(|line| !line.trim_start().starts_with("flat ")).skip(1);
    rows.map(|row| {
        let mut columns = row.split_whitespace();
        let flat = columns.next().context("a value")?.trim_end_matches(['b', 'B']).to_owned();
        Ok((columns.skip(4).collect::<Vec<_>>().join(" "), flat))
    })
    .collect()
}

fn flat<'a>(rows: &'a [(String, String)], function: &str) -> &'a str {
    rows.iter().find(|(name, _)| name == function).map_or("", |(_, flat)| flat)
}

#[test]
fn pprof_shows_the_same_names_and_sums_as_the_report() -> Result<()> {
    let (_folder, run, report) = run_in_folder()?;
    let profile = again(&run, "heap.pb.gz", &[])?;
    for function in ["leak_here", "cache_fill"] {
        let bytes = sum(&report, function, |stack| stack.outstanding_bytes);
        let blocks = sum(&report, function, |stack| stack.outstanding_blocks);
        assert!(bytes > 0 && blocks > 0);
        assert_eq!(flat(&pprof(&[], &[&profile])?, function), bytes.to_string(), "inuse_space is the default");
        assert_eq!(flat(&pprof(&["-sample_index=inuse_objects"], &[&profile])?, function), blocks.to_string());
        let allocations = sum(&report, function, |stack| stack.allocations);
        assert_eq!(flat(&pprof(&["-sample_index=alloc_objects"], &[&profile])?, function), allocations.to_string());
    }
    let growth = pprof(&["-sample_index=growth", "-tagfocus=verdict=growing"], &[&profile])?;
    assert!(flat(&growth, "leak_here").parse::<f64>()? > 1e6, "{growth:?}");
    assert!(pprof(&["-tagfocus=pid=1"], &[&profile]).map_or(true, |rows| rows.is_empty()), "no such process");
    let whole = pprof(&["-cum"], &[&profile])?;
    assert!(whole.iter().any(|(name, _)| name == "main"), "{whole:?}");
    Ok(())
}

#[test]
fn pprof_subtracts_one_run_from_another() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let service = service()?;
    let (a, b) = (folder.path().join("a.json"), folder.path().join("b.json"));
    let before = saved(&service, &a)?;
    let mut memtrace = Memtrace::attach(service.pid(), &[])?;
    let reached = sum(&before, "leak_here", |stack| stack.outstanding_bytes);
    memtrace.report_where("a larger leak", |report| {
        sum(report, "leak_here", |stack| stack.outstanding_bytes) > reached + 10_000
    })?;
    let finished = memtrace.interrupt()?;
    fs::write(&b, finished.output.join("\n") + "\n")?;
    let after = finished.final_report()?;
    service.exit()?;
    let (first, second) = (again(&a, "a.pb.gz", &[])?, again(&b, "b.pb.gz", &[])?);
    let base = format!("-base={}", text(&first)?);
    let grown = sum(&after, "leak_here", |stack| stack.outstanding_bytes) - reached;
    assert_eq!(flat(&pprof(&[&base], &[&second])?, "leak_here"), grown.to_string());

    let diff = self::memtrace(&["diff", text(&a)?, text(&b)?, "--format", "json", "--by", "function"])?;
    assert_eq!((diff.code(), diff.output.len()), (Some(0), 1), "{diff:?}");
    let diff: serde_json::Value = serde_json::from_str(&diff.output[0])?;
    let leak = diff["changes"].as_array().and_then(|all| all.iter().find(|change| change["function"] == "leak_here"));
    let leak = leak.context("the leak changed")?;
    assert_eq!((leak["change"].as_str(), leak["bytes"].as_u64()), (Some("grew"), Some(grown)), "{leak}");
    Ok(())
}

#[test]
fn the_same_stack_of_two_processes_is_compared() -> Result<()> {
    let (folder, first, _) = run_in_folder()?;
    let second = folder.path().join("second.json");
    let other = service()?;
    saved(&other, &second)?;
    other.exit()?;
    let diff = memtrace(&["diff", text(&first)?, text(&second)?])?;
    assert_eq!(diff.code(), Some(0), "{diff:?}");
    assert!(diff.output.iter().any(|line| line.contains("leak_here")), "{diff:?}");
    assert!(diff.output.iter().all(|line| line.chars().count() <= 80), "{diff:?}");

    // What only one run held is no stack but `churn`'s: it holds blocks at some moments.
    let diff = memtrace(&["diff", text(&first)?, text(&second)?, "--format", "json"])?;
    let diff: serde_json::Value = serde_json::from_str(&diff.output.join("\n"))?;
    let changes = diff["changes"].as_array().context("changes")?;
    let of = |function: &str| changes.iter().filter(|change| change["frames"][0]["function"] == function).count();
    assert!(of("leak_here") <= 1 && of("cache_fill") <= 1, "each is one stack: {changes:#?}");
    let in_one = changes.iter().filter(|change| matches!(change["change"].as_str(), Some("appeared" | "went")));
    assert!(in_one.into_iter().all(|change| change["frames"][0]["function"] == "churn"), "{changes:#?}");
    Ok(())
}

#[test]
fn folded_stacks_add_up_to_what_the_stacks_hold() -> Result<()> {
    let (_folder, run, report) = run_in_folder()?;
    let folded = fs::read_to_string(again(&run, "run.folded", &[])?)?;
    let mut total = 0;
    for line in folded.lines() {
        let (stack, bytes) = line.rsplit_once(' ').context("a weight")?;
        total += bytes.parse::<u64>()?;
        let innermost = stack.rsplit(';').next().unwrap_or_default();
        if innermost == "leak_here" {
            assert!(stack.contains("main;"), "the outermost first: {stack}");
        }
    }
    assert_eq!(total, report.stacks.iter().map(|stack| stack.outstanding_bytes).sum::<u64>());
    let growth = fs::read_to_string(again(&run, "growth.folded", &["--metric", "growth"])?)?;
    assert!(growth.lines().any(|line| line.contains("leak_here")), "{growth}");
    Ok(())
}

/// The colours of growth and of the rest, as `report/flamegraph.rs` and `report/html/page.css` have them.
const GROWING: [[u8; 3]; 2] = [[240, 96, 80], [240, 96, 79]];
const LEVEL: [[u8; 3]; 2] = [[208, 212, 218], [208, 212, 218]];

#[test]
fn a_browser_shows_the_leak_in_the_page_and_in_the_flame_graph() -> Result<()> {
    let (_folder, run, _) = run_in_folder()?;
    let page = again(&run, "page.html", &[])?;
    let document = browser::document(&page, "leak_here")?;
    assert!(document.contains("<summary>leak_here</summary>"), "{document}");
    // Only the script marks what was searched for and shows its own controls.
    assert!(
        document.contains("<svg class=\"f growing hit\"") && !document.contains("id=\"controls\" hidden"),
        "{document}"
    );
    assert!(document.contains("% is in or below matches"), "{document}");
    let graph = again(&run, "graph.svg", &[])?;
    let document = browser::document(&graph, "")?;
    assert!(document.contains("<title>leak_here ("), "{document}");
    for (file, kind) in [(&graph, 0), (&page, 1)] {
        let picture = browser::picture(file)?;
        let (growing, level) = (picture.count(GROWING[kind]), picture.count(LEVEL[kind]));
        assert!(growing > 1000 && level > 1000, "{}: {growing} red and {level} grey pixels", file.display());
        let dark = picture.pixels.iter().filter(|pixel| pixel.iter().all(|&part| part < 90)).count();
        assert!(dark > 500, "{}: letters: {dark}", file.display());
    }
    Ok(())
}

#[test]
fn a_run_writes_its_form_at_its_end_and_nothing_when_it_is_killed() -> Result<()> {
    let service = service()?;
    let folder = tempfile::tempdir()?;
    let pid = service.pid().to_string();
    for name in ["heap.pb.gz", "graph.svg", "page.html", "run.folded"] {
        let file = folder.path().join(name);
        let arguments = ["--pid", &pid, "--interval", "200ms", "--output", text(&file)?];
        let mut killed = Memtrace::start(&arguments)?;
        killed.attached()?;
        std::thread::sleep(std::time::Duration::from_millis(500));
        killed.signal(Signal::KILL)?;
        killed.finish()?;
        assert_eq!(fs::read_dir(folder.path())?.count(), 0, "{name}: nothing is left");
        let mut whole = Memtrace::start(&arguments)?;
        whole.attached()?;
        std::thread::sleep(std::time::Duration::from_millis(500));
        let finished = whole.interrupt()?;
        assert_eq!((finished.code(), finished.output.len()), (Some(0), 0), "{finished:?}");
        assert!(fs::metadata(&file)?.len() > 100, "{name}");
        fs::remove_file(&file)?;
    }
    service.exit()
}

#[test]
fn a_killed_runs_last_whole_report_is_shown() -> Result<()> {
    let (folder, run, report) = run_in_folder()?;
    let whole = fs::read(&run)?;
    let cut = folder.path().join("cut.json");
    fs::write(&cut, &whole[..whole.len() - 100])?;
    let finished = memtrace(&["report", text(&cut)?])?;
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert!(finished.output.join("\n").contains("leak_here"), "{finished:?}");
    assert!(finished.errors.iter().any(|line| line.contains("not complete")), "{finished:?}");
    // The whole one gives the same object again.
    let again = memtrace(&["report", text(&run)?, "--format", "json", "--top", "100000"])?;
    let again = Report::parse(again.output.first().context("a line")?)?;
    assert_eq!((again.elapsed_ms, again.stacks.len()), (report.elapsed_ms, report.stacks.len()));
    Ok(())
}

#[test]
fn what_is_no_saved_run_is_one_line_and_exit_1() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("run.json");
    for bytes in [
        b"".as_slice(),
        b"\x1b[31mhello\n",
        b"{\"schema\":\"memtrace/9\"}\n",
        b"{\"schema\":\"memtrace/1\",\"stacks\":[[[[[[\n",
        b"\x00\xff\xfe\n",
    ] {
        fs::write(&file, bytes)?;
        for arguments in [vec!["report", text(&file)?], vec!["diff", text(&file)?, text(&file)?]] {
            let finished = memtrace(&arguments)?;
            assert_eq!(
                (finished.code(), finished.output.len(), finished.errors.len()),
                (Some(1), 0, 1),
                "{finished:?}"
            );
            assert!(!finished.errors[0].contains('\x1b'), "{finished:?}");
        }
    }
    let finished = memtrace(&["report", "/no/such/run.json"])?;
    assert_eq!((finished.code(), finished.errors.len()), (Some(1), 1), "{finished:?}");
    Ok(())
}

#[test]
fn a_terminal_is_spared_a_binary_report() -> Result<()> {
    // `script` gives it a terminal for its standard output.
    let command = format!("{} --pid {} --format pprof", program()?.display(), std::process::id());
    let output = Command::new("script").args(["--quiet", "--return", "--command", &command, "/dev/null"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--output"), "{text}");
    Ok(())
}

/// Every line is what the schema in this file of `docs/schema` says.
fn keep_to_schema(lines: &[String], file: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema").join(file);
    let schema = serde_json::from_str(&fs::read_to_string(&path)?)?;
    let validator = jsonschema::validator_for(&schema).map_err(|error| anyhow!("{file}: {error}"))?;
    ensure!(!lines.is_empty(), "{file}: no line");
    for line in lines {
        validator.validate(&serde_json::from_str(line)?).map_err(|error| anyhow!("{file}: {error}: {line}"))?;
    }
    Ok(())
}

#[test]
fn what_is_written_as_json_keeps_to_the_schemas_for_scripts() -> Result<()> {
    let (folder, run, _) = run_in_folder()?;
    let lines: Vec<String> = fs::read_to_string(&run)?.lines().map(str::to_owned).collect();
    keep_to_schema(&lines, "memtrace-1.json")?;
    let diff = memtrace(&["diff", text(&run)?, text(&run)?, "--format", "json"])?;
    keep_to_schema(&diff.output, "memtrace-diff-1.json")?;
    let service = service()?;
    let pid = service.pid().to_string();
    let doctor = memtrace(&["doctor", "--pid", &pid, "--format", "json", "--measure"])?;
    keep_to_schema(&doctor.output, "memtrace-doctor-1.json")?;
    let times = ["--interval", "200ms", "--window", "2s", "--duration", "8s", "--escalate=1s"];
    let alert = ["watch", "--pid", &pid, "--alert-growth", "1B/h", "--format", "json"];
    let watch = memtrace(&[&alert[..], &times].concat())?;
    ensure!(watch.output.iter().any(|line| line.contains("\"event\":\"trace\"")), "no alert was traced: {watch:?}");
    keep_to_schema(&watch.output, "memtrace-watch-1.json")?;
    drop(folder);
    service.exit()
}
