//! Processes that are about to be traced: looked at, their probes planned, and attached to.

use std::{path::Path, thread, time::Duration};

use super::{
    SessionError,
    code::{self, OwnCode},
    feed::Feed,
    plan::{confined, ends, plan, prediction},
    probes::Probes,
    traced::Traced,
};
use crate::{
    allocator::{self, Plan, Plans},
    kernel::{Tracer, links::Programs},
    object::{mapped::objects, moved},
    session::TraceConfig,
    target::{Pid, Target, TargetError, guard::Guard},
    unwind::{Cache, Segment, segments},
};

/// How often a process is looked at anew that has begun another program while it was being attached to.
const EXECS: usize = 5;

/// How long its loader gets before that.
const LOADING: Duration = Duration::from_millis(20);

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

impl Candidate {
    /// Looks at a process and plans its probes; `cache` takes its unwind tables ahead of their loading.
    pub(super) fn open(
        pid: Pid,
        config: &TraceConfig,
        plans: &mut Plans,
        cache: Option<&mut Cache>,
    ) -> Result<Self, SessionError> {
        let target = Target::open(pid)?;
        if let Some(confined) = confined(&target).filter(|_| !config.probes.no_return_probes && !config.probes.growth) {
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
            && !config.probes.growth
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
            may_rest: config.sampling.max_overhead.is_some(),
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

    /// Attaches; nothing is recorded until the tracer is told that the slot runs. A process that runs another program by then is
    /// looked at anew. The guard, if one is given, holds it before where that is needed (see [`code::watch`]).
    pub(super) fn attach_through_execs(
        mut self,
        tracer: &mut Tracer,
        feed: &mut Feed,
        plans: &mut Plans,
        mut guard: Option<&mut Guard>,
        config: &TraceConfig,
    ) -> Result<Traced, SessionError> {
        let programs = if config.internal.empty_programs { Programs::Empty } else { Programs::Trace };
        let pid = self.target.pid();
        for _ in 0..EXECS {
            if let Some(guard) = guard.as_deref_mut() {
                code::watch(guard, pid, &self.plan.sites, self.plan.looks_for_leaks);
            }
            match self.attach(tracer, feed, programs) {
                Err(error) if error.is_vanished_file() => {
                    thread::sleep(LOADING);
                    self = Self::open(pid, config, plans, None)?;
                }
                attached => return attached,
            }
        }
        self.attach(tracer, feed, programs)
    }

    /// Attaches; nothing is recorded until the tracer is told that the slot runs.
    fn attach(self, tracer: &mut Tracer, feed: &mut Feed, programs: Programs) -> Result<Traced, SessionError> {
        let pid = self.target.pid();
        let slot = tracer.add_target(pid, self.heap_end, self.stack_end)?;
        feed.add_process(slot, pid)?;
        let prediction = prediction(&self.plan);
        tracer.set_prediction(slot, prediction)?;
        let attached = Probes::attach(tracer, pid, slot, &self.plan.sites, programs, self.may_rest);
        let probes = match attached {
            Ok(attached) => attached,
            Err(error) => {
                feed.ended(slot)?;
                feed.forget(slot);
                tracer.remove_target(pid, slot)?;
                // A process that has ended meanwhile is the likelier reason for any failure.
                return Err(if self.target.exited() { TargetError::Exited { pid }.into() } else { error.into() });
            }
        };
        Ok(Traced::new(self.target, self.bound_to, slot, probes, &self.plan, self.code))
    }
}
