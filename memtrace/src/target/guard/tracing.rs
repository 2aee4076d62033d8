//! ptrace(2) as the helper process uses it, and what `/proc` says of a thread.

use std::{fs, io, mem::MaybeUninit, ptr};

use crate::target::{Pid, members::share_memory};

/// Of a stop's status: the stop is the target's own job control, or the first one of a new thread (ptrace(2)).
pub(super) const EVENT_STOP: i32 = 128;

/// The signal of a stop at a system call, by `PTRACE_O_TRACESYSGOOD`. Should the helper be killed while a thread stands
/// there, the kernel sends the thread this number, which is no signal's, so that nothing happens. Without the option it
/// would be SIGTRAP.
pub(super) const SYSTEM_CALL_STOP: i32 = libc::SIGTRAP | 0x80;

/// A held thread stops where it starts a thread or a process and where another program begins.
const OPTIONS: libc::c_int = libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESYSGOOD;

/// Holds a thread without stopping it.
pub(super) fn seize(thread: i32) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, thread, OPTIONS as usize)
}

/// A ptrace request whose address is not used.
pub(super) fn request(request: libc::c_uint, thread: i32, data: usize) -> io::Result<()> {
    // SAFETY: these requests (SEIZE, CONT, SYSCALL, LISTEN, DETACH) take numbers and write nothing here.
    let result = unsafe { libc::ptrace(request, thread, ptr::null_mut::<u8>(), data) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What belongs to the event that a thread stopped for: the id of the thread or process that it has started.
pub(super) fn event_message(thread: i32) -> Option<i32> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: one number is written.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, thread, ptr::null_mut::<u8>(), &raw mut message) };
    (result == 0).then(|| i32::try_from(message).ok())?
}

/// The system call that a thread is about to make: its number and its first argument. `None` where a system call ends.
pub(super) fn system_call(thread: i32) -> Option<(libc::c_long, u64)> {
    let mut information = MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
    let bytes = size_of::<libc::ptrace_syscall_info>();
    // SAFETY: at most as many bytes are written as are said to be there, and zeros are a valid value of all fields.
    let information = unsafe {
        let read = libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, thread, bytes, information.as_mut_ptr());
        if read <= 0 {
            return None;
        }
        information.assume_init()
    };
    if information.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: at an entry the kernel has written this variant.
    let entry = unsafe { information.u.entry };
    Some((entry.nr as libc::c_long, entry.args[0]))
}

fn status_number(thread: i32, name: &str) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

/// The process that traces a thread, 0 if none does.
pub(super) fn tracer(thread: i32) -> Option<u32> {
    status_number(thread, "TracerPid:")
}

/// The process that a thread is of.
pub(super) fn process_of(thread: i32) -> u32 {
    status_number(thread, "Tgid:").unwrap_or(thread.cast_unsigned())
}

/// The parent of a process.
pub(super) fn parent_of(process: i32) -> Option<u32> {
    status_number(process, "PPid:")
}

/// Whether a thread has ended, as a zombie too.
pub(super) fn has_ended(thread: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:")).map(str::trim_start);
    state.is_none_or(|state| state.starts_with(['Z', 'X']))
}

/// Whether a new process runs in the memory of the one that started it, as between vfork and exec.
pub(super) fn shares_memory(one: u32, other: u32) -> bool {
    share_memory(Pid(one), Pid(other))
}

/// Whether a signal stops a process.
pub(super) fn is_job_control(signal: i32) -> bool {
    [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(&signal)
}
