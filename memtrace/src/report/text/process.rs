//! The memory footprint: each process, what it holds in all, and what its calls add up to.

use std::io;

use super::{
    page::{Look, Page, WIDTH},
    width::{shorten, width},
};
use crate::report::{
    escape::escape,
    footprint,
    name::held,
    number::{bytes, duration, of},
    runtime::Type,
    snapshot::{Process, Retired, Snapshot, Totals, Tracer},
};

/// The most types of objects that are listed for one process.
const MAX_TYPES: usize = 5;

/// `603 kB in 1,200 blocks`.
fn outstanding(totals: &Totals) -> String {
    let blocks = of(totals.outstanding_blocks, "block", "blocks");
    let held = held(totals.outstanding_bytes, &blocks, totals.estimate.is_some());
    match totals.small_objects {
        0 => held,
        objects => {
            format!("{held} and {} in {}", bytes(totals.small_bytes), of(objects, "small object", "small objects"))
        }
    }
}

/// `, mapped 8.19 MB, reserved address space 134 MB`; what is mapped and not touched where that is known.
fn ranges(totals: &Totals) -> String {
    let mapped = if totals.touched_bytes > 0 { "mapped and not touched" } else { "mapped" };
    let parts = [
        ("touched", totals.touched_bytes),
        (mapped, totals.mapped_bytes),
        ("reserved address space", totals.reserved_bytes),
    ];
    let parts = parts.into_iter().filter(|&(_, size)| size > 0);
    parts.map(|(what, size)| format!(", {what} {}", bytes(size))).collect()
}

impl Page<'_> {
    pub fn process(&mut self, process: &Process, snapshot: &Snapshot) -> io::Result<()> {
        let totals = &process.totals;
        if !snapshot.is_final {
            let text =
                format!("pid {}: rss {}, outstanding {}", process.pid, bytes(process.rss_bytes), outstanding(totals));
            self.wrapped("  ", &text)?;
            return self.footprint(process, false);
        }
        self.line("")?;
        let exited = if process.exited { " (ended)" } else { "" };
        let head = format!("pid {}{exited}", process.pid);
        let command = shorten(&escape(&process.command), WIDTH - width(&head) - 2);
        let head = self.looks(Look::Bold, &head);
        self.line(format!("{head}  {command}").trim_end())?;
        let ranges = ranges(totals);
        self.wrapped(
            "  ",
            &format!(
                "traced for {}, rss {}, outstanding {}{ranges}",
                duration(process.traced_ms.unwrap_or(snapshot.elapsed_ms)),
                bytes(process.rss_bytes),
                outstanding(totals),
            ),
        )?;
        if let Some(estimate) = &totals.estimate {
            self.wrapped("  ", &estimate.sentence())?;
        }
        self.wrapped(
            "  ",
            &format!(
                "{} of {}, {} of {}",
                of(totals.allocations, "allocation", "allocations"),
                bytes(totals.allocated_bytes),
                of(totals.frees, "free", "frees"),
                bytes(totals.freed_bytes),
            ),
        )?;
        self.footprint(process, true)?;
        for heap in snapshot.heaps.iter().filter(|heap| heap.pid == process.pid) {
            self.wrapped("  ", &heap.sentence())?;
        }
        if let Some(asked) = &process.asked {
            self.wrapped("  ", &asked.sentence())?;
        }
        self.growing_types(process.pid, snapshot)
    }

    /// The types of a process whose objects become more, the fastest first.
    fn growing_types(&mut self, pid: u32, snapshot: &Snapshot) -> io::Result<()> {
        let growing = |of: &&Type| of.pid == pid && of.judged.verdict.is_leak();
        let growing: Vec<&Type> = snapshot.types.iter().filter(growing).collect();
        if growing.is_empty() {
            return Ok(());
        }
        self.wrapped("  ", "Objects of these types become more:")?;
        growing.iter().take(MAX_TYPES).try_for_each(|of| self.wrapped("    ", &of.sentence()))?;
        match growing.len().saturating_sub(MAX_TYPES) as u64 {
            0 => Ok(()),
            more => self.wrapped("    ", &of(more, "further type", "further types")),
        }
    }

    /// Processes that are not shown, and those that are not even listed.
    pub fn other_processes(&mut self, snapshot: &Snapshot, shown: usize) -> io::Result<()> {
        let Retired { processes: retired, too_short, .. } = snapshot.retired;
        let more = (snapshot.processes.len() - shown.min(snapshot.processes.len())) as u64;
        let idle = (snapshot.processes.iter().filter(|process| super::is_idle(process)).count() as u64).min(more);
        let (more, mut parts) = (more - idle, Vec::new());
        if idle > 0 {
            let are = of(idle, "further process holds", "further processes hold");
            parts.push(format!("{are} nothing that was allocated since the attach"));
        }
        if more > 0 {
            parts.push(of(more, "further process is traced or was", "further processes are traced or were"));
        }
        if retired > 0 {
            let ended = of(retired, "process", "processes");
            let allocations = of(snapshot.retired.allocations, "allocation", "allocations");
            parts.push(format!("{ended} more ended before, after {allocations}"));
        }
        if too_short > 0 {
            let ended = of(too_short, "process", "processes");
            parts.push(format!("{ended} ended before memtrace could attach"));
        }
        if parts.is_empty() {
            return Ok(());
        }
        if snapshot.is_final {
            self.line("")?;
        }
        self.wrapped(if snapshot.is_final { "" } else { "  " }, &format!("{}.", parts.join("; ")))
    }

    /// Writes what memtrace itself took of processor time and memory.
    pub fn own(&mut self, tracer: &Tracer) -> io::Result<()> {
        if tracer.rss_bytes == 0 {
            return Ok(());
        }
        self.line("")?;
        let text = format!(
            "memtrace itself took {} of processor time and {} of memory, besides {} of files and of buffers shared with the kernel.",
            duration(tracer.cpu_ms),
            bytes(tracer.anon_bytes),
            bytes(tracer.rss_bytes.saturating_sub(tracer.anon_bytes)),
        );
        self.wrapped("", &text)
    }

    fn footprint(&mut self, process: &Process, is_final: bool) -> io::Result<()> {
        footprint::sentences(process, is_final).iter().try_for_each(|sentence| self.wrapped("  ", sentence))
    }

    pub fn notes(&mut self, processes: &[Process]) -> io::Result<()> {
        let mut notes = Vec::new();
        for process in processes {
            let totals = &process.totals;
            let mut note = |number: u64, one: &str, many: &str| {
                if number > 0 {
                    notes.push(format!("pid {}: {}", process.pid, of(number, one, many)));
                }
            };
            note(
                totals.frees_unmatched,
                "free was of a block not seen to appear: from before the attach, filtered, or lost.",
                "frees were of blocks not seen to appear: from before the attach, filtered, or lost.",
            );
            note(
                totals.inherited_blocks,
                &format!(
                    "block of {} is its parent's heap, which it has by fork; it is in no stack here.",
                    bytes(totals.inherited_bytes)
                ),
                &format!(
                    "blocks of {} are its parent's heap, which it has by fork; they are in no stack here.",
                    bytes(totals.inherited_bytes)
                ),
            );
            note(
                totals.frees_implied,
                "free was not seen, but its address was allocated again, so it is counted.",
                "frees were not seen, but their addresses were allocated again, so they are counted.",
            );
            note(
                totals.blocks_dropped_by_exec,
                "block went with the old program when the process called exec.",
                "blocks went with the old program when the process called exec.",
            );
            note(totals.failed_allocations, "allocator call failed.", "allocator calls failed.");
            note(
                totals.allocations_filtered,
                "allocation was left out by --min-size or --max-size.",
                "allocations were left out by --min-size or --max-size.",
            );
        }
        if notes.is_empty() {
            return Ok(());
        }
        self.line("")?;
        for note in notes {
            self.wrapped("", &note)?;
        }
        Ok(())
    }
}
