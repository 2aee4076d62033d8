//! Stripped programs, and a server on loopback that has their debug files.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, ensure};
use object::Object as _;

/// Strips `program` of all names, and moves its debug information to `debug`; its build id in hexadecimal.
///
/// # Errors
/// When binutils are missing, or it has no build id.
pub fn split(program: &Path, debug: &Path) -> Result<String> {
    let run = |command: &mut Command| -> Result<()> {
        let output = command.output().with_context(|| format!("running {command:?}"))?;
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    run(Command::new("objcopy").arg("--only-keep-debug").args([program, debug]))?;
    run(Command::new("strip").arg("--strip-all").arg(program))?;
    let bytes = fs::read(program)?;
    let file = object::File::parse(bytes.as_slice())?;
    let id = file.build_id()?.context("the program has no build id")?;
    Ok(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[derive(Default)]
struct Shared {
    /// By build id.
    files: HashMap<String, Vec<u8>>,
    /// The paths that were asked for.
    paths: Mutex<Vec<String>>,
    is_held: Mutex<bool>,
    is_let_go: Condvar,
    ends: AtomicBool,
}

/// A server of debug files, until it is dropped. It has nothing but the files that it was given.
pub struct DebugServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl DebugServer {
    /// Serves this file under this build id; when it `is_held`, only after [`let_go`](Self::let_go).
    ///
    /// # Errors
    /// When the file cannot be read, or loopback has no port.
    pub fn start(build_id: &str, file: &Path, is_held: bool) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let files = HashMap::from([(build_id.to_owned(), fs::read(file)?)]);
        let shared = Arc::new(Shared { files, is_held: Mutex::new(is_held), ..Shared::default() });
        let serving = Arc::clone(&shared);
        let serve = move || {
            thread::scope(|scope| {
                for stream in listener.incoming().map_while(Result::ok) {
                    if serving.ends.load(Ordering::Relaxed) {
                        break;
                    }
                    let serving = &serving;
                    // A client that goes away ends its connection, and no test.
                    scope.spawn(move || _ = serving.answer(stream));
                }
            });
        };
        Ok(Self { address, shared, thread: Some(thread::spawn(serve)) })
    }

    /// What `DEBUGINFOD_URLS` names it by.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often the debug file of this build was asked for.
    pub fn requests(&self, build_id: &str) -> usize {
        let wanted = path_of(build_id);
        lock(&self.shared.paths).iter().filter(|path| **path == wanted).count()
    }

    /// Answers what has been asked for, and from now on at once.
    pub fn let_go(&self) {
        *lock(&self.shared.is_held) = false;
        self.shared.is_let_go.notify_all();
    }
}

impl Drop for DebugServer {
    fn drop(&mut self) {
        self.let_go();
        self.shared.ends.store(true, Ordering::Relaxed);
        // Wakes it, so that it looks.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn answer(&self, mut stream: TcpStream) -> Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().context("a request has a line")??;
        while !lines.next().context("a request ends with an empty line")??.is_empty() {}
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let found = self.files.iter().find(|(id, _)| path_of(id) == path);
        lock(&self.paths).push(path.clone());
        let Some((_, file)) = found else {
            return Ok(write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?);
        };
        let held = self.is_let_go.wait_while(lock(&self.is_held), |is_held| *is_held);
        drop(held.unwrap_or_else(PoisonError::into_inner));
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", file.len())?;
        Ok(stream.write_all(file)?)
    }
}

fn path_of(build_id: &str) -> String {
    format!("/buildid/{build_id}/debuginfo")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
