//! What a run tells its user besides the report, on standard error.

#![expect(clippy::print_stderr, reason = "standard error is where progress and warnings go")]

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use super::traced::Traced;
use crate::{
    allocator::Plan,
    cli::TraceConfig,
    report::{escape::escape, number, snapshot::Snapshot},
    symbol::Problem,
    target::Target,
    trend::Verdict,
};

/// A target is attached and recorded.
pub(super) fn attached(process: &Traced, took: Duration, config: &TraceConfig) {
    let (sites, emulated) = (process.sites(), process.emulated_sites());
    eprintln!(
        "memtrace: attached to {} ({}): {sites} probe sites ({emulated} of them cheap) in {} ms; report every {}, {}",
        process.target.pid(),
        escape(process.target.command()),
        took.as_millis(),
        humantime::format_duration(config.interval),
        config.duration.map_or_else(
            || "Ctrl-C ends the run".to_owned(),
            |duration| format!("ends in {}", humantime::format_duration(duration))
        ),
    );
    if config.syscalls {
        eprintln!(
            "memtrace: --syscalls: every process on this machine makes slightly slower system calls until the run ends"
        );
    }
}

/// What of the target's memory the run will not see.
pub(super) fn blind_spots(target: &Target, plan: &Plan) {
    for foreign in &plan.foreign {
        eprintln!(
            "memtrace: warning: {} ({}) allocates with {} in {}, which is not traced yet: only calls that reach the C \
             library are counted",
            target.pid(),
            escape(target.command()),
            foreign.family,
            escape(&foreign.object_path.to_string_lossy()),
        );
    }
    for unusable in &plan.unusable {
        let what = unusable.function.map_or_else(String::new, |function| format!("{function} in "));
        let object = unusable.object_path.to_string_lossy();
        eprintln!("memtrace: warning: {what}{} is not traced: {}", escape(&object), escape(&unusable.reason));
    }
}

/// How far the run is, for who watches a terminal while the report goes to a file.
pub(super) fn progress(snapshot: &Snapshot) {
    if io::stderr().is_terminal() {
        let held: u64 = snapshot.processes.iter().map(|process| process.totals.outstanding_bytes).sum();
        let growing = snapshot.stacks.iter().filter(|stack| stack.verdict == Verdict::Growing.as_str()).count();
        eprintln!(
            "memtrace: {}: {} outstanding, {growing} of the stacks shown growing",
            number::duration(snapshot.elapsed_ms),
            number::bytes(held)
        );
    }
}

/// Why some frames have no names.
pub(super) fn unnamed<'a>(problems: impl Iterator<Item = &'a Problem>) {
    const SHOWN: usize = 5;
    for problem in problems.take(SHOWN) {
        eprintln!("memtrace: warning: names in {}: {}", escape(&problem.module), escape(&problem.reason));
    }
}

/// The target runs another program now.
pub(super) fn exec(target: &Target) {
    eprintln!(
        "memtrace: {} replaced its program (exec) and is {} now; its old heap is closed, tracing goes on",
        target.pid(),
        escape(target.command()),
    );
}

/// The target's new program cannot be traced.
pub(super) fn exec_untraced(pid: crate::target::Pid, reason: &dyn std::fmt::Display) {
    eprintln!("memtrace: warning: {pid} replaced its program (exec), and the new one is not fully traced: {reason}");
}
