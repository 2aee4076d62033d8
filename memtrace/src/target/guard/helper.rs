//! The helper process: it holds targets by ptrace(2) without stopping them, and mends copies of probed code.
//!
//! It is seized (PTRACE_SEIZE), not attached to: a target runs as before until it gets a signal, starts a thread or forks.
//! SIGTRAP at a breakpoint of ours that lies in a copy never reaches the target: the bytes of the copy are put right, and
//! the thread goes on where it was. Every other signal is passed on. When the helper ends, however it ends, the kernel lets go of the targets.

use std::{
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
    path::PathBuf,
    ptr,
};

use super::{
    breakpoint::{self, AROUND, Breakpoint, INT3},
    message::{Answer, Identity, Order},
};
use crate::target::{Pid, maps};

/// How much of one process is searched for copies at once.
const MAX_SEARCHED_BYTES: u64 = 1 << 30;

/// How much is read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// More orders than this without an end of line are refused.
const MAX_PENDING_BYTES: usize = 1 << 20;

/// Threads appear while they are being listed; after this many lists without a new one all are held, or that is given up.
const MAX_LISTS: usize = 100;

/// Of a stop's status: the stop is the target's own job control, or the first one of a new thread (ptrace(2)).
const EVENT_STOP: i32 = 128;

/// Runs until standard input ends.
///
/// # Errors
///
/// Those of standard input and output, and of what waits for signals.
pub fn run() -> io::Result<()> {
    let stops = signals()?;
    let input = io::stdin().as_raw_fd();
    // SAFETY: our own standard input, which nothing else of this process uses.
    if unsafe { libc::fcntl(input, libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
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
        // What an order has caused comes with a signal.
        wait(&[input, stops.as_raw_fd()])?;
        drain(&stops);
    }
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

fn wait(descriptors: &[i32; 2]) -> io::Result<()> {
    let mut polled = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // SAFETY: two initialised entries.
    if unsafe { libc::poll(polled.as_mut_ptr(), 2, -1) } < 0 {
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

fn say(answer: Answer) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{answer}")?;
    out.flush()
}

#[derive(Default)]
struct Helper {
    sites: Vec<Breakpoint>,
    /// The files that the sites are in, where the kernel answers for the breakpoints.
    objects: HashSet<Identity>,
    /// Held threads, and the processes that they are of.
    threads: HashMap<i32, u32>,
    /// Where breakpoints have been taken out of copies: a second thread may have run into one before.
    mended: HashSet<u64>,
}

impl Helper {
    fn obey(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Object(identity) => {
                self.objects.insert(identity);
                Ok(())
            }
            Order::Site(site) => {
                if !self.sites.contains(&site) {
                    self.sites.push(site);
                }
                Ok(())
            }
            Order::Hold(pid) => match self.hold(pid) {
                Ok(()) => say(Answer::Holds(pid)),
                Err(error) => say(Answer::Refused(pid, error.raw_os_error().unwrap_or(0))),
            },
        }
    }

    /// Seizes every thread of a process.
    fn hold(&mut self, pid: Pid) -> io::Result<()> {
        let options =
            libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK | libc::PTRACE_O_TRACEEXEC;
        for _ in 0..MAX_LISTS {
            let mut any_new = false;
            for entry in std::fs::read_dir(pid.proc_path("task"))? {
                let name = entry?.file_name();
                let Some(thread) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
                if self.threads.contains_key(&thread) {
                    continue;
                }
                match request(libc::PTRACE_SEIZE, thread, options as usize) {
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
            if !libc::WIFSTOPPED(status) {
                self.threads.remove(&thread);
                continue;
            }
            let process = *self.threads.entry(thread).or_insert_with(|| process_of(thread));
            let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
            // A thread that was killed meanwhile refuses; its end comes as the next status.
            let _ = match event {
                0 if signal == libc::SIGTRAP => {
                    let mended = self.mend(thread);
                    if let Some(Mended { address, breakpoints }) = mended {
                        say(Answer::Mended { pid: Pid(process), address, breakpoints })?;
                    }
                    request(libc::PTRACE_CONT, thread, if mended.is_some() { 0 } else { signal as usize })
                }
                0 => request(libc::PTRACE_CONT, thread, signal as usize),
                EVENT_STOP if is_job_control(signal) => request(libc::PTRACE_LISTEN, thread, 0),
                // Another program: whether it is to be held is asked again.
                libc::PTRACE_EVENT_EXEC => {
                    self.threads.retain(|_, &mut of| of != process);
                    request(libc::PTRACE_DETACH, thread, 0)
                }
                _ => request(libc::PTRACE_CONT, thread, 0),
            };
        }
    }

    /// A thread has run into a breakpoint: if it is one of ours in a copy, the copies are put right, and the thread stands
    /// before the instruction again. `None` if it is not.
    fn mend(&mut self, thread: i32) -> Option<Mended> {
        let mut registers = MaybeUninit::<libc::user_regs_struct>::uninit();
        // SAFETY: the thread is stopped and held by us; the registers are written whole when the call succeeds.
        let mut registers = unsafe {
            let read = libc::ptrace(libc::PTRACE_GETREGS, thread, ptr::null_mut::<u8>(), registers.as_mut_ptr());
            if read != 0 {
                return None;
            }
            registers.assume_init()
        };
        let address = registers.rip.checked_sub(1)?;
        let pid = Pid(thread.cast_unsigned());
        let mappings = maps::read(pid).ok()?;
        let mapping = mappings.iter().find(|mapping| (mapping.start..mapping.end).contains(&address))?;
        if self.objects.contains(&Identity::of(mapping)) {
            return None;
        }
        let memory = Memory::open(pid).ok()?;
        let start = address.saturating_sub(AROUND as u64).max(mapping.start);
        let mut around = vec![0; (mapping.end.min(address + 1 + AROUND as u64) - start) as usize];
        memory.0.read_exact_at(&mut around, start).ok()?;
        let index = (address - start) as usize;
        breakpoint::at(&self.sites, &around, index)?;
        let breakpoints = if around[index] == INT3 {
            let mut mended = self.mend_mapping(&memory, mapping);
            if !mended.contains(&address) {
                return None;
            }
            for other in mappings.iter().filter(|other| other.start != mapping.start) {
                if !self.may_be_copy(other) {
                    continue;
                }
                mended.extend(self.mend_mapping(&memory, other));
            }
            mended.len() as u64
        } else if self.mended.contains(&address) {
            0
        } else {
            return None;
        };
        registers.rip = address;
        // SAFETY: as above; the registers are only read.
        let set = unsafe { libc::ptrace(libc::PTRACE_SETREGS, thread, ptr::null_mut::<u8>(), &raw const registers) };
        (set == 0).then_some(Mended { address, breakpoints })
    }

    fn may_be_copy(&self, mapping: &maps::Mapping) -> bool {
        mapping.executable && !self.objects.contains(&Identity::of(mapping))
    }

    /// Takes our breakpoints out of a mapping; the addresses of those that are out.
    fn mend_mapping(&mut self, memory: &Memory, mapping: &maps::Mapping) -> Vec<u64> {
        let mut mended = Vec::new();
        let mut piece = vec![0; PIECE_BYTES];
        let end = mapping.end.min(mapping.start.saturating_add(MAX_SEARCHED_BYTES));
        let mut start = mapping.start;
        while start < end {
            let length = usize::try_from(end - start).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            if memory.0.read_exact_at(&mut piece[..length], start).is_ok() {
                for (index, original) in breakpoint::find(&self.sites, &piece[..length]) {
                    let address = start + index as u64;
                    if memory.0.write_all_at(&[original], address).is_ok() {
                        mended.push(address);
                    }
                }
            }
            if length < PIECE_BYTES {
                break;
            }
            // What is cut by a piece's edge is whole in the next one.
            start += (length - 2 * AROUND) as u64;
        }
        self.mended.extend(&mended);
        mended
    }

    /// The probes are gone: takes their breakpoints out of copies that have not run yet.
    fn sweep(&mut self) -> io::Result<()> {
        let processes: HashSet<u32> = self.threads.values().copied().collect();
        for pid in processes.into_iter().map(Pid) {
            let (Ok(mappings), Ok(memory)) = (maps::read(pid), Memory::open(pid)) else { continue };
            for mapping in &mappings {
                if !self.may_be_copy(mapping) {
                    continue;
                }
                let mended = self.mend_mapping(&memory, mapping);
                if let Some(&address) = mended.first() {
                    say(Answer::Mended { pid, address, breakpoints: mended.len() as u64 })?;
                }
            }
        }
        Ok(())
    }
}

/// Where a thread ran into a breakpoint, and how many were taken out.
#[derive(Clone, Copy)]
struct Mended {
    address: u64,
    breakpoints: u64,
}

/// The memory of a process, also where the process itself may not write.
struct Memory(File);

impl Memory {
    fn open(pid: Pid) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open::<PathBuf>(pid.proc_path("mem")).map(Self)
    }
}

fn is_job_control(signal: i32) -> bool {
    [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(&signal)
}

/// A ptrace request whose address is not used.
fn request(request: libc::c_uint, thread: i32, data: usize) -> io::Result<()> {
    // SAFETY: these requests (SEIZE, CONT, LISTEN, DETACH) take numbers and write nothing here.
    let result = unsafe { libc::ptrace(request, thread, ptr::null_mut::<u8>(), data) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn status_number(thread: i32, name: &str) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

fn tracer(thread: i32) -> Option<u32> {
    status_number(thread, "TracerPid:")
}

fn has_ended(thread: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:")).map(str::trim_start);
    state.is_none_or(|state| state.starts_with(['Z', 'X']))
}

fn process_of(thread: i32) -> u32 {
    status_number(thread, "Tgid:").unwrap_or(thread.cast_unsigned())
}
