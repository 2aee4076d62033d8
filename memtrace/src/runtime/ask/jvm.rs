//! HotSpot, the virtual machine of OpenJDK: of which classes the objects are that live.
//!
//! A process that finds a file `.attach_pidN` of its own user in `/tmp` when it gets SIGQUIT opens a socket beside it, at which it takes
//! commands (`attachListener_posix.cpp` of OpenJDK); N is its id in its own namespace. The signal is sent only to one that catches it. The
//! command is `GC.class_histogram`, for which the whole heap is collected. The socket and the thread behind it stay until the process ends,
//! as after `jcmd`.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{
        atomic::Ordering,
        mpsc::{Receiver, Sender},
    },
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, fchown, fstat, open, openat, openat2, unlinkat},
    process::{Gid, Signal, Uid, pidfd_send_signal},
};
use thiserror::Error;

use super::{Asked, CAUGHT_WITHIN, Silence, TOLD_WITHIN, Told, histogram};
use crate::{
    object::{Pid, mapped, maps::Mapping},
    runtime::{
        Language, Without,
        by_type::{ByType, Sum},
        count::{Count, Counted},
    },
};

/// What reports call the heap of such a machine.
pub const HEAP: &str = "Java heap";

/// What HotSpot exports, for debuggers.
const MARK: &str = "gHotSpotVMStructs";

/// The signal at which HotSpot looks whether somebody wants to attach; without that it prints where its threads are.
const ATTACHES: Signal = Signal::QUIT;

/// How long it may take to open its socket.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// How long one read of the answer waits, after which it is looked whether somebody still does.
const READ_WITHIN: Duration = Duration::from_millis(100);

/// The command, in the words of the first version of the protocol, which all have.
const COMMAND: &[u8] = b"1\0jcmd\0GC.class_histogram\0\0\0";

/// The most bytes of an answer.
const MAX_ANSWER: usize = 16 << 20;

/// The most classes that are told apart.
const MAX_CLASSES: usize = 4096;

/// Why there is no histogram, as the end of a sentence.
#[derive(Debug, Error)]
pub enum NoHistogram {
    /// Something failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does something else at the signal.
    #[error(
        "it got SIGQUIT and did not open its attach socket within {} s: it may run with -XX:+DisableAttachMechanism",
        OPEN_WITHIN.as_secs()
    )]
    NotOpened,
    /// The socket is somebody else's.
    #[error("its attach socket belongs to another user")]
    NotItsOwn,
    /// No answer came in time.
    #[error("it did not answer within {} s", TOLD_WITHIN.as_secs())]
    Silent,
    /// It closed the connection at once, as versions before 11 do where the user is not their own.
    #[error("it closed the connection: before Java 11 only its own user is answered")]
    Closed,
    /// The answer is longer than any table.
    #[error("its answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
    /// It refuses.
    #[error("it refuses: {0}")]
    Refused(String),
}

/// Whether HotSpot is among the files that a process maps. `known` says which files are known not to be it; more are added.
pub(super) fn is_in(pid: Pid, mappings: &[Mapping], known: &mut Without) -> bool {
    known.find(&mapped::objects(pid, mappings), MARK).is_some()
}

/// Asks until there are no more wishes. What is said is lost when nobody hears it any more.
pub(super) fn converse(asked: &Asked, wished: &Receiver<()>, tell: &Sender<Told>) {
    let door = match Door::find(asked.pid).map_err(Silence::Unseen).and_then(|door| {
        let is_ours = door.open(asked)?;
        let _ = tell.send(Told::Attached { is_ours });
        Ok(door)
    }) {
        Ok(door) => door,
        Err(silence) => return asked.fall_silent(silence, tell),
    };
    let mut types = ByType::new(Language::Java, MAX_CLASSES);
    for () in wished {
        let begun = Instant::now();
        match door.ask(asked) {
            Ok(answer) => {
                let counts = counts(&answer, &mut types);
                let _ = tell.send(Told::Counts { counts, took: begun.elapsed() });
            }
            Err(why) => return asked.fall_silent(why.into(), tell),
        }
    }
}

/// What the classes of an answer hold, and all of them together.
fn counts(answer: &str, types: &mut ByType) -> Vec<Count> {
    let classes = histogram::classes(answer);
    let sum = |of: fn(&histogram::Class) -> u64| classes.iter().map(of).fold(0, u64::saturating_add);
    let (objects, bytes) = (sum(|class| class.objects), sum(|class| class.bytes));
    let heap = Count::of_all(Counted::Heap, Language::Java, objects, bytes);
    let found = classes.into_iter().map(|class| (class.name, Sum::exact(class.objects, class.bytes)));
    types.take(found).chain([heap]).collect()
}

/// The folder in which a process has its attach socket, and what it and the file beside it are called there.
struct Door {
    folder: OwnedFd,
    socket: String,
    wish: String,
    user: Uid,
    group: Gid,
}

/// The file that says that somebody wants to attach; it goes when nobody does any more.
struct Wish<'a>(&'a Door);

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        let _ = unlinkat(&self.0.folder, &self.0.wish, AtFlags::empty());
    }
}

impl Door {
    /// Where a process has it: in its own view of the file system, of which no link leads out.
    fn find(pid: Pid) -> io::Result<Self> {
        let status = fs::read_to_string(pid.proc_path("status"))?;
        let last = |key: &str, at: usize| {
            let values = status.lines().find_map(|line| line.strip_prefix(key))?;
            let mut values = values.split_ascii_whitespace();
            let value = if at == usize::MAX { values.next_back() } else { values.nth(at) };
            value?.parse::<u32>().ok()
        };
        // Of several ids the last one is that in its own namespace, and of users and groups the second one that in effect.
        let (Some(own), Some(user), Some(group)) = (last("NSpid:", usize::MAX), last("Uid:", 1), last("Gid:", 1))
        else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let root = open(pid.proc_path("root"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            folder: openat2(&root, "tmp", flags, Mode::empty(), resolve)?,
            socket: format!(".java_pid{own}"),
            wish: format!(".attach_pid{own}"),
            user: Uid::from_raw(user),
            group: Gid::from_raw(group),
        })
    }

    /// Has the process open its socket, if it is not open. Whether it was for memtrace.
    fn open(&self, asked: &Asked) -> Result<bool, Silence> {
        match self.connect() {
            Ok(Some(_)) => return Ok(false),
            Ok(None) => {}
            Err(why) => return Err(why.into()),
        }
        let signal = "SIGQUIT";
        let silence = Silence::NotCaught { signal, what: "a Java virtual machine is attached to" };
        asked.wait(CAUGHT_WITHIN, &asked.is_over, || asked.catches(ATTACHES))?.ok_or(silence)?;
        let wish = self.wish().map_err(NoHistogram::Io)?;
        pidfd_send_signal(&asked.process, ATTACHES).map_err(|error| Silence::Unseen(error.into()))?;
        let opened = asked.wait(OPEN_WITHIN, &asked.is_over, || Ok(self.connect()?))?;
        drop(wish);
        opened.map(|_| true).ok_or_else(|| NoHistogram::NotOpened.into())
    }

    /// Makes the file that says that somebody wants to attach. HotSpot heeds only one of its own user's.
    fn wish(&self) -> io::Result<Wish<'_>> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = match openat(&self.folder, &self.wish, flags, Mode::RUSR | Mode::WUSR) {
            // Another tool is about to attach.
            Err(rustix::io::Errno::EXIST) => return Ok(Wish(self)),
            made => made?,
        };
        let wish = Wish(self);
        fchown(&made, Some(self.user), Some(self.group))?;
        Ok(wish)
    }

    /// A connection with the process; `None` if nobody listens.
    fn connect(&self) -> Result<Option<UnixStream>, NoHistogram> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let socket = match openat(&self.folder, &self.socket, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            socket => socket.map_err(io::Error::from)?,
        };
        let about = fstat(&socket).map_err(io::Error::from)?;
        if FileType::from_raw_mode(about.st_mode) != FileType::Socket || about.st_uid != self.user.as_raw() {
            return Err(NoHistogram::NotItsOwn);
        }
        match UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())) {
            // What a process before it has left, or one that has made it and does not listen yet.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
            connected => Ok(Some(connected?)),
        }
    }

    /// The answer to the command, of which the first line is gone: it says that all went well.
    fn ask(&self, asked: &Asked) -> Result<String, NoHistogram> {
        let mut connection = self.connect()?.ok_or(NoHistogram::Closed)?;
        connection.set_read_timeout(Some(READ_WITHIN))?;
        connection.set_write_timeout(Some(OPEN_WITHIN))?;
        connection.write_all(COMMAND)?;
        read(&connection, || asked.is_over.load(Ordering::Relaxed))
    }
}

/// Reads an answer to its end, until the time is up or `is_over`.
fn read(mut from: &UnixStream, is_over: impl Fn() -> bool) -> Result<String, NoHistogram> {
    let until = Instant::now() + TOLD_WITHIN;
    let (mut answer, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&piece[..length]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
        if answer.len() > MAX_ANSWER {
            return Err(NoHistogram::TooLong);
        }
        if is_over() || Instant::now() >= until {
            return Err(NoHistogram::Silent);
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    match answer.split_once('\n') {
        Some(("0", table)) => Ok(table.to_owned()),
        Some((_, why)) => Err(NoHistogram::Refused(why.lines().next().unwrap_or_default().chars().take(200).collect())),
        None => Err(NoHistogram::Closed),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// What is made of an answer that comes so.
    fn answered(answer: &'static [u8]) -> Result<String, NoHistogram> {
        let (ours, mut theirs) = UnixStream::pair()?;
        let speaks = thread::spawn(move || theirs.write_all(answer));
        let found = read(&ours, || false);
        drop(ours);
        let _ = speaks.join();
        found
    }

    #[test]
    fn an_answer_is_taken_if_it_says_that_all_went_well() {
        assert_eq!(answered(b"0\n1: 2 3 A\n").expect("a table"), "1: 2 3 A\n");
        assert!(matches!(answered(b""), Err(NoHistogram::Closed)));
        assert!(matches!(answered(b"0"), Err(NoHistogram::Closed)));
        assert!(
            matches!(answered(b"101\nUnknown diagnostic command\nmore"), Err(NoHistogram::Refused(why)) if why == "Unknown diagnostic command")
        );
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        ours.set_read_timeout(Some(READ_WITHIN)).expect("a limit");
        assert!(matches!(read(&ours, || true), Err(NoHistogram::Silent)), "nobody waits any more");
    }

    #[test]
    fn what_never_ends_is_not_read_to_the_end() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let speaks = thread::spawn(move || while theirs.write_all(&[b'1'; 4096]).is_ok() {});
        assert!(matches!(read(&ours, || false), Err(NoHistogram::TooLong)));
        drop(ours);
        speaks.join().expect("it ends");
    }

    #[test]
    fn classes_and_their_sum_are_counted_and_one_that_is_gone_holds_nothing() {
        let mut types = ByType::new(Language::Java, 10);
        let held = |counts: &[Count], name: Option<&str>| {
            let found = counts.iter().find(|count| count.name.as_deref() == name);
            found.map(|count| (count.objects, count.bytes))
        };
        let first = counts("1: 10 240 A\n2: 5 80 B\n", &mut types);
        assert_eq!((held(&first, Some("A")), held(&first, None)), (Some((10, 240)), Some((15, 320))));
        let second = counts("1: 20 480 A\n", &mut types);
        assert_eq!((held(&second, Some("A")), held(&second, Some("B"))), (Some((20, 480)), Some((0, 0))));
    }
}
