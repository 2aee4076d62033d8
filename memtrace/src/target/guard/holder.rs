//! How a command comes to be held before its exec.

use std::{
    io::{self, Write as _},
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
};

use super::message::Order;
use crate::target::Pid;

/// How long a process waits to be held, in steps of [`STEP_US`].
const STEPS: u32 = 5_000;
const STEP_US: u32 = 200;

/// What a process between fork and exec needs to have itself held by the helper process.
#[derive(Debug)]
pub struct Holder {
    orders: OwnedFd,
    helper: u32,
    parent: libc::pid_t,
    follow: bool,
}

impl Holder {
    pub(super) fn new(orders: impl AsFd, helper: u32, follow: bool) -> io::Result<Self> {
        let orders = orders.as_fd().try_clone_to_owned()?;
        Ok(Self { orders, helper, parent: std::process::id().cast_signed(), follow })
    }

    /// The helper process that holds targets by ptrace.
    pub fn helper(&self) -> Pid {
        Pid(self.helper)
    }

    /// Has the calling process held; false if the helper does not. Nothing is allocated, so that it may be called
    /// between fork and exec.
    ///
    /// # Errors
    ///
    /// When memtrace has ended meanwhile, or another tracer holds the process.
    pub fn hold_current(&self) -> io::Result<bool> {
        let order = Order::Launch { pid: Pid(std::process::id()), follow: self.follow };
        let mut line = [0_u8; 64];
        let mut rest = &mut line[..];
        writeln!(rest, "{order}")?;
        let length = 64 - rest.len();
        // SAFETY: as many bytes as are there.
        let written = unsafe { libc::write(self.orders.as_raw_fd(), line.as_ptr().cast(), length) };
        if written != length as isize {
            return Ok(false);
        }
        for _ in 0..STEPS {
            match current_tracer() {
                Some(0) | None => {}
                Some(tracer) if tracer == self.helper => return Ok(true),
                Some(_) => return Err(io::Error::from_raw_os_error(libc::EPERM)),
            }
            // SAFETY: no memory is involved.
            unsafe {
                if libc::getppid() != self.parent {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                libc::usleep(STEP_US);
            }
        }
        Ok(false)
    }
}

/// The tracer of the calling process, 0 if there is none.
fn current_tracer() -> Option<u32> {
    const NAME: &[u8] = b"\nTracerPid:\t";
    let mut text = [0_u8; 1024];
    // SAFETY: the path ends with a zero, and as many bytes are read as there is room for.
    let read = unsafe {
        let file = libc::open(c"/proc/self/status".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return None;
        }
        let read = libc::read(file, text.as_mut_ptr().cast(), text.len());
        libc::close(file);
        usize::try_from(read).ok()?
    };
    let text = text.get(..read)?;
    let start = text.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let digits = text[start..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0_u32, |number, digit| number.wrapping_mul(10).wrapping_add(u32::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_are_not_traced() {
        assert_eq!(current_tracer(), Some(0));
    }
}
