//! The program under test on a terminal of its own: a pseudo-terminal, whose screen a terminal emulator keeps.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::fd::OwnedFd,
    os::unix::fs::OpenOptionsExt as _,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Termios, Winsize, tcgetattr, tcsetwinsize},
};

use crate::{
    memtrace::{program, require_root},
    target::ends_with_us,
    wait,
};

/// memtrace on a terminal; killed and reaped when dropped.
pub struct OnTerminal {
    child: Reaped,
    master: File,
    /// Kept open so that the modes can be looked at when the program has ended.
    terminal: OwnedFd,
    emulator: vt100::Parser,
    written: Vec<u8>,
}

struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl OnTerminal {
    /// Starts it with these arguments and variables on a terminal of this many columns and rows.
    ///
    /// # Errors
    /// When not root, or there is no terminal, or it cannot be started.
    pub fn start(arguments: &[&str], variables: &[(&str, &str)], (columns, rows): (u16, u16)) -> Result<Self> {
        require_root()?;
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).context("opening a terminal")?;
        grantpt(&master).and_then(|()| unlockpt(&master)).context("unlocking the terminal")?;
        let path = ptsname(&master, Vec::new()).context("asking for the terminal's name")?;
        let path = path.to_str().context("the terminal's name is text")?;
        // Not ours to control: the program becomes the leader of a session on it.
        let flags = OFlags::NOCTTY.bits().try_into()?;
        let terminal: OwnedFd = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?.into();
        tcsetwinsize(&terminal, size(columns, rows)).context("setting the terminal's size")?;
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program()?).args(arguments).env("TERM", "xterm-256color").env_remove("NO_COLOR");
        command.envs(variables.iter().copied());
        let child = ends_with_us(&mut command)
            .stdin(terminal.try_clone()?)
            .stdout(terminal.try_clone()?)
            .stderr(terminal.try_clone()?)
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let emulator = vt100::Parser::new(rows.try_into()?, columns.try_into()?, 0);
        Ok(Self { child: Reaped(child), master: master.into(), terminal, emulator, written: Vec::new() })
    }

    /// The screen as text, a row a line.
    pub fn screen(&self) -> String {
        self.emulator.screen().contents()
    }

    /// The emulator's screen.
    pub fn cells(&self) -> &vt100::Screen {
        self.emulator.screen()
    }

    /// All that was ever written.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.written).into_owned()
    }

    /// The modes of the terminal.
    ///
    /// # Errors
    /// When they cannot be asked for.
    pub fn modes(&self) -> Result<String> {
        let Termios { input_modes, output_modes, control_modes, local_modes, .. } =
            tcgetattr(&self.terminal).context("asking for the terminal's modes")?;
        Ok(format!("{input_modes:?} {output_modes:?} {control_modes:?} {local_modes:?}"))
    }

    /// Presses keys.
    ///
    /// # Errors
    /// When the terminal has gone.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.master.write_all(keys.as_bytes()).with_context(|| format!("pressing {keys:?}"))
    }

    /// Gives the terminal another size.
    ///
    /// # Errors
    /// When it takes none.
    pub fn resize(&mut self, columns: u16, rows: u16) -> Result<()> {
        self.emulator.screen_mut().set_size(rows.try_into()?, columns.try_into()?);
        tcsetwinsize(&self.terminal, size(columns, rows)).context("setting the terminal's size")
    }

    /// Reads until the screen is as wanted.
    ///
    /// # Errors
    /// When it is not by the deadline; the screen is shown.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&vt100::Screen) -> bool) -> Result<String> {
        let start = Instant::now();
        while !wanted(self.emulator.screen()) {
            if start.elapsed() > wait::DEADLINE {
                bail!("waited in vain for a screen with {what}; it is\n{}", self.screen());
            }
            self.read(Duration::from_millis(50))?;
        }
        Ok(self.screen())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child.0), signal).with_context(|| format!("sending {signal:?} to memtrace"))
    }

    /// Waits for its end, and reads all that it wrote until then.
    ///
    /// # Errors
    /// When it has not ended by the deadline.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            let status = self.child.0.try_wait()?;
            while self.read(Duration::ZERO)? {}
            if let Some(status) = status {
                return Ok(status);
            }
            if start.elapsed() > wait::DEADLINE {
                bail!("memtrace does not end; the screen is\n{}", self.screen());
            }
            self.read(Duration::from_millis(50))?;
        }
    }

    /// Takes the terminal away, as a window that is closed does, and waits for the end.
    ///
    /// # Errors
    /// When it has not ended by the deadline.
    pub fn hang_up(self) -> Result<ExitStatus> {
        let Self { mut child, master, terminal, .. } = self;
        drop((master, terminal));
        wait::until("memtrace's end", || Ok(child.0.try_wait()?))
    }

    /// Hands what comes by the deadline to the emulator; whether anything came.
    fn read(&mut self, limit: Duration) -> Result<bool> {
        let limit = Timespec { tv_sec: 0, tv_nsec: limit.as_nanos().try_into()? };
        let mut descriptors = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut descriptors, Some(&limit)).context("waiting for output")? == 0 {
            return Ok(false);
        }
        let mut chunk = [0; 8192];
        let length = self.master.read(&mut chunk).context("reading the terminal")?;
        self.emulator.process(&chunk[..length]);
        self.written.extend_from_slice(&chunk[..length]);
        Ok(length > 0)
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
