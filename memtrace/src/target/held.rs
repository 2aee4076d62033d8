//! One running process that is looked at and not traced: all that it takes is its pidfd and world-readable files.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{
    Pid, TargetError,
    process::{command_line, has_exited, hold, read_proc},
};

/// A running process. Its pidfd keeps naming it when its id is used again.
#[derive(Debug)]
pub struct Held {
    pid: Pid,
    pidfd: OwnedFd,
    command: String,
}

impl Held {
    /// Takes hold of a user process. Unlike [`Target::open`](super::Target::open) this needs no permission to trace it.
    ///
    /// # Errors
    ///
    /// When there is none, or it is a thread, a kernel thread, a zombie or memtrace itself.
    pub fn open(pid: Pid) -> Result<Held, TargetError> {
        let (pidfd, status) = hold(pid)?;
        let command = command_line(&read_proc(pid, "cmdline", Some(pidfd.as_fd()))?, &status.name);
        if has_exited(pidfd.as_fd()) {
            return Err(TargetError::Exited { pid });
        }
        Ok(Held { pid, pidfd, command })
    }

    /// Its id in our pid namespace.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its command line, escaped and cut; its name in brackets when it has none.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Whether it has ended, as a zombie too.
    pub fn exited(&self) -> bool {
        has_exited(self.pidfd.as_fd())
    }
}

/// The pidfd: readable when the process has ended.
impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_user_process_is_refused() {
        assert!(matches!(Held::open(Pid(std::process::id())), Err(TargetError::Itself { .. })));
        assert!(matches!(Held::open(Pid(u32::MAX)), Err(TargetError::NoSuchProcess { .. })));
    }

    #[test]
    fn a_child_is_held_until_after_its_end() {
        let mut child = std::process::Command::new("sleep").arg("600.3").spawn().expect("a child");
        let held = Held::open(Pid(child.id())).expect("our own child");
        assert!(!held.exited());
        child.kill().expect("killed");
        child.wait().expect("reaped");
        assert!(held.exited());
        assert!(!held.command().is_empty() && held.pid() == Pid(child.id()));
    }
}
