//! One traced process: looked at, attached, followed through exec, noticed when it ends.

use std::{collections::HashSet, path::Path};

use memtrace_common::Slot;

use super::{SessionError, notice, pump::Pump};
use crate::{
    allocator::{self, Plan, ProbeSite},
    kernel::{
        Tracer, features,
        links::{Links, Programs},
    },
    target::{Pid, Target, TargetError, status::SeccompMode},
    unwind::{Cache, Segment, segments},
};

/// A process that can be traced, with nothing attached yet.
pub(super) struct Candidate {
    target: Target,
    plan: Plan,
    heap_end: u64,
    /// Keeps the process's unwind tables until they are in the kernel.
    _segments: Vec<Segment>,
}

/// A traced process.
pub(super) struct Traced {
    pub(super) target: Target,
    pub(super) slot: Slot,
    pub(super) links: Links,
    pub(super) exited: bool,
    /// Resident bytes when last seen.
    pub(super) rss_bytes: u64,
    attached: HashSet<SiteKey>,
    emulated: usize,
}

/// What makes a site the same one after an exec: the file and the place in it. The path of the mapping's link is not.
type SiteKey = (std::path::PathBuf, u64);

impl Candidate {
    /// Looks at a process and plans its probes.
    pub(super) fn open(pid: Pid, syscalls: bool, cache: &mut Cache) -> Result<Self, SessionError> {
        let target = Target::open(pid)?;
        // From 6.11 a return probe enters the kernel by a system call of its own, which a seccomp filter may answer by
        // killing the process; 6.14 lets it through ("seccomp: passthrough uretprobe systemcall without filtering").
        let hazard = features::kernel_version().is_some_and(|version| ((6, 11)..(6, 14)).contains(&version));
        if hazard && target.seccomp() == SeccompMode::Filter {
            return Err(SessionError::Seccomp(pid));
        }
        let plan = plan(&target, syscalls)?;
        let mappings = target.mappings()?;
        let (segments, _skipped) = segments(pid, &mappings, cache);
        let heap = mappings.iter().find(|mapping| mapping.path.as_deref() == Some(Path::new("[heap]")));
        Ok(Self { heap_end: heap.map_or(0, |mapping| mapping.end), target, plan, _segments: segments })
    }

    /// Attaches; nothing is recorded until the tracer is told that the slot runs.
    pub(super) fn attach(
        self,
        tracer: &mut Tracer,
        pump: &mut Pump,
        programs: Programs,
    ) -> Result<Traced, SessionError> {
        let pid = self.target.pid();
        let slot = tracer.add_target(pid, self.heap_end)?;
        pump.add_process(slot, pid)?;
        let attached = tracer.attach(pid, slot, &self.plan.sites, programs);
        // A process that has ended meanwhile is the likelier reason for any failure.
        if self.target.exited() {
            return Err(TargetError::Exited { pid }.into());
        }
        notice::blind_spots(&self.target, &self.plan);
        let rss_bytes = self.target.rss_bytes().unwrap_or(0);
        let mut traced = Traced {
            target: self.target,
            slot,
            links: attached?,
            exited: false,
            rss_bytes,
            attached: HashSet::new(),
            emulated: 0,
        };
        traced.note(&self.plan.sites);
        Ok(traced)
    }
}

impl Traced {
    /// Probe sites in place.
    pub(super) fn sites(&self) -> usize {
        self.attached.len()
    }

    /// Probe sites whose hit is one trap instead of two.
    pub(super) fn emulated_sites(&self) -> usize {
        self.emulated
    }

    /// Looks whether the process has ended, and how large it is if not.
    pub(super) fn check_exited(&mut self) -> bool {
        if !self.exited {
            if let Some(rss_bytes) = self.target.rss_bytes() {
                self.rss_bytes = rss_bytes;
            }
            self.exited = self.target.exited();
        }
        self.exited
    }

    /// The process runs another program: probes follow by themselves into the files that both programs map; what the
    /// new one maps besides is attached here.
    pub(super) fn follow_exec(&mut self, by_other_thread: bool, tracer: &mut Tracer, syscalls: bool) {
        let pid = self.target.pid();
        let result = Target::open(pid).map_err(SessionError::from).and_then(|target| {
            self.target = target;
            if by_other_thread {
                // Links are bound to the thread that was the first one, and it is gone.
                self.attached.clear();
                self.emulated = 0;
                let dead = std::mem::take(&mut self.links);
                std::thread::spawn(move || dead.detach());
            }
            let mut plan = plan(&self.target, syscalls)?;
            notice::blind_spots(&self.target, &plan);
            plan.sites.retain(|site| !self.attached.contains(&key(site)));
            if !plan.sites.is_empty() {
                self.links.extend(tracer.attach(pid, self.slot, &plan.sites, Programs::Trace)?);
                self.note(&plan.sites);
            }
            Ok(())
        });
        match result {
            Ok(()) => notice::exec(&self.target),
            // It may have ended by now, which the next look finds.
            Err(SessionError::Target(_)) if self.target.exited() => {}
            Err(error) => notice::exec_untraced(pid, &error),
        }
    }

    fn note(&mut self, sites: &[ProbeSite]) {
        self.emulated += sites.iter().filter(|site| site.emulated).count();
        self.attached.extend(sites.iter().map(key));
    }
}

fn key(site: &ProbeSite) -> SiteKey {
    (site.object_path.clone(), site.file_offset)
}

/// The probes of a process; with `syscalls` without those of the mapping functions.
fn plan(target: &Target, syscalls: bool) -> Result<Plan, SessionError> {
    let pid = target.pid();
    let mut plan = allocator::plan(&target.objects()?).map_err(|source| SessionError::Allocator { pid, source })?;
    if syscalls {
        plan.sites.retain(|site| !site.call.is_mapping());
    }
    Ok(plan)
}
