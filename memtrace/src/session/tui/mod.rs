//! The terminal view's terminal and its thread.
//!
//! A thread of its own draws and hears keys, so that neither a slow terminal nor ten thousand stacks keep the run from
//! draining the ring. The run leaves its newest snapshot for the thread ([`View::show`]); the thread says when the
//! person wants the run to end ([`View::ended`]). [`terminal`] takes the terminal and gives it back, [`stderr`] keeps
//! messages off the screen, [`cost`] measures memtrace itself. What is drawn is `report::tui`'s to decide.

mod cost;
mod stderr;
mod terminal;

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use cost::Meter;
use ratatui::crossterm::event::{self, Event};
use rustix::process::{Signal, kill_current_process_group};
use terminal::Screen;
use tokio::sync::oneshot;

use super::SessionError;
use crate::report::{
    json,
    snapshot::Snapshot,
    tui::{
        Update,
        keys::action,
        state::{Request, State},
        theme::Theme,
        view::{draw, room},
    },
};

/// The least time from one frame to the next.
const FRAME: Duration = Duration::from_millis(60);

/// How long the thread sleeps when no key is pressed: the delay of a new snapshot and of the end.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a message stands on the screen whatever keys are pressed: one that was pressed before is not about it.
const READING: Duration = Duration::from_secs(1);

/// Keys heard before a frame is drawn.
const KEYS_AT_ONCE: usize = 64;

/// How long the end waits for a terminal that takes no output.
const PATIENCE: Duration = Duration::from_secs(2);

/// Refuses when there is nobody to watch.
///
/// # Errors
///
/// When standard input or output is no terminal.
pub(super) fn require_terminal() -> Result<(), SessionError> {
    let dumb = std::env::var_os("TERM").is_some_and(|name| name == "dumb");
    if dumb || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(SessionError::NoTerminal);
    }
    Ok(())
}

/// The view of a run; gives the terminal back when dropped.
pub(super) struct View {
    shared: Arc<Shared>,
    ended: oneshot::Receiver<()>,
    thread: Option<JoinHandle<io::Result<()>>>,
    meter: Meter,
}

/// What the run and the thread share.
#[derive(Default)]
struct Shared {
    /// The newest snapshot; one that was not shown in time is replaced.
    newest: Mutex<Option<Update>>,
    closing: AtomicBool,
}

impl View {
    /// Takes the terminal and starts to draw.
    pub(super) fn open(interval: Duration) -> Result<Self, SessionError> {
        let failed = |source| SessionError::System { action: "preparing the terminal", source };
        let shared = Arc::new(Shared::default());
        let (end, ended) = oneshot::channel();
        let mut view = Self { shared: Arc::clone(&shared), ended, thread: None, meter: Meter::start() };
        stderr::hold().map_err(failed)?;
        terminal::take().map_err(failed)?;
        let thread = std::thread::Builder::new().name("view".to_owned()).spawn(move || {
            let result = watch(&shared, interval);
            // The run may have ended first.
            let _ = end.send(());
            result
        });
        view.thread = Some(thread.map_err(failed)?);
        Ok(view)
    }

    /// Shows how things stand now.
    pub(super) fn show(&mut self, snapshot: Snapshot) {
        let update = Update { snapshot, cost: self.meter.read() };
        *self.shared.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(update);
    }

    /// Waits until the person has enough, or the terminal fails.
    pub(super) async fn ended(&mut self) {
        // An error is an end, too: the thread panicked.
        let _ = (&mut self.ended).await;
    }

    /// Gives the terminal back.
    ///
    /// # Errors
    ///
    /// When the terminal failed before.
    pub(super) fn close(mut self) -> Result<(), SessionError> {
        match self.end() {
            // Closing the terminal ends the run as a signal does, and the view may be drawing at that moment.
            Err(source) if source.raw_os_error() == Some(libc::EIO) => Ok(()),
            ended => ended.map_err(|source| SessionError::System { action: "drawing on the terminal", source }),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        self.shared.closing.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            terminal::give_back();
            stderr::release();
            return Ok(());
        };
        let begun = Instant::now();
        while !thread.is_finished() {
            if begun.elapsed() > PATIENCE {
                // The probes must not wait for a person to press Ctrl-Q.
                terminal::give_back_modes();
                stderr::release();
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        terminal::give_back();
        stderr::release();
        thread.join().unwrap_or_else(|_panic| Err(io::Error::other("the view's thread panicked; see above")))
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // Closed already, or a run that failed and has its own error to tell.
        let _ = self.end();
    }
}

/// Whether a view, if there is one, has ended.
pub(super) async fn ended(view: &mut Option<View>) {
    match view {
        Some(view) => view.ended().await,
        None => std::future::pending().await,
    }
}

/// The thread: draws and hears keys until the end.
fn watch(shared: &Shared, interval: Duration) -> io::Result<()> {
    // https://no-color.org
    let theme = Theme { colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) };
    let mut screen = Screen::new()?;
    let mut state = State::new();
    let mut drawn: Option<Instant> = None;
    // When the message was first on the screen.
    let mut said: Option<Instant> = None;
    let mut stale = true;
    while !shared.closing.load(Ordering::Relaxed) {
        let newest = shared.newest.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(update) = newest {
            state.update(update);
            stale = true;
        }
        if let Some(line) = stderr::news().pop() {
            state.say(line);
            (said, stale) = (None, true);
        }
        let wait = drawn.map_or(Duration::ZERO, |drawn| FRAME.saturating_sub(drawn.elapsed()));
        if stale && wait.is_zero() {
            screen.draw(|frame| {
                state.fit(room(&state, frame.area()));
                draw(&state, theme, interval, frame.buffer_mut());
            })?;
            (drawn, stale) = (Some(Instant::now()), false);
            said = said.or(drawn);
        }
        if said.is_some_and(|said| said.elapsed() >= READING) {
            state.read();
        }
        let mut patience = if stale { wait } else { PAUSE };
        for _ in 0..KEYS_AT_ONCE {
            if !event::poll(patience)? {
                break;
            }
            patience = Duration::ZERO;
            stale = true;
            let Event::Key(key) = event::read()? else { continue };
            let Some(action) = action(key, state.mode()) else { continue };
            match state.apply(action) {
                Some(Request::Quit) => return Ok(()),
                Some(Request::Suspend) => suspend(&mut screen)?,
                Some(Request::Save) => {
                    let saved = state.snapshot().map(save);
                    saved.into_iter().for_each(|message| state.say(message));
                    said = None;
                }
                None => {}
            }
        }
    }
    Ok(())
}

/// Stops the program as Ctrl-Z does elsewhere, and takes the terminal again when it goes on.
fn suspend(screen: &mut Screen) -> io::Result<()> {
    terminal::give_back();
    // The whole group, as the terminal would: sudo and the like stop with us.
    kill_current_process_group(Signal::TSTP)?;
    // The signal may be another thread's to take; this one stops an instant later.
    std::thread::sleep(Duration::from_millis(50));
    terminal::take()?;
    *screen = Screen::new()?;
    Ok(())
}

/// Writes the snapshot to a new file; what to tell the person.
fn save(snapshot: &Snapshot) -> String {
    let pid = snapshot.processes.first().map_or(0, |process| process.pid);
    // 2025-01-02T03:04:05.678Z
    let time: String = snapshot.at.chars().take(19).filter(char::is_ascii_alphanumeric).collect();
    let name = format!("memtrace-{pid}-{time}Z.json");
    let written = File::create_new(&name).and_then(|file| {
        let mut file = BufWriter::new(file);
        json::render(snapshot, &mut file)?;
        file.flush()
    });
    match written {
        Ok(()) => format!("saved {name}"),
        Err(error) => format!("cannot write {name} in the current folder: {error}"),
    }
}
