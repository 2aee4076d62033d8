//! Are return probes safe in a process that has a seccomp filter? Asked of the running kernel, by children of our own.
//!
//! From Linux 6.11 on a return probe on x86-64 enters the kernel by a system call of its own, `uretprobe`. A seccomp filter
//! that refuses it, as one that knows nothing of it does, may kill the process at the first return. Linux 6.14 and some
//! stable kernels before it let that call pass unfiltered, so the version tells nothing.
//!
//! The kernel answers this call from anywhere but its own trampoline with SIGILL, and a call that it does not have with
//! ENOSYS. So a child that calls it tells whether it exists, and a second child, under a filter that answers it with an
//! error, whether filters see it. Where memtrace has a filter itself, as in a container, that one may be who answers
//! ENOSYS: then it tells nothing.

use std::{fs, sync::OnceLock};

use super::features;
use crate::target::status::{SeccompMode, Status};

/// What return probes do to a process with a filter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReturnProbes {
    /// Filters do not concern them.
    Safe,
    /// A filter sees their system call and may kill the process.
    Filtered,
    /// It could not be found out.
    Unknown,
}

impl ReturnProbes {
    /// Whether a process that is so confined may be given a return probe.
    pub fn allow(self, seccomp: SeccompMode) -> bool {
        match seccomp {
            SeccompMode::Disabled => true,
            SeccompMode::Filter => self == Self::Safe,
            // Only a few calls are allowed in this mode, and it has no filter that the call could pass by.
            SeccompMode::Strict => existing() == Presence::Absent,
        }
    }
}

/// Asks the kernel once what return probes do under a seccomp filter.
pub fn with_filter() -> ReturnProbes {
    static ANSWER: OnceLock<ReturnProbes> = OnceLock::new();
    *ANSWER.get_or_init(|| conclude(existing(), || ask(true)))
}

/// Whether the kernel has the call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Presence {
    Absent,
    Present,
    /// A filter of our own keeps it from us.
    Refused,
    Unknown,
}

/// The first kernel that has the call.
const FIRST: (u32, u32) = (6, 11);

fn existing() -> Presence {
    static ANSWER: OnceLock<Presence> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        if features::kernel_version().is_some_and(|version| version < FIRST) {
            return Presence::Absent;
        }
        let own = fs::read("/proc/self/status").ok().and_then(|text| Status::parse(&text));
        answered(ask(false), own.is_some_and(|status| status.seccomp == SeccompMode::Disabled))
    })
}

/// What a child's end says; `unfiltered`: no filter of ours can have answered.
fn answered(ended: Ended, unfiltered: bool) -> Presence {
    match ended {
        Ended::By(libc::SIGILL) => Presence::Present,
        Ended::With(libc::ENOSYS) if unfiltered => Presence::Absent,
        Ended::With(libc::EPERM) | Ended::By(libc::SIGSYS) => Presence::Refused,
        _ => Presence::Unknown,
    }
}

fn conclude(existing: Presence, filtered: impl FnOnce() -> Ended) -> ReturnProbes {
    match existing {
        Presence::Absent => ReturnProbes::Safe,
        Presence::Present => match filtered() {
            Ended::By(libc::SIGILL) => ReturnProbes::Safe,
            Ended::With(libc::EPERM) => ReturnProbes::Filtered,
            _ => ReturnProbes::Unknown,
        },
        Presence::Refused => ReturnProbes::Filtered,
        Presence::Unknown => ReturnProbes::Unknown,
    }
}

/// How a child ended that called `uretprobe`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ended {
    /// The call failed with this error number; 0 if it succeeded.
    With(i32),
    /// The child was killed by this signal.
    By(i32),
    /// There was no child, or no filter for it.
    NotAsked,
}

/// `uretprobe` on x86-64 (arch/x86/entry/syscalls/syscall_64.tbl).
const URETPROBE: u32 = 335;
/// A child's exit status when the filter was refused; no error number is as large.
const NO_FILTER: i32 = 255;

/// Has a child make the call, `filtered` under a filter that answers it with EPERM.
fn ask(filtered: bool) -> Ended {
    // SAFETY: the child calls nothing but async-signal-safe functions, and ends by _exit or a signal.
    match unsafe { libc::fork() } {
        -1 => Ended::NotAsked,
        0 => {
            let status = if filtered && !install_filter() { NO_FILTER } else { call() };
            // SAFETY: ends the child, without running what the parent has registered for its own end.
            unsafe { libc::_exit(status) }
        }
        child => wait(child),
    }
}

/// The error number of the call in the child, or no return at all.
fn call() -> i32 {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: numbers, and a structure that outlives the call. SIGILL is left to the kernel and must not leave a core,
    // neither in a file nor, whatever the limit, with a program that takes cores (core(5)).
    let result = unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::signal(libc::SIGILL, libc::SIG_DFL);
        libc::syscall(libc::c_long::from(URETPROBE))
    };
    // SAFETY: the address of this thread's errno is always valid.
    if result == -1 { unsafe { *libc::__errno_location() } } else { 0 }
}

/// Allows everything, and answers `uretprobe` with EPERM (seccomp(2); the number is the first word of its data).
fn install_filter() -> bool {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, URETPROBE),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its instructions outlive the calls.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    }
}

fn wait(child: libc::pid_t) -> Ended {
    let mut status = 0;
    loop {
        // SAFETY: our own child, and a place for its status.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        if waited == child {
            break;
        }
        if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return Ended::NotAsked;
        }
    }
    if libc::WIFSIGNALED(status) {
        Ended::By(libc::WTERMSIG(status))
    } else if libc::WEXITSTATUS(status) == NO_FILTER {
        Ended::NotAsked
    } else {
        Ended::With(libc::WEXITSTATUS(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: [Ended; 5] = [
        Ended::With(libc::EPERM),
        Ended::With(libc::ENOSYS),
        Ended::By(libc::SIGILL),
        Ended::By(libc::SIGSYS),
        Ended::NotAsked,
    ];

    #[test]
    fn only_a_kernel_that_lets_the_call_pass_or_has_none_is_safe() {
        for filtered in ENDS {
            assert_eq!(conclude(Presence::Absent, || filtered), ReturnProbes::Safe);
            let expected = match filtered {
                Ended::By(libc::SIGILL) => ReturnProbes::Safe,
                Ended::With(libc::EPERM) => ReturnProbes::Filtered,
                _ => ReturnProbes::Unknown,
            };
            assert_eq!(conclude(Presence::Present, || filtered), expected);
            assert_eq!(conclude(Presence::Refused, || filtered), ReturnProbes::Filtered);
            assert_eq!(conclude(Presence::Unknown, || filtered), ReturnProbes::Unknown);
        }
    }

    #[test]
    fn under_a_filter_of_our_own_no_answer_means_that_there_is_no_call() {
        assert!(ENDS.iter().all(|&end| answered(end, false) != Presence::Absent));
        assert_eq!(answered(Ended::With(libc::ENOSYS), true), Presence::Absent);
        assert_eq!(answered(Ended::By(libc::SIGILL), false), Presence::Present);
    }

    #[test]
    fn this_kernel_is_asked_and_answers() {
        assert_ne!(ask(false), Ended::NotAsked);
        assert_ne!(ask(true), Ended::NotAsked);
        assert_eq!(existing(), existing(), "once for all");
        assert_eq!(with_filter(), conclude(existing(), || ask(true)));
    }

    #[test]
    fn a_process_without_a_filter_is_never_refused() {
        for answer in [ReturnProbes::Safe, ReturnProbes::Filtered, ReturnProbes::Unknown] {
            assert!(answer.allow(SeccompMode::Disabled));
            assert_eq!(answer.allow(SeccompMode::Filter), answer == ReturnProbes::Safe);
        }
    }
}
