//! Probes in place, and how they come and go.
//!
//! Release probes go in first and allocation probes last, return probes before entry probes: whatever a half-attached
//! set records is released or finished by probes that are there already. (`Tracer::set_running` opens all at once besides.)

use std::{num::NonZeroU32, os::fd::OwnedFd, path::Path, thread, time::Duration};

use aya::programs::{
    ProgramError, RawTracePoint, TracePoint, UProbe,
    raw_trace_point::RawTracePointLink,
    trace_point::TracePointLink,
    uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
};
use memtrace_common::{Slot, call::Call, cookie};

use super::{
    error::KernelError,
    multi::{HEAP_SESSION, MAPPING_ENTRY, RELEASE_SESSION},
    tracer::Tracer,
};
use crate::{allocator::ProbeSite, target::Pid};

/// One attached program. Dropping it detaches it.
#[expect(dead_code, reason = "links are held to be dropped")]
enum Link {
    Multi(OwnedFd),
    Uprobe(UProbeLink),
    TracePoint(TracePointLink),
    RawTracePoint(RawTracePointLink),
}

/// Attached programs, which are detached together or when dropped.
#[derive(Default)]
pub struct Links(Vec<Link>);

/// The probes of some calls, which can be taken away while calls go on.
#[derive(Default)]
pub struct Halves {
    /// On the calls' entries.
    pub entries: Links,
    /// On their returns.
    pub returns: Links,
    /// On both.
    pub sessions: Links,
}

impl Halves {
    /// How long a call that has begun may take to return.
    const FINISH: Duration = Duration::from_millis(20);

    /// Takes over other probes of the same process.
    pub fn extend(&mut self, other: Halves) {
        self.entries.extend(other.entries);
        self.returns.extend(other.returns);
        self.sessions.extend(other.sessions);
    }

    /// The probes on entries and on returns together.
    pub fn into_links(self) -> Links {
        let Self { entries: mut links, returns, sessions } = self;
        links.extend(returns);
        links.extend(sessions);
        links
    }

    /// Detaches the entries, and the returns when the calls that have begun are over: one whose return were not seen would
    /// hide the calls after it. Takes as long as that. With sessions [`Tracer::close_sessions`] must have been called.
    pub fn detach(self) {
        let Self { entries, returns: mut ends, sessions } = self;
        ends.extend(sessions);
        entries.detach();
        thread::sleep(Self::FINISH);
        ends.detach();
    }
}

/// Which programs stand on the sites.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Programs {
    /// The tracing programs.
    #[default]
    Trace,
    /// Programs that do nothing: the floor that the benchmark compares with.
    Empty,
}

impl Links {
    /// Whether none is attached.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes over another set of attached programs.
    pub fn extend(&mut self, other: Links) {
        self.0.extend(other.0);
    }

    /// Detaches all, side by side: the kernel makes each wait for a grace period, and they may wait for the same one.
    pub fn detach(self) {
        const MAX_THREADS: usize = 128;
        let threads = self.0.len().clamp(1, MAX_THREADS);
        let mut shares: Vec<Vec<Link>> = (0..threads).map(|_| Vec::new()).collect();
        for (index, link) in self.0.into_iter().enumerate() {
            shares[index % threads].push(link);
        }
        thread::scope(|scope| {
            for share in shares.into_iter().filter(|share| !share.is_empty()) {
                scope.spawn(move || drop(share));
            }
        });
    }
}

impl Tracer {
    /// Attaches to every site for one process.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a program or a site; what was attached so far is detached.
    pub fn attach(
        &mut self,
        pid: Pid,
        slot: Slot,
        sites: &[ProbeSite],
        programs: Programs,
    ) -> Result<Links, KernelError> {
        self.attach_halves(pid, slot, sites, programs).map(Halves::into_links)
    }

    /// Attaches to every site for one process, and gives the probes on entries and those on returns apart.
    ///
    /// # Errors
    ///
    /// As for [`attach`](Self::attach).
    pub fn attach_halves(
        &mut self,
        pid: Pid,
        slot: Slot,
        sites: &[ProbeSite],
        programs: Programs,
    ) -> Result<Halves, KernelError> {
        let mut ordered: Vec<&ProbeSite> = sites.iter().collect();
        ordered.sort_by_key(|site| rank(site.call));
        let mut halves = Halves::default();
        // A link for many sites takes a process, and finds its memory by its first thread: where that has ended it would be in
        // place nowhere. Single probes take any thread, and are hit by all that share its memory.
        let thread = pid.living_thread();
        if self.multi.is_some() && thread == pid {
            for (program, sites, is_return) in by_program(&ordered, programs, self.has_sessions()) {
                let link = match self.attach_many(program, pid, slot, &sites) {
                    Err(error) if program == MAPPING_ENTRY && error.is_other_reference_counter() => {
                        // The kernel takes all or none, and does not say whose place it means.
                        for site in sites {
                            match self.attach_many(program, pid, slot, &[site]) {
                                Err(error) if error.is_other_reference_counter() => self.stand_in(site, error)?,
                                attached => halves.entries.0.push(attached?),
                            }
                        }
                        continue;
                    }
                    attached => attached?,
                };
                let links = match (program, is_return) {
                    (HEAP_SESSION | RELEASE_SESSION, _) => &mut halves.sessions,
                    (_, true) => &mut halves.returns,
                    (_, false) => &mut halves.entries,
                };
                links.0.push(link);
            }
            return Ok(halves);
        }
        for site in ordered {
            let (entry, returned) = program_names(site, programs, false);
            if let Some(returned) = returned {
                halves.returns.0.push(self.attach_one(returned, thread, slot, site)?);
            }
            match self.attach_one(entry, thread, slot, site) {
                Err(error) if entry == MAPPING_ENTRY && error.is_other_reference_counter() => {
                    self.stand_in(site, error)?;
                }
                attached => halves.entries.0.push(attached?),
            }
        }
        Ok(halves)
    }

    /// Has system calls traced in place of a mapping function that cannot be probed. `error` says why, and stays if system calls
    /// cannot be traced either.
    fn stand_in(&mut self, site: &ProbeSite, error: KernelError) -> Result<(), KernelError> {
        if self.by_system_call.is_none() {
            self.by_system_call = Some(self.attach_syscalls().map_err(|_cannot| error)?);
        }
        self.refused.push(site.function.clone());
        Ok(())
    }

    /// The mapping functions that are traced by their system calls since this was asked last, because another tracer holds
    /// probes on them.
    pub fn take_refused(&mut self) -> Vec<String> {
        std::mem::take(&mut self.refused)
    }

    /// The links that stand in for such functions, to be detached at the end of the run.
    pub fn take_stand_ins(&mut self) -> Links {
        self.by_system_call.take().unwrap_or_default()
    }

    /// One link for sites of one file.
    fn attach_many(&self, program: &str, pid: Pid, slot: Slot, sites: &[&ProbeSite]) -> Result<Link, KernelError> {
        let (Some(multi), Some(first)) = (&self.multi, sites.first()) else { return Err(KernelError::Map("multi")) };
        let offsets: Vec<(u64, u64)> = sites.iter().map(|site| (site.file_offset, cookie(site, slot))).collect();
        multi.attach(program, &first.open_path, pid, &offsets).map(Link::Multi).map_err(|source| {
            KernelError::AttachMany {
                functions: sites.iter().map(|site| site.function.as_str()).collect::<Vec<_>>().join(", "),
                object: first.object_path.display().to_string(),
                source,
            }
        })
    }

    fn attach_one(
        &mut self,
        program: &'static str,
        thread: Pid,
        slot: Slot,
        site: &ProbeSite,
    ) -> Result<Link, KernelError> {
        let failed = |source| KernelError::Attach {
            function: site.function.clone(),
            object: site.object_path.display().to_string(),
            source: Box::new(source),
        };
        let probe: &mut UProbe = self.loaded(program, UProbe::load)?;
        let scope = NonZeroU32::new(thread.0).map_or(UProbeScope::CallingProcess, UProbeScope::OneProcess);
        let point = UProbeAttachPoint {
            location: UProbeAttachLocation::AbsoluteOffset(site.file_offset),
            cookie: Some(cookie(site, slot)),
        };
        let id = probe.attach(point, &site.open_path, scope).map_err(failed)?;
        probe.take_link(id).map(Link::Uprobe).map_err(failed)
    }

    /// Attaches what notices an exec and the end of a thread, for all targets.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn attach_lifecycle(&mut self) -> Result<Links, KernelError> {
        let mut links = Links::default();
        for (program, tracepoint) in [("exec", "sched_process_exec"), ("thread_exit", "sched_process_exit")] {
            let failed = |source| attach_error(tracepoint, source);
            let program: &mut RawTracePoint = self.loaded(program, RawTracePoint::load)?;
            let id = program.attach(tracepoint).map_err(failed)?;
            links.0.push(Link::RawTracePoint(program.take_link(id).map_err(failed)?));
        }
        Ok(links)
    }

    /// Attaches to the mapping system calls, for all targets (`--syscalls`).
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn attach_syscalls(&mut self) -> Result<Links, KernelError> {
        let mut links = Links::default();
        for (program, prefix) in [("syscall_exit", "sys_exit"), ("syscall_entry", "sys_enter")] {
            for call in ["munmap", "mremap", "mmap", "brk"] {
                links.0.push(self.attach_tracepoint(program, "syscalls", &format!("{prefix}_{call}"))?);
            }
        }
        links.0.push(self.attach_tracepoint("syscall_entry", "syscalls", "sys_enter_mprotect")?);
        // Not every kernel has this call.
        links.0.extend(self.attach_tracepoint("syscall_entry", "syscalls", "sys_enter_pkey_mprotect"));
        Ok(links)
    }

    /// Attaches to page faults and `madvise`, for all targets (`--mode growth`, besides
    /// [`attach_syscalls`](Self::attach_syscalls)).
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn attach_growth(&mut self) -> Result<Links, KernelError> {
        Ok(Links(vec![
            self.attach_tracepoint("syscall_entry", "syscalls", "sys_enter_madvise")?,
            self.attach_tracepoint("page_fault", "exceptions", "page_fault_user")?,
        ]))
    }

    fn attach_tracepoint(
        &mut self,
        program: &'static str,
        category: &str,
        tracepoint: &str,
    ) -> Result<Link, KernelError> {
        let failed = |source| attach_error(tracepoint, source);
        let program: &mut TracePoint = self.loaded(program, TracePoint::load)?;
        let id = program.attach(category, tracepoint).map_err(failed)?;
        Ok(Link::TracePoint(program.take_link(id).map_err(failed)?))
    }

    /// The program of this name, loaded into the kernel the first time it is asked for.
    fn loaded<'a, P>(
        &'a mut self,
        name: &'static str,
        load: impl FnOnce(&mut P) -> Result<(), ProgramError>,
    ) -> Result<&'a mut P, KernelError>
    where
        &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
    {
        let failed = |source| KernelError::LoadProgram { program: name, source: Box::new(source) };
        let program = self.programs.program_mut(name).ok_or(KernelError::Map(name))?;
        let program: &'a mut P = program.try_into().map_err(failed)?;
        match load(program) {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(program),
            Err(source) => Err(failed(source)),
        }
    }
}

fn cookie(site: &ProbeSite, slot: Slot) -> u64 {
    let signature = if site.prediction.is_some() { site.signature.predicted() } else { site.signature };
    cookie::pack(site.call, signature, slot)
}

fn attach_error(tracepoint: &str, source: ProgramError) -> KernelError {
    KernelError::Attach {
        function: tracepoint.to_owned(),
        object: "the kernel's tracepoints".to_owned(),
        source: Box::new(source),
    }
}

/// The sites of each file that one program goes to, and whether it is a return program; these come first.
fn by_program<'a>(
    ordered: &[&'a ProbeSite],
    programs: Programs,
    sessions: bool,
) -> Vec<(&'static str, Vec<&'a ProbeSite>, bool)> {
    let mut groups: Vec<(&'static str, &Path, Vec<&ProbeSite>, bool)> = Vec::new();
    let mut add = |program, site: &'a ProbeSite, is_return| {
        let file = site.open_path.as_path();
        match groups.iter_mut().find(|(name, path, ..)| *name == program && *path == file) {
            Some((_, _, sites, _)) => sites.push(site),
            None => groups.push((program, file, vec![site], is_return)),
        }
    };
    for site in ordered {
        if let (_, Some(returned)) = program_names(site, programs, sessions) {
            add(returned, site, true);
        }
    }
    for site in ordered {
        add(program_names(site, programs, sessions).0, site, false);
    }
    groups.into_iter().map(|(program, _, sites, is_return)| (program, sites, is_return)).collect()
}

/// Entry program, and return program where the call needs one. With `sessions` one program may be both.
fn program_names(site: &ProbeSite, programs: Programs, sessions: bool) -> (&'static str, Option<&'static str>) {
    // Where a function has no return probe its ways out are sites of their own: see `allocator/exits.rs`.
    let returns = site.call.needs_return() && !site.signature.ends_at_exits();
    let (entry, returned) = match (programs, site.call) {
        (Programs::Empty, _) => ("empty_entry", "empty_return"),
        (_, Call::Allocate | Call::Reallocate) if returns && sessions => return (HEAP_SESSION, None),
        (_, Call::ReleaseOuter) if returns && sessions => return (RELEASE_SESSION, None),
        (_, Call::Release) => ("heap_release", ""),
        (_, Call::ReleaseOuter) => ("heap_release_outer", "heap_return"),
        (_, Call::Raise) => ("heap_raise", ""),
        (_, Call::Exit) => ("way_out", ""),
        (_, Call::Pool) => ("pool_entry", "pool_return"),
        (_, call) if call.is_mapping() => (MAPPING_ENTRY, ""),
        _ => ("heap_entry", "heap_return"),
    };
    (entry, returns.then_some(returned))
}

/// The order of attaching.
fn rank(call: Call) -> u8 {
    match call {
        Call::Raise | Call::Exit | Call::Release | Call::ReleaseOuter | Call::Munmap => 0,
        Call::Reallocate | Call::Mremap => 1,
        _ => 2,
    }
}
