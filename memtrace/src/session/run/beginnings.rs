//! Processes of a tree that stand at their begin: attached to, and let go.

use super::Run;
use crate::{
    session::{SessionError, notice},
    target::{Pid, guard::Beginning},
};

impl Run<'_> {
    /// Attaches to processes that stand at their begin, and lets them go.
    pub(super) fn meet_beginnings(&mut self) -> Result<(), SessionError> {
        if self.guard.is_lost() {
            if self.tree.holds {
                notice::nobody_held(&"the helper process was killed");
            }
            self.tree.holds = false;
            self.tree.held.clear();
        }
        for beginning in self.guard.take_beginnings() {
            let Beginning::Late(pid) = beginning else {
                self.tree.waiting.push_back(beginning);
                continue;
            };
            self.tree.waiting.retain(|waiting| waiting.pid() != pid);
            if self.tree.late == 0 {
                notice::late(pid);
            }
            self.tree.late += 1;
            // Others may wait again.
            self.guard.go(pid);
        }
        // Where nothing can be attached they wait, for as long as the guard lets them.
        while self.may_admit()
            && let Some(beginning) = self.tree.waiting.pop_front()
        {
            let pid = beginning.pid();
            if self.tree.holds {
                self.tree.held.insert(pid);
            }
            let met = match beginning {
                Beginning::Born { parent, at_ns, .. } => self.meet_child(pid, (parent, at_ns)),
                Beginning::Begun { by_other_thread, .. } => self.meet_program(pid, by_other_thread),
                Beginning::Late(_) => Ok(()),
            };
            let looks_for_leaks = self
                .traced
                .iter()
                .any(|process| process.target.pid() == pid && !process.exited && process.looks_for_leaks);
            self.tree.go(pid, looks_for_leaks, &mut self.guard);
            met?;
        }
        Ok(())
    }

    fn meet_child(&mut self, pid: Pid, fork: (Pid, u64)) -> Result<(), SessionError> {
        // An earlier process of this id is not known to have ended yet.
        for process in self.traced.iter_mut().filter(|process| process.target.pid() == pid) {
            if process.check_exited() {
                self.feed.ended(process.slot)?;
            }
        }
        self.admit(pid, Some(fork))
    }

    fn meet_program(&mut self, pid: Pid, by_other_thread: bool) -> Result<(), SessionError> {
        // Its ledger must have got as far as the exec.
        self.drain()?;
        let known = self.traced.iter_mut().find(|process| process.target.pid() == pid && !process.exited);
        let Some(process) = known else { return self.admit(pid, None) };
        if process.target.namespace_pids().len() > 1 {
            // The kernel side is not told of an exec in another pid namespace: as if another process had begun.
            process.exited = true;
            self.tracer.set_running(process.slot, false)?;
            self.feed.ended(process.slot)?;
            return self.admit(pid, None);
        }
        self.feed.refresh(process.slot)?;
        process.begin(by_other_thread, &mut self.tracer, &mut self.guard, &mut self.plans, self.config);
        Ok(())
    }
}
