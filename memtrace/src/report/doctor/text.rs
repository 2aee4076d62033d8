//! Doctor's findings for people.

use std::io::{self, Write};

use super::{Findings, Measured, Process, Tables};
use crate::report::{escape::escape, number};

pub(super) fn render(findings: &Findings, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "This machine")?;
    for check in &findings.checks {
        match &check.missing {
            None => writeln!(out, "  ok       {:<12} {}", check.name, check.purpose)?,
            Some(why) => {
                let word = if check.needed { "missing" } else { "optional" };
                writeln!(out, "  {word:<8} {:<12} {}: {why}", check.name, check.purpose)?;
            }
        }
    }
    for process in &findings.processes {
        writeln!(out, "\nProcess {} ({})", process.pid, escape(&process.command))?;
        if let Some(why) = &process.refused {
            writeln!(out, "  refused: {}", escape(why))?;
        }
        write_process(process, out)?;
    }
    if let Some(tables) = &findings.unwind {
        write_tables("\nUnwind tables of all, shared: ", tables, out)?;
    }
    findings.measured.as_ref().map_or(Ok(()), |measured| write_measured(measured, out))
}

fn write_process(process: &Process, out: &mut dyn Write) -> io::Result<()> {
    let mut object = None;
    for site in &process.sites {
        if object != Some(&site.object) {
            object = Some(&site.object);
            writeln!(out, "  {}", escape(&site.object))?;
            writeln!(out, "    {:<16} {:>10} {:>6}  {:<15} INSTRUCTION", "FUNCTION", "OFFSET", "SITE", "COST")?;
        }
        let cost = if site.emulated { "emulated" } else { "single-stepped" };
        let place = format!("+{}", site.symbol_offset);
        let offset = format!("{:#x}", site.file_offset);
        let note = match (site.reentered, site.predicted) {
            (true, _) => "  (loops to its entry: may count twice)",
            (false, true) => "  (most results are known here: no trap on return)",
            (false, false) => "",
        };
        writeln!(out, "    {:<16} {offset:>10} {place:>6}  {cost:<15} {}{note}", site.function, site.instruction)?;
    }
    if process.ways_out > 0 {
        writeln!(out, "  and {} ways out of functions that may throw (single-stepped)", process.ways_out)?;
    }
    if !process.absent.is_empty() {
        writeln!(out, "  not there: {}", process.absent.join(", "))?;
    }
    for found in &process.allocators {
        writeln!(out, "  allocator: {} in {}", found.family, escape(&found.object))?;
    }
    for pending in &process.pending {
        writeln!(out, "  waits until its file is loaded: {}", escape(pending))?;
    }
    for unusable in &process.unusable {
        let what = unusable.function.as_ref().map_or_else(String::new, |function| format!("{function} in "));
        writeln!(out, "  cannot be traced: {what}{}: {}", escape(&unusable.object), escape(&unusable.reason))?;
    }
    if let Some(tables) = &process.unwind {
        write_tables("  unwind tables: ", tables, out)?;
    }
    for skipped in &process.frame_pointer_only {
        writeln!(out, "  by frame pointer only: {}", escape(skipped))?;
    }
    Ok(())
}

/// One line: how large the tables are; and one, how large they may be.
fn write_tables(title: &str, tables: &Tables, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{title}{} rows for {} stretches of code, {} of kernel memory ({:.1} bytes a row), made in {} ms",
        number::count(tables.rows),
        tables.stretches,
        number::bytes(tables.kernel_bytes),
        tables.kernel_bytes as f64 / tables.rows.max(1) as f64,
        tables.made_in_ms
    )?;
    let allowed = tables.allowed_bytes >> 20;
    if 8 * tables.rows > tables.allowed_bytes {
        let needed = (8 * tables.rows).div_ceil(1 << 20);
        return writeln!(out, "    more than --unwind-memory, {allowed}MiB by default: {needed}MiB have room for all");
    }
    writeln!(out, "    within --unwind-memory, {allowed}MiB by default")
}

fn write_measured(measured: &Measured, out: &mut dyn Write) -> io::Result<()> {
    let seconds = measured.elapsed_ms as f64 / 1e3;
    writeln!(
        out,
        "\nTraced for {seconds:.1} s to count (on this machine a malloc and its free cost {:.1} µs{})",
        measured.pair_ns / 1e3,
        if measured.predicted > 0.0 {
            format!(
                ", or {:.1} µs where the result is known at the entry: {:.0} % here",
                measured.predicted_pair_ns / 1e3,
                100.0 * measured.predicted
            )
        } else {
            String::new()
        }
    )?;
    writeln!(
        out,
        "  {:>8} {:>14} {:>14} {:>6} {:>7}  EXPECTED",
        "PID", "ALLOCATIONS/s", "RELEASES/s", "CPU", "PROBES"
    )?;
    for rate in &measured.processes {
        let expected = match rate.slowdown {
            None => "it hardly ran: no slowdown to speak of".to_owned(),
            Some(slowdown) if rate.is_beyond() => format!("more than {slowdown:.0} times as long: it does little else"),
            Some(slowdown) => format!("its work takes about {slowdown:.1} times as long"),
        };
        writeln!(
            out,
            "  {:>8} {:>14} {:>14} {:>5.0}% {:>6.1}%  {expected}",
            rate.pid,
            number::count(rate.allocations_per_second.round() as u64),
            number::count(rate.releases_per_second.round() as u64),
            100.0 * rate.processors,
            100.0 * rate.probes,
        )?;
    }
    if let Some(whole) = measured.whole_stacks {
        writeln!(out, "  {:.2} % of the allocations had a whole stack", 100.0 * whole)?;
    }
    if measured.lost > 0 {
        writeln!(out, "  {} events were lost", number::count(measured.lost))?;
    }
    Ok(())
}
