//! Holds targets by ptrace(2), for two ends: those that copy their own code while it is probed live on, and the processes
//! of a tree are stopped where they begin, until memtrace is ready for them.
//!
//! Programs that move their code to huge pages copy it, breakpoints included, and then run the copy. No probe answers for
//! a breakpoint there, so the kernel sends SIGTRAP, which ends the process. There is no way to keep breakpoints out of a
//! copy: it is made by reads of memory. So a process whose own executable is probed is held by ptrace(2), by a [`helper`]
//! process, which mends the copy when the signal comes. Another process does this because a tracer must answer at
//! once, also when memtrace is busy, or stopped by a terminal's Ctrl-Z; and because waiting for a
//! traced child would get in the way of waiting for a launched command.
//!
//! A launched command and, with `--follow`, all processes of the tree are held for as long as the run goes on. Of the
//! others those whose probes are in shared libraries alone are not held.

mod breakpoint;
pub mod helper;
mod holder;
mod mend;
mod message;
mod tracing;
mod tree;

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

pub use self::holder::Holder;
use self::{
    breakpoint::Breakpoint,
    message::{Answer, Identity, Order},
};
use super::Pid;

/// The name of the subcommand that a run starts as its helper.
pub const CODE_GUARD: &str = "code-guard";

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

/// A process of the tree stands at a begin, or did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Beginning {
    /// It was forked, and waits before its first instruction.
    Born {
        /// The child.
        pid: Pid,
        /// Who called fork; 0 if that is not known.
        parent: Pid,
        /// When, in nanoseconds of `CLOCK_MONOTONIC`: what the thread that called fork did before has an earlier time,
        /// and what it did behind it a later one.
        at_ns: u64,
    },
    /// It runs another program, and waits with its libraries mapped and none of its code run.
    Begun {
        /// Which.
        pid: Pid,
        /// Whether another thread than the first one called exec, and has the process's id now.
        by_other_thread: bool,
    },
    /// It has waited too long, and runs on.
    Late(Pid),
}

impl Beginning {
    /// The process that stands at its begin.
    pub fn pid(&self) -> Pid {
        match *self {
            Self::Born { pid, .. } | Self::Begun { pid, .. } | Self::Late(pid) => pid,
        }
    }

    fn is_exec_of(&self, wanted: Pid) -> bool {
        matches!(self, Self::Begun { pid, .. } if *pid == wanted)
    }
}

/// The helper process, once it is needed.
#[derive(Debug, Default)]
pub struct Guard {
    helper: Option<Helper>,
    copied: Vec<Copied>,
    beginnings: Vec<Beginning>,
    told: Arc<Notify>,
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
        let helper = self.helper()?;
        let device = (rustix::fs::major(executable.dev()), rustix::fs::minor(executable.dev()));
        helper.order(Order::Object(Identity { device, inode: executable.ino() }))?;
        for mapping in crate::object::maps::read(pid).unwrap_or_default() {
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
        self.is_held(pid).map(|()| true)
    }

    /// What holds a command that is about to be launched, and with `follow` the processes that it starts, for as long as
    /// they run: each stands still at its begin until [`go`](Self::go).
    ///
    /// # Errors
    ///
    /// When the helper process cannot be started.
    pub fn holder(&mut self, follow: bool) -> io::Result<Holder> {
        let helper = self.helper()?;
        Holder::new(&helper.orders, helper.child.id(), follow)
    }

    /// Holds a running process, and has all that it starts from now on, and what those start, stand still at their begin
    /// until [`go`](Self::go).
    ///
    /// # Errors
    ///
    /// When it cannot be held: another tracer holds it, for one.
    pub fn follow(&mut self, pid: Pid) -> io::Result<()> {
        self.helper()?.order(Order::Follow(pid))?;
        self.is_held(pid)
    }

    /// Waits until a launched command stands at its begin; false if it has ended, or the helper has.
    pub fn await_begin(&mut self, pid: Pid, mut has_ended: impl FnMut() -> bool) -> bool {
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        loop {
            if let Some(place) = self.beginnings.iter().position(|beginning| beginning.is_exec_of(pid)) {
                self.beginnings.remove(place);
                return true;
            }
            let Some(helper) = &self.helper else { return false };
            match helper.answers.recv_timeout(LOOK_EVERY) {
                Ok(answer) => self.note(answer),
                Err(RecvTimeoutError::Timeout) if !has_ended() => {}
                Err(_) => return false,
            }
        }
    }

    /// Waits until there is something to take from [`take_beginnings`](Self::take_beginnings).
    pub async fn told(&self) {
        self.told.notified().await;
    }

    /// The processes of the tree that have come to a begin since the last call.
    pub fn take_beginnings(&mut self) -> Vec<Beginning> {
        self.take_answers();
        std::mem::take(&mut self.beginnings)
    }

    /// Whether the helper process has ended before its time, and so let go of everybody; told once.
    pub fn is_lost(&mut self) -> bool {
        let has_ended = |helper: &mut Helper| helper.child.try_wait().is_ok_and(|status| status.is_some());
        let is_lost = self.helper.as_mut().is_some_and(has_ended);
        if is_lost {
            self.take_answers();
            self.helper = None;
        }
        is_lost
    }

    /// Lets a process go on that stands at its begin.
    pub fn go(&mut self, pid: Pid) {
        self.tell(Order::Go(pid));
    }

    /// Lets a process go for good that stands at its begin: neither it nor what it starts is held any more.
    pub fn part(&mut self, pid: Pid) {
        self.tell(Order::Part(pid));
    }

    /// Lets all processes go on that stand at their begin; from now on none does.
    pub fn free(&mut self) {
        self.tell(Order::Free);
    }

    /// Copies that were found since the last call.
    pub fn take_copied(&mut self) -> Vec<Copied> {
        self.take_answers();
        std::mem::take(&mut self.copied)
    }

    /// The helper's word on an order to hold a process.
    fn is_held(&mut self, pid: Pid) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let Some(helper) = &self.helper else { return Err(io::ErrorKind::NotConnected.into()) };
            match helper.answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Answer::Holds(held)) if held == pid => return Ok(()),
                Ok(Answer::Refused(refused, error)) if refused == pid => {
                    return Err(io::Error::from_raw_os_error(error));
                }
                Ok(answer) => self.note(answer),
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }

    fn take_answers(&mut self) {
        let answers: Vec<Answer> = self.helper.iter().flat_map(|helper| helper.answers.try_iter()).collect();
        answers.into_iter().for_each(|answer| self.note(answer));
    }

    fn note(&mut self, answer: Answer) {
        let beginning = match answer {
            Answer::Mended { pid, breakpoints, .. } => return self.copied.push(Copied { pid, breakpoints }),
            Answer::Holds(_) | Answer::Refused(..) => return,
            Answer::Born { pid, parent, at_ns } => Beginning::Born { pid, parent, at_ns },
            Answer::Begun { pid, by_other_thread } => Beginning::Begun { pid, by_other_thread },
            Answer::Late(pid) => Beginning::Late(pid),
        };
        self.beginnings.push(beginning);
        // Whoever took it from the channel may have waited for another answer.
        self.told.notify_one();
    }

    fn helper(&mut self) -> io::Result<&mut Helper> {
        match &mut self.helper {
            Some(helper) => Ok(helper),
            helper => Ok(helper.insert(Helper::start(Arc::clone(&self.told))?)),
        }
    }

    fn tell(&mut self, order: Order) {
        // A helper that has ended has let go of everybody.
        let _ = self.helper.as_mut().map(|helper| helper.order(order));
    }

    /// Lets go of all processes; to be called when no probes are in place any more.
    pub fn end(&mut self) {
        let Some(Helper { mut child, orders, answers, .. }) = self.helper.take() else { return };
        drop(orders);
        // The answers end with the helper.
        let until = Instant::now() + PATIENCE;
        while let Ok(answer) = answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.note(answer);
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
    fn start(told: Arc<Notify>) -> io::Result<Self> {
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
                let Some(answer) = Answer::parse(&line) else { continue };
                if tell.send(answer).is_err() {
                    return;
                }
                if matches!(answer, Answer::Born { .. } | Answer::Begun { .. } | Answer::Late(_)) {
                    told.notify_one();
                }
            }
        });
        Ok(Self { child, orders, answers, sent: HashSet::new() })
    }

    fn order(&mut self, order: Order) -> io::Result<()> {
        // In one piece: a command that is being launched writes to this pipe as well.
        self.orders.write_all(format!("{order}\n").as_bytes())
    }
}
