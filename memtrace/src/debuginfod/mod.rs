//! Separate debug files from debuginfod servers: the only room that speaks to other machines.
//!
//! In: the build id of a file that a target has mapped and that has no symbols here, and the servers that the user named. Out: the
//! debug file of that very build, from the [`cache`] that it shares with elfutils' client, or from the first server that has it
//! ([`download`]). A thread of its own does all of that, so that whoever asks never waits unless it says so ([`Debuginfod::wait`]).
//! Without a question there is no thread, no folder and no request.
//!
//! Servers are untrusted: a file has a limit of bytes and of time, and counts only when it is ELF and has the build id that was asked for.

mod cache;
mod download;
mod environment;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fs::File,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use self::{cache::Cache, download::Download};
use crate::object::{debug_file::DebugFile, layout::Layout};

pub use self::environment::{EnvironmentError, options};

/// How many different debug files are asked for in a run. Each that is found is one open file.
const MAX_FILES: usize = 128;
/// A server that failed this often is not asked again in this run.
const MAX_FAILURES: u32 = 3;
/// A file that takes longer is told of.
const TOLD_AFTER: Duration = Duration::from_secs(1);
/// How soon after it was asked for a file is likely to come.
const SOON: Duration = Duration::from_secs(15);
/// How long the end of a run waits for the thread to take its unfinished file away. Only a name lookup or a connection that is
/// being made can keep it for longer, and then there is no file yet.
const GOODBYE: Duration = Duration::from_secs(1);

/// Which servers are asked for debug files, and with what patience.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// The servers' addresses, without a slash at the end; asked in this order.
    pub servers: Vec<String>,
    /// The folder in which files are kept: `FOLDER/BUILD-ID/debuginfo`.
    pub cache: PathBuf,
    /// How long a server may send nothing.
    pub patience: Duration,
    /// How long one file may take, from one server.
    pub longest: Duration,
    /// The largest debug file that is taken, in bytes.
    pub most_bytes: u64,
}

impl Options {
    /// These servers and this folder, with the limits that users are told of: 90 seconds without progress, 10 minutes and 1 GiB
    /// for a file.
    pub fn new(servers: Vec<String>, cache: PathBuf) -> Self {
        let (patience, longest) = (Duration::from_secs(90), Duration::from_secs(600));
        Self { servers, cache, patience, longest, most_bytes: 1 << 30 }
    }
}

/// Says a sentence to the user, from whatever thread.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// What is known of a debug file that was asked for.
#[derive(Debug)]
pub enum Answer {
    /// It may still come.
    Pending,
    /// It has come.
    Found(DebugFile),
    /// No server has it, or none could be asked.
    Missing,
}

/// A debug file that was fetched or found in the cache, with what is in it.
type Fetched = (File, Layout);

/// A file that the thread shall fetch.
struct Request {
    build_id: Vec<u8>,
    /// The name of the file that it describes, for messages.
    module: String,
}

/// The thread that fetches, and the ways to it and back.
struct Fetcher {
    requests: Sender<Request>,
    fetched: Receiver<(Vec<u8>, Option<Fetched>)>,
    thread: JoinHandle<()>,
    download: Download,
}

/// Asks debuginfod servers, one file after the other, each at most once.
pub struct Debuginfod {
    options: Options,
    say: Say,
    /// By build id: `None` while the file may still come, `Some(None)` when it was not found.
    known: HashMap<Vec<u8>, Option<Option<Fetched>>>,
    pending: usize,
    /// When a file was last asked for that was not known.
    last_asked: Option<Instant>,
    fetcher: Option<Fetcher>,
    ends: Arc<AtomicBool>,
}

impl Debuginfod {
    /// Nothing asked for yet; `say` is called by the thread that fetches too.
    pub fn new(options: Options, say: Say) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        Self { options, say, known: HashMap::new(), pending: 0, last_asked: None, fetcher: None, ends }
    }

    /// What is known of the debug file of the file `module` with this build id. The first call for a build id asks for the file;
    /// no call waits.
    pub fn ask(&mut self, build_id: &[u8], module: &str) -> Answer {
        if let Some(known) = self.known.get(build_id) {
            return match known {
                None => Answer::Pending,
                Some(None) => Answer::Missing,
                Some(Some((file, layout))) => match file.try_clone() {
                    Ok(file) => Answer::Found(DebugFile { file, layout: layout.clone(), is_trusted: false }),
                    Err(_) => Answer::Missing,
                },
            };
        }
        if self.known.len() >= MAX_FILES {
            return Answer::Missing;
        }
        let request = Request { build_id: build_id.to_vec(), module: module.to_owned() };
        let is_asked = self.fetcher().is_some_and(|fetcher| fetcher.requests.send(request).is_ok());
        self.known.insert(build_id.to_vec(), if is_asked { None } else { Some(None) });
        self.pending += usize::from(is_asked);
        self.last_asked = Some(Instant::now());
        if is_asked { Answer::Pending } else { Answer::Missing }
    }

    /// Whether it is worth waiting for files that have not come: some was asked for a short time ago.
    pub fn is_soon(&self) -> bool {
        self.pending > 0 && self.last_asked.is_some_and(|asked| asked.elapsed() < SOON)
    }

    /// Takes in which files have come since the last call, and which are known to be missing; whether there are any.
    pub fn take_answers(&mut self) -> bool {
        let mut is_any = false;
        while let Some((build_id, found)) = self.fetcher.as_ref().and_then(|fetcher| fetcher.fetched.try_recv().ok()) {
            self.note(build_id, found);
            is_any = true;
        }
        is_any
    }

    /// Waits until every file that was asked for has come or is known to be missing, at most this long; whether any answer has come.
    pub fn wait(&mut self, longest: Duration) -> bool {
        let until = Instant::now() + longest;
        let mut is_any = self.take_answers();
        while let Some(fetcher) = self.fetcher.as_ref().filter(|_| self.pending > 0) {
            match fetcher.fetched.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((build_id, found)) => {
                    self.note(build_id, found);
                    is_any = true;
                }
                Err(RecvTimeoutError::Timeout) => break,
                // The thread has ended, which only a fault of ours can make it do. Its files stay pending.
                Err(RecvTimeoutError::Disconnected) => self.pending = 0,
            }
        }
        is_any
    }

    fn note(&mut self, build_id: Vec<u8>, found: Option<Fetched>) {
        self.known.insert(build_id, Some(found));
        self.pending = self.pending.saturating_sub(1);
    }

    /// The thread, started if need be; `None` when the system has none for us.
    fn fetcher(&mut self) -> Option<&Fetcher> {
        if self.fetcher.is_none() {
            let (requests, asked) = channel::<Request>();
            let (answer, fetched) = channel();
            let download = Download::new(&self.options, Arc::clone(&self.ends));
            let (options, say, ends) = (self.options.clone(), Arc::clone(&self.say), Arc::clone(&self.ends));
            let mut worker = Worker { options, say, download: download.clone(), failures: HashMap::new(), cache: None };
            let serve = move || {
                for Request { build_id, module } in asked {
                    let found = worker.fetch(&build_id, &module);
                    if ends.load(Ordering::Relaxed) || answer.send((build_id, found)).is_err() {
                        break;
                    }
                }
            };
            let thread = thread::Builder::new().name("debuginfod".to_owned()).spawn(serve).ok()?;
            self.fetcher = Some(Fetcher { requests, fetched, thread, download });
        }
        self.fetcher.as_ref()
    }
}

impl Drop for Debuginfod {
    fn drop(&mut self) {
        let Some(Fetcher { requests, fetched, thread, download }) = self.fetcher.take() else { return };
        self.ends.store(true, Ordering::Relaxed);
        drop(requests);
        download.stop();
        let until = Instant::now() + GOODBYE;
        loop {
            match fetched.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // It has nothing left to do, and how it ended changes nothing.
        let _ = thread.join();
    }
}

/// What the thread that fetches works with.
struct Worker {
    options: Options,
    say: Say,
    download: Download,
    /// How often each server failed, by its address.
    failures: HashMap<String, u32>,
    /// Opened for the first file; `Some(None)` when it cannot be used.
    cache: Option<Option<Cache>>,
}

impl Worker {
    fn fetch(&mut self, build_id: &[u8], module: &str) -> Option<Fetched> {
        let (path, say) = (&self.options.cache, &self.say);
        let cache = self.cache.get_or_insert_with(|| match Cache::open(path) {
            Ok(cache) => Some(cache),
            Err(error) => {
                let path = path.display();
                say(&format!("the folder {path} cannot keep debug files, and none is fetched: {error}"));
                None
            }
        });
        let cache = cache.as_ref()?;
        let id: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
        if let Some(found) = cache.find(&id).and_then(|file| check(file, build_id).ok()) {
            return Some(found);
        }
        for server in &self.options.servers {
            let failures = self.failures.get(server).copied().unwrap_or(0);
            if failures >= MAX_FAILURES {
                continue;
            }
            let (done, is_done) = channel::<()>();
            let found = thread::scope(|scope| {
                scope.spawn(move || {
                    if is_done.recv_timeout(TOLD_AFTER) == Err(RecvTimeoutError::Timeout) {
                        say(&format!("fetching the debug file of {module} from {server}; names come with it"));
                    }
                });
                let found = self.download.fetch(server, &id, build_id, cache);
                drop(done);
                found
            });
            match found {
                Ok(Some(found)) => return Some(found),
                Ok(None) => {}
                Err(_) if self.download.is_stopped() => return None,
                Err(error) => {
                    if failures == 0 {
                        say(&format!("{server} {error}"));
                    }
                    self.failures.insert(server.clone(), failures + 1);
                }
            }
        }
        None
    }
}

/// Why a file is not the debug file that was asked for.
#[derive(Debug, thiserror::Error)]
pub(in crate::debuginfod) enum WrongFile {
    #[error("that cannot be read: {0}")]
    Unreadable(#[from] crate::object::ObjectError),
    #[error("of another build")]
    OtherBuild,
}

/// The file with what is in it, if it is the debug file of this build.
fn check(file: File, build_id: &[u8]) -> Result<Fetched, WrongFile> {
    let layout = Layout::read(&file)?;
    if layout.build_id != build_id {
        return Err(WrongFile::OtherBuild);
    }
    Ok((file, layout))
}
