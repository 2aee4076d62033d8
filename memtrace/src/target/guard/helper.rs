//! The helper process: it holds targets by ptrace(2), mends copies of probed code, and stops the processes of a tree
//! where they begin.
//!
//! A target is seized (PTRACE_SEIZE), not attached to: it runs as before until it gets a signal, starts a thread or forks.
//! SIGTRAP at a breakpoint of ours that lies in a copy never reaches the target: the bytes of the copy are put right
//! ([`Mender`]), and the thread goes on where it was. Every other signal is passed on. What happens at a fork and an exec
//! in a tree is in [`tree`](super::tree). When the helper ends, however it ends, the kernel lets go of the targets, and
//! those that were stopped run on: nothing is ever written into a target but what mends it.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Read as _},
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr,
    time::Duration,
};

use super::{
    mend::{Mended, Mender},
    message::{Answer, Order},
    tracing::{EVENT_STOP, SYSTEM_CALL_STOP, has_ended, is_job_control, process_of, request, seize, tracer},
    tree::Tree,
};
use crate::target::Pid;

/// More orders than this without an end of line are refused.
const MAX_PENDING_BYTES: usize = 1 << 20;

/// Threads appear while they are being listed; after this many lists without a new one all are held, or that is given up.
const MAX_LISTS: usize = 100;

/// Runs until standard input ends.
///
/// # Errors
///
/// Those of standard input and output, and of what waits for signals.
pub fn run() -> io::Result<()> {
    let stops = signals()?;
    let input = io::stdin().as_raw_fd();
    for descriptor in [input, libc::STDOUT_FILENO] {
        // SAFETY: our own standard input and output, which nothing else of this process uses.
        if unsafe { libc::fcntl(descriptor, libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let mut helper = Helper::default();
    let mut orders = Vec::new();
    loop {
        helper.handle_stops()?;
        if !read_orders(&mut orders)? {
            break;
        }
        while let Some(end) = orders.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = orders.drain(..=end).collect();
            if let Some(order) = std::str::from_utf8(&line).ok().and_then(|line| Order::parse(line.trim_end())) {
                helper.obey(order)?;
            }
        }
        let patience = helper.lose_patience()?;
        // What an order has caused comes with a signal.
        wait(&[input, stops.as_raw_fd()], patience)?;
        drain(&stops);
    }
    helper.free();
    helper.sweep()?;
    helper.handle_stops()
}

/// Holds back every signal that may come, and makes those of stopped targets readable.
fn signals() -> io::Result<OwnedFd> {
    let mut all = MaybeUninit::uninit();
    let mut stops = MaybeUninit::uninit();
    // SAFETY: both sets are initialised by the calls that fill them; the descriptor is new and nobody else's.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::sigemptyset(stops.as_mut_ptr());
        libc::sigaddset(stops.as_mut_ptr(), libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, all.as_ptr(), ptr::null_mut());
        let descriptor = libc::signalfd(-1, stops.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// Waits until one of them can be read, or for so long at most.
fn wait(descriptors: &[i32; 2], patience: Option<Duration>) -> io::Result<()> {
    let mut polled = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let milliseconds = patience.map_or(-1, |patience| i32::try_from(patience.as_millis() + 1).unwrap_or(i32::MAX));
    // SAFETY: two initialised entries.
    if unsafe { libc::poll(polled.as_mut_ptr(), 2, milliseconds) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(())
}

fn drain(stops: &OwnedFd) {
    let mut information = [0_u8; 16 * size_of::<libc::signalfd_siginfo>()];
    // SAFETY: as many bytes as there is room for.
    unsafe { libc::read(stops.as_raw_fd(), information.as_mut_ptr().cast(), information.len()) };
}

/// Adds what has come to `orders`; false at the end.
fn read_orders(orders: &mut Vec<u8>) -> io::Result<bool> {
    let mut piece = [0; 4096];
    loop {
        match io::stdin().lock().read(&mut piece) {
            Ok(0) => return Ok(false),
            Ok(bytes) => orders.extend(&piece[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(orders.len() <= MAX_PENDING_BYTES),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Tells memtrace. It may be stopped and read nothing; then what finds no room is left out, as nobody may wait for it here.
pub(super) fn say(answer: Answer) -> io::Result<()> {
    let line = format!("{answer}\n");
    // SAFETY: as many bytes as there are; a pipe takes a line this short whole or not at all (pipe(7)).
    if unsafe { libc::write(libc::STDOUT_FILENO, line.as_ptr().cast(), line.len()) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(error);
        }
    }
    Ok(())
}

#[derive(Default)]
pub(super) struct Helper {
    mender: Mender,
    /// Held threads, and the processes that they are of.
    pub(super) threads: HashMap<i32, u32>,
    /// Processes that may run copies of probed code.
    pub(super) mending: HashSet<u32>,
    pub(super) tree: Tree,
}

impl Helper {
    fn obey(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Object(identity) => self.mender.add_object(identity),
            Order::Site(site) => self.mender.add_site(site),
            Order::Hold(pid) => {
                self.mending.insert(pid.0);
                let held = self.hold(pid);
                return Self::answer(pid, held);
            }
            Order::Follow(pid) => {
                self.tree.add(pid.0, true);
                let held = self.hold(pid);
                if held.is_err() {
                    self.tree.remove(pid.0);
                }
                return Self::answer(pid, held);
            }
            Order::Launch { pid, follow } => {
                // The process waits for this, see `Launched`.
                self.tree.add(pid.0, follow);
                self.threads.insert(pid.0.cast_signed(), pid.0);
                if seize(pid.0.cast_signed()).is_err() {
                    self.tree.remove(pid.0);
                    self.threads.remove(&pid.0.cast_signed());
                }
            }
            Order::Go(pid) => {
                self.tree.is_awake();
                self.go(pid.0.cast_signed());
            }
            Order::Part(pid) => {
                self.tree.is_awake();
                self.part(pid.0.cast_signed());
            }
            Order::Free => self.free(),
        }
        Ok(())
    }

    fn answer(pid: Pid, held: io::Result<()>) -> io::Result<()> {
        say(match held {
            Ok(()) => Answer::Holds(pid),
            Err(error) => Answer::Refused(pid, error.raw_os_error().unwrap_or(0)),
        })
    }

    /// Seizes every thread of a process.
    fn hold(&mut self, pid: Pid) -> io::Result<()> {
        for _ in 0..MAX_LISTS {
            let mut any_new = false;
            for entry in std::fs::read_dir(pid.proc_path("task"))? {
                let name = entry?.file_name();
                let Some(thread) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
                if self.threads.contains_key(&thread) {
                    continue;
                }
                match seize(thread) {
                    // A first thread that has ended is listed as long as another runs (EPERM).
                    Err(_) if has_ended(thread) => continue,
                    // It is held already: the thread of a held one that started it was.
                    Err(_) if tracer(thread) == Some(std::process::id()) => {}
                    Err(error) => return Err(error),
                    Ok(()) => any_new = true,
                }
                self.threads.insert(thread, pid.0);
            }
            if !any_new {
                break;
            }
        }
        Ok(())
    }

    /// Deals with every stop that has happened.
    fn handle_stops(&mut self) -> io::Result<()> {
        loop {
            let mut status = 0;
            // SAFETY: one number is written.
            let thread = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::WNOHANG) };
            if thread <= 0 {
                return Ok(());
            }
            if libc::WIFSTOPPED(status) {
                self.handle_stop(thread, libc::WSTOPSIG(status), status >> 16)?;
            } else if self.threads.remove(&thread).is_none_or(|process| process == thread.cast_unsigned()) {
                self.mending.remove(&thread.cast_unsigned());
                self.tree.ended(thread);
            }
        }
    }

    fn handle_stop(&mut self, thread: i32, signal: i32, event: i32) -> io::Result<()> {
        let Some(&process) = self.threads.get(&thread) else {
            let process = process_of(thread);
            self.threads.insert(thread, process);
            // The first stop of one that a held thread has started.
            return if process == thread.cast_unsigned() && event == EVENT_STOP {
                self.first_stop(thread, signal)
            } else {
                self.tree.is_thread(thread);
                self.resume(thread, signal, event);
                Ok(())
            };
        };
        match event {
            0 if signal == libc::SIGTRAP => {
                let mended = self.mender.mend(thread);
                if let Some(Mended { address, breakpoints }) = mended {
                    say(Answer::Mended { pid: Pid(process), address, breakpoints })?;
                }
                self.go_on(thread, if mended.is_some() { 0 } else { signal });
            }
            0 if signal == SYSTEM_CALL_STOP => return self.system_call(thread),
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                self.has_started(thread, process)?;
                self.go_on(thread, 0);
            }
            libc::PTRACE_EVENT_EXEC => {
                // The process's id is that of the thread that called exec now; the others have ended.
                self.threads.retain(|_, &mut of| of != process);
                // Whether its code is to be watched is asked again.
                self.mending.remove(&process);
                if !self.begins(thread, process)? {
                    // A thread that was killed meanwhile refuses; its end comes as the next status.
                    let _ = request(libc::PTRACE_DETACH, thread, 0);
                }
            }
            _ => self.resume(thread, signal, event),
        }
        Ok(())
    }

    /// Lets a thread go on from a stop that is none of our business.
    fn resume(&self, thread: i32, signal: i32, event: i32) {
        match event {
            0 => self.go_on(thread, signal),
            EVENT_STOP if is_job_control(signal) => {
                let _ = request(libc::PTRACE_LISTEN, thread, 0);
            }
            _ => self.go_on(thread, 0),
        }
    }

    /// Lets a thread go on, with a signal or 0. One that was killed meanwhile refuses; its end comes as the next status.
    pub(super) fn go_on(&self, thread: i32, signal: i32) {
        let how = if self.tree.loads(thread) { libc::PTRACE_SYSCALL } else { libc::PTRACE_CONT };
        let _ = request(how, thread, signal as usize);
    }

    /// The probes are gone: takes their breakpoints out of copies that have not run yet.
    fn sweep(&mut self) -> io::Result<()> {
        if self.mender.is_idle() {
            return Ok(());
        }
        let processes: HashSet<u32> = self.threads.values().copied().collect();
        for pid in processes.into_iter().map(Pid) {
            for Mended { address, breakpoints } in self.mender.sweep(pid) {
                say(Answer::Mended { pid, address, breakpoints })?;
            }
        }
        Ok(())
    }
}
