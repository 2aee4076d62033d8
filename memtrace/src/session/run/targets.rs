//! Targets that come and go while the run goes on.

use std::sync::mpsc;

use super::Run;
use crate::{
    kernel::links::Links,
    session::{SessionError, candidate::Candidate, notice, traced::Traced},
    target::{Pid, fork::Origin},
};

/// Ended targets beyond this number give up their place: their numbers go into the sums of the ended.
const MAX_ENDED: usize = 64;

/// While more than this many ended targets wait for their probes to be taken away, no new one is attached.
const MAX_DETACHING: usize = 64;

/// Takes probes away on a thread of its own: the kernel makes each removal wait for a grace period.
pub(super) struct Detacher {
    queue: mpsc::Sender<Links>,
    done: mpsc::Receiver<()>,
    waiting: usize,
}

impl Detacher {
    pub(super) fn start() -> Self {
        let (queue, links) = mpsc::channel::<Links>();
        let (tell, done) = mpsc::channel();
        std::thread::spawn(move || {
            while let Ok(mut first) = links.recv() {
                // What has gathered meanwhile waits for the same grace period.
                let mut count = 1;
                while let Ok(more) = links.try_recv() {
                    first.extend(more);
                    count += 1;
                }
                first.detach();
                for _ in 0..count {
                    if tell.send(()).is_err() {
                        return;
                    }
                }
            }
        });
        Self { queue, done, waiting: 0 }
    }

    /// Takes them away, soon.
    fn detach(&mut self, links: Links) {
        if !links.is_empty() && self.queue.send(links).is_ok() {
            self.waiting += 1;
        }
    }

    fn waiting(&mut self) -> usize {
        self.waiting -= self.done.try_iter().count();
        self.waiting
    }
}

impl Run<'_> {
    /// Attaches to processes that have joined since the last look.
    pub(super) fn admit_new(&mut self) -> Result<(), SessionError> {
        if self.members.is_empty() || !self.may_admit() {
            return Ok(());
        }
        let running: Vec<Pid> = self.running().collect();
        for pid in self.members.look(&running) {
            self.admit(pid, None)?;
        }
        Ok(())
    }

    /// Whether there is room for one more process.
    pub(super) fn may_admit(&mut self) -> bool {
        self.detacher.waiting() <= MAX_DETACHING
    }

    fn running(&self) -> impl Iterator<Item = Pid> + '_ {
        self.traced.iter().filter(|process| !process.exited).map(|process| process.target.pid())
    }

    /// Attaches to one more process, with who forked it and when, if that is known. One that cannot be traced is named, and
    /// the run goes on without it.
    pub(super) fn admit(&mut self, pid: Pid, fork: Option<(Pid, u64)>) -> Result<(), SessionError> {
        if self.running().any(|running| running == pid) {
            return Ok(());
        }
        let attached = Candidate::open(pid, self.config, &mut self.plans, None).and_then(|candidate| {
            let (tracer, feed, plans) = (&mut self.tracer, &mut self.feed, &mut self.plans);
            let process = candidate.attach_through_execs(tracer, feed, plans, Some(&mut self.guard), self.config)?;
            self.inherit(&process, fork)?;
            self.tree.follow(pid, process.looks_for_leaks, &mut self.guard);
            self.tracer.set_running(process.slot, true)?;
            self.feed.state.pages.collections.begin(process.slot);
            Ok(process)
        });
        match attached {
            Ok(mut process) => {
                if let Some(budget) = &self.budget {
                    budget.apply_to(&mut process, &mut self.tracer)?;
                }
                self.members.settle(pid);
                notice::joined(&process.shown(), self.traced.len());
                self.traced.push(process);
            }
            Err(error) if error.is_ended_target() => {
                self.members.settle(pid);
                self.members.too_short += 1;
            }
            Err(_) if self.members.try_again(pid) => {}
            Err(error) => notice::not_joined(pid, &error),
        }
        Ok(())
    }

    /// A process that was forked from a target begins with that one's heap.
    fn inherit(&mut self, process: &Traced, fork: Option<(Pid, u64)>) -> Result<(), SessionError> {
        let pid = process.target.pid();
        let Some((parent, began_ns)) = fork.or_else(|| Self::fork_of(pid)) else { return Ok(()) };
        let parent = self.traced.iter().rev().find(|other| other.target.pid() == parent);
        if let Some(parent) = parent.map(|parent| parent.slot) {
            // The parent's ledger must have got as far as the fork.
            self.drain()?;
            self.feed.state.ledger.inherit(process.slot, parent, began_ns);
        }
        Ok(())
    }

    /// Who forked a process and when, if both run one image.
    fn fork_of(pid: Pid) -> Option<(Pid, u64)> {
        let origin = Origin::of(pid)?;
        let shares = Origin::of(origin.parent)?.shares_image(&origin);
        shares.then_some((origin.parent, origin.began_ns))
    }

    /// Looks for targets that have ended: their probes go, and beyond a number the oldest of them is forgotten.
    pub(super) fn retire_ended(&mut self) -> Result<(), SessionError> {
        for process in self.traced.iter_mut().filter(|process| process.exited) {
            self.detacher.detach(process.take_links());
            self.tree.forget(process.target.pid());
        }
        let mut ended = self.traced.iter().filter(|process| process.exited).count();
        while ended > MAX_ENDED && self.detacher.waiting() == 0 {
            let Some(oldest) = self.traced.iter().position(|process| process.exited) else { break };
            let process = self.traced.remove(oldest);
            self.snapshots.forget(&process.facts(&self.tracer)?, &mut self.feed.state);
            self.feed.forget(process.slot);
            self.tracer.remove_target(process.target.pid(), process.slot)?;
            ended -= 1;
        }
        Ok(())
    }
}
