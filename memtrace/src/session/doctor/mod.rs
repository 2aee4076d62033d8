//! `memtrace doctor`: can it run here, what would it attach to, and what would that cost? Looks only, unless it is asked
//! to count.

pub(in crate::session) mod calibrate;
mod measure;

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

pub(super) use calibrate::pair_ns;
pub use calibrate::{ALLOCATION_LOOP, allocation_loop};
use memtrace_common::{call::Call, unwind::Segment as KernelSegment};

use super::{SessionError, members::Members, plan::confined, unwinding};
use crate::{
    allocator::{self, Plan},
    kernel::features,
    report::{
        destination::WriteError,
        doctor::{Allocator, Check, Findings, Process, SCHEMA, Site, Tables, Unusable, render},
    },
    session::{DoctorConfig, MemoryConfig},
    target::{Pid, Target},
    unwind::{Cache, Segment, segments},
};

/// Prints what was found; true when a run would work.
///
/// # Errors
///
/// When a process that was named cannot be looked at, no cgroup or container has that name, the counting fails, or
/// standard output cannot be written.
pub fn doctor(config: &DoctorConfig) -> Result<bool, SessionError> {
    let checks = checks();
    let named: Vec<Pid> = config.pids.iter().map(|&pid| Pid(pid)).collect();
    let mut cache = Cache::new();
    let mut unwound = Vec::new();
    let mut processes = Vec::new();
    for &pid in &named {
        let (target, plan) = open(pid, config)?;
        processes.push(look(&target, &plan, &mut cache, &mut unwound));
    }
    for pid in present(config, &named)? {
        processes.push(look_at_member(pid, config, &mut cache, &mut unwound));
    }
    let together = (unwound.len() > 1).then(|| {
        let stretches = unwound.iter().map(|tables: &Unwound| tables.segments.len()).sum();
        tables(cache.rows(), stretches, unwound.iter().map(|tables| tables.made_in).sum())
    });
    let works = checks.iter().all(|check| !check.needed || check.missing.is_none())
        && processes.iter().all(|process| process.refused.is_none());
    let traceable = processes.iter().filter(|process| process.refused.is_none()).map(|process| process.pid);
    let measured = match config.measure {
        Some(time) => measure::measure(&traceable.collect::<Vec<_>>(), &config.wrappers, time)?,
        None => None,
    };
    let findings = Findings { schema: SCHEMA, works, checks, processes, unwind: together, measured };
    let mut text = Vec::new();
    let rendered = render(&findings, config.format, &mut text);
    match rendered.and_then(|()| io::stdout().write_all(&text)) {
        Ok(()) => Ok(works),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(works),
        Err(source) => Err(WriteError { path: "standard output".to_owned(), source }.into()),
    }
}

fn checks() -> Vec<Check> {
    let found = features::checks(true).into_iter().chain([features::confined(), features::predicting()]);
    let check = |check: features::Check| Check {
        name: check.name,
        purpose: check.purpose,
        // Only `--syscalls` needs tracefs, only some processes have a filter, and without sessions a call costs more.
        needed: !matches!(check.name, "tracefs" | "seccomp" | "sessions"),
        missing: check.result.err().map(|error| error.to_string()),
    };
    found.map(check).collect()
}

/// The processes of the cgroups and containers that are there now and were not named.
fn present(config: &DoctorConfig, named: &[Pid]) -> Result<Vec<Pid>, SessionError> {
    let mut members = Members::of(&config.cgroups, &config.containers)?;
    named.iter().for_each(|&pid| members.settle(pid));
    Ok(members.present(named))
}

/// A process and what would be attached to it.
fn open(pid: Pid, config: &DoctorConfig) -> Result<(Target, Plan), SessionError> {
    let target = Target::open(pid)?;
    let plan = allocator::plan(&target.objects()?, &config.wrappers, super::plan::ends())
        .map_err(|source| SessionError::Allocator { pid, source })?;
    Ok((target, plan))
}

/// A process that nobody named: that it cannot be traced is a finding.
fn look_at_member(pid: Pid, config: &DoctorConfig, cache: &mut Cache, unwound: &mut Vec<Unwound>) -> Process {
    match open(pid, config) {
        Ok((target, plan)) => look(&target, &plan, cache, unwound),
        Err(error) => Process { refused: Some(error.to_string()), ..empty(pid, String::new()) },
    }
}

fn empty(pid: Pid, command: String) -> Process {
    Process {
        pid: pid.0,
        command,
        refused: None,
        sites: Vec::new(),
        ways_out: 0,
        absent: Vec::new(),
        allocators: Vec::new(),
        pending: Vec::new(),
        unusable: Vec::new(),
        unwind: None,
        frame_pointer_only: Vec::new(),
    }
}

/// The unwind tables of one process.
struct Unwound {
    /// Kept, so that tables are shared by the processes that map the same objects, as in a run.
    segments: Vec<Segment>,
    made_in: Duration,
}

/// What would be attached to the process, and what its stacks are undone by.
fn look(target: &Target, plan: &Plan, all: &mut Cache, unwound: &mut Vec<Unwound>) -> Process {
    let pid = target.pid();
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    // The ways out of a function are many and all alike: they are counted.
    let sites = plan.sites.iter().filter(|site| site.call != Call::Exit).map(|site| Site {
        object: path(&site.object_path),
        function: site.function.clone(),
        file_offset: site.file_offset,
        symbol_offset: site.symbol_offset,
        instruction: site.instruction.clone(),
        emulated: site.emulated,
        reentered: site.reentered,
        predicted: features::has_sessions() && site.prediction.is_some(),
    });
    let allocators = plan.allocators.iter();
    let unusable = plan.unusable.iter();
    let mut process = Process {
        refused: confined(target).map(|error| error.to_string()),
        sites: sites.collect(),
        ways_out: plan.sites.iter().filter(|site| site.call == Call::Exit).count(),
        absent: plan.absent.clone(),
        allocators: allocators
            .map(|found| Allocator { family: found.family.to_string(), object: path(&found.object_path) })
            .collect(),
        pending: plan.pending.clone(),
        unusable: unusable
            .map(|what| Unusable {
                function: what.function.clone(),
                object: path(&what.object_path),
                reason: what.reason.clone(),
            })
            .collect(),
        ..empty(pid, target.command().to_owned())
    };
    let mappings = match target.mappings() {
        Ok(mappings) => mappings,
        Err(error) => return Process { refused: Some(error.to_string()), ..process },
    };
    // On its own first: what this process needs without the others.
    let begun = Instant::now();
    let mut own = Cache::new();
    let (alone, skipped) = segments(pid, &mappings, &mut own);
    process.unwind = Some(tables(own.rows(), alone.len(), begun.elapsed()));
    process.frame_pointer_only = skipped.iter().map(ToString::to_string).collect();
    drop(alone);
    let begun = Instant::now();
    let (segments, _skipped) = segments(pid, &mappings, all);
    unwound.push(Unwound { segments, made_in: begun.elapsed() });
    process
}

fn tables(rows: usize, stretches: usize, made_in: Duration) -> Tables {
    let capacity = u64::from(unwinding::capacity(rows, MemoryConfig::default().unwind_bytes));
    Tables {
        rows: rows as u64,
        stretches: stretches as u64,
        kernel_bytes: 8 * capacity + (size_of::<KernelSegment>() * stretches) as u64,
        allowed_bytes: MemoryConfig::default().unwind_bytes,
        made_in_ms: u64::try_from(made_in.as_millis()).unwrap_or(u64::MAX),
    }
}
