//! A command started by us, held after its libraries are mapped and before any of its own code has run.
//!
//! The child has the helper process hold it ([`guard`](super::guard)) before its exec, and goes on being held: it may call
//! exec again. Should memtrace die, the command runs on.
//!
//! Where that is not wanted or not possible it asks to be traced (ptrace(2)) by us, and stops at its exec. A statically linked program has everything mapped by
//! then. Otherwise its loader maps the libraries first: it calls `_dl_debug_state` when it has relocated them and before
//! it runs their constructors, the place that debuggers stop at ([`loader`]). There the child stops a second time. When
//! the probes are in place [`Launched::release`] lets go of it for good: it is not traced while it runs. Should memtrace
//! die before that, the kernel kills the child, which has not begun.

mod loader;
mod user;

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus},
};

use nix::{
    errno::Errno,
    sys::{
        ptrace::{self, Options},
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid as RawPid,
};
use thiserror::Error;

pub use self::{
    loader::has_loader,
    user::{User, UserError},
};
use super::{Pid, guard::Holder, status::Status};
use crate::object::printable::printable;

/// Why a command could not be started.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// No such file, no permission, or not a program.
    #[error("cannot run {command}: {source}; give a program's path, or a name that is in PATH")]
    Start {
        /// The program, escaped.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// Who it should run as.
    #[error(transparent)]
    User(#[from] UserError),
    /// It ended before its own code began: a library is missing, most often.
    #[error("{command} ended before its own code began ({status}); does it run without memtrace?")]
    EndedEarly {
        /// The program, escaped.
        command: String,
        /// How.
        status: ExitStatus,
    },
    /// The kernel did not let us hold it.
    #[error(
        "cannot hold {command} at its start ({action}: {source}); start it by itself and trace it with --pid, or allow \
         ptrace"
    )]
    Hold {
        /// The program, escaped.
        command: String,
        /// What was attempted.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// A child of ours that runs a command.
#[derive(Debug)]
pub struct Launched {
    child: Child,
    command: String,
    /// It has not been let go.
    held: bool,
    /// The helper process holds it, not we.
    by_helper: bool,
}

impl Launched {
    /// Starts a command with our terminal, working directory and environment, as `user` if one is given, and holds it
    /// before its own code begins. With a `holder` the helper process holds it if it can ([`is_held_by_helper`](
    /// Self::is_held_by_helper)), and it may not have come to its begin yet when this returns. Else all of this, and
    /// [`release`](Self::release), must be called by one thread.
    ///
    /// # Errors
    ///
    /// When it cannot be started or held; nothing of it runs on then.
    pub fn start(
        program: &OsStr,
        arguments: &[OsString],
        user: Option<&User>,
        holder: Option<Holder>,
    ) -> Result<Self, LaunchError> {
        let name = printable(program.as_encoded_bytes(), 200);
        let mut command = Command::new(program);
        command.args(arguments);
        // Before it gives up our rights: a tracer without them would keep a set-user-id program from its own (ptrace(2)).
        let helper = holder.as_ref().map(Holder::helper);
        let hold = move || match holder.as_ref().map(Holder::hold_current).transpose()? {
            Some(true) => Ok(()),
            _ => ptrace::traceme().map_err(io::Error::from),
        };
        // SAFETY: system calls only, which are allowed between fork and exec.
        unsafe { command.pre_exec(hold) };
        if let Some(user) = user {
            user.apply(&mut command)?;
        }
        let child = command.spawn().map_err(|source| LaunchError::Start { command: name.clone(), source })?;
        let tracer =
            fs::read(Pid(child.id()).proc_path("status")).ok().and_then(|text| Some(Status::parse(&text)?.tracer));
        let by_helper = helper.is_some() && tracer == helper;
        let mut launched = Self { child, command: name, held: true, by_helper };
        if !by_helper {
            launched.hold()?;
        }
        Ok(launched)
    }

    /// Whether the helper process holds it, for as long as it runs.
    pub fn is_held_by_helper(&self) -> bool {
        self.by_helper
    }

    /// The helper process lets it go, or has.
    pub fn is_let_go(&mut self) {
        self.held = false;
    }

    /// Why it has not come to its begin under the helper process.
    pub fn has_not_begun(&mut self) -> LaunchError {
        match self.child.wait() {
            Ok(status) => self.ended_early(status),
            Err(source) => LaunchError::Hold { command: self.command.clone(), action: "waiting for its begin", source },
        }
    }

    /// The process id of the launched command.
    pub fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    /// Lets it run, untraced.
    ///
    /// # Errors
    ///
    /// When it has been killed meanwhile.
    pub fn release(&mut self) -> Result<(), LaunchError> {
        if std::mem::take(&mut self.held) {
            ptrace::detach(self.raw(), None).map_err(|errno| self.failed("detaching", errno))?;
        }
        Ok(())
    }

    /// As [`release`](Self::release), but the command is stopped (SIGSTOP) and none of its code runs before it gets
    /// SIGCONT. Another tracer can take hold of it meanwhile.
    ///
    /// # Errors
    ///
    /// When it has been killed meanwhile.
    pub fn release_stopped(&mut self) -> Result<(), LaunchError> {
        if std::mem::take(&mut self.held) {
            ptrace::detach(self.raw(), Signal::SIGSTOP).map_err(|errno| self.failed("detaching", errno))?;
            // A signal that makes it go on before it has stopped would be lost.
            match waitpid(self.raw(), Some(WaitPidFlag::WUNTRACED)) {
                Ok(WaitStatus::Exited(_, code)) => return Err(self.ended_early(ExitStatus::from_raw(code << 8))),
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    return Err(self.ended_early(ExitStatus::from_raw(signal as i32)));
                }
                Ok(_) => {}
                Err(errno) => return Err(self.failed("waiting for its stop", errno)),
            }
        }
        Ok(())
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends it a signal, if it still runs.
    pub fn signal(&mut self, signal: i32) {
        // Once it has been waited for, its id may be another's.
        if self.ended().is_none()
            && let Ok(signal) = Signal::try_from(signal)
        {
            // It may end at this moment, which is fine.
            let _ = nix::sys::signal::kill(self.raw(), signal);
        }
    }

    fn raw(&self) -> RawPid {
        RawPid::from_raw(self.child.id().cast_signed())
    }

    fn failed(&self, action: &'static str, errno: Errno) -> LaunchError {
        LaunchError::Hold { command: self.command.clone(), action, source: errno.into() }
    }

    /// From the fork to the stop before its own code.
    fn hold(&mut self) -> Result<(), LaunchError> {
        self.expect_trap("waiting for its exec")?;
        let options = Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(self.raw(), options).map_err(|errno| self.failed("setting options", errno))?;
        let Some(places) = loader::places(self.pid()) else { return Ok(()) };
        let mut saved = Vec::new();
        for &address in places.stops() {
            saved.push((address, self.put_trap(address)?));
        }
        loop {
            self.resume(None)?;
            self.expect_trap("waiting for its libraries")?;
            let mut registers = ptrace::getregs(self.raw()).map_err(|errno| self.failed("reading registers", errno))?;
            let Some(&(address, original)) = saved.iter().find(|(address, _)| address + 1 == registers.rip) else {
                // A trap of its own, very early: none of ours to keep.
                self.resume(Some(Signal::SIGTRAP))?;
                continue;
            };
            // Stand before the instruction that the trap replaced.
            registers.rip = address;
            ptrace::setregs(self.raw(), registers).map_err(|errno| self.failed("setting registers", errno))?;
            if address == places.entry || self.is_consistent(&places) {
                for &(address, original) in &saved {
                    self.write(address, original)?;
                }
                return Ok(());
            }
            self.write(address, original)?;
            ptrace::step(self.raw(), None).map_err(|errno| self.failed("stepping", errno))?;
            self.expect_trap("stepping")?;
            self.put_trap(address)?;
        }
    }

    /// Whether the loader's list of objects is complete: `r_state` of `r_debug` is `RT_CONSISTENT`, 0 (link.h).
    fn is_consistent(&self, places: &loader::Places) -> bool {
        places.state.is_none_or(|address| self.read(address).is_ok_and(|word| word as u32 == 0))
    }

    /// Lets it go on to its next stop.
    fn resume(&self, signal: Option<Signal>) -> Result<(), LaunchError> {
        ptrace::cont(self.raw(), signal).map_err(|errno| self.failed("resuming", errno))
    }

    /// Waits for a SIGTRAP; other signals are passed on to it.
    fn expect_trap(&mut self, action: &'static str) -> Result<(), LaunchError> {
        loop {
            match waitpid(self.raw(), None) {
                Ok(WaitStatus::Stopped(_, Signal::SIGTRAP)) => return Ok(()),
                Ok(WaitStatus::Stopped(_, signal)) => self.resume(Some(signal))?,
                Ok(WaitStatus::Exited(_, code)) => return Err(self.ended_early(ExitStatus::from_raw(code << 8))),
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    return Err(self.ended_early(ExitStatus::from_raw(signal as i32)));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(self.failed(action, errno)),
            }
        }
    }

    fn ended_early(&mut self, status: ExitStatus) -> LaunchError {
        self.held = false;
        LaunchError::EndedEarly { command: self.command.clone(), status }
    }

    /// Puts a trap instruction at `address`; the word that stood there comes back.
    fn put_trap(&self, address: u64) -> Result<i64, LaunchError> {
        const INT3: i64 = 0xcc;
        let original = self.read(address)?;
        self.write(address, (original & !0xff) | INT3)?;
        Ok(original)
    }

    fn read(&self, address: u64) -> Result<i64, LaunchError> {
        ptrace::read(self.raw(), address as ptrace::AddressType).map_err(|errno| self.failed("reading its code", errno))
    }

    fn write(&self, address: u64, word: i64) -> Result<(), LaunchError> {
        ptrace::write(self.raw(), address as ptrace::AddressType, word)
            .map_err(|errno| self.failed("writing its code", errno))
    }
}

/// One that was never released has not begun, and must not stay behind; one that runs is left alone.
impl Drop for Launched {
    fn drop(&mut self) {
        if self.held {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::object::maps;

    fn start(program: &str, arguments: &[&str]) -> Result<Launched, LaunchError> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        Launched::start(OsStr::new(program), &arguments, None, None)
    }

    #[test]
    fn a_command_is_held_with_its_libraries_mapped_and_runs_when_released() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = folder.path().join("made");
        let mut launched = start("/bin/sh", &["-c", &format!("echo > {}; exit 7", made.display())]).expect("sh starts");
        let mapped = maps::read(launched.pid()).expect("its maps");
        assert!(mapped.iter().any(|mapping| mapping.path.as_deref().is_some_and(|path| path.ends_with("libc.so.6"))));
        assert!(!made.exists() && launched.ended().is_none());
        launched.release().expect("released");
        assert_eq!(launched.child.wait().expect("its end").code(), Some(7));
        assert!(made.exists());
    }

    #[test]
    fn a_command_that_is_not_released_never_begins() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = folder.path().join("made");
        let launched = start("/usr/bin/touch", &[&made.display().to_string()]).expect("touch starts");
        let pid = launched.pid();
        drop(launched);
        assert!(!made.exists() && !Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn what_cannot_run_is_one_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = folder.path().join("text");
        fs::write(&text, "no program").expect("a file");
        for program in ["/no/such/program", &text.display().to_string(), "/"] {
            let error = start(program, &[]).expect_err(program).to_string();
            assert!(error.contains("cannot run") && !error.contains('\n'), "{error}");
        }
    }
}
