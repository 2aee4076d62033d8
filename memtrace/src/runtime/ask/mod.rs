//! What a runtime is asked itself, with `--ask`: [`node`] which functions made the objects that live, [`jvm`] of which classes these are.
//!
//! In: a process, held by its pidfd. Out: what it [`Told`]. All of this changes the target, and so it is done on request only, in a thread of its
//! own for each process ([`Conversation`]): no wait is one for the thread that empties the ring. What is heard is the target's to shape.

pub mod devtools;
pub mod histogram;
pub mod jvm;
pub mod listeners;
pub mod node;
pub mod profile;

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender, TryRecvError},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
};
use thiserror::Error;

use self::{
    devtools::NoAnswer,
    node::{OPEN_WITHIN, USUAL_PORT},
    profile::Held,
};
use super::{Without, count::Count};
use crate::{
    object::{Pid, maps::Mapping},
    turns::Turns,
};

/// How long a program that begins may take to catch the signal by which it is asked.
const CAUGHT_WITHIN: Duration = Duration::from_secs(5);

/// How long a runtime may take to collect its heap and answer.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// The share of a process's time that its profiles may take, as one part in this many, and the time that counts of one that takes longer:
/// the next one is never more than a minute away.
const PARTS: u32 = 20;
const LONGEST_TURN: Duration = Duration::from_secs(3);

/// How often it is looked again at what is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A runtime that can be asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answerer {
    /// Node, by its inspector.
    Node,
    /// HotSpot's virtual machine of Java, by its attach socket.
    Jvm,
}

/// Files that have no runtime that can be asked, so that they are not looked at again.
#[derive(Debug, Default)]
pub struct Known {
    v8: Without,
    jvm: Without,
}

impl Answerer {
    /// Which of them is among the files that a process maps; `None` where none is.
    pub fn find(pid: Pid, mappings: &[Mapping], known: &mut Known) -> Option<Self> {
        if node::is_in(pid, mappings, &mut known.v8) {
            Some(Self::Node)
        } else if jvm::is_in(pid, mappings, &mut known.jvm) {
            Some(Self::Jvm)
        } else {
            None
        }
    }
}

/// Why a process says nothing, as a sentence.
#[derive(Debug, Error)]
pub enum Silence {
    /// It has ended, or may not be looked at.
    #[error("It cannot be asked: {0}.")]
    Unseen(io::Error),
    /// The signal would end it.
    #[error("It does not catch {signal}, by which {what}: the signal could end it, so it is not asked.")]
    NotCaught {
        /// The name of the signal.
        signal: &'static str,
        /// What the runtime does at it.
        what: &'static str,
    },
    /// Its network cannot be used.
    #[error("Its network namespace cannot be entered, so it is not asked: {0}.")]
    Namespace(io::Error),
    /// It does something else at the signal.
    #[error(
        "It got SIGUSR1 and did not open its inspector within {} s, so it is not asked: it may handle the signal itself, or run with \
         --disable-sigusr1.",
        OPEN_WITHIN.as_secs()
    )]
    NotOpened,
    /// Something else listens where it would.
    #[error(
        "It got SIGUSR1 and did not open its inspector within {} s, so it is not asked: something else listens at port {USUAL_PORT}, where it \
         would.",
        OPEN_WITHIN.as_secs()
    )]
    PortTaken,
    /// Its inspector does not say what it is asked.
    #[error("Its inspector is asked no more: {0}.")]
    Mute(#[from] NoAnswer),
    /// Its attach socket does not appear, or does not say what it is asked.
    #[error("Its virtual machine is asked no more: {0}.")]
    Detached(#[from] jvm::NoHistogram),
}

/// What a process said, or what came of asking it.
#[derive(Debug)]
pub enum Told {
    /// Its inspector was found, or opened, and objects are drawn from now on.
    Begun {
        /// Where it listens, in the network namespace of the process.
        address: SocketAddr,
        /// Whether memtrace opened it.
        is_ours: bool,
    },
    /// Its virtual machine can be asked.
    Attached {
        /// Whether memtrace had it open its attach socket.
        is_ours: bool,
    },
    /// All objects that live.
    Counts {
        /// What those of each class hold, and all together.
        counts: Vec<Count>,
        /// How long the answer took.
        took: Duration,
    },
    /// Objects that live.
    Profile {
        /// By the functions that made them; stacks that hold nothing any more are among them.
        held: Vec<Held>,
        /// How long the answer took.
        took: Duration,
    },
    /// It will say nothing more.
    Silent(Silence),
    /// What has become of the inspector, at the end.
    Left(Inspector),
}

/// What has become of an inspector.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Inspector {
    /// It was open before, and is left as it was.
    AsItWas,
    /// It was opened by memtrace and is closed again.
    Closed,
    /// It was opened by memtrace and could not be closed.
    Open,
}

/// A process that is asked, by a thread of its own.
#[derive(Debug)]
pub struct Conversation {
    /// Each is a wish to be told what lives; `None` when there will be no more.
    wishes: Option<Sender<()>>,
    told: Receiver<Told>,
    is_over: Arc<AtomicBool>,
    is_wished: bool,
    turns: Turns,
}

impl Conversation {
    /// Begins to ask a process with this runtime, which `process` is the pidfd of.
    ///
    /// # Errors
    ///
    /// When there can be no more threads.
    pub fn begin(pid: Pid, process: OwnedFd, answerer: Answerer) -> io::Result<Self> {
        let (wishes, wished) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let waits = Arc::clone(&is_over);
        thread::Builder::new().name("ask".to_owned()).spawn(move || {
            let asked = Asked { pid, process, is_over: waits };
            match answerer {
                Answerer::Node => node::converse(asked, &wished, &tell),
                Answerer::Jvm => jvm::converse(&asked, &wished, &tell),
            }
        })?;
        Ok(Self { wishes: Some(wishes), told, is_over, is_wished: false, turns: Turns::default() })
    }

    /// Wishes to be told what lives, unless one is being waited for, or the last one took so long that the process is to rest.
    pub fn wish(&mut self) {
        if !self.is_wished && self.turns.may_begin() {
            self.is_wished = self.wishes.as_ref().is_some_and(|wishes| wishes.send(()).is_ok());
        }
    }

    /// What was said since the last time, if anything was.
    pub fn hear(&mut self) -> Option<Told> {
        let told = self.told.try_recv().ok()?;
        if let Told::Profile { took, .. } | Told::Counts { took, .. } = &told {
            self.is_wished = false;
            self.turns.ended((*took).min(LONGEST_TURN), PARTS);
        }
        Some(told)
    }

    /// Ends the conversation, without waiting for its end.
    pub fn end(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.wishes = None;
    }

    /// Whether the conversation has come to its end. What was said and not heard is lost.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.told.try_recv(), Err(TryRecvError::Disconnected))
    }

    /// What is said until the conversation has ended, or until this moment.
    pub fn wait(&mut self, until: Instant) -> Vec<Told> {
        let next = || self.told.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
        std::iter::from_fn(next).collect()
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.end();
    }
}

/// The process, as the thread sees it that asks it.
struct Asked {
    pid: Pid,
    process: OwnedFd,
    /// Nobody waits for an answer any more.
    is_over: Arc<AtomicBool>,
}

impl Asked {
    /// Says why there is nothing more to hear, unless nobody waits for it or the process has ended.
    fn fall_silent(&self, silence: Silence, tell: &Sender<Told>) {
        if !self.is_over.load(Ordering::Relaxed) && !self.has_ended() {
            let _ = tell.send(Told::Silent(silence));
        }
    }

    fn has_ended(&self) -> bool {
        let mut ended = [PollFd::new(&self.process, PollFlags::IN)];
        poll(&mut ended, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    /// Looks again and again until there is something, the time is up, `is_over` is set, or the process has ended.
    fn wait<T>(
        &self,
        within: Duration,
        is_over: &AtomicBool,
        mut look: impl FnMut() -> Result<Option<T>, Silence>,
    ) -> Result<Option<T>, Silence> {
        let until = Instant::now() + within;
        loop {
            let found = look()?;
            if found.is_some() || is_over.load(Ordering::Relaxed) || Instant::now() >= until || self.has_ended() {
                return Ok(found);
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Whether the process catches a signal; the answer is about the very process if it has not ended after that.
    fn catches(&self, signal: Signal) -> Result<Option<()>, Silence> {
        let status = fs::read_to_string(self.pid.proc_path("status")).map_err(Silence::Unseen)?;
        Ok((is_caught(&status, signal) && !self.has_ended()).then_some(()))
    }
}

/// Whether a signal is caught, by `/proc/PID/status`.
fn is_caught(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
}
