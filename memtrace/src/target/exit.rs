//! How a process that is no child of ours has ended.
//!
//! While it is a zombie `/proc/PID/stat` tells; once its parent has taken note, its pidfd does, from Linux 6.15 on
//! (PIDFD_GET_INFO with PIDFD_INFO_EXIT, include/uapi/linux/pidfd.h).

use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::{
    Pid,
    process::{has_exited, read_proc},
    status::{Status, stat_field},
};

/// The signal that ended the process, 0 when it ended by itself; `None` when it has not ended or nobody tells.
pub fn ending_signal(pid: Pid, pidfd: BorrowedFd<'_>) -> Option<u32> {
    if !has_exited(pidfd) {
        return None;
    }
    // It may be reaped between two looks.
    let code = by_pidfd(pidfd).or_else(|| zombie(pid)).or_else(|| by_pidfd(pidfd))?;
    // As waitpid(2) has it: the low seven bits.
    Some(code & 0x7f)
}

/// The exit code of a zombie: the last field, 52, of its stat file. 0 is also what is shown to who may not know.
fn zombie(pid: Pid) -> Option<u32> {
    let status = Status::parse(&read_proc(pid, "status", None).ok()?)?;
    if status.state != b'Z' {
        return None;
    }
    let code = stat_field(&read_proc(pid, "stat", None).ok()?, 52)?;
    u32::try_from(code).ok().filter(|&code| code != 0)
}

/// `struct pidfd_info` in its first size.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const _: () = assert!(size_of::<PidfdInfo>() == 64, "PIDFD_INFO_SIZE_VER0");

fn by_pidfd(pidfd: BorrowedFd<'_>) -> Option<u32> {
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    // _IOWR(0xFF, 11, struct pidfd_info)
    const PIDFD_GET_INFO: libc::Ioctl = 0xc040_ff0b_u32 as libc::Ioctl;
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the descriptor is open, and the kernel writes at most the 64 bytes that the request's number carries.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code as u32)
}

#[cfg(test)]
mod tests {
    use std::{os::fd::AsFd as _, process::Command};

    use super::*;
    use crate::target::Held;

    #[test]
    fn a_killed_child_tells_its_signal_as_a_zombie() {
        let mut child = Command::new("sleep").arg("600.4").spawn().expect("a child");
        let held = Held::open(Pid(child.id())).expect("our own child");
        assert_eq!(ending_signal(held.pid(), held.as_fd()), None);
        child.kill().expect("killed");
        let begun = std::time::Instant::now();
        while !held.exited() {
            assert!(begun.elapsed().as_secs() < 10, "the child does not end");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert_eq!(ending_signal(held.pid(), held.as_fd()), Some(9));
        child.wait().expect("reaped");
        // Older kernels no longer tell.
        assert!(matches!(ending_signal(held.pid(), held.as_fd()), None | Some(9)));
    }
}
