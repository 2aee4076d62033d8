//! How much memory a process and the machine use: `/proc/PID/status`, `/proc/PID/smaps_rollup`, `/proc/meminfo`.
//!
//! The kernel keeps the sums of the status file approximately (per processor, some dozens of pages off each); those of
//! smaps_rollup are exact and cost a walk over all of the process's pages.

use std::{os::fd::BorrowedFd, path::Path};

use super::{
    Pid,
    process::{has_exited, read_proc},
};
use crate::object::bounds::read_small;

/// The memory that a process occupies, by what is in it. In bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Resident {
    /// Private memory that no file stands behind: heaps, stacks, written private mappings. `RssAnon`.
    pub anon_bytes: u64,
    /// Pages of mapped files. `RssFile`.
    pub file_bytes: u64,
    /// Shared memory: shmem, tmpfs, shared anonymous mappings. `RssShmem`.
    pub shmem_bytes: u64,
    /// Anonymous memory that is swapped out. `VmSwap`.
    pub swap_bytes: u64,
}

impl Resident {
    /// Parses `/proc/PID/status`; `None` when it has no memory, as that of a zombie or a kernel thread.
    pub fn parse(status: &[u8]) -> Option<Resident> {
        Some(Resident {
            anon_bytes: kilobytes(status, b"RssAnon:")?,
            file_bytes: kilobytes(status, b"RssFile:")?,
            shmem_bytes: kilobytes(status, b"RssShmem:")?,
            swap_bytes: kilobytes(status, b"VmSwap:").unwrap_or(0),
        })
    }

    /// What the process has now; `None` when it has ended. `pidfd` tells that the id is still its.
    pub fn read(pid: Pid, pidfd: BorrowedFd<'_>) -> Option<Resident> {
        let status = read_proc(pid, "status", Some(pidfd)).ok()?;
        // Had the process been gone before the read, it is gone after it.
        if has_exited(pidfd) { None } else { Resident::parse(&status) }
    }

    /// Resident bytes: anonymous memory, mapped files and shared memory together.
    pub fn rss_bytes(&self) -> u64 {
        self.anon_bytes.saturating_add(self.file_bytes).saturating_add(self.shmem_bytes)
    }

    /// RSS and what is swapped out.
    pub fn total_bytes(&self) -> u64 {
        self.rss_bytes().saturating_add(self.swap_bytes)
    }
}

/// RSS of whatever process has this id now, in bytes; `None` when none has.
pub fn rss_bytes(pid: Pid) -> Option<u64> {
    Resident::parse(&read_proc(pid, "status", None).ok()?).map(|resident| resident.rss_bytes())
}

/// The process's proportional share of the pages it maps (PSS), in bytes; `None` when it may not be read or the process
/// has ended. This walks all of its pages, with its memory map locked for reading.
pub fn pss_bytes(pid: Pid, pidfd: BorrowedFd<'_>) -> Option<u64> {
    let rollup = read_proc(pid, "smaps_rollup", Some(pidfd)).ok()?;
    if has_exited(pidfd) { None } else { kilobytes(&rollup, b"Pss:") }
}

/// How much memory the machine has and could give, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Machine {
    /// All of it.
    pub total_bytes: u64,
    /// What programs could still get without swapping, as the kernel estimates it.
    pub available_bytes: u64,
}

impl Machine {
    /// Parses the text of `/proc/meminfo`; `None` when a line that is needed is missing.
    pub fn parse(meminfo: &[u8]) -> Option<Machine> {
        Some(Machine {
            total_bytes: kilobytes(meminfo, b"MemTotal:")?,
            available_bytes: kilobytes(meminfo, b"MemAvailable:")?,
        })
    }

    /// Reads how the machine's memory stands now; `None` when `/proc/meminfo` cannot be read.
    pub fn read() -> Option<Machine> {
        Machine::parse(&read_small(Path::new("/proc/meminfo")).ok()?)
    }

    /// What is in use and could not be had at once.
    pub fn used_bytes(&self) -> u64 {
        self.total_bytes.saturating_sub(self.available_bytes)
    }
}

/// The bytes of a line `Name:   12 kB`.
fn kilobytes(text: &[u8], name: &[u8]) -> Option<u64> {
    let line = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name))?;
    let number = line.trim_ascii().strip_suffix(b"kB")?.trim_ascii();
    std::str::from_utf8(number).ok()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of Linux 6.18, shortened.
    const STATUS: &[u8] = b"Name:\tservice\nState:\tS (sleeping)\nVmPeak:\t    3060 kB\nVmRSS:\t    1616 kB\n\
        RssAnon:\t     112 kB\nRssFile:\t    1500 kB\nRssShmem:\t       4 kB\nVmData:\t     360 kB\nVmSwap:\t      20 kB\n";

    #[test]
    fn the_parts_of_rss_are_read() {
        let resident = Resident::parse(STATUS).expect("a process with memory");
        assert_eq!(
            resident,
            Resident { anon_bytes: 112 << 10, file_bytes: 1500 << 10, shmem_bytes: 4 << 10, swap_bytes: 20 << 10 }
        );
        assert_eq!((resident.rss_bytes(), resident.total_bytes()), (1616 << 10, 1636 << 10));
        assert_eq!(Resident::parse(b"Name:\tgone\nState:\tZ (zombie)\n"), None);
    }

    #[test]
    fn pss_is_not_one_of_its_parts() {
        let rollup = b"55d0-7fff ---p 00000000 00:00 0 [rollup]\nRss:     1200 kB\nPss:      310 kB\nPss_Anon: 80 kB\n";
        assert_eq!(kilobytes(rollup, b"Pss:"), Some(310 << 10));
    }

    #[test]
    fn the_machine_is_read() {
        let machine = Machine::parse(b"MemTotal:       24684092 kB\nMemFree:  1 kB\nMemAvailable:   23396612 kB\n");
        let machine = machine.expect("both lines");
        assert_eq!(machine.used_bytes(), (24_684_092 - 23_396_612) << 10);
        assert_eq!(Machine::parse(b"MemTotal: 1 kB\n"), None);
        assert!(Machine::read().is_some_and(|machine| machine.total_bytes > machine.available_bytes));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Resident::parse(&bytes), Machine::parse(&bytes));
            prop_assert_eq!(kilobytes(b"RssAnon: 99999999999999999999 kB", b"RssAnon:"), None);
        }
    }
}
