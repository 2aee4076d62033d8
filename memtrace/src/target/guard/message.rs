//! What memtrace and its helper process tell each other: one line each.

use std::fmt;

use super::breakpoint::Breakpoint;
use crate::target::{Pid, maps::Mapping};

/// A file, by device and inode.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Identity {
    /// The major and minor number of its device, as `maps` shows them.
    pub device: (u32, u32),
    /// Its inode number.
    pub inode: u64,
}

impl Identity {
    /// Of what is mapped; no file has inode 0.
    pub fn of(mapping: &Mapping) -> Self {
        Self { device: mapping.device, inode: mapping.inode }
    }
}

/// To the helper.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// Probes are in this file.
    Object(Identity),
    /// A place of one of them.
    Site(Breakpoint),
    /// Hold this process from now on.
    Hold(Pid),
}

impl Order {
    /// `None` for what is no order.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let order = match words.next()? {
            "object" => {
                let device = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                Self::Object(Identity { device, inode: words.next()?.parse().ok()? })
            }
            "site" => Self::Site(Breakpoint::decode(words.next()?)?),
            "hold" => Self::Hold(Pid(words.next()?.parse().ok()?)),
            _ => return None,
        };
        words.next().is_none().then_some(order)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(Identity { device: (major, minor), inode }) => {
                write!(formatter, "object {major} {minor} {inode}")
            }
            Self::Site(site) => write!(formatter, "site {}", site.encode()),
            Self::Hold(pid) => write!(formatter, "hold {pid}"),
        }
    }
}

/// From the helper.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It holds this process.
    Holds(Pid),
    /// It cannot hold this process, with the kernel's error number.
    Refused(Pid, i32),
    /// It has taken breakpoints out of a copy of probed code.
    Mended {
        /// Whose.
        pid: Pid,
        /// The address of one of the breakpoints.
        address: u64,
        /// How many; 0 if another thread of the process came first.
        breakpoints: u64,
    },
}

impl Answer {
    /// `None` for what is no answer.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (what, pid) = (words.next()?, Pid(words.next()?.parse().ok()?));
        let answer = match what {
            "holds" => Self::Holds(pid),
            "refused" => Self::Refused(pid, words.next()?.parse().ok()?),
            "mended" => {
                Self::Mended { pid, address: words.next()?.parse().ok()?, breakpoints: words.next()?.parse().ok()? }
            }
            _ => return None,
        };
        words.next().is_none().then_some(answer)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds(pid) => write!(formatter, "holds {pid}"),
            Self::Refused(pid, error) => write!(formatter, "refused {pid} {error}"),
            Self::Mended { pid, address, breakpoints } => write!(formatter, "mended {pid} {address} {breakpoints}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let identity = Identity { device: (254, 1), inode: u64::MAX };
        for order in [Order::Object(identity), Order::Hold(Pid(7))] {
            assert_eq!(Order::parse(&order.to_string()), Some(order));
        }
        let mended = Answer::Mended { pid: Pid(1), address: u64::MAX, breakpoints: 3 };
        for answer in [Answer::Holds(Pid(3)), Answer::Refused(Pid(4), -1), mended] {
            assert_eq!(Answer::parse(&answer.to_string()), Some(answer));
        }
    }

    #[test]
    fn what_is_neither_is_none() {
        for line in ["", "hold", "hold x", "hold 1 2", "object 1 2", "site 00", "holds -1", "mended 1 2", "x 1"] {
            assert_eq!((Order::parse(line), Answer::parse(line)), (None, None), "{line}");
        }
    }
}
