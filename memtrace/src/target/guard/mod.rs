//! Keeps targets alive that copy their own code while it is probed.
//!
//! Programs that move their code to huge pages copy it, breakpoints included, and then run the copy. No probe answers for
//! a breakpoint there, so the kernel sends SIGTRAP, which ends the process. There is no way to keep breakpoints out of a
//! copy: it is made by reads of memory. So a process whose own executable is probed is held by ptrace(2), by a [`helper`]
//! process, which mends the copy when the signal comes. Another process does this because a tracer must answer at
//! once, also when memtrace is busy, or stopped by a terminal's Ctrl-Z; and because waiting for a
//! traced child would get in the way of waiting for a launched command.
//!
//! Processes whose probes are in shared libraries alone are not held.

mod breakpoint;
pub mod helper;
mod message;

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use self::{
    breakpoint::Breakpoint,
    message::{Answer, Identity, Order},
};
use super::Pid;
use crate::cli::CODE_GUARD;

/// How long the helper gets to seize a process, and to let go of all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Code of a process that was found copied, with breakpoints in the copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Copied {
    /// The process.
    pub pid: Pid,
    /// How many breakpoints were taken out of the copy.
    pub breakpoints: u64,
}

/// The helper process, once it is needed.
#[derive(Debug, Default)]
pub struct Guard {
    helper: Option<Helper>,
    copied: Vec<Copied>,
}

#[derive(Debug)]
struct Helper {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<Answer>,
    sent: HashSet<(PathBuf, u64)>,
}

impl Guard {
    /// Holds a process if probes go into its own executable: `sites` are files as they can be opened, and offsets in
    /// them. Returns whether it is held. Must be called before the probes are in place.
    ///
    /// # Errors
    ///
    /// When it should be held and cannot be: another tracer holds it, for one.
    pub fn watch<'a>(&mut self, pid: Pid, sites: impl IntoIterator<Item = (&'a Path, u64)>) -> io::Result<bool> {
        let Ok(executable) = std::fs::metadata(pid.proc_path("exe")) else { return Ok(false) };
        let is_own = |path: &Path| {
            let found = std::fs::metadata(path);
            found.is_ok_and(|found| (found.dev(), found.ino()) == (executable.dev(), executable.ino()))
        };
        let mut files: Vec<(&Path, Option<File>)> = Vec::new();
        let mut own = Vec::new();
        for (path, offset) in sites {
            if !files.iter().any(|(known, _)| *known == path) {
                files.push((path, is_own(path).then(|| File::open(path)).transpose()?));
            }
            let file = files.iter().find(|(known, _)| *known == path).and_then(|(_, file)| file.as_ref());
            if let Some(file) = file {
                own.push((path, offset, Breakpoint::read(file, offset)?));
            }
        }
        if own.is_empty() {
            return Ok(false);
        }
        let helper = match &mut self.helper {
            Some(helper) => helper,
            None => self.helper.insert(Helper::start()?),
        };
        let device = (rustix::fs::major(executable.dev()), rustix::fs::minor(executable.dev()));
        helper.order(Order::Object(Identity { device, inode: executable.ino() }))?;
        for mapping in super::maps::read(pid).unwrap_or_default() {
            // On some file systems stat(2) knows another device than the maps do.
            if mapping.inode == executable.ino() {
                helper.order(Order::Object(Identity::of(&mapping)))?;
            }
        }
        for (path, offset, site) in own {
            if helper.sent.insert((path.to_owned(), offset)) {
                helper.order(Order::Site(site))?;
            }
        }
        helper.order(Order::Hold(pid))?;
        let until = Instant::now() + PATIENCE;
        loop {
            match helper.answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Answer::Holds(held)) if held == pid => return Ok(true),
                Ok(Answer::Refused(refused, error)) if refused == pid => {
                    return Err(io::Error::from_raw_os_error(error));
                }
                Ok(Answer::Mended { pid, breakpoints, .. }) => self.copied.push(Copied { pid, breakpoints }),
                Ok(Answer::Holds(_) | Answer::Refused(..)) => {}
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }

    /// Copies that were found since the last call.
    pub fn take_copied(&mut self) -> Vec<Copied> {
        for answer in self.helper.iter().flat_map(|helper| helper.answers.try_iter()) {
            if let Answer::Mended { pid, breakpoints, .. } = answer {
                self.copied.push(Copied { pid, breakpoints });
            }
        }
        std::mem::take(&mut self.copied)
    }

    /// Lets go of all processes; to be called when no probes are in place any more.
    pub fn end(&mut self) {
        let Some(Helper { mut child, orders, answers, .. }) = self.helper.take() else { return };
        drop(orders);
        // The answers end with the helper.
        let until = Instant::now() + PATIENCE;
        while let Ok(answer) = answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if let Answer::Mended { pid, breakpoints, .. } = answer {
                self.copied.push(Copied { pid, breakpoints });
            }
        }
        // It ends by itself, later, if it has not.
        let _ = child.try_wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end();
    }
}

impl Helper {
    fn start() -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(CODE_GUARD).stdin(Stdio::piped()).stdout(Stdio::piped());
        // What a terminal sends to memtrace is not for it.
        command.process_group(0);
        let mut child = command.spawn()?;
        let (Some(orders), Some(lines)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let (tell, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                if Answer::parse(&line).is_some_and(|answer| tell.send(answer).is_err()) {
                    return;
                }
            }
        });
        Ok(Self { child, orders, answers, sent: HashSet::new() })
    }

    fn order(&mut self, order: Order) -> io::Result<()> {
        writeln!(self.orders, "{order}")
    }
}
