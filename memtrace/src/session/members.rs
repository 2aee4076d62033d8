//! Which processes belong to the run besides those that were named: a cgroup's and the targets' children, present and
//! to come.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use super::SessionError;
use crate::{
    session::TraceConfig,
    target::{
        Pid, container,
        members::{Cgroup, children, share_memory},
    },
};

/// The processes that the run may yet have to attach to.
pub(super) struct Members {
    cgroups: Vec<Cgroup>,
    follow: bool,
    /// Seen at the last look, and not yet old enough to be worth the attaching.
    young: HashMap<Pid, u32>,
    /// Attached, or found to be untraceable; asked for no more while they are listed.
    settled: HashSet<Pid>,
    /// Processes that were seen and had ended before they were attached.
    pub(super) too_short: u64,
}

/// A process that is seen in this many looks is attached: most that fork only to run another program have done so by
/// then, and what ends at once would cost more to attach than it can tell.
const LOOKS: u32 = 2;

/// A process that could not be attached is tried again until this look, as it may be in the middle of an exec.
const LAST_LOOK: u32 = 20;

impl Members {
    pub(super) fn new(config: &TraceConfig) -> Result<Self, SessionError> {
        Ok(Self { follow: config.targets.follow, ..Self::of(&config.targets.cgroups, &config.targets.containers)? })
    }

    /// Those of cgroups, given by their folders, and of containers, given by their names.
    pub(super) fn of(cgroups: &[PathBuf], containers: &[String]) -> Result<Self, SessionError> {
        let containers = containers.iter().map(|name| container::cgroup_of(name));
        let folders = containers.collect::<Result<Vec<_>, _>>()?;
        let cgroups = cgroups.iter().chain(&folders).map(|folder| Cgroup::open(folder));
        let cgroups = cgroups.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { cgroups, follow: false, young: HashMap::new(), settled: HashSet::new(), too_short: 0 })
    }

    /// Whether there can be any.
    pub(super) fn is_empty(&self) -> bool {
        self.cgroups.is_empty() && !self.follow
    }

    /// An attempt to attach failed: whether there will be another.
    pub(super) fn try_again(&mut self, pid: Pid) -> bool {
        let again = self.young.get(&pid).is_some_and(|&looks| looks < LAST_LOOK);
        if !again {
            self.settle(pid);
        }
        again
    }

    /// Whether the run goes on without a running target: a cgroup may get processes again.
    pub(super) fn may_come(&self) -> bool {
        self.cgroups.iter().any(Cgroup::exists)
    }

    /// The process is attached, or cannot be.
    pub(super) fn settle(&mut self, pid: Pid) {
        self.young.remove(&pid);
        self.settled.insert(pid);
    }

    /// All that are there now and not settled; for the start of a run, when nothing is too young.
    pub(super) fn present(&mut self, running: &[Pid]) -> Vec<Pid> {
        let listed = self.listed(running);
        listed.into_iter().filter(|pid| !self.settled.contains(pid)).collect()
    }

    /// Looks once more: the processes to attach to now. `running` are the targets that run.
    pub(super) fn look(&mut self, running: &[Pid]) -> Vec<Pid> {
        let listed = self.listed(running);
        let now: HashSet<Pid> = listed.iter().copied().collect();
        self.settled.retain(|pid| now.contains(pid) || running.contains(pid));
        let known = self.young.len();
        self.young.retain(|pid, _| now.contains(pid));
        self.too_short += (known - self.young.len()) as u64;
        let mut due = Vec::new();
        for pid in listed {
            if self.settled.contains(&pid) {
                continue;
            }
            let looks = self.young.entry(pid).or_default();
            *looks += 1;
            if *looks >= LOOKS && !running.iter().any(|&parent| share_memory(parent, pid)) {
                due.push(pid);
            }
        }
        due
    }

    /// Everything that is listed now. Children of children are found once their parents are.
    fn listed(&self, running: &[Pid]) -> Vec<Pid> {
        let mut listed: Vec<Pid> = self.cgroups.iter().flat_map(Cgroup::processes).collect();
        if self.follow {
            let mut seen: HashSet<Pid> = listed.iter().copied().collect();
            let mut parents: Vec<Pid> = running.iter().copied().chain(listed.iter().copied()).collect();
            while let Some(parent) = parents.pop() {
                for child in children(parent).unwrap_or_default() {
                    if seen.insert(child) {
                        listed.push(child);
                        parents.push(child);
                    }
                }
            }
        }
        let own = Pid(std::process::id());
        listed.retain(|&pid| pid != own);
        listed
    }
}
