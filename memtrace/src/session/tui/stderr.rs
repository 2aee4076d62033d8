//! Standard error while the view has the terminal: what any room says there would be drawn into the view.
//!
//! It is written to memory instead, shown as it comes, and printed when the terminal is given back. A standard error
//! that is no terminal is left alone.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::{
    fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create},
    stdio::dup2_stderr,
    termios::tcgetattr,
};

/// The most lines that are kept to be printed.
const KEPT: usize = 200;

/// Bytes read at once.
const CHUNK: usize = 8192;

static HELD: Mutex<Option<Held>> = Mutex::new(None);

struct Held {
    terminal: OwnedFd,
    memory: File,
    /// How far it was read.
    read: u64,
    /// The beginning of a line whose end is not written yet.
    begun: Vec<u8>,
    lines: VecDeque<String>,
    forgotten: u64,
}

fn held() -> MutexGuard<'static, Option<Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds back what is written to standard error from now on.
///
/// # Errors
///
/// When the system has no room for it.
pub(super) fn hold() -> io::Result<()> {
    let mut held = held();
    if held.is_some() || !io::stderr().is_terminal() {
        return Ok(());
    }
    let terminal = io::stderr().as_fd().try_clone_to_owned()?;
    let memory = File::from(memfd_create("standard error", MemfdFlags::CLOEXEC)?);
    dup2_stderr(&memory)?;
    *held = Some(Held { terminal, memory, read: 0, begun: Vec::new(), lines: VecDeque::new(), forgotten: 0 });
    Ok(())
}

/// The lines written since the last call.
pub(super) fn news() -> Vec<String> {
    held().as_mut().map(Held::news).unwrap_or_default()
}

/// Gives standard error back and prints there what was held.
pub(super) fn release() {
    let Some(mut held) = held().take() else { return };
    held.news();
    // Of a terminal that has gone nothing is wanted: who prints there would fail.
    if tcgetattr(&held.terminal).is_err() || dup2_stderr(&held.terminal).is_err() {
        return;
    }
    let mut terminal = File::from(held.terminal);
    let mut print = |line: &str| {
        let _ = writeln!(terminal, "{line}");
    };
    if held.forgotten > 0 {
        print(&format!("memtrace: {} earlier messages are left out", held.forgotten));
    }
    held.lines.iter().for_each(|line| print(line));
}

impl Held {
    fn news(&mut self) -> Vec<String> {
        let mut news = Vec::new();
        let mut chunk = [0; CHUNK];
        while let Ok(length @ 1..) = self.memory.read_at(&mut chunk, self.read) {
            self.read += length as u64;
            for &byte in &chunk[..length] {
                if byte == b'\n' {
                    news.push(String::from_utf8_lossy(&self.begun).into_owned());
                    self.begun.clear();
                } else {
                    self.begun.push(byte);
                }
            }
        }
        if !news.is_empty() {
            // The pages that were read go back to the system. If they do not, they are few.
            let _ = fallocate(&self.memory, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, self.read);
        }
        self.lines.extend(news.iter().cloned());
        let surplus = self.lines.len().saturating_sub(KEPT);
        self.lines.drain(..surplus);
        self.forgotten += surplus as u64;
        news
    }
}
