//! `/proc/PID/status` and `/proc/PID/stat`: the facts about a process that decide whether it can be traced.

use super::Pid;

/// How a process is confined by seccomp; the numbers are the kernel's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SeccompMode {
    /// Not at all.
    Disabled,
    /// To read, write, exit and sigreturn.
    Strict,
    /// By a filter program, which may refuse the system call that return probes use from Linux 6.11 on.
    Filter,
}

/// What the status file says; lines that are absent leave their defaults.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// The thread's name, raw.
    pub name: Vec<u8>,
    /// The process that the id belongs to: another than the id when the id is a thread's.
    pub process: Pid,
    /// The state's letter: `Z` for a zombie, `X` for a dead process.
    pub state: u8,
    /// How it is confined.
    pub seccomp: SeccompMode,
    /// The process's ids from our pid namespace to its own, whichever thread's file this is.
    pub namespace_pids: Vec<u32>,
    /// Its users: real, effective, saved and for files.
    pub uids: Vec<u32>,
    /// Who traces it by ptrace(2); 0 if nobody does.
    pub tracer: Pid,
}

impl Status {
    /// Parses the file; `None` when it has no `Tgid` or `State` line, which every kernel writes.
    pub fn parse(text: &[u8]) -> Option<Status> {
        let process = Pid(number(field(text, b"Tgid:")?)?);
        let state = *field(text, b"State:")?.first()?;
        let seccomp = match field(text, b"Seccomp:").and_then(number) {
            Some(1) => SeccompMode::Strict,
            Some(2) => SeccompMode::Filter,
            _ => SeccompMode::Disabled,
        };
        let numbers = |name| {
            let list = field(text, name).unwrap_or_default();
            list.split(u8::is_ascii_whitespace).filter_map(number).collect()
        };
        let (namespace_pids, uids) = (numbers(b"NStgid:"), numbers(b"Uid:"));
        let name = field(text, b"Name:").unwrap_or_default().to_vec();
        let tracer = Pid(field(text, b"TracerPid:").and_then(number).unwrap_or(0));
        Some(Status { name, process, state, seccomp, namespace_pids, uids, tracer })
    }
}

fn field<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name)).map(<[u8]>::trim_ascii)
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Whether `/proc/PID/stat` is that of a kernel thread: PF_KTHREAD in the ninth field (include/linux/sched.h). The
/// `Kthread` line of the status file says the same, from Linux 6.8 on.
pub fn is_kernel_thread(stat: &[u8]) -> bool {
    const PF_KTHREAD: u64 = 0x0020_0000;
    stat_field(stat, 9).is_some_and(|flags| flags & PF_KTHREAD != 0)
}

/// When a process began, from `/proc/PID/stat`: in clock ticks since the machine did.
pub fn start_ticks(stat: &[u8]) -> Option<u64> {
    stat_field(stat, 22)
}

/// A field of `/proc/PID/stat`, from the third on, by its number in proc(5).
pub(super) fn stat_field(stat: &[u8], number: usize) -> Option<u64> {
    // The second field is a name in parentheses that may hold anything, parentheses too.
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let field = stat[end + 1..].trim_ascii().split(|&byte| byte == b' ').nth(number.checked_sub(3)?)?;
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_facts_are_read_from_the_kernels_text() {
        let text = b"Name:\tredis\\nserver\nState:\tS (sleeping)\nTgid:\t4242\nPid:\t4250\nUid:\t1\t2\t3\t4\nNStgid:\t4242\t17\t3\n\
            Seccomp:\t2\nSeccomp_filters:\t1\n";
        let status = Status::parse(text).expect("a whole file");
        assert_eq!((status.process, status.state, status.seccomp), (Pid(4242), b'S', SeccompMode::Filter));
        assert_eq!(status.namespace_pids, [4242, 17, 3]);
        assert_eq!(status.uids, [1, 2, 3, 4]);
        assert_eq!(Status::parse(b"State:\tS\n"), None);
    }

    #[test]
    fn a_kernel_thread_is_known_by_its_flags_whatever_its_name() {
        assert!(is_kernel_thread(b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0"));
        assert!(!is_kernel_thread(b"2 (a) S 0 0 0 0 -1 2129984 0) R 1 1 1 0 -1 4194304 9"));
        assert!(!is_kernel_thread(b""));
        assert!(!is_kernel_thread(b"1 (x)"));
    }

    #[test]
    fn the_start_is_the_twenty_second_field() {
        let stat = b"7 (a b) S 1 7 7 0 -1 4194304 90 0 0 0 1 2 0 0 20 0 1 0 18446744073709551615 0 0";
        assert_eq!(start_ticks(stat), Some(u64::MAX));
        assert_eq!(start_ticks(b"7 (a b) S 1 7"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Status::parse(&bytes), is_kernel_thread(&bytes), start_ticks(&bytes));
        }
    }
}
