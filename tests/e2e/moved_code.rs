//! Programs that move or copy their own code: they live on, and the report says what it does not see.

use std::{
    fs,
    io::Write as _,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{
    Build, Memtrace, Report,
    memtrace::{program, require_root},
    wait,
};
use serde_json::Value;

/// Blocks that the program allocates before it moves its code.
const BEFORE: u64 = 200;

fn moved_code() -> Result<String> {
    let program = Build::c("moved_code.c").flag("-static").compile()?;
    Ok(program.display().to_string())
}

/// Runs it under memtrace: the exit status, which is its own, the last report, and standard error.
fn launch(flags: &[&str], target: &str, way: &str) -> Result<(Option<i32>, Value, String)> {
    require_root()?;
    let output = Command::new(program()?)
        .args(["--format", "json", "--interval", "500ms", "--exit-code"])
        .args(flags)
        .args(["--", target, way])
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let last = text.lines().rev().find(|line| line.starts_with('{')).context("a report")?;
    Ok((output.status.code(), serde_json::from_str(last)?, String::from_utf8(output.stderr)?))
}

/// The report knows what came before, and says that it is blind for what came after.
fn is_told(report: &Value) -> Result<()> {
    let process = &report["processes"][0];
    ensure!(process["totals"]["allocations"].as_u64() >= Some(BEFORE), "{process:#}");
    ensure!(process["code_moved_ms"].is_u64(), "{process:#}");
    let headline = &report["headline"];
    // What is still seen may be known to grow.
    ensure!(headline["state"] == "blind" || headline["state"] == "growing", "{headline}");
    ensure!(headline["text"].as_str().is_some_and(|text| text.starts_with("Blind:")));
    Ok(())
}

#[test]
fn a_launched_program_that_replaces_its_code_by_a_copy_lives_on_and_the_loss_is_told() -> Result<()> {
    let program = moved_code()?;
    for way in ["memory", "file", "fork", "threads"] {
        let (code, report, errors) = launch(&[], &program, way)?;
        ensure!(code == Some(0), "{way}: {code:?}, {errors}");
        is_told(&report).with_context(|| format!("{way}: {errors}"))?;
        // What is noticed first is told: that the code has gone, or that a copy of it ran into a breakpoint.
        let told = ["replaced its own code", "taken out of the copy"];
        ensure!(told[..if way == "file" { 1 } else { 2 }].iter().any(|told| errors.contains(told)), "{way}: {errors}");
    }
    Ok(())
}

#[test]
fn a_copy_that_runs_beside_the_code_is_mended_and_the_code_is_still_probed() -> Result<()> {
    let program = Build::c("moved_code.c").compile()?.display().to_string();
    let (code, report, errors) = launch(&["--alloc", "exe:take(size=arg0)"], &program, "copy")?;
    ensure!(code == Some(0), "{code:?}, {errors}");
    is_told(&report).context(errors)?;
    // Every second call is of the function itself.
    let seen = report["processes"][0]["totals"]["allocations"].as_u64();
    ensure!(seen >= Some(BEFORE + 100), "{seen:?}");
    Ok(())
}

#[test]
fn a_held_program_has_its_signals_stops_threads_and_children() -> Result<()> {
    let (code, report, errors) = launch(&[], &moved_code()?, "sound")?;
    ensure!(code == Some(0), "{code:?}, {errors}");
    ensure!(report["processes"][0]["code_moved_ms"].is_null() && report["headline"]["state"] != "blind", "{report:#}");
    Ok(())
}

#[test]
fn a_program_that_looks_for_its_own_leaks_is_not_held_and_finds_them() -> Result<()> {
    // LeakSanitizer stops the program's threads by ptrace, and fails where something else has them.
    for flags in [&["-static-libasan"][..], &[]] {
        let build = Build::c("exiter.c").flag("-fsanitize=address");
        let program = flags.iter().fold(build, |build, flag| build.flag(flag)).compile()?;
        let (code, report, errors) = launch(&[], &program.display().to_string(), "1000")?;
        ensure!(code == Some(1) && errors.contains("1000 byte(s) leaked in 10 allocation(s)"), "{code:?}, {errors}");
        ensure!(report["processes"][0]["totals"]["allocations"].as_u64() >= Some(10), "{report:#}");
    }
    Ok(())
}

/// A program that waits until it is told to move its code; killed when dropped.
struct Waiting(Child);

impl Waiting {
    fn start(program: &str, way: &str) -> Result<Self> {
        Ok(Self(Command::new(program).args([way, "wait"]).stdin(Stdio::piped()).spawn()?))
    }

    fn tell(&mut self) -> Result<()> {
        self.0.stdin.as_mut().context("standard input is piped")?.write_all(b"x")?;
        Ok(())
    }

    /// Lets it end; its exit status.
    fn end(&mut self) -> Result<Option<i32>> {
        drop(self.0.stdin.take());
        Ok(self.0.wait()?.code())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_program_that_is_attached_before_it_moves_its_code_lives_on() -> Result<()> {
    let mut target = Waiting::start(&moved_code()?, "memory")?;
    let memtrace = Memtrace::attach(target.0.id(), &[])?;
    target.tell()?;
    let code = target.end()?;
    let finished = memtrace.finish()?;
    ensure!(code == Some(0), "{:?}", finished.errors);
    let report: Value = serde_json::from_str(finished.output.last().context("a report")?)?;
    ensure!(report["processes"][0]["code_moved_ms"].is_u64(), "{report:#}");
    ensure!(report["headline"]["state"] == "blind", "{report:#}");
    Ok(())
}

#[test]
fn a_program_whose_allocator_had_moved_before_is_refused_with_the_way_out() -> Result<()> {
    let mut target = Waiting::start(&moved_code()?, "memory")?;
    target.tell()?;
    let pid = target.0.id();
    wait::until("code in memory without a file", || {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        Ok(maps.lines().any(|line| line.contains(" r-xp 00000000 00:00 0") && !line.contains('[')).then_some(()))
    })?;
    let finished = Memtrace::start(&["--pid", &pid.to_string()])?.finish()?;
    let errors = finished.errors.join("\n");
    ensure!(
        finished.code() == Some(1) && errors.contains("moved its own code") && errors.contains("--mode growth"),
        "{errors}"
    );
    ensure!(target.end()? == Some(0));
    Ok(())
}

#[test]
fn node_in_huge_pages_has_its_names_and_whole_stacks() -> Result<()> {
    let script = "const keep = []; let n = 0; setInterval(() => { for (let i = 0; i < 20; i++) keep.push(Buffer.alloc(10240)); \
                  if (++n > 200) process.exit(7); }, 10)";
    require_root()?;
    let output = Command::new(program()?)
        .args([
            "--format",
            "json",
            "--interval",
            "500ms",
            "--exit-code",
            "--",
            "node",
            "--use-largepages=on",
            "-e",
            script,
        ])
        .stdin(Stdio::null())
        .output()?;
    let errors = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(7), "{:?}, {errors}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let report = Report::parse(text.lines().last().context("a report")?)?;
    let (whole, short) = (report.tracer.stacks_complete, report.tracer.stacks_short.values().sum::<u64>());
    ensure!(whole > 1000 && whole >= 99 * short, "{:?}", report.tracer);
    let buffers = report.stacks.iter().filter(|stack| stack.mentions("node::Start(int, char**)"));
    ensure!(buffers.count() > 0, "{:#?}", report.stacks);
    Ok(())
}
