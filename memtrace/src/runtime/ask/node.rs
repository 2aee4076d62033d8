//! Node: its inspector says which functions made the objects that live.
//!
//! It opens its inspector on loopback when it gets SIGUSR1. The signal is sent only to a program of Node's that catches it, since it ends any other.
//! Then V8 draws a sample of the objects that are allocated from now on ([`super::profile`]), and says on each look which of them live, after a
//! collection of the whole heap. The thread enters the target's network namespace ([`super::listeners`]). What is heard is bounded by
//! [`super::devtools`].

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::AtomicBool,
        mpsc::{Receiver, Sender},
    },
    time::{Duration, Instant},
};

use rustix::process::{Signal, pidfd_send_signal};
use serde_json::json;

use super::{
    Asked, CAUGHT_WITHIN, Inspector, Silence, TOLD_WITHIN, Told,
    devtools::{self, NoAnswer, Session},
    listeners::{self, Listener},
    profile::{Books, DISTANCE},
};
use crate::{
    object::{
        Pid,
        mapped::{self, MappedObject},
        maps::Mapping,
    },
    runtime::{Without, v8},
};

/// A function that programs of Node's export, for modules of native code, and other programs with V8 do not.
const NODE: &str = "node_module_register";

/// The signal at which Node opens its inspector.
const OPENS: Signal = Signal::USR1;

/// The port at which Node's inspector listens unless it was told another one.
pub(super) const USUAL_PORT: u16 = 9229;

/// The most sockets that are asked whether they are an inspector.
const MAX_ASKED: usize = 8;

/// How long Node may take to open its inspector.
pub(super) const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// How long V8 may take to begin; JavaScript that does not return keeps it waiting.
const BEGUN_WITHIN: Duration = Duration::from_secs(10);

/// How long each step at the end may take.
const ENDED_WITHIN: Duration = Duration::from_secs(1);

/// The inspector is closed by JavaScript that runs in the target: not at once, since that would be within a session of the inspector.
const CLOSE: &str = "setTimeout(() => process._debugEnd(), 20), true";

/// Whether a program of Node's is among the files that a process maps. `known` says which files are known not to have V8; more are added.
pub(super) fn is_in(pid: Pid, mappings: &[Mapping], known: &mut Without) -> bool {
    let objects: Vec<MappedObject> = mapped::objects(pid, mappings);
    v8::file(&objects, known).is_some_and(|(_, elf)| elf.exports(NODE).unwrap_or(false))
}

/// An inspector that was found.
struct Found {
    listener: Listener,
    path: String,
    is_ours: bool,
}

/// Asks until there are no more wishes. What is said is lost when nobody hears it any more.
pub(super) fn converse(mut asked: Asked, wished: &Receiver<()>, tell: &Sender<Told>) {
    let found = match listeners::enter_namespace(asked.pid).map_err(Silence::Namespace).and_then(|()| asked.find()) {
        Ok(found) => found,
        Err(silence) => return asked.fall_silent(silence, tell),
    };
    match asked.begin(&found) {
        Ok(mut session) => {
            let _ = tell.send(Told::Begun { address: found.listener.address, is_ours: found.is_ours });
            if let Err(mute) = profiles(&mut session, found.is_ours, wished, tell) {
                asked.fall_silent(mute.into(), tell);
            }
            session.outlast();
            // Without an answer the end of the connection ends the session, and with it the drawing.
            let _ = session.call("HeapProfiler.stopSampling", json!({}), ENDED_WITHIN, |_| Ok(()));
        }
        Err(mute) => asked.fall_silent(mute.into(), tell),
    }
    // This is done whether or not somebody waits for it.
    asked.is_over = Arc::default();
    let _ = tell.send(Told::Left(asked.leave(&found)));
}

impl Asked {
    /// Finds the inspector, and has it opened if it is not open.
    fn find(&self) -> Result<Found, Silence> {
        let before = self.listeners()?;
        if let Some((listener, path)) = inspector(&before, &self.is_over) {
            return Ok(Found { listener, path, is_ours: false });
        }
        self.wait(CAUGHT_WITHIN, &self.is_over, || self.catches(OPENS))?
            .ok_or(Silence::NotCaught { signal: "SIGUSR1", what: "Node opens its inspector" })?;
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
pub(super) fn profiles(
    session: &mut Session,
    is_ours: bool,
    wished: &Receiver<()>,
    tell: &Sender<Told>,
) -> Result<(), NoAnswer> {
    let mut books = Books::default();
    for () in wished {
        let begun = Instant::now();
        // An open inspector keeps what the program writes to its console, with the objects: nobody but memtrace has asked for that.
        if is_ours {
            session.call("Runtime.discardConsoleEntries", json!({}), TOLD_WITHIN, |_| Ok(()))?;
        }
        let read = |text: &str| books.take(text);
        let held = session.call("HeapProfiler.getSamplingProfile", json!({}), TOLD_WITHIN, read)?;
        let _ = tell.send(Told::Profile { held, took: begun.elapsed() });
    }
    Ok(())
}

/// The first of these sockets that is an inspector's, and the path to it.
pub(super) fn inspector(listeners: &[Listener], is_over: &Arc<AtomicBool>) -> Option<(Listener, String)> {
    let first = listeners.iter().take(MAX_ASKED);
    first.copied().find_map(|listener| Some((listener, devtools::path(listener.address, is_over).ok()?)))
}

/// Whether something listens at the usual port, in the network namespace of the thread.
fn is_usual_port_taken() -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, USUAL_PORT)), ENDED_WITHIN).is_ok()
}
