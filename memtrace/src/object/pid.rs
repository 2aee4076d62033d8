//! Process ids, and the thread by which a process is looked at.
//!
//! A process outlives its first thread when that one calls `pthread_exit` while others work on. What `/proc/PID` says
//! of memory is then what it says of a zombie, and the kernel refuses or never applies probes that are bound to it.
//! Any thread that is left stands for the process.

use std::{fmt, fs, path::PathBuf};

use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid as NixPid,
};

use super::bounds::read_small;

/// The files below `/proc/PID` whose content is that of one thread's memory, root or cgroup.
const OF_A_THREAD: [&str; 10] =
    ["maps", "mem", "exe", "root", "status", "statm", "smaps_rollup", "cmdline", "auxv", "cgroup"];

/// How many threads are looked at in search of one that has not ended.
const MAX_THREADS: usize = 4096;

/// A process id as the user knows it, in memtrace's own pid namespace.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Pid(pub u32);

impl fmt::Display for Pid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Pid {
    /// Processor time of all its threads so far, in seconds; `None` when it has ended.
    pub fn processor_seconds(self) -> Option<f64> {
        let pid = i32::try_from(self.0).ok()?;
        let clock = clock_getcpuclockid(NixPid::from_raw(pid)).ok()?;
        let time = clock_gettime(clock).ok()?;
        Some(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
    }

    /// A thread that has memory, to stand for the process: its first one, unless that has ended before the others.
    pub fn living_thread(self) -> Pid {
        if has_memory(&self.directory("statm")) != Some(false) {
            return self;
        }
        let Ok(threads) = fs::read_dir(self.directory("task")) else { return self };
        let living =
            threads.flatten().take(MAX_THREADS).find(|thread| has_memory(&thread.path().join("statm")) == Some(true));
        let number = living.and_then(|thread| thread.file_name().to_str()?.parse().ok());
        number.map_or(self, Pid)
    }

    /// A path below the process's `/proc` directory; below that of a thread which is left where the first one has ended.
    pub fn proc_path(self, name: &str) -> PathBuf {
        if name.starts_with("map_files/") {
            // Only directories of processes list it, but one is there for the id of each thread as well.
            return self.living_thread().directory(name);
        }
        if !OF_A_THREAD.contains(&name) {
            return self.directory(name);
        }
        match self.living_thread() {
            thread if thread == self => self.directory(name),
            thread => self.directory(&format!("task/{thread}/{name}")),
        }
    }

    fn directory(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{self}/{name}"))
    }
}

/// Whether the thread of a `statm` file has memory: all its numbers are 0 when it has given it back. `None` when there
/// is no such thread.
fn has_memory(statm: &std::path::Path) -> Option<bool> {
    read_small(statm).ok().map(|text| !text.starts_with(b"0 "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_first_thread_runs_is_looked_at_by_it() {
        let own = Pid(std::process::id());
        assert_eq!(own.living_thread(), own);
        assert_eq!(own.proc_path("maps"), PathBuf::from(format!("/proc/{own}/maps")));
        assert_eq!(own.proc_path("map_files/1-2"), PathBuf::from(format!("/proc/{own}/map_files/1-2")));
    }

    #[test]
    fn a_thread_without_memory_is_told_from_one_that_is_not_there() {
        let kernel_thread = Pid(2);
        // In a pid namespace of its own the test sees no kernel threads, and number 2 is a process or nobody.
        let name = fs::read(kernel_thread.proc_path("comm")).unwrap_or_default();
        if name == b"kthreadd\n" {
            assert_eq!(has_memory(&kernel_thread.directory("statm")), Some(false));
            assert_eq!(kernel_thread.living_thread(), kernel_thread);
        }
        assert_eq!(has_memory(&Pid(u32::MAX).directory("statm")), None);
        assert_eq!(Pid(u32::MAX).living_thread(), Pid(u32::MAX));
    }
}
