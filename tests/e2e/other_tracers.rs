//! Beside other tracers that have probes in the same places: what they keep to themselves is seen in another way, and both
//! programs live.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{Build, Memtrace, Report, Target, code::changed_libc_bytes, memtrace::require_root};
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};
use serde_json::Value;
use tempfile::TempDir;

const TRACEFS: &str = "/sys/kernel/tracing";

/// Another tracer: uprobes of its own on some places of a file; removed when dropped.
struct OtherTracer {
    names: Vec<String>,
}

impl OtherTracer {
    /// Puts probes on offsets of a file. With `counted` they have a reference counter, as USDT probes and tools built on bcc
    /// have; it is where the file is never mapped writable, so that nothing is counted.
    fn attach(file: &Path, offsets: &[u64], counted: bool) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mut probes = Self { names: Vec::new() };
        let counter = if counted { "(0x40)" } else { "" };
        for offset in offsets {
            let name = format!("memtrace_test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
            append("uprobe_events", &format!("p:uprobes/{name} {}:{offset:#x}{counter}\n", file.display()))?;
            probes.names.push(name);
        }
        for name in &probes.names {
            fs::write(format!("{TRACEFS}/events/uprobes/{name}/enable"), "1")?;
        }
        Ok(probes)
    }
}

impl Drop for OtherTracer {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = fs::write(format!("{TRACEFS}/events/uprobes/{name}/enable"), "0");
            let _ = append("uprobe_events", &format!("-:uprobes/{name}\n"));
        }
    }
}

fn append(file: &str, line: &str) -> Result<()> {
    let path = format!("{TRACEFS}/{file}");
    let mut file = fs::OpenOptions::new().append(true).open(&path).with_context(|| path.clone())?;
    file.write_all(line.as_bytes()).with_context(|| format!("{line:?} to {path}"))
}

/// Where in a library's file a function begins.
fn offset(library: &Path, function: &str) -> Result<u64> {
    let bytes = fs::read(library)?;
    let object = object::File::parse(&*bytes)?;
    let symbol = object.dynamic_symbols().find(|symbol| symbol.name() == Ok(function)).context("a symbol")?;
    let address = symbol.address();
    let segment =
        object.segments().find(|segment| (segment.address()..segment.address() + segment.size()).contains(&address));
    let segment = segment.context("a segment")?;
    Ok(address - segment.address() + segment.file_range().0)
}

/// Starts a fixture with a C library of its own, so that nobody else's programs meet the probes; the library, and the folder
/// that it is in.
fn start(build: &Build, arguments: &[&str]) -> Result<(Target, PathBuf, TempDir)> {
    require_root()?;
    let folder = tempfile::tempdir()?;
    let list = Command::new("ldd").arg(build.compile()?).output()?;
    let list = String::from_utf8(list.stdout)?;
    let theirs =
        list.split_whitespace().find(|word| word.starts_with('/') && word.contains("libc.so")).context(list.clone())?;
    let own = folder.path().join("libc.so.6");
    fs::copy(theirs, &own)?;
    let target = Target::start_with(build, arguments, "LD_LIBRARY_PATH", &folder.path().display().to_string())?;
    Ok((target, own, folder))
}

#[test]
fn mapping_functions_that_another_tracer_keeps_to_itself_are_traced_by_their_system_calls() -> Result<()> {
    let (mut target, libc, _folder) = start(&Build::c("reserved.c"), &[])?;
    let functions = ["mmap", "munmap", "mremap"].map(|function| offset(&libc, function));
    let other = OtherTracer::attach(&libc, &functions.into_iter().collect::<Result<Vec<_>>>()?, true)?;
    let memtrace = Memtrace::attach(target.pid(), &[])?;
    target.tell("go")?;
    let counted: Value = target.hear_json()?;
    let finished = memtrace.interrupt()?;
    drop(other);
    target.exit()?;
    let told: Vec<_> = finished.errors.iter().filter(|line| line.contains("another tracer holds probes")).collect();
    ensure!(told.len() == 1 && told[0].contains(" on munmap, mremap, so "), "{:?}", finished.errors);
    let report: Value = serde_json::from_str(finished.output.last().context("a report")?)?;
    let totals = &report["processes"][0]["totals"];
    ensure!(
        (&totals["mapped_bytes"], &totals["reserved_bytes"]) == (&counted["mapped"], &counted["reserved"]),
        "{totals} {counted}"
    );
    ensure!(report["loss"].as_object().is_some_and(|loss| loss.values().all(|count| count == 0)), "{}", report["loss"]);
    Ok(())
}

#[test]
fn a_process_without_its_first_thread_is_traced_beside_a_tracer_that_keeps_a_mapping_function() -> Result<()> {
    let (mut leader, libc, _folder) = start(&Build::c("leader.c"), &["before"])?;
    let other = OtherTracer::attach(&libc, &[offset(&libc, "munmap")?], true)?;
    let mut memtrace = Memtrace::attach(leader.pid(), &[])?;
    memtrace.attached()?;
    leader.tell("go")?;
    memtrace.report_where("100 blocks", |report| leaked(report) >= 100)?;
    leader.tell("count")?;
    let counted: u64 = leader.hear()?.parse()?;
    let report = memtrace.report_where("all blocks", |report| leaked(report) >= counted)?;
    ensure!(leaked(&report) == counted && report.losses().is_empty(), "{counted} {:?}", report.loss);
    leader.tell("resume")?;
    let finished = memtrace.interrupt()?;
    drop(other);
    let told: Vec<_> = finished.errors.iter().filter(|line| line.contains("another tracer holds probes")).collect();
    ensure!(told.len() == 1 && told[0].contains(" on munmap, so "), "{:?}", finished.errors);
    Ok(())
}

/// Blocks that leader.c was seen to hold.
fn leaked(report: &Report) -> u64 {
    report.stacks_of("leader_leaks").map(|stack| stack.outstanding_blocks).sum()
}

#[test]
fn probes_that_leave_with_another_tracer_after_the_first_thread_has_ended_are_put_back() -> Result<()> {
    put_back(&[])
}

#[test]
fn they_are_put_back_where_some_of_them_may_rest() -> Result<()> {
    put_back(&["--max-overhead", "90%"])
}

fn put_back(options: &[&str]) -> Result<()> {
    let (mut leader, libc, _folder) = start(&Build::c("leader.c"), &["later"])?;
    let mut memtrace = Memtrace::attach(leader.pid(), options)?;
    memtrace.attached()?;
    let other = OtherTracer::attach(&libc, &changed_libc_bytes(leader.pid())?, false)?;
    leader.tell("go")?;
    memtrace.report_where("100 blocks", |report| leaked(report) >= 100)?;
    leader.tell("end")?;
    ensure!(leader.hear()? == "ended");
    let before = leaked(&memtrace.next_report()?);
    drop(other);
    // Where the kernel kept them nothing is lost, and nothing is said.
    memtrace.report_where("blocks after that", |report| leaked(report) >= before + 500)?;
    let put_back = memtrace.interrupt()?;
    let report = put_back.reports()?.pop().context("a report")?;
    let told = put_back.errors.iter().filter(|line| line.contains("lost memtrace's probes")).count();
    ensure!(u64::try_from(told)? == report.lost("probes_removed"), "{told} {:?}", report.loss);
    leader.tell("count")?;
    let counted: u64 = leader.hear()?.parse()?;
    ensure!(counted >= leaked(&report) && report.losses().is_empty(), "{counted} {:?}", report.loss);
    leader.tell("resume")
}
