//! One traced process: followed through exec, noticed when it ends.

use std::{
    collections::HashSet,
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

use memtrace_common::{Slot, prediction::Prediction};

use super::{
    SessionError,
    code::{self, OwnCode},
    facts::ProcessFacts,
    footprint::{Footprint, OomNotice},
    notice,
    plan::{plan, prediction},
    probes::Probes,
};
use crate::{
    allocator::{Plan, Plans, ProbeSite},
    kernel::{
        Tracer,
        links::{Links, Programs},
    },
    object::{maps, patched},
    report::ending,
    session::TraceConfig,
    target::{Pid, Target, exit, guard::Guard},
    trend::footprint::Span,
};

/// A traced process.
pub(super) struct Traced {
    pub(super) target: Target,
    pub(super) slot: Slot,
    probes: Probes,
    pub(super) exited: bool,
    /// When it was attached, and when it was found to have ended.
    began: Instant,
    ended: Option<Instant>,
    /// The signal that ended it, 0 where it ended by itself; `None` where that is not known.
    pub(super) ended_by: Option<u32>,
    /// Resident bytes when last seen.
    pub(super) rss_bytes: u64,
    /// Its memory as a whole.
    pub(super) footprint: Footprint,
    /// When it began a program that had no allocator mapped then, or whose begin is awaited.
    execed: Option<Instant>,
    /// Its begin is awaited, and whether another thread than the first one called exec.
    awaited: Option<bool>,
    attached: HashSet<SiteKey>,
    /// The thread that its probes are bound to: the first one where that had not ended.
    bound_to: Pid,
    /// When it is looked next whether the probes outlived the first thread.
    next_look: Option<Instant>,
    /// How often its probes were gone after the first thread had ended.
    pub(super) interruptions: u64,
    /// Since when, in milliseconds of the run, it has no probes though it should; `None` where it has.
    pub(super) unprobed_ms: Option<u64>,
    emulated: usize,
    /// How results are predicted; it stays so until the program is another, because threads keep what they have found.
    prediction: Option<Prediction>,
    /// Probes in its own executable.
    pub(super) code: OwnCode,
    /// Whether LeakSanitizer is in it.
    pub(super) looks_for_leaks: bool,
}

/// How long a new program gets to map its libraries before it is called untraceable.
const LOADING: Duration = Duration::from_millis(200);

/// How often it is looked whether probes have outlived the first thread.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What makes a site the same one after an exec: the file and the place in it. The path of the mapping's link is not.
type SiteKey = (std::path::PathBuf, u64);

impl Traced {
    /// A process whose `probes` are in place, as planned.
    pub(super) fn new(target: Target, bound_to: Pid, slot: Slot, probes: Probes, plan: &Plan, code: OwnCode) -> Self {
        notice::allocators(&target, plan);
        let pid = target.pid();
        let mut traced = Self {
            rss_bytes: target.rss_bytes().unwrap_or(0),
            target,
            slot,
            probes,
            exited: false,
            began: Instant::now(),
            ended: None,
            ended_by: None,
            footprint: Footprint::new(pid, Span::Run),
            execed: None,
            awaited: None,
            attached: HashSet::new(),
            bound_to,
            next_look: None,
            interruptions: 0,
            unprobed_ms: None,
            emulated: 0,
            prediction: prediction(plan),
            code,
            looks_for_leaks: plan.looks_for_leaks,
        };
        traced.note(&plan.sites);
        traced.code.note(pid, &plan.sites);
        // What is there before anything is recorded.
        traced.sample_memory(0);
        traced
    }

    /// Takes the probes on allocations away; releases go on being seen.
    pub(super) fn rest(&mut self, tracer: &mut Tracer) -> Result<(), SessionError> {
        Ok(self.probes.rest(tracer, self.slot)?)
    }

    /// Takes all probes on heap calls away, at once.
    pub(super) fn leave(&mut self) {
        self.probes.leave();
    }

    /// Puts them back, those on releases first.
    pub(super) fn resume(&mut self, tracer: &mut Tracer) -> Result<(), SessionError> {
        if !self.probes.may_rest() {
            return Ok(());
        }
        match self.probes.resume(tracer, self.target.pid(), self.slot) {
            Ok(()) => Ok(tracer.set_running(self.slot, true)?),
            // It has ended, or runs another program, which the next look finds.
            Err(_) if self.target.exited() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// All probes, to be taken away.
    pub(super) fn take_links(&mut self) -> Links {
        self.probes.take_links()
    }

    /// What a snapshot takes of it.
    pub(super) fn facts(&self, tracer: &Tracer) -> Result<ProcessFacts<'_>, SessionError> {
        Ok(ProcessFacts {
            slot: self.slot,
            pid: self.target.pid(),
            command: self.target.command(),
            cgroup: self.target.cgroup(),
            exited: self.exited,
            traced_for: self.traced_for(),
            ended_by: self.ended_by,
            probably_ended_by_probes: self.ended_by_probes().is_some(),
            rss_bytes: self.rss_bytes,
            code_moved_ms: self.code.moved_ms(),
            unprobed_ms: self.unprobed_ms,
            interruptions: self.interruptions,
            footprint: &self.footprint,
            counters: tracer.counters(self.slot)?,
            has_ended: Box::new(|| self.target.exited()),
        })
    }

    /// What is said when it is attached.
    pub(super) fn shown(&self) -> notice::Attached<'_> {
        notice::Attached {
            pid: self.target.pid(),
            command: self.target.command(),
            sites: self.attached.len(),
            emulated_sites: self.emulated,
        }
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
        self.footprint.sample(self.target.pid(), self.target.as_fd(), elapsed_ms);
    }

    /// OOM kills in its cgroup that were not told yet; asked after [`check_exited`](Self::check_exited).
    pub(super) fn look_for_kills(&mut self) -> Option<OomNotice> {
        self.footprint.look_for_kills(self.target.pid(), self.target.as_fd(), self.exited)
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
            self.footprint.restart(pid, self.target.as_fd());
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
    /// happens in between is not seen. On kernels where probes outlive the first thread they are only where they have been
    /// taken away. Where that fails it is tried again.
    pub(super) fn follow_thread(
        &mut self,
        elapsed_ms: u64,
        tracer: &mut Tracer,
        guard: &mut Guard,
        plans: &mut Plans,
        config: &TraceConfig,
    ) {
        let pid = self.target.pid();
        if self.exited || config.probes.growth {
            return;
        }
        let has_failed = self.unprobed_ms.is_some();
        let may_outlive = self.bound_to == pid && tracer.outlives_first_threads();
        if (may_outlive || has_failed) && !self.is_time_to_look() {
            return;
        }
        let thread = pid.living_thread();
        if !has_failed {
            if thread == self.bound_to || may_outlive && !self.has_lost_probes() {
                return;
            }
            if may_outlive {
                self.interruptions += 1;
                notice::probes_lost(pid);
            }
        }
        // At once: two probes on one place would tell of everything twice.
        self.unbind(thread).detach();
        let result = plan(&self.target, self.bound_to, plans, config)
            .and_then(|plan| self.attach_missing(plan, tracer, guard, config));
        match result {
            Ok(_sites) => {
                if self.unprobed_ms.take().is_some() {
                    notice::put_back(pid);
                }
            }
            // It has been said, or the process may have ended by now, which the next look finds.
            Err(_) if has_failed || self.target.exited() => {}
            Err(error) => {
                // Where they were taken away it has been counted.
                self.interruptions += u64::from(!may_outlive);
                self.unprobed_ms = Some(elapsed_ms);
                notice::not_put_back(pid, &error);
            }
        }
    }

    /// Whether probes are in place no more, though nobody here took them away. After the first thread has ended, the kernel takes
    /// all of a process's probes at a place away when any other tracer leaves that place, since it looks for who still
    /// wants them by the memory of the first thread (`uprobe_multi_link_filter` in kernel/trace/bpf_trace.c).
    fn has_lost_probes(&self) -> bool {
        let pid = self.target.pid();
        let places = self.attached.iter().map(|(path, offset)| (path.as_path(), *offset));
        // A process that cannot be looked at is about to end.
        maps::read(pid).ok().and_then(|mappings| patched::is_bare(pid, &mappings, places).ok()).unwrap_or(false)
    }

    /// Whether it is time to look for lost probes again. While the budget keeps some away, that they are gone says nothing.
    fn is_time_to_look(&mut self) -> bool {
        let now = Instant::now();
        if self.probes.are_some_away() || self.next_look.is_some_and(|next| now < next) {
            return false;
        }
        self.next_look = Some(now + LOOK_EVERY);
        true
    }

    /// Gives all probes back, which are to be bound to `thread` from now on.
    fn unbind(&mut self, thread: Pid) -> Links {
        self.bound_to = thread;
        self.attached.clear();
        self.emulated = 0;
        self.take_links()
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
            let programs = if config.internal.empty_programs { Programs::Empty } else { Programs::Trace };
            let (pid, may_rest) = (self.target.pid(), self.probes.may_rest());
            self.probes.extend(Probes::attach(tracer, pid, self.slot, &plan.sites, programs, may_rest)?);
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
