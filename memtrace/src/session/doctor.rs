//! `memtrace doctor`: can it run here, and what would it attach to? Looks only.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use memtrace_common::{call::Call, unwind::Segment as KernelSegment};

use super::{SessionError, unwinding};
use crate::{
    allocator::{self, Plan},
    cli::{DEFAULT_UNWIND_BYTES, DoctorConfig},
    kernel::features,
    report::{destination::WriteError, escape::escape, number},
    target::{Pid, Target},
    unwind::{Cache, Segment, segments},
};

/// Prints what was found; true when a run would work.
///
/// # Errors
///
/// When a named process cannot be looked at, or standard output cannot be written.
pub fn doctor(config: &DoctorConfig) -> Result<bool, SessionError> {
    let mut text = Vec::new();
    let mut good = write_checks(&mut text).is_ok_and(|good| good);
    let mut cache = Cache::new();
    let mut unwound = Vec::new();
    for &pid in &config.pids {
        let target = Target::open(Pid(pid))?;
        let plan = allocator::plan(&target.objects()?, &config.wrappers)
            .map_err(|source| SessionError::Allocator { pid: Pid(pid), source })?;
        let written = write_plan(&mut text, &target, &plan);
        match written.and_then(|()| write_unwinding(&mut text, &target, &mut cache)) {
            Ok(tables) => unwound.push(tables),
            Err(_unreadable) => good = false,
        }
    }
    if unwound.len() > 1 {
        good &= write_all(&mut text, cache.rows(), &unwound).is_ok();
    }
    match io::stdout().write_all(&text) {
        Ok(()) => Ok(good),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(good),
        Err(source) => Err(WriteError { path: "standard output".to_owned(), source }.into()),
    }
}

fn write_checks(out: &mut dyn Write) -> io::Result<bool> {
    let mut good = true;
    writeln!(out, "This machine")?;
    for check in features::checks(true).into_iter().chain([features::confined()]) {
        // Only `--syscalls` needs tracefs, and only some processes have a filter.
        let needed = !matches!(check.name, "tracefs" | "seccomp");
        match &check.result {
            Ok(()) => writeln!(out, "  ok       {:<12} {}", check.name, check.purpose)?,
            Err(error) => {
                good &= !needed;
                let word = if needed { "missing" } else { "optional" };
                writeln!(out, "  {word:<8} {:<12} {}: {error}", check.name, check.purpose)?;
            }
        }
    }
    Ok(good)
}

/// The unwind tables of one or all of the processes.
struct Unwound {
    /// Kept, so that tables are shared by the processes that map the same objects, as in a run.
    segments: Vec<Segment>,
    made_in: Duration,
}

/// What the process's stacks are undone by.
fn write_unwinding(out: &mut dyn Write, target: &Target, all: &mut Cache) -> io::Result<Unwound> {
    let mappings = target.mappings().map_err(io::Error::other)?;
    // On its own first: what this process needs without the others.
    let begun = Instant::now();
    let mut own = Cache::new();
    let (alone, skipped) = segments(target.pid(), &mappings, &mut own);
    write_tables(out, "  unwind tables: ", own.rows(), alone.len(), begun.elapsed())?;
    for skipped in skipped {
        writeln!(out, "  by frame pointer only: {}", escape(&skipped.to_string()))?;
    }
    drop(alone);
    let begun = Instant::now();
    let (segments, _skipped) = segments(target.pid(), &mappings, all);
    Ok(Unwound { segments, made_in: begun.elapsed() })
}

/// What all of the processes need together.
fn write_all(out: &mut dyn Write, rows: usize, unwound: &[Unwound]) -> io::Result<()> {
    let stretches = unwound.iter().map(|tables| tables.segments.len()).sum();
    let made_in = unwound.iter().map(|tables| tables.made_in).sum();
    write_tables(out, "\nUnwind tables of all, shared: ", rows, stretches, made_in)
}

/// One line: how large the tables are, and how large they may be.
fn write_tables(out: &mut dyn Write, title: &str, rows: usize, stretches: usize, made_in: Duration) -> io::Result<()> {
    let capacity = u64::from(unwinding::capacity(rows, DEFAULT_UNWIND_BYTES));
    let bytes = 8 * capacity + (size_of::<KernelSegment>() * stretches) as u64;
    writeln!(
        out,
        "{title}{} rows for {stretches} stretches of code, {} of kernel memory ({:.1} bytes a row), made in {} ms",
        number::count(rows as u64),
        number::bytes(bytes),
        bytes as f64 / rows.max(1) as f64,
        made_in.as_millis()
    )?;
    let allowed = DEFAULT_UNWIND_BYTES >> 20;
    if capacity < rows as u64 {
        let needed = (8 * rows as u64).div_ceil(1 << 20);
        return writeln!(out, "    more than --unwind-memory, {allowed}MiB by default: {needed}MiB have room for all");
    }
    writeln!(out, "    within --unwind-memory, {allowed}MiB by default")
}

fn write_plan(out: &mut dyn Write, target: &Target, plan: &Plan) -> io::Result<()> {
    writeln!(out, "\nProcess {} ({})", target.pid(), escape(target.command()))?;
    let mut object = None;
    // The ways out of a function are many and all alike: they are counted.
    let ways_out = plan.sites.iter().filter(|site| site.call == Call::Result).count();
    for site in plan.sites.iter().filter(|site| site.call != Call::Result) {
        if object != Some(&site.object_path) {
            object = Some(&site.object_path);
            writeln!(out, "  {}", escape(&site.object_path.to_string_lossy()))?;
            writeln!(out, "    {:<16} {:>10} {:>6}  {:<15} INSTRUCTION", "FUNCTION", "OFFSET", "SITE", "COST")?;
        }
        let cost = if site.emulated { "emulated" } else { "single-stepped" };
        let place = format!("+{}", site.symbol_offset);
        let offset = format!("{:#x}", site.file_offset);
        let note = if site.reentered { "  (loops to its entry: may count twice)" } else { "" };
        writeln!(out, "    {:<16} {offset:>10} {place:>6}  {cost:<15} {}{note}", site.function, site.instruction)?;
    }
    if ways_out > 0 {
        writeln!(out, "  and {ways_out} ways out of functions that may throw (single-stepped)")?;
    }
    if !plan.absent.is_empty() {
        writeln!(out, "  not there: {}", plan.absent.join(", "))?;
    }
    for found in &plan.allocators {
        let path = found.object_path.to_string_lossy();
        writeln!(out, "  allocator: {} in {}", found.family, escape(&path))?;
    }
    for pending in &plan.pending {
        writeln!(out, "  waits until its file is loaded: {}", escape(pending))?;
    }
    for unusable in &plan.unusable {
        let what = unusable.function.as_ref().map_or_else(String::new, |function| format!("{function} in "));
        let path = unusable.object_path.to_string_lossy();
        writeln!(out, "  cannot be traced: {what}{}: {}", escape(&path), escape(&unusable.reason))?;
    }
    Ok(())
}
