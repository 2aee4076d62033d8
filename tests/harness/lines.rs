//! The lines that a child process writes, collected by a thread of their own so that the child never blocks.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

#[derive(Default)]
struct Collected {
    lines: Vec<String>,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    collected: Mutex<Collected>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one pipe has brought so far.
pub struct Lines {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    /// Starts to read.
    pub fn of(pipe: impl Read + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let for_reader = Arc::clone(&shared);
        let reader = std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
                for_reader.lock().lines.push(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned());
                for_reader.changed.notify_all();
                line.clear();
            }
            for_reader.lock().ended = true;
            for_reader.changed.notify_all();
        });
        Self { shared, reader: Some(reader) }
    }

    /// Every line so far.
    pub fn so_far(&self) -> Vec<String> {
        self.shared.lock().lines.clone()
    }

    /// The first line from index `from` on that `wanted` accepts, and the index after it; `None` when there is none by
    /// the deadline or by the end of the pipe.
    pub fn wait_for(&self, from: usize, limit: Duration, wanted: impl Fn(&str) -> bool) -> Option<(String, usize)> {
        let start = Instant::now();
        let mut seen = from;
        let mut collected = self.shared.lock();
        loop {
            while let Some(line) = collected.lines.get(seen) {
                seen += 1;
                if wanted(line) {
                    return Some((line.clone(), seen));
                }
            }
            let left = limit.saturating_sub(start.elapsed());
            if collected.ended || left.is_zero() {
                return None;
            }
            collected = self.shared.changed.wait_timeout(collected, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the end of the pipe; every line there was.
    pub fn rest(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            // A reader cannot fail: it only pushes what it reads.
            let _ = reader.join();
        }
        self.so_far()
    }
}
