//! One running process, checked and held on to.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::PidfdFlags,
};

use super::{
    Pid, TargetError,
    status::{SeccompMode, Status, is_kernel_thread},
};
use crate::object::{
    mapped::{MappedObject, objects},
    maps::{self, Mapping, MapsError},
    printable::printable,
};

/// How much of a command line is shown, in characters.
const MAX_COMMAND_CHARACTERS: usize = 400;

/// How much of a file of `/proc` is read. None of those read here is longer.
const MAX_PROC_BYTES: u64 = 64 << 10;

/// A running process that can be traced. Its pidfd keeps naming this process when its id is used again.
#[derive(Debug)]
pub struct Target {
    pid: Pid,
    pidfd: OwnedFd,
    command: String,
    cgroup: String,
    seccomp: SeccompMode,
    namespace_pids: Vec<u32>,
}

impl Target {
    /// Takes hold of a process and checks that it can be traced. It is not changed in any way.
    ///
    /// # Errors
    ///
    /// One variant for each reason why not; see [`TargetError`].
    pub fn open(pid: Pid) -> Result<Target, TargetError> {
        let (pidfd, status) = hold(pid)?;
        let read = |name| read_proc(pid, name, Some(pidfd.as_fd()));
        let command = command_line(&read("cmdline")?, &status.name);
        let cgroup = cgroup_path(&read("cgroup")?);
        check_class(pid, &pidfd)?;
        // Needs the same permission as everything that follows does; and a process without memory is ending.
        let no_memory = read_maps(pid, pidfd.as_fd())?.is_empty();
        if no_memory || has_exited(pidfd.as_fd()) {
            return Err(TargetError::Exited { pid });
        }
        Ok(Target { pid, pidfd, command, cgroup, seccomp: status.seccomp, namespace_pids: status.namespace_pids })
    }

    /// Its id in our pid namespace.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its command line, escaped and cut; its name in brackets when it has none.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Its path in the cgroup hierarchy: the unified one, or where it is that hierarchy's root, the memory controller's.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// How it is confined by seccomp. A [`SeccompMode::Filter`] may kill it on a return probe.
    pub fn seccomp(&self) -> SeccompMode {
        self.seccomp
    }

    /// Its ids from our pid namespace to its own; more than one when it is in a container.
    pub fn namespace_pids(&self) -> &[u32] {
        &self.namespace_pids
    }

    /// Resident memory in bytes, as the kernel last summed it up; `None` when the process has exited.
    pub fn rss_bytes(&self) -> Option<u64> {
        let statm = read_proc(self.pid, "statm", Some(self.pidfd.as_fd())).ok()?;
        // The id may be another process's by now; had this one been gone before the read, it is gone after it.
        if self.exited() {
            return None;
        }
        let pages: u64 = std::str::from_utf8(&statm).ok()?.split(' ').nth(1)?.parse().ok()?;
        pages.checked_mul(memtrace_common::arch::PAGE_BYTES)
    }

    /// Whether the process has ended, as a zombie too.
    pub fn exited(&self) -> bool {
        has_exited(self.pidfd.as_fd())
    }

    /// Its memory mappings now.
    ///
    /// # Errors
    ///
    /// When it has exited, or its mappings cannot be read.
    pub fn mappings(&self) -> Result<Vec<Mapping>, TargetError> {
        let mappings = read_maps(self.pid, self.pidfd.as_fd())?;
        if self.exited() {
            return Err(TargetError::Exited { pid: self.pid });
        }
        Ok(mappings)
    }

    /// The files whose code it has mapped now, each once.
    ///
    /// # Errors
    ///
    /// As for [`Target::mappings`].
    pub fn objects(&self) -> Result<Vec<MappedObject>, TargetError> {
        Ok(objects(self.pid, &self.mappings()?))
    }
}

/// The pidfd: readable when the process has ended.
impl AsFd for Target {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Takes hold of a user process: its pidfd, and its status as read after that.
pub(super) fn hold(pid: Pid) -> Result<(OwnedFd, Status), TargetError> {
    if pid.0 == std::process::id() {
        return Err(TargetError::Itself { pid });
    }
    // First what tells best what is wrong; then the pidfd; then everything that must come from this very process.
    let early = read_proc(pid, "status", None)?;
    let early = Status::parse(&early).ok_or_else(|| malformed(pid, "status"))?;
    check_status(pid, &early)?;
    let raw = i32::try_from(pid.0).ok().and_then(rustix::process::Pid::from_raw);
    let raw = raw.ok_or(TargetError::NoSuchProcess { pid })?;
    let pidfd = rustix::process::pidfd_open(raw, PidfdFlags::empty()).map_err(|errno| pidfd_error(pid, errno))?;
    let read = |name| read_proc(pid, name, Some(pidfd.as_fd()));
    if is_kernel_thread(&read("stat")?) {
        return Err(TargetError::KernelThread { pid });
    }
    let status = Status::parse(&read("status")?).ok_or_else(|| malformed(pid, "status"))?;
    Ok((pidfd, status))
}

fn check_status(pid: Pid, status: &Status) -> Result<(), TargetError> {
    if status.process.0 == std::process::id() {
        return Err(TargetError::Itself { pid });
    }
    if status.process != pid {
        return Err(TargetError::ThreadId { pid, process: status.process });
    }
    match status.state {
        b'Z' => Err(TargetError::Zombie { pid }),
        b'X' => Err(TargetError::Exited { pid }),
        _ => Ok(()),
    }
}

/// Refuses programs with 32-bit pointers: EI_CLASS in the first bytes of the executable (ELF-64 object file format).
fn check_class(pid: Pid, pidfd: &OwnedFd) -> Result<(), TargetError> {
    let failed = |source| proc_error(pid, "exe", Some(pidfd.as_fd()), source);
    let mut header = [0; 5];
    let mut file = File::open(pid.proc_path("exe")).map_err(failed)?;
    match file.read_exact(&mut header) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(failed(error)),
        _ if is_32_bit(&header) => Err(TargetError::ThirtyTwoBit { pid }),
        _ => Ok(()),
    }
}

fn is_32_bit(header: &[u8; 5]) -> bool {
    header == b"\x7fELF\x01"
}

pub(super) fn has_exited(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    // An interrupted poll says nothing; the next question will be answered.
    matches!(rustix::event::poll(&mut fds, Some(&Timespec::default())), Ok(ready) if ready > 0)
}

pub(super) fn read_proc(pid: Pid, name: &str, pidfd: Option<BorrowedFd<'_>>) -> Result<Vec<u8>, TargetError> {
    let mut bytes = Vec::new();
    File::open(pid.proc_path(name))
        .and_then(|file| file.take(MAX_PROC_BYTES).read_to_end(&mut bytes))
        .map_err(|source| proc_error(pid, name, pidfd, source))?;
    Ok(bytes)
}

fn read_maps(pid: Pid, pidfd: BorrowedFd<'_>) -> Result<Vec<Mapping>, TargetError> {
    maps::read(pid).map_err(|error| match error {
        MapsError::Read { source, .. } => proc_error(pid, "maps", Some(pidfd), source),
        source => TargetError::Maps { pid, source },
    })
}

/// What a failed read of a file of `/proc` means. Without a pidfd the process was never seen to be there.
fn proc_error(pid: Pid, name: &str, pidfd: Option<BorrowedFd<'_>>, source: io::Error) -> TargetError {
    let gone = source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(libc::ESRCH);
    match pidfd {
        None if gone => TargetError::NoSuchProcess { pid },
        Some(pidfd) if has_exited(pidfd) => TargetError::Exited { pid },
        _ if source.kind() == io::ErrorKind::PermissionDenied => {
            TargetError::Permission { pid, path: format!("/proc/{pid}/{name}") }
        }
        _ => TargetError::Read { pid, path: format!("/proc/{pid}/{name}"), source },
    }
}

fn pidfd_error(pid: Pid, errno: rustix::io::Errno) -> TargetError {
    match errno {
        // The status file was there a moment ago.
        rustix::io::Errno::SRCH => TargetError::Exited { pid },
        errno => TargetError::PidFd { pid, source: errno.into() },
    }
}

fn malformed(pid: Pid, name: &str) -> TargetError {
    let source = io::Error::new(io::ErrorKind::InvalidData, "not in the kernel's format");
    TargetError::Read { pid, path: format!("/proc/{pid}/{name}"), source }
}

pub(super) fn command_line(cmdline: &[u8], name: &[u8]) -> String {
    let words: Vec<u8> = cmdline.strip_suffix(b"\0").unwrap_or(cmdline).to_vec();
    if words.is_empty() {
        return format!("[{}]", printable(name, MAX_COMMAND_CHARACTERS));
    }
    let words: Vec<u8> = words.into_iter().map(|byte| if byte == 0 { b' ' } else { byte }).collect();
    // Programs that write over their arguments leave a tail of zeros, which are spaces by now.
    printable(words.trim_ascii_end(), MAX_COMMAND_CHARACTERS)
}

/// Each line is `hierarchy:controllers:path`; the unified hierarchy is number 0 (cgroups(7)).
fn cgroup_path(text: &[u8]) -> String {
    let lines = || text.split(|&byte| byte == b'\n');
    let unified = lines().find_map(|line| line.strip_prefix(b"0::")).unwrap_or_default();
    let memory = lines().find_map(|line| {
        let mut fields = line.splitn(3, |&byte| byte == b':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers.split(|&byte| byte == b',').any(|name| name == b"memory").then_some(path)
    });
    let path = if unified.len() > 1 { unified } else { memory.unwrap_or(unified) };
    printable(if path.is_empty() { b"/" } else { path }, 4096)
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Child, Command, Stdio},
        time::{Duration, Instant},
    };

    use super::*;

    /// A child that is killed and reaped when the test ends.
    struct Running(Child);

    impl Running {
        fn start(program: &str, arguments: &[&str]) -> Running {
            let child = Command::new(program).args(arguments).stdout(Stdio::null()).spawn().expect("a child");
            let running = Running(child);
            // Between fork and exec the child still runs our own program.
            let exe = running.pid().proc_path("exe");
            let ours = std::fs::read_link("/proc/self/exe").expect("our own path");
            running.wait(|| std::fs::read_link(&exe).is_ok_and(|theirs| theirs != ours));
            // Exec sets the command line later than the file, and the loader maps the C library later still.
            let (cmdline, maps) = (running.pid().proc_path("cmdline"), running.pid().proc_path("maps"));
            running.wait(|| std::fs::read(&cmdline).is_ok_and(|words| !words.is_empty()));
            running.wait(|| std::fs::read_to_string(&maps).is_ok_and(|text| text.contains("libc.so.6")));
            running
        }

        fn pid(&self) -> Pid {
            Pid(self.0.id())
        }

        fn wait(&self, mut done: impl FnMut() -> bool) {
            let start = Instant::now();
            while !done() {
                assert!(start.elapsed() < Duration::from_secs(10), "the child did not get there");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_running_child_is_described() {
        let child = Running::start("sleep", &["600.0"]);
        let target = Target::open(child.pid()).expect("our own child");
        assert_eq!((target.pid(), target.command()), (child.pid(), "sleep 600.0"));
        assert!(target.cgroup().starts_with('/'));
        assert_eq!(target.namespace_pids().first(), Some(&child.pid().0));
        assert!(target.rss_bytes().is_some_and(|bytes| bytes >= 100 << 10));
        assert!(target.objects().expect("its objects").iter().any(|object| object.path.ends_with("libc.so.6")));
        assert!(!target.exited());
    }

    #[test]
    fn an_end_is_noticed_before_and_after_reaping() {
        let mut child = Running::start("sleep", &["600.1"]);
        let target = Target::open(child.pid()).expect("our own child");
        child.0.kill().expect("kill");
        child.wait(|| target.exited());
        assert_eq!(target.rss_bytes(), None);
        assert!(matches!(target.mappings(), Err(TargetError::Exited { .. })));
        assert!(matches!(Target::open(child.pid()), Err(TargetError::Zombie { .. })));
        child.0.wait().expect("reaped");
        assert!(target.exited());
        assert!(matches!(target.mappings(), Err(TargetError::Exited { .. })));
    }

    #[test]
    fn what_cannot_be_traced_is_refused_by_name() {
        let own = Pid(std::process::id());
        assert!(matches!(Target::open(own), Err(TargetError::Itself { .. })));
        for pid in [Pid(0), Pid(u32::MAX), Pid(i32::MAX as u32)] {
            assert!(matches!(Target::open(pid), Err(TargetError::NoSuchProcess { .. })), "{pid}");
        }
        // A thread of ours is memtrace itself all the same.
        let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        assert!(matches!(Target::open(Pid(thread)), Err(TargetError::Itself { .. })));
        let status = Status::parse(b"State:\tS\nTgid:\t4000000001\n").expect("a status");
        let error = check_status(Pid(4_000_000_002), &status).expect_err("a thread");
        assert!(matches!(error, TargetError::ThreadId { process: Pid(4_000_000_001), .. }));
        assert!(error.to_string().contains("--pid 4000000001"));
        assert!(is_32_bit(b"\x7fELF\x01"));
        assert!(!is_32_bit(b"\x7fELF\x02"));
    }

    #[test]
    fn a_refusal_says_which_capability_helps() {
        let refused = || io::Error::from_raw_os_error(libc::EACCES);
        let error = proc_error(Pid(7), "maps", None, refused());
        assert!(matches!(error, TargetError::Permission { .. }));
        assert!(error.to_string().contains("CAP_SYS_PTRACE"));
    }

    #[test]
    fn command_lines_are_one_safe_line() {
        assert_eq!(command_line(b"a\0b\nc\0\x1b[31m\0", b"x"), "a b\\x0ac \\x1b[31m");
        assert_eq!(command_line(b"", b"k\x07"), "[k\\x07]");
        assert_eq!(command_line(b"nginx: master\0\0\0\0", b"x"), "nginx: master");
        assert!(command_line(&[b'x'; 10_000], b"x").chars().count() <= MAX_COMMAND_CHARACTERS + 1);
    }

    #[test]
    fn the_cgroup_is_the_unified_one_or_the_memory_controllers() {
        assert_eq!(cgroup_path(b"0::/system.slice/redis.service\n"), "/system.slice/redis.service");
        assert_eq!(cgroup_path(b"4:cpu,memory:/docker/abc:d\n0::/\n"), "/docker/abc:d");
        assert_eq!(cgroup_path(b"4:memory:/v1\n0::/v2\n"), "/v2");
        assert_eq!(cgroup_path(b""), "/");
    }
}
