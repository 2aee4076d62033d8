//! `memtrace doctor`: can it run here, and what would it attach to? Looks only.

use std::{
    io::{self, Write},
    time::Instant,
};

use memtrace_common::unwind::Segment as KernelSegment;

use super::{SessionError, unwinding};
use crate::{
    allocator::{self, Plan},
    cli::DoctorConfig,
    kernel::features,
    report::{escape::escape, number},
    target::{Pid, Target},
    unwind::{Cache, segments},
};

/// Prints what was found; true when a run would work.
///
/// # Errors
///
/// When a named process cannot be looked at, or standard output cannot be written.
pub fn doctor(config: &DoctorConfig) -> Result<bool, SessionError> {
    let mut text = Vec::new();
    let mut good = write_checks(&mut text).is_ok_and(|good| good);
    for &pid in &config.pids {
        let target = Target::open(Pid(pid))?;
        let plan =
            allocator::plan(&target.objects()?).map_err(|source| SessionError::Allocator { pid: Pid(pid), source })?;
        good &= write_plan(&mut text, &target, &plan).and_then(|()| write_unwinding(&mut text, &target)).is_ok();
    }
    match io::stdout().write_all(&text) {
        Ok(()) => Ok(good),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(good),
        Err(source) => Err(SessionError::Output { path: "standard output".to_owned(), source }),
    }
}

fn write_checks(out: &mut dyn Write) -> io::Result<bool> {
    let mut good = true;
    writeln!(out, "This machine")?;
    for check in features::checks(true) {
        // Only `--syscalls` needs tracefs.
        let needed = check.name != "tracefs";
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

/// What the process's stacks are undone by.
fn write_unwinding(out: &mut dyn Write, target: &Target) -> io::Result<()> {
    let begun = Instant::now();
    let mut cache = Cache::new();
    let mappings = target.mappings().map_err(io::Error::other)?;
    let (segments, skipped) = segments(target.pid(), &mappings, &mut cache);
    let rows = cache.rows();
    let bytes = 8 * u64::from(unwinding::capacity(rows)) + (size_of::<KernelSegment>() * segments.len()) as u64;
    writeln!(
        out,
        "  unwind tables: {} rows for {} stretches of code, {} of kernel memory ({:.1} bytes a row), made in {} ms",
        number::count(rows as u64),
        segments.len(),
        number::bytes(bytes),
        bytes as f64 / rows.max(1) as f64,
        begun.elapsed().as_millis()
    )?;
    for skipped in skipped {
        writeln!(out, "  by frame pointer only: {}", escape(&skipped.to_string()))?;
    }
    Ok(())
}

fn write_plan(out: &mut dyn Write, target: &Target, plan: &Plan) -> io::Result<()> {
    writeln!(out, "\nProcess {} ({})", target.pid(), escape(target.command()))?;
    let mut object = None;
    for site in &plan.sites {
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
    if !plan.absent.is_empty() {
        writeln!(out, "  not there: {}", plan.absent.join(", "))?;
    }
    for foreign in &plan.foreign {
        let path = foreign.object_path.to_string_lossy();
        writeln!(out, "  not traced yet: {} in {}", foreign.family, escape(&path))?;
    }
    for unusable in &plan.unusable {
        let what = unusable.function.map_or_else(String::new, |function| format!("{function} in "));
        let path = unusable.object_path.to_string_lossy();
        writeln!(out, "  cannot be traced: {what}{}: {}", escape(&path), escape(&unusable.reason))?;
    }
    Ok(())
}
