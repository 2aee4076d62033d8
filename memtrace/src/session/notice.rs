//! What a run tells its user besides the report, on standard error.

#![expect(clippy::print_stderr, reason = "standard error is where progress and warnings go")]

use std::{
    io::{self, IsTerminal as _},
    process::ExitStatus,
    time::Duration,
};

use super::footprint::OomNotice;
use crate::{
    allocator::Plan,
    report::rules::Suppression,
    report::{ending, escape::escape, footprint, number, snapshot::Snapshot},
    session::{TraceConfig, WatchConfig},
    symbol::Problem,
    target::{Pid, Target},
};

/// A process that is attached.
pub(super) struct Attached<'a> {
    pub(super) pid: Pid,
    pub(super) command: &'a str,
    /// Probe sites, and those of them whose hit is one trap instead of two.
    pub(super) sites: usize,
    pub(super) emulated_sites: usize,
}

/// The targets are attached and recorded.
pub(super) fn attached(processes: &[Attached<'_>], took: Duration, config: &TraceConfig) {
    let what = |sites: usize, emulated: usize| match config.probes.growth {
        true => "no probes; system calls and page faults".to_owned(),
        false if sites == 0 => "no probes; what its runtime says of its own memory is read".to_owned(),
        false => format!("{sites} probe sites ({emulated} of them emulated: one trap a hit instead of two)"),
    };
    let times = format!(
        "in {} ms; report every {}, {}",
        took.as_millis(),
        humantime::format_duration(config.times.interval),
        config.times.duration.map_or_else(
            || "Ctrl-C ends the run".to_owned(),
            |duration| format!("ends in {}", humantime::format_duration(duration))
        ),
    );
    match processes {
        [] => {}
        [process] => eprintln!(
            "memtrace: attached to {} ({}): {} {times}",
            process.pid,
            escape(process.command),
            what(process.sites, process.emulated_sites),
        ),
        processes => {
            eprintln!("memtrace: attached to {} processes {times}", processes.len());
            let of = |process: &Attached<'_>| (program(process.command), process.sites, process.emulated_sites);
            let alike = alike(processes.iter().map(|process| (of(process), process.pid)));
            for ((program, sites, emulated), pids) in alike {
                eprintln!("memtrace: {} ({}): {}", escape(&program), list(&pids), what(sites, emulated));
            }
        }
    }
    if config.probes.syscalls {
        eprintln!(
            "memtrace: {} of every process on this machine are slightly slower until the run ends",
            if config.probes.growth {
                "--mode growth: system calls and page faults"
            } else {
                "--syscalls: system calls"
            }
        );
    }
}

/// The program of a command line, without its folder and without what servers say behind a colon of what they do.
fn program(command: &str) -> String {
    let word = command.split_whitespace().next().unwrap_or(command);
    word.rsplit('/').next().unwrap_or(word).trim_end_matches(':').to_owned()
}

/// What is alike is one; in the order in which each came first.
fn alike<K: PartialEq>(processes: impl Iterator<Item = (K, Pid)>) -> Vec<(K, Vec<Pid>)> {
    let mut groups: Vec<(K, Vec<Pid>)> = Vec::new();
    for (key, pid) in processes {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, pids)) => pids.push(pid),
            None => groups.push((key, vec![pid])),
        }
    }
    groups
}

/// The first ones, and how many more.
fn list(pids: &[Pid]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<_> = pids.iter().take(SHOWN).map(Pid::to_string).collect();
    let more = pids.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// Which allocators the target has, and what of its memory the run will not see.
pub(super) fn allocators(target: &Target, plan: &Plan) {
    for found in &plan.allocators {
        eprintln!(
            "memtrace: {} ({}) has {} in {}",
            target.pid(),
            escape(target.command()),
            found.family,
            escape(&found.object_path.to_string_lossy()),
        );
    }
    for pending in &plan.pending {
        eprintln!(
            "memtrace: {}: no file of this name is mapped yet; it will be traced when it is loaded",
            escape(pending)
        );
    }
    for unusable in &plan.unusable {
        let what = unusable.function.as_ref().map_or_else(String::new, |function| format!("{function} in "));
        let object = unusable.object_path.to_string_lossy();
        eprintln!("memtrace: warning: {what}{} is not traced: {}", escape(&object), escape(&unusable.reason));
    }
}

/// Something is to be said of debug files that servers are asked for.
pub(super) fn debug_files(sentence: &str) {
    eprintln!("memtrace: debuginfod: {}", escape(sentence));
}

/// The kernel killed processes of a target's cgroup.
pub(super) fn oom_kills(pid: Pid, notice: OomNotice) {
    if notice.kills > 0 {
        eprintln!("memtrace: warning: {pid}: {}", footprint::oom_kills(notice.kills).replacen("The", "the", 1));
    }
    if notice.target_killed {
        eprintln!("memtrace: warning: {pid} itself was ended by the kernel for want of memory (OOM kill)");
    }
}

/// The kernel killed processes of a watched cgroup.
pub(super) fn group_oom_kills(kills: u64) {
    eprintln!("memtrace: warning: {}", footprint::oom_kills(kills).replacen("The", "the", 1));
}

/// A watch begins.
pub(super) fn watching(processes: usize, cgroup: Option<String>, config: &WatchConfig) {
    let cgroup = cgroup.map(|path| format!("cgroup {}", escape(&path)));
    let processes = (processes > 0).then(|| number::of(processes as u64, "process", "processes"));
    let what: Vec<String> = processes.into_iter().chain(cgroup).collect();
    eprintln!(
        "memtrace: watching {} every {}, no probes; rates are of the last {}",
        what.join(" and "),
        humantime::format_duration(config.interval),
        humantime::format_duration(config.window),
    );
}

/// An alert was to set off a trace.
pub(super) fn not_escalated(error: &dyn std::fmt::Display) {
    eprintln!("memtrace: warning: cannot trace after the alert: {error}");
}

/// How far the run is, for who watches a terminal while the report goes to a file.
pub(super) fn progress(snapshot: &Snapshot) {
    if io::stderr().is_terminal() {
        let held: u64 = snapshot.processes.iter().map(|process| process.totals.outstanding_bytes).sum();
        let growing =
            snapshot.stacks.iter().filter(|stack| stack.verdict.is_leak() && stack.suppressed.is_none()).count();
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

/// How a window is started.
pub(super) fn how_to_mark() {
    let pid = std::process::id();
    eprintln!("memtrace: to start a new measuring window, run: memtrace mark {pid} (or kill -USR1 {pid})");
}

/// A window begins.
pub(super) fn marked(elapsed_ms: u64) {
    eprintln!("memtrace: a new measuring window has started at {}", number::duration(elapsed_ms));
}

/// Rules that may be left out of the suppressions, or are misspelt.
pub(super) fn unused<'a>(suppressions: impl Iterator<Item = &'a Suppression>) {
    const SHOWN: usize = 20;
    let mut more = 0;
    for (number, suppression) in suppressions.enumerate() {
        if number < SHOWN {
            let (rule, place) = (suppression.rule.to_string(), &suppression.place);
            eprintln!(
                "memtrace: this suppression matched no growing stack in this run: {} ({})",
                escape(&rule),
                escape(place)
            );
        } else {
            more += 1;
        }
    }
    if more > 0 {
        eprintln!("memtrace: {more} further suppressions matched no growing stack");
    }
}

/// What `--max-overhead` needs first.
pub(super) fn calibrating() {
    eprintln!("memtrace: measuring what a probe costs on this machine, which takes about three seconds");
}

/// What it costs.
pub(super) fn calibrated(costs: &dyn std::fmt::Display) {
    eprintln!("memtrace: {costs}");
}

/// The budget takes a sample, or a sparser one.
pub(super) fn sparser(distance: u64) {
    eprintln!(
        "memtrace: --max-overhead: from now on one heap block is sampled for every {} allocated",
        number::bytes(distance)
    );
}

/// The budget takes allocations away for a while.
pub(super) fn rests() {
    eprintln!("memtrace: --max-overhead: allocations are not recorded for a while; releases still are");
}

/// The budget lets probes on allocations come back.
pub(super) fn resumes() {
    eprintln!("memtrace: --max-overhead: allocations and releases are recorded again");
}

/// Further changes that the budget makes are not reported.
pub(super) fn goes_on_so() {
    eprintln!("memtrace: --max-overhead: further changes of the sampling will not be reported");
}

/// The budget takes all probes on heap calls away for a while.
pub(super) fn leaves() {
    eprintln!(
        "memtrace: --max-overhead: recording releases alone would cost more than is allowed, so nothing is recorded for a while"
    );
}

/// The target runs another program now.
pub(super) fn exec(target: &Target) {
    eprintln!(
        "memtrace: {} replaced its program (exec) and is now {}; its old heap is gone, and tracing continues",
        target.pid(),
        escape(target.command()),
    );
}

/// A report found the last one not read yet.
pub(super) fn unread() {
    eprintln!(
        "memtrace: the reader of the reports is not keeping up: interval reports are skipped until it does; tracing continues"
    );
}

/// How many reports were left out for that reason.
pub(super) fn left_out(reports: u64) {
    eprintln!(
        "memtrace: {reports} interval reports were skipped because the reader did not keep up; the last report has everything"
    );
}

/// A process has joined the run.
pub(super) fn joined(process: &Attached<'_>, others: usize) {
    const SHOWN: usize = 64;
    match others {
        0..SHOWN => eprintln!(
            "memtrace: attached to {} ({}): {} probe sites",
            process.pid,
            escape(process.command),
            process.sites
        ),
        SHOWN => eprintln!("memtrace: further attached processes are no longer listed"),
        _ => {}
    }
}

/// A process belongs to the run and cannot be traced.
pub(super) fn not_joined(pid: Pid, reason: &dyn std::fmt::Display) {
    eprintln!("memtrace: warning: process {pid} is not traced: {reason}");
}

/// How the command that was run ended, when that is worth a word.
pub(super) fn command_ended(pid: Pid, status: Option<ExitStatus>) {
    match status {
        None => eprintln!("memtrace: the command continues without memtrace as process {pid}"),
        Some(status) if !status.success() => eprintln!("memtrace: the command ended with {status}"),
        Some(_) => {}
    }
}

/// The target's new program cannot be traced.
pub(super) fn exec_untraced(pid: Pid, reason: &dyn std::fmt::Display) {
    eprintln!(
        "memtrace: warning: process {pid} replaced its program (exec), and the new one is not fully traced: {reason}"
    );
}

/// A target was ended by a signal that probes cause.
pub(super) fn ended_by_probes(pid: Pid, signal: u32) {
    if let Some(sentence) = ending::sentence(pid.0, signal) {
        eprintln!("memtrace: warning: {}", sentence.replacen("Process", "process", 1));
    }
}

/// Nothing but who touches memory can be told of the targets; `why` is half a sentence.
pub(super) fn growth_chosen(why: &str) {
    eprintln!("memtrace: {why}: as with --mode growth, who touches its memory first is shown");
}

/// The code that a target's runtime runs is not named, or its memory not read; `reason` is a sentence.
pub(super) fn runtime_refused(pid: Pid, reason: &str) {
    eprintln!("memtrace: warning: process {pid}: {}", escape(reason));
}

/// A target is asked what it holds: what that means for it.
pub(super) fn asking(pid: Pid, inspector: &str, is_ours: bool) {
    let opened = if is_ours { "opened by SIGUSR1, to be closed at the end" } else { "which was open before" };
    eprintln!(
        "memtrace: asking process {pid} by its inspector at {inspector}, {opened}: V8 samples the objects that are allocated from now on, and \
         collects its heap before each report"
    );
}

/// A virtual machine of Java is asked what it holds: what that means for it.
pub(super) fn asking_for_classes(pid: Pid, is_ours: bool) {
    let opened = if is_ours { "opened at SIGQUIT, which stays until it ends" } else { "which was open before" };
    eprintln!(
        "memtrace: asking process {pid} by its attach socket, {opened}: it counts its objects by class, and collects its whole heap for \
         that before each report"
    );
}

/// No target can be asked.
pub(super) fn nothing_to_ask() {
    eprintln!(
        "memtrace: warning: --ask had nothing to ask: no target is a program of Node's or a Java virtual machine"
    );
}

/// An inspector that memtrace opened could not be closed.
pub(super) fn inspector_is_open(pid: Pid, inspector: &str) {
    eprintln!(
        "memtrace: warning: the inspector of process {pid} at {inspector} could not be closed: it stays open until the process ends"
    );
}

/// More small objects were allocated than are kept in mind.
pub(super) fn too_many_pools(pid: Pid) {
    eprintln!(
        "memtrace: warning: process {pid} has more than 8 GiB of small objects that are new: of those that come now it is not known which \
         line allocates them"
    );
}

/// A target that may copy its probed code could not be held.
pub(super) fn not_held(pid: Pid, reason: &io::Error) {
    eprintln!(
        "memtrace: warning: process {pid} cannot be held by ptrace ({reason}): if it copies its own code while it is probed, SIGTRAP will \
         end it"
    );
}

/// A target's children are not held at their start.
pub(super) fn not_followed(pid: Pid, reason: &dyn std::fmt::Display) {
    eprintln!(
        "memtrace: warning: process {pid} cannot be held by ptrace ({reason}): its children are traced from a tenth of a second \
         after their start, and shorter-lived ones not at all; further such processes are not listed"
    );
}

/// Nobody is held at the start.
pub(super) fn nobody_held(reason: &dyn std::fmt::Display) {
    eprintln!(
        "memtrace: warning: processes cannot be held at their start ({reason}): children and new programs are traced \
         from a tenth of a second after their start"
    );
}

/// A process has waited in vain.
pub(super) fn late(pid: Pid) {
    eprintln!(
        "memtrace: warning: process {pid} was held at its start until memtrace could attach; that took too long, so it now \
         runs on. What it does before memtrace attaches is not recorded. Further such processes are only counted (starts_unseen)"
    );
}

/// Another tracer keeps mapping functions to itself; `functions` is empty where none does.
pub(super) fn by_system_call(pid: Pid, functions: &[String]) {
    if !functions.is_empty() {
        eprintln!(
            "memtrace: warning: process {pid}: another tracer holds probes with a reference counter on {}, so system calls are traced in \
             their place; every process on this machine makes slightly slower system calls until the run ends",
            escape(&functions.join(", "))
        );
    }
}

/// Another tracer took memtrace's probes away with its own; they are put back.
pub(super) fn probes_lost(pid: Pid) {
    eprintln!(
        "memtrace: warning: process {pid} lost memtrace's probes: its first thread has ended, and when another tracer detached the \
         kernel removed both tracers' probes. memtrace now attaches its own again; calls made in between are not recorded"
    );
}

/// Probes that another tracer's leaving took away cannot be put back.
pub(super) fn not_put_back(pid: Pid, reason: &dyn std::fmt::Display) {
    eprintln!(
        "memtrace: warning: process {pid} is not probed any more, and nothing that it calls is recorded: its first thread has \
         ended, and probes cannot be attached through another one ({reason}); memtrace tries again twice a second"
    );
}

/// Probes are in place again after [`not_put_back`].
pub(super) fn put_back(pid: Pid) {
    eprintln!("memtrace: process {pid} is probed again; calls made in between are not recorded");
}

/// A target ran a copy of its probed code.
pub(super) fn copied(pid: Pid, breakpoints: u64) {
    eprintln!(
        "memtrace: warning: process {pid} runs a copy of its own code, which cannot be probed: {} taken out of the copy; what \
         that code allocates from now on is not recorded, so a leak in it is not shown. To see it, run memtrace again with \
         --mode growth",
        number::of(breakpoints, "breakpoint was", "breakpoints were"),
    );
}

/// A target's probed code is not mapped from its file any more.
pub(super) fn moved(pid: Pid) {
    eprintln!(
        "memtrace: warning: process {pid} has replaced its own code by anonymous memory, which cannot be probed; what that code \
         allocates from now on is not recorded, so a leak in it is not shown. To see it, run memtrace again with --mode growth"
    );
}

/// The target has loaded files with functions that are probed now.
pub(super) fn loaded(target: &Target, sites: usize) {
    eprintln!(
        "memtrace: {} ({}) has loaded allocator functions: {sites} more probe sites",
        target.pid(),
        escape(target.command()),
    );
}

/// The target has loaded files whose functions cannot be probed.
pub(super) fn loaded_untraced(pid: Pid, reason: &dyn std::fmt::Display) {
    eprintln!("memtrace: warning: process {pid} has loaded more code whose allocators are not traced: {reason}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_called_by_its_name_alone() {
        for (command, name) in [
            ("postgres: checkpointer", "postgres"),
            ("/usr/sbin/nginx -g daemon off;", "nginx"),
            ("nginx: worker process", "nginx"),
            ("[memtrace]", "[memtrace]"),
            ("", ""),
        ] {
            assert_eq!(program(command), name, "{command}");
        }
    }

    #[test]
    fn processes_that_are_alike_are_one_line() {
        let groups = alike([("a", Pid(3)), ("b", Pid(1)), ("a", Pid(9))].into_iter());
        assert_eq!(groups, [("a", vec![Pid(3), Pid(9)]), ("b", vec![Pid(1)])]);
        assert_eq!(list(&[Pid(3), Pid(9)]), "3, 9");
        let many: Vec<_> = (1..=10).map(Pid).collect();
        assert_eq!(list(&many), "1, 2, 3, 4, 5, 6, 7, 8 and 2 more");
    }
}
