//! What a runtime is asked itself, with `--ask`: the inspector of a Node process says which functions made the objects that live.
//!
//! In: a process, held by its pidfd. Out: what it [`Told`]. Node opens its inspector on loopback when it gets SIGUSR1. The signal is sent
//! only to a program of Node's that catches it, since it ends any other. Then V8 draws a sample of the objects that are allocated from now
//! on ([`profile`]), and says on each look which of them live, after a collection of the whole heap. All of this changes the target, and
//! so it is done on request only, in a thread of its own for each process ([`Conversation`]): no wait is one for the thread that
//! empties the ring, and the thread can enter the target's network namespace ([`listeners`]). What is heard is the target's to shape
//! ([`devtools`] bounds it).

pub mod devtools;
pub mod listeners;
pub mod profile;

#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
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
    process::{Signal, pidfd_send_signal},
};
use serde_json::json;
use thiserror::Error;

use self::{
    devtools::{NoAnswer, Session},
    listeners::Listener,
    profile::{Books, DISTANCE, Held},
};
use super::{Without, v8};
use crate::{
    object::{
        Pid,
        mapped::{self, MappedObject},
        maps::Mapping,
    },
    turns::Turns,
};

/// A function that programs of Node's export, for modules of native code, and other programs with V8 do not.
const NODE: &str = "node_module_register";

/// The signal at which Node opens its inspector: its bit in the masks of `/proc/PID/status`.
const OPENS: Signal = Signal::USR1;

/// The port at which Node's inspector listens unless it was told another one.
const USUAL_PORT: u16 = 9229;

/// The most sockets that are asked whether they are an inspector.
const MAX_ASKED: usize = 8;

/// How long a program that begins may take to catch the signal, and Node to open its inspector.
const CAUGHT_WITHIN: Duration = Duration::from_secs(5);
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// How long V8 may take to begin, and to collect its heap and send a profile; JavaScript that does not return keeps it waiting.
const BEGUN_WITHIN: Duration = Duration::from_secs(10);
const PROFILED_WITHIN: Duration = Duration::from_secs(60);

/// The share of a process's time that its profiles may take, as one part in this many, and the time that counts of one that takes longer:
/// the next one is never more than a minute away.
const PARTS: u32 = 20;
const LONGEST_TURN: Duration = Duration::from_secs(3);

/// How long each step at the end may take.
const ENDED_WITHIN: Duration = Duration::from_secs(1);

/// How often it is looked again at what is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The inspector is closed by JavaScript that runs in the target: not at once, since that would be within a session of the inspector.
const CLOSE: &str = "setTimeout(() => process._debugEnd(), 20), true";

/// Why a process says nothing, as a sentence.
#[derive(Debug, Error)]
pub enum Silence {
    /// It has ended, or may not be looked at.
    #[error("It cannot be asked: {0}.")]
    Unseen(io::Error),
    /// The signal would end it.
    #[error(
        "It does not catch SIGUSR1, by which Node opens its inspector: the signal could end it, so it is not asked."
    )]
    NotCaught,
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

/// Whether a program of Node's is among the files that a process maps. `known` says which files are known not to have V8; more are added.
pub fn is_node(pid: Pid, mappings: &[Mapping], known: &mut Without) -> bool {
    let objects: Vec<MappedObject> = mapped::objects(pid, mappings);
    v8::file(&objects, known).is_some_and(|(_, elf)| elf.exports(NODE).unwrap_or(false))
}

/// A process that is asked, by a thread of its own.
#[derive(Debug)]
pub struct Conversation {
    /// Each is a wish for a profile; `None` when there will be no more.
    wishes: Option<Sender<()>>,
    told: Receiver<Told>,
    is_over: Arc<AtomicBool>,
    is_wished: bool,
    turns: Turns,
}

impl Conversation {
    /// Begins to ask a process, which `process` is the pidfd of.
    ///
    /// # Errors
    ///
    /// When there can be no more threads.
    pub fn begin(pid: Pid, process: OwnedFd) -> io::Result<Self> {
        let (wishes, wished) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let waits = Arc::clone(&is_over);
        thread::Builder::new().name("ask".to_owned()).spawn(move || {
            Asked { pid, process, is_over: waits }.converse(&wished, &tell);
        })?;
        Ok(Self { wishes: Some(wishes), told, is_over, is_wished: false, turns: Turns::default() })
    }

    /// Wishes for a profile, unless one is being waited for, or the last one took so long that the process is to rest.
    pub fn wish(&mut self) {
        if !self.is_wished && self.turns.may_begin() {
            self.is_wished = self.wishes.as_ref().is_some_and(|wishes| wishes.send(()).is_ok());
        }
    }

    /// What was said since the last time, if anything was.
    pub fn hear(&mut self) -> Option<Told> {
        let told = self.told.try_recv().ok()?;
        if let Told::Profile { took, .. } = &told {
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

/// An inspector that was found.
struct Found {
    listener: Listener,
    path: String,
    is_ours: bool,
}

impl Asked {
    /// Asks until there are no more wishes. What is said is lost when nobody hears it any more.
    fn converse(mut self, wished: &Receiver<()>, tell: &Sender<Told>) {
        let found = match listeners::enter_namespace(self.pid).map_err(Silence::Namespace).and_then(|()| self.find()) {
            Ok(found) => found,
            Err(silence) => return self.fall_silent(silence, tell),
        };
        match self.begin(&found) {
            Ok(mut session) => {
                let _ = tell.send(Told::Begun { address: found.listener.address, is_ours: found.is_ours });
                if let Err(mute) = profiles(&mut session, found.is_ours, wished, tell) {
                    self.fall_silent(mute.into(), tell);
                }
                session.outlast();
                // Without an answer the end of the connection ends the session, and with it the drawing.
                let _ = session.call("HeapProfiler.stopSampling", json!({}), ENDED_WITHIN, |_| Ok(()));
            }
            Err(mute) => self.fall_silent(mute.into(), tell),
        }
        // This is done whether or not somebody waits for it.
        self.is_over = Arc::default();
        let _ = tell.send(Told::Left(self.leave(&found)));
    }

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

    /// Finds the inspector, and has it opened if it is not open.
    fn find(&self) -> Result<Found, Silence> {
        let before = self.listeners()?;
        if let Some((listener, path)) = inspector(&before, &self.is_over) {
            return Ok(Found { listener, path, is_ours: false });
        }
        self.wait(CAUGHT_WITHIN, &self.is_over, || self.catches_signal())?.ok_or(Silence::NotCaught)?;
        let known: HashSet<u64> = before.iter().map(|listener| listener.inode).collect();
        pidfd_send_signal(&self.process, OPENS).map_err(|error| Silence::Unseen(error.into()))?;
        // What is opened has to be closed, also when nobody waits any more.
        let not_over = Arc::default();
        let opened = self.wait(OPEN_WITHIN, &not_over, || {
            let mut new = self.listeners()?;
            new.retain(|listener| !known.contains(&listener.inode));
            Ok(inspector(&new, &not_over))
        })?;
        match opened {
            Some((listener, path)) => Ok(Found { listener, path, is_ours: true }),
            None if is_usual_port_taken() => Err(Silence::PortTaken),
            None => Err(Silence::NotOpened),
        }
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

    /// Whether the process catches the signal; the answer is about the very process if it has not ended after that.
    fn catches_signal(&self) -> Result<Option<()>, Silence> {
        let status = fs::read_to_string(self.pid.proc_path("status")).map_err(Silence::Unseen)?;
        Ok((is_caught(&status) && !self.has_ended()).then_some(()))
    }

    fn listeners(&self) -> Result<Vec<Listener>, Silence> {
        let mut found = listeners::of_process(self.pid).map_err(Silence::Unseen)?;
        found.sort_by_key(|listener| listener.address.port() != USUAL_PORT);
        Ok(found)
    }

    /// Begins a session in which objects are drawn.
    fn begin(&self, found: &Found) -> Result<Session, NoAnswer> {
        let mut session = Session::open(found.listener.address, &found.path, &self.is_over)?;
        let parameters = json!({ "samplingInterval": DISTANCE });
        session.call("HeapProfiler.startSampling", parameters, BEGUN_WITHIN, |_| Ok(()))?;
        Ok(session)
    }

    /// Closes the inspector if memtrace has opened it.
    fn leave(&self, found: &Found) -> Inspector {
        if !found.is_ours {
            return Inspector::AsItWas;
        }
        // Another session, since the one that was may have come to a bad end. Whether this works is seen by the socket.
        let _ = Session::open(found.listener.address, &found.path, &self.is_over).and_then(|mut session| {
            session.call("Runtime.evaluate", json!({ "expression": CLOSE }), ENDED_WITHIN, |_| Ok(()))
        });
        let is_closed = || {
            let is_open = self.listeners()?.iter().any(|listener| listener.inode == found.listener.inode);
            Ok((!is_open).then_some(()))
        };
        match self.wait(ENDED_WITHIN, &self.is_over, is_closed) {
            Ok(None) if !self.has_ended() => Inspector::Open,
            _ => Inspector::Closed,
        }
    }
}

/// Gets a profile for each wish, until there are no more.
fn profiles(session: &mut Session, is_ours: bool, wished: &Receiver<()>, tell: &Sender<Told>) -> Result<(), NoAnswer> {
    let mut books = Books::default();
    for () in wished {
        let begun = Instant::now();
        // An open inspector keeps what the program writes to its console, with the objects: nobody but memtrace has asked for that.
        if is_ours {
            session.call("Runtime.discardConsoleEntries", json!({}), PROFILED_WITHIN, |_| Ok(()))?;
        }
        let read = |text: &str| books.take(text);
        let held = session.call("HeapProfiler.getSamplingProfile", json!({}), PROFILED_WITHIN, read)?;
        let _ = tell.send(Told::Profile { held, took: begun.elapsed() });
    }
    Ok(())
}

/// The first of these sockets that is an inspector's, and the path to it.
fn inspector(listeners: &[Listener], is_over: &Arc<AtomicBool>) -> Option<(Listener, String)> {
    let first = listeners.iter().take(MAX_ASKED);
    first.copied().find_map(|listener| Some((listener, devtools::path(listener.address, is_over).ok()?)))
}

/// Whether something listens at the usual port, in the network namespace of the thread.
fn is_usual_port_taken() -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, USUAL_PORT)), ENDED_WITHIN).is_ok()
}

/// Whether the signal is caught, by `/proc/PID/status`.
fn is_caught(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (OPENS.as_raw() - 1) & 1 == 1)
}
