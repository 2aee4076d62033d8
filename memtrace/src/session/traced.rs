//! One traced process: looked at, attached, followed through exec, noticed when it ends.

use std::{
    collections::HashSet,
    os::fd::AsFd as _,
    path::Path,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use memtrace_common::{Slot, call::Call, prediction::Prediction};

use super::{
    SessionError,
    code::{self, OwnCode},
    notice,
    outer::{OomNotice, Outer},
    pump::Pump,
};
use crate::{
    allocator::{self, Ends, Plan, Plans, ProbeSite},
    cli::TraceConfig,
    kernel::{
        KernelError, Tracer, features,
        links::{Halves, Links, Programs},
        return_probes,
    },
    report::ending,
    target::{Pid, Target, TargetError, exit, guard::Guard, moved, object::objects, status::SeccompMode},
    trend::outer::Span,
    unwind::{Cache, Segment, segments},
};

/// A process that can be traced, with nothing attached yet.
pub(super) struct Candidate {
    target: Target,
    /// The thread that its probes are to be bound to.
    bound_to: Pid,
    plan: Plan,
    /// Probes that there would be, had the executable's code not moved before the attach.
    code: OwnCode,
    heap_end: u64,
    stack_end: u64,
    /// Whether the probes on allocations can be taken away by themselves.
    may_rest: bool,
    /// Keeps the process's unwind tables until they are in the kernel; they are made then if there are none here.
    _segments: Vec<Segment>,
}

/// Why return probes may kill this process, if they may.
pub(super) fn confined(target: &Target) -> Option<SessionError> {
    let seccomp = target.seccomp();
    let safe = seccomp == SeccompMode::Disabled || return_probes::with_filter().allow(seccomp);
    (!safe).then(|| SessionError::Seccomp(target.pid()))
}

/// A traced process.
pub(super) struct Traced {
    pub(super) target: Target,
    pub(super) slot: Slot,
    links: Links,
    /// Those that can be taken away by themselves, where they may have to; the others are in `links`.
    parted: Option<Parted>,
    pub(super) exited: bool,
    /// When it was attached, and when it was found to have ended.
    began: Instant,
    ended: Option<Instant>,
    /// The signal that ended it, 0 where it ended by itself; `None` where that is not known.
    pub(super) ended_by: Option<u32>,
    /// Resident bytes when last seen.
    pub(super) rss_bytes: u64,
    /// Its memory as a whole.
    pub(super) outer: Outer,
    /// When it began a program that had no allocator mapped then, or whose begin is awaited.
    execed: Option<Instant>,
    /// Its begin is awaited, and whether another thread than the first one called exec.
    awaited: Option<bool>,
    attached: HashSet<SiteKey>,
    /// The thread that its probes are bound to: the first one where that had not ended.
    bound_to: Pid,
    emulated: usize,
    /// How results are predicted; it stays so until the program is another, because threads keep what they have found.
    prediction: Option<Prediction>,
    /// Probes in its own executable.
    pub(super) code: OwnCode,
    /// Whether LeakSanitizer is in it.
    pub(super) looks_for_leaks: bool,
}

/// Probes on heap calls that can be taken away for a while.
#[derive(Default)]
struct Parted {
    allocations: Group,
    /// Reallocations, which release, are among them.
    releases: Group,
    /// Probes that are being taken away.
    leaving: Vec<JoinHandle<()>>,
}

/// Probes that come and go together.
#[derive(Default)]
struct Group {
    sites: Vec<ProbeSite>,
    probes: Halves,
    is_away: bool,
}

impl Group {
    fn attach(&mut self, tracer: &mut Tracer, pid: Pid, slot: Slot, programs: Programs) -> Result<(), KernelError> {
        self.probes = tracer.attach_halves(pid, slot, &self.sites, programs)?;
        self.is_away = false;
        Ok(())
    }

    /// Its probes, to be taken away.
    fn take(&mut self) -> Halves {
        self.is_away = true;
        std::mem::take(&mut self.probes)
    }

    fn extend(&mut self, other: Self) {
        self.sites.extend(other.sites);
        if self.is_away {
            // They come back with the others.
            other.probes.detach();
        } else {
            self.probes.extend(other.probes);
        }
    }
}

/// How long a new program gets to map its libraries before it is called untraceable.
const LOADING: Duration = Duration::from_millis(200);

/// What makes a site the same one after an exec: the file and the place in it. The path of the mapping's link is not.
type SiteKey = (std::path::PathBuf, u64);

impl Candidate {
    /// Looks at a process and plans its probes; `cache` takes its unwind tables ahead of their loading.
    pub(super) fn open(
        pid: Pid,
        config: &TraceConfig,
        plans: &mut Plans,
        cache: Option<&mut Cache>,
    ) -> Result<Self, SessionError> {
        let target = Target::open(pid)?;
        if let Some(confined) = confined(&target).filter(|_| !config.no_return_probes && !config.growth) {
            return Err(confined);
        }
        let mut mappings = target.mappings()?;
        let has_moved = moved::restore(pid, &mut mappings) > 0;
        let bound_to = pid.living_thread();
        let plan = plan(&target, bound_to, plans, config).map_err(|error| match error {
            SessionError::Allocator { .. } if has_moved => SessionError::Moved(pid),
            error => error,
        })?;
        let mut code = OwnCode::default();
        // Where the executable's own allocator was: it runs, and cannot be probed.
        if has_moved
            && !config.growth
            && let Ok(was) = allocator::plan(&objects(pid, &mappings), &[], ends())
        {
            code.note(pid, &was.sites);
        }
        let segments = cache.map_or_else(Vec::new, |cache| segments(pid, &mappings, cache).0);
        let end_of = |name: &str| {
            let named = mappings.iter().find(|mapping| mapping.path.as_deref() == Some(Path::new(name)));
            named.map_or(0, |mapping| mapping.end)
        };
        Ok(Self {
            may_rest: config.max_overhead.is_some(),
            heap_end: end_of("[heap]"),
            stack_end: end_of("[stack]"),
            target,
            bound_to,
            plan,
            code,
            _segments: segments,
        })
    }

    /// The process.
    pub(super) fn pid(&self) -> Pid {
        self.target.pid()
    }

    /// Whether LeakSanitizer is in it, so that it must not be held.
    pub(super) fn looks_for_leaks(&self) -> bool {
        self.plan.looks_for_leaks
    }

    /// Where its probes will go.
    pub(super) fn sites(&self) -> &[ProbeSite] {
        &self.plan.sites
    }

    /// Attaches; nothing is recorded until the tracer is told that the slot runs.
    pub(super) fn attach(
        self,
        tracer: &mut Tracer,
        pump: &mut Pump,
        programs: Programs,
    ) -> Result<Traced, SessionError> {
        let pid = self.target.pid();
        let slot = tracer.add_target(pid, self.heap_end, self.stack_end)?;
        pump.add_process(slot, pid)?;
        let prediction = prediction(&self.plan);
        tracer.set_prediction(slot, prediction)?;
        let attached = attach(tracer, pid, slot, &self.plan.sites, programs, self.may_rest);
        let (links, parted) = match attached {
            Ok(attached) => attached,
            Err(error) => {
                pump.ended(slot)?;
                pump.forget(slot);
                tracer.remove_target(pid, slot)?;
                // A process that has ended meanwhile is the likelier reason for any failure.
                return Err(if self.target.exited() { TargetError::Exited { pid }.into() } else { error.into() });
            }
        };
        notice::allocators(&self.target, &self.plan);
        let rss_bytes = self.target.rss_bytes().unwrap_or(0);
        let mut traced = Traced {
            target: self.target,
            slot,
            links,
            parted,
            exited: false,
            began: Instant::now(),
            ended: None,
            ended_by: None,
            rss_bytes,
            outer: Outer::new(pid, Span::Run),
            execed: None,
            awaited: None,
            attached: HashSet::new(),
            bound_to: self.bound_to,
            emulated: 0,
            prediction,
            code: self.code,
            looks_for_leaks: self.plan.looks_for_leaks,
        };
        traced.note(&self.plan.sites);
        traced.code.note(pid, &self.plan.sites);
        // What is there before anything is recorded.
        traced.sample_memory(0);
        Ok(traced)
    }
}

/// Attaches to all sites; those on heap calls apart if they `may_rest`.
fn attach(
    tracer: &mut Tracer,
    pid: Pid,
    slot: Slot,
    sites: &[ProbeSite],
    programs: Programs,
    may_rest: bool,
) -> Result<(Links, Option<Parted>), KernelError> {
    if !may_rest {
        return Ok((tracer.attach(pid, slot, sites, programs)?, None));
    }
    let (mut parted, mut sites, all) = (Parted::default(), Vec::new(), sites.iter().cloned());
    for site in all {
        match site.call {
            Call::Allocate => parted.allocations.sites.push(site),
            Call::Release | Call::ReleaseOuter | Call::Reallocate => parted.releases.sites.push(site),
            _ => sites.push(site),
        }
    }
    let links = tracer.attach(pid, slot, &sites, programs)?;
    parted.releases.attach(tracer, pid, slot, programs)?;
    parted.allocations.attach(tracer, pid, slot, programs)?;
    Ok((links, Some(parted)))
}

impl Traced {
    /// Takes the probes on allocations away; releases go on being seen.
    pub(super) fn rest(&mut self, tracer: &mut Tracer) -> Result<(), SessionError> {
        if let Some(parted) = &mut self.parted {
            tracer.close_sessions(self.slot)?;
            let probes = parted.allocations.take();
            parted.leaving.push(thread::spawn(move || probes.detach()));
        }
        Ok(())
    }

    /// Takes all probes on heap calls away, at once: what calls that have begun leave behind is forgotten when the probes
    /// come back (`Pump::begin_window`).
    pub(super) fn leave(&mut self) {
        if let Some(parted) = &mut self.parted {
            let mut links = parted.allocations.take().into_links();
            links.extend(parted.releases.take().into_links());
            parted.leaving.push(thread::spawn(move || links.detach()));
        }
    }

    /// Puts them back, those on releases first.
    pub(super) fn resume(&mut self, tracer: &mut Tracer) -> Result<(), SessionError> {
        let (pid, slot) = (self.target.pid(), self.slot);
        let Some(Parted { allocations, releases, leaving }) = &mut self.parted else { return Ok(()) };
        // Before Linux 6.10 it takes seconds. Two probes on one place would tell of everything twice. A thread that panicked has
        // dropped its links all the same.
        leaving.drain(..).for_each(|thread| drop(thread.join()));
        for group in [releases, allocations].into_iter().filter(|group| group.is_away) {
            match group.attach(tracer, pid, slot, Programs::Trace) {
                Ok(()) => {}
                // It has ended, or runs another program, which the next look finds.
                Err(_) if self.target.exited() => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        tracer.set_running(slot, true)?;
        Ok(())
    }

    /// All probes, to be taken away.
    pub(super) fn take_links(&mut self) -> Links {
        let mut links = std::mem::take(&mut self.links);
        if let Some(Parted { allocations, releases, .. }) = self.parted.take() {
            links.extend(allocations.probes.into_links());
            links.extend(releases.probes.into_links());
        }
        links
    }

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
            // A process that is about to end has given its memory back.
            if let Some(rss_bytes) = self.target.rss_bytes().filter(|&bytes| bytes > 0) {
                self.rss_bytes = rss_bytes;
            }
            self.exited = self.target.exited();
            self.ended = self.exited.then(Instant::now);
            if self.exited {
                self.ended_by = exit::ending_signal(self.target.pid(), self.target.as_fd());
                if let Some(signal) = self.ended_by_probes() {
                    notice::ended_by_probes(self.target.pid(), signal);
                }
            }
        }
        self.exited
    }

    /// How long it has been traced.
    pub(super) fn traced_for(&self) -> Duration {
        self.ended.unwrap_or_else(Instant::now).saturating_duration_since(self.began)
    }

    /// The signal that ended it, when it is one that probes cause and the process had some.
    pub(super) fn ended_by_probes(&self) -> Option<u32> {
        self.ended_by.filter(|&signal| ending::is_suspect(signal) && !self.attached.is_empty())
    }

    /// Samples the process's memory and that of its cgroup.
    pub(super) fn sample_memory(&mut self, elapsed_ms: u64) {
        self.outer.sample(self.target.pid(), self.target.as_fd(), elapsed_ms);
    }

    /// OOM kills in its cgroup that were not told yet; asked after [`check_exited`](Self::check_exited).
    pub(super) fn look_for_kills(&mut self) -> Option<OomNotice> {
        self.outer.look_for_kills(self.target.pid(), self.target.as_fd(), self.exited)
    }

    /// The process runs another program: probes follow by themselves into the files that both programs map; what the
    /// new one maps besides is attached here.
    pub(super) fn follow_exec(
        &mut self,
        by_other_thread: bool,
        tracer: &mut Tracer,
        guard: &mut Guard,
        plans: &mut Plans,
        config: &TraceConfig,
    ) {
        let pid = self.target.pid();
        let result = Target::open(pid).map_err(SessionError::from).and_then(|target| {
            self.target = target;
            self.prediction = None;
            self.code = OwnCode::default();
            self.outer.restart(pid, self.target.as_fd());
            if by_other_thread {
                // Links are bound to the thread that was the first one, and it is gone.
                let dead = self.unbind(pid);
                thread::spawn(move || dead.detach());
            }
            let plan = plan(&self.target, self.bound_to, plans, config)?;
            notice::allocators(&self.target, &plan);
            self.attach_missing(plan, tracer, guard, config).map(|_sites| ())
        });
        match result {
            Ok(()) => notice::exec(&self.target),
            // It may have ended by now, which the next look finds.
            Err(SessionError::Target(_)) if self.target.exited() => {}
            // Its loader may still be at work.
            Err(SessionError::Allocator { .. }) => self.execed = Some(Instant::now()),
            Err(error) => notice::exec_untraced(pid, &error),
        }
    }

    /// The process runs another program, and the guard will say when its libraries are mapped.
    pub(super) fn await_begin(&mut self, by_other_thread: bool) {
        self.awaited = Some(by_other_thread);
        // Should nobody say it.
        self.execed = Some(Instant::now());
    }

    /// Its new program stands at its begin, with its libraries mapped.
    pub(super) fn begin(
        &mut self,
        by_other_thread: bool,
        tracer: &mut Tracer,
        guard: &mut Guard,
        plans: &mut Plans,
        config: &TraceConfig,
    ) {
        self.execed = None;
        self.awaited = None;
        if by_other_thread {
            // It waits, so that there is time for this: links of the thread that was the first one may see calls yet, and two
            // probes on one place would tell of everything twice.
            self.unbind(self.target.pid()).detach();
        }
        self.follow_exec(false, tracer, guard, plans, config);
    }

    /// The thread that the probes are bound to may have ended before the process: they are bound to one that is left. What
    /// happens in between is not seen.
    pub(super) fn follow_thread(
        &mut self,
        tracer: &mut Tracer,
        guard: &mut Guard,
        plans: &mut Plans,
        config: &TraceConfig,
    ) {
        let pid = self.target.pid();
        if self.exited || (self.bound_to == pid && tracer.outlives_first_threads()) {
            return;
        }
        let thread = pid.living_thread();
        if thread == self.bound_to || config.growth {
            return;
        }
        // At once: two probes on one place would tell of everything twice.
        self.unbind(thread).detach();
        let result = plan(&self.target, self.bound_to, plans, config)
            .and_then(|plan| self.attach_missing(plan, tracer, guard, config));
        match result {
            Ok(_sites) => {}
            // It may have ended by now, which the next look finds.
            Err(_) if self.target.exited() => {}
            Err(error) => notice::loaded_untraced(pid, &error),
        }
    }

    /// Gives all probes back, which are to be bound to `thread` from now on.
    fn unbind(&mut self, thread: Pid) -> Links {
        self.bound_to = thread;
        self.attached.clear();
        self.emulated = 0;
        let may_rest = self.parted.is_some();
        let links = self.take_links();
        self.parted = may_rest.then(Parted::default);
        links
    }

    /// Looks again at a program that had no allocator mapped when it began.
    pub(super) fn settle_exec(
        &mut self,
        tracer: &mut Tracer,
        guard: &mut Guard,
        plans: &mut Plans,
        config: &TraceConfig,
    ) {
        if self.exited || self.execed.is_none_or(|begun| begun.elapsed() < LOADING) {
            return;
        }
        self.execed = None;
        if let Some(by_other_thread) = self.awaited {
            return self.begin(by_other_thread, tracer, guard, plans, config);
        }
        let result = plan(&self.target, self.bound_to, plans, config).and_then(|plan| {
            notice::allocators(&self.target, &plan);
            self.attach_missing(plan, tracer, guard, config)
        });
        match result {
            Ok(_sites) => notice::exec(&self.target),
            Err(_) if self.target.exited() => {}
            Err(error) => notice::exec_untraced(self.target.pid(), &error),
        }
    }

    /// The process has loaded other files: allocators in them are probed as well.
    pub(super) fn follow_new_files(
        &mut self,
        tracer: &mut Tracer,
        guard: &mut Guard,
        plans: &mut Plans,
        config: &TraceConfig,
    ) {
        // What a program maps before its begin is looked at then.
        if self.awaited.is_some() {
            return;
        }
        let result = plan(&self.target, self.bound_to, plans, config)
            .and_then(|plan| self.attach_missing(plan, tracer, guard, config));
        match result {
            Ok(0) => {}
            Ok(sites) => notice::loaded(&self.target, sites),
            // It may have ended by now, which the next look finds. Code that has moved is told of by itself.
            Err(_) if self.target.exited() || self.code.moved_ms().is_some() => {}
            Err(error) => notice::loaded_untraced(self.target.pid(), &error),
        }
    }

    /// Attaches the sites that are not attached yet; returns how many.
    fn attach_missing(
        &mut self,
        mut plan: Plan,
        tracer: &mut Tracer,
        guard: &mut Guard,
        config: &TraceConfig,
    ) -> Result<usize, SessionError> {
        match self.prediction {
            Some(_) => plan
                .sites
                .iter_mut()
                .filter(|site| site.prediction != self.prediction)
                .for_each(|site| site.prediction = None),
            None => {
                self.prediction = prediction(&plan);
                tracer.set_prediction(self.slot, self.prediction)?;
            }
        }
        self.looks_for_leaks = plan.looks_for_leaks;
        // An exec lets go of a process whose probes have followed it.
        code::watch(guard, self.target.pid(), &plan.sites, self.looks_for_leaks);
        self.code.note(self.target.pid(), &plan.sites);
        plan.sites.retain(|site| !self.attached.contains(&key(site)));
        if !plan.sites.is_empty() {
            let programs = if config.empty_programs { Programs::Empty } else { Programs::Trace };
            let may_rest = self.parted.is_some();
            let (links, more) = attach(tracer, self.target.pid(), self.slot, &plan.sites, programs, may_rest)?;
            self.links.extend(links);
            if let (Some(parted), Some(more)) = (&mut self.parted, more) {
                parted.allocations.extend(more.allocations);
                parted.releases.extend(more.releases);
            }
            self.note(&plan.sites);
        }
        Ok(plan.sites.len())
    }

    fn note(&mut self, sites: &[ProbeSite]) {
        self.emulated += sites.iter().filter(|site| site.emulated).count();
        self.attached.extend(sites.iter().map(key));
    }
}

fn key(site: &ProbeSite) -> SiteKey {
    (site.object_path.clone(), site.file_offset)
}

/// How results are predicted.
fn prediction(plan: &Plan) -> Option<Prediction> {
    plan.sites.iter().find_map(|site| site.prediction)
}

/// How the ends of calls are seen on this kernel.
pub(super) fn ends() -> Ends {
    if features::has_sessions() { Ends::Sessions } else { Ends::ReturnProbes }
}

/// The probes of a process, bound to one of its threads; with `--syscalls` without those of the mapping functions.
fn plan(target: &Target, bound_to: Pid, plans: &mut Plans, config: &TraceConfig) -> Result<Plan, SessionError> {
    if config.growth {
        return Ok(Plan::default());
    }
    let pid = target.pid();
    let ends = match config.no_return_probes {
        true => Ends::WaysOut,
        // Sessions are a matter of links that take a process by its first thread.
        false if bound_to != pid => Ends::ReturnProbes,
        false => ends(),
    };
    let mut plan = plans
        .plan(&target.objects()?, &config.wrappers, ends)
        .map_err(|source| SessionError::Allocator { pid, source })?;
    if config.syscalls {
        plan.sites.retain(|site| !site.call.is_mapping());
    }
    if config.releases_only {
        plan.sites.retain(|site| site.call != Call::Allocate);
    }
    Ok(plan)
}
