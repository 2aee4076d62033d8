//! The terminal while it is ours: raw mode and the alternate screen, and the way back, which a panic takes as well.
//!
//! One lock says whose the terminal is. A frame is written under it and only while the terminal is ours, so that no
//! thread can draw over what the program, or a panic, says after the terminal was given back.

use std::{
    io::{self, Write},
    sync::{Mutex, MutexGuard, Once, PoisonError},
};

use ratatui::{
    Frame, Terminal, TerminalOptions, Viewport,
    backend::CrosstermBackend,
    crossterm::{
        cursor, execute,
        terminal::{
            Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
        },
    },
    layout::Rect,
};

use super::stderr;

/// Whether the terminal is ours.
static OURS: Mutex<bool> = Mutex::new(false);

fn ours() -> MutexGuard<'static, bool> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the terminal ours. From now on a panic of any thread gives it back before it says anything.
///
/// # Errors
///
/// When standard input or output is no terminal that obeys.
pub(super) fn take() -> io::Result<()> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            stderr::release();
            before(panic);
        }));
    });
    let mut ours = ours();
    enable_raw_mode()?;
    *ours = true;
    execute!(io::stdout(), EnterAlternateScreen, cursor::Hide)
}

/// Gives the terminal back as it was; does nothing when it is not ours.
pub(super) fn give_back() {
    let mut ours = ours();
    if *ours {
        *ours = false;
        // Whatever fails here: the terminal has gone, and there is nobody to tell.
        let _ = execute!(io::stdout(), cursor::Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// Gives back what can be given back to a terminal that takes no output (Ctrl-S), on which a frame may be waiting.
pub(super) fn give_back_modes() {
    let _ = disable_raw_mode();
}

/// Draws on the terminal.
///
/// The size is looked at here. Left to ratatui, a change of it asks the terminal where its cursor is, and a terminal that
/// is slow to answer would end the run.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Frames>>,
    size: (u16, u16),
}

impl Screen {
    /// An empty screen.
    ///
    /// # Errors
    ///
    /// When the terminal's size cannot be asked for, or it takes no output.
    pub(super) fn new() -> io::Result<Self> {
        let size = size()?;
        let viewport = Viewport::Fixed(Rect::new(0, 0, size.0, size.1));
        let backend = CrosstermBackend::new(Frames(Vec::new()));
        let mut terminal = Terminal::with_options(backend, TerminalOptions { viewport })?;
        // Cells that were never drawn are taken to be blank.
        execute!(terminal.backend_mut(), Clear(ClearType::All))?;
        Ok(Self { terminal, size })
    }

    /// Draws what differs from the frame before.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub(super) fn draw(&mut self, frame: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        if size()? != self.size {
            *self = Self::new()?;
        }
        self.terminal.draw(frame)?;
        Ok(())
    }
}

/// Collects what a frame writes, and writes it in one piece.
pub(super) struct Frames(Vec<u8>);

impl Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let ours = ours();
        let frame = std::mem::take(&mut self.0);
        if !*ours {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&frame)?;
        stdout.flush()
    }
}

#[cfg(test)]
mod tests;
