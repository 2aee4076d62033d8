//! redis-server, which redis-benchmark keeps busy.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Size, Work, Workload};
use crate::process;
use crate::procfs;

/// Clients at a time.
const CLIENTS: &str = "20";
/// Bytes of a value.
const VALUE: &str = "64";
/// Keys that values are set for.
const KEYS: &str = "10000";
/// How long a start may take; under an emulator it takes seconds.
const START: Duration = Duration::from_secs(60);

/// Requests of each kind.
#[derive(Clone, Copy)]
pub struct Load {
    requests: u32,
}

#[cfg(test)]
impl Load {
    /// No requests.
    pub const fn none() -> Self {
        Self { requests: 0 }
    }
}

/// The workload.
pub fn redis(size: Size) -> Result<Workload> {
    let load = Load { requests: size.of(20_000) };
    Ok(Workload {
        name: "redis",
        title: format!("redis-server with jemalloc, {0} SET and {0} LPUSH by redis-benchmark", load.requests),
        pairs: None,
        frames: None,
        maps: false,
        program: process::find("redis-server").context("redis-server is not on the path")?,
        work: Work::Redis(load),
    })
}

/// A server, to be started or started, that listens on a socket of its own.
pub struct Redis {
    /// In the system's folder for temporary files: the path of a socket has 107 bytes at most.
    folder: tempfile::TempDir,
    load: Load,
}

impl Redis {
    /// Makes the folder of the socket.
    pub fn new(load: Load) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("memtrace-bench").tempdir().context("cannot make a folder")?;
        Ok(Self { folder, load })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis")
    }

    /// Completes the command that starts the server: nothing on the network, nothing on disk.
    pub fn options<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.args([
            "--port",
            "0",
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
            "--logfile",
            "/dev/null",
        ]);
        command.arg("--unixsocket").arg(self.socket());
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
    }

    /// Returns when the server answers.
    pub fn wait(&self, server: &mut Child) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < START {
            if let Some(status) = server.try_wait()? {
                bail!("redis-server ended at its start: {status}");
            }
            if self.answers() {
                return self.copy_allocator(server.id());
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("redis-server does not answer after {} s", START.as_secs())
    }

    /// A copy for the clients: bpftrace's probes stand in every process that maps the file that they are set on, and the
    /// clients allocate with the server's library.
    fn copy_allocator(&self, server: u32) -> Result<()> {
        let Some(library) = procfs::mapped(server, "/libjemalloc.so")? else { return Ok(()) };
        let name = Path::new(&library).file_name().context("the allocator's file has no name")?;
        fs::copy(&library, self.folder.path().join(name)).with_context(|| format!("cannot copy {library}"))?;
        Ok(())
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(self.socket()) else { return false };
        let mut answer = [0; 5];
        stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"+PONG"
    }

    /// Seconds from the clients' start to their end.
    pub fn work(&self) -> Result<f64> {
        let mut command = Command::new("redis-benchmark");
        command.arg("-s").arg(self.socket()).args(["-n", &self.load.requests.to_string(), "-t", "set,lpush", "-q"]);
        command.args(["-c", CLIENTS, "-d", VALUE, "-r", KEYS]);
        command.env("LD_LIBRARY_PATH", self.folder.path());
        let begun = Instant::now();
        let said = process::output(&mut command)?;
        let seconds = begun.elapsed().as_secs_f64();
        let done = said.matches("requests per second").count();
        ensure!(done == 2, "redis-benchmark finished {done} of 2 kinds of requests: {said}");
        Ok(seconds)
    }
}
