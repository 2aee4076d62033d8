//! The processes of a tree at their begin: each is held there until its probes and its tables are in place.
//!
//! Which those are: a launched command, and with `--follow` all that it and the targets start. The guard's helper process
//! holds them. Where it cannot, [`Members`](super::members::Members) finds them later, by looking again and again.

use std::collections::{HashSet, VecDeque};

use super::notice;
use crate::{
    kernel::features,
    session::{Launch, TraceConfig},
    target::{
        Pid,
        guard::{Beginning, Guard},
        launch::{LaunchError, Launched, User},
    },
};

/// Who is held, and who waits to be let go.
pub(super) struct Tree {
    /// Whether processes may be held at all.
    pub(super) holds: bool,
    /// Whether children are of the tree.
    follow: bool,
    /// Held for as long as they run.
    pub(super) held: HashSet<Pid>,
    pub(super) waiting: VecDeque<Beginning>,
    /// Processes that have waited too long.
    pub(super) late: u64,
    has_complained: bool,
}

impl Tree {
    pub(super) fn new(config: &TraceConfig) -> Self {
        let wanted = config.targets.hold && (config.targets.follow || config.targets.launch.is_some());
        let holds = wanted && features::may_hold();
        if wanted && !holds {
            notice::nobody_held(&"that takes CAP_SYS_PTRACE");
        }
        Self {
            holds,
            follow: config.targets.follow,
            held: HashSet::new(),
            waiting: VecDeque::new(),
            late: 0,
            has_complained: false,
        }
    }

    /// Whether a process is held at its next exec.
    pub(super) fn holds(&self, pid: Pid) -> bool {
        self.held.contains(&pid)
    }

    /// Starts the command and holds it before its first instruction.
    pub(super) fn launch(&mut self, launch: &Launch, guard: &mut Guard) -> Result<Launched, LaunchError> {
        let user = launch.user.as_ref().map(|name| User::find(name.as_deref())).transpose()?;
        let holder = if self.holds { guard.holder(self.follow) } else { Err(std::io::ErrorKind::Unsupported.into()) };
        let holder = holder.ok();
        let mut launched = Launched::start(&launch.program, &launch.arguments, user.as_ref(), holder)?;
        let pid = launched.pid();
        if launched.is_held_by_helper() {
            if !guard.await_begin(pid, || launched.ended().is_some()) {
                return Err(launched.has_not_begun());
            }
            self.held.insert(pid);
        }
        Ok(launched)
    }

    /// With `--follow` a target that runs already is held from now on, and so are its children at their begin. One that
    /// cannot be held is told of, the first time.
    pub(super) fn follow(&mut self, pid: Pid, looks_for_leaks: bool, guard: &mut Guard) {
        if !self.holds || !self.follow || looks_for_leaks || self.held.contains(&pid) {
            return;
        }
        match guard.follow(pid) {
            Ok(()) => {
                self.held.insert(pid);
            }
            // It has ended.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) || error.kind() == std::io::ErrorKind::NotFound => {
            }
            Err(error) if !self.has_complained => {
                self.has_complained = true;
                notice::not_followed(pid, &error);
            }
            Err(_) => {}
        }
    }

    /// Lets a process go on that stands at its begin and whose probes are in place. One that `looks_for_leaks` itself goes for good,
    /// as LeakSanitizer fails in a process that is held.
    pub(super) fn go(&mut self, pid: Pid, looks_for_leaks: bool, guard: &mut Guard) {
        if looks_for_leaks {
            self.held.remove(&pid);
            guard.part(pid);
        } else {
            guard.go(pid);
        }
    }

    /// Processes that have waited too long at their begin, so that what they did first was not seen.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// A target has ended.
    pub(super) fn forget(&mut self, pid: Pid) {
        self.held.remove(&pid);
    }
}
