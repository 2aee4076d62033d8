//! What memtrace and its helper process tell each other: one line each.

use std::fmt;

use super::breakpoint::Breakpoint;
use crate::object::{Pid, maps::Mapping};

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

/// What memtrace tells its helper process to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// Probes are in this file.
    Object(Identity),
    /// A place of one of them.
    Site(Breakpoint),
    /// Hold this process from now on, as it may run copies of probed code.
    Hold(Pid),
    /// This running process is of the tree, and so are its children.
    Follow(Pid),
    /// This process, which has yet to call exec, is of the tree. It gives the order itself, and waits until it is held.
    Launch {
        /// The process.
        pid: Pid,
        /// Whether its children are of the tree.
        follow: bool,
    },
    /// Let this process go on, which stands at its begin.
    Go(Pid),
    /// Let this process go for good, which stands at its begin.
    Part(Pid),
    /// Let all processes go on, and stop none at its begin any more.
    Free,
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
            "follow" => Self::Follow(Pid(words.next()?.parse().ok()?)),
            "launch" => {
                let pid = Pid(words.next()?.parse().ok()?);
                Self::Launch { pid, follow: words.next()?.parse().ok()? }
            }
            "go" => Self::Go(Pid(words.next()?.parse().ok()?)),
            "part" => Self::Part(Pid(words.next()?.parse().ok()?)),
            "free" => Self::Free,
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
            Self::Follow(pid) => write!(formatter, "follow {pid}"),
            Self::Launch { pid, follow } => write!(formatter, "launch {pid} {follow}"),
            Self::Go(pid) => write!(formatter, "go {pid}"),
            Self::Part(pid) => write!(formatter, "part {pid}"),
            Self::Free => write!(formatter, "free"),
        }
    }
}

/// What the helper process tells memtrace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It holds this process.
    Holds(Pid),
    /// It cannot hold this process, with the kernel's error number.
    Refused(Pid, i32),
    /// A process of the tree has forked this one, which waits before its first instruction.
    Born {
        /// The child.
        pid: Pid,
        /// Who called fork; 0 if that is not known.
        parent: Pid,
        /// When, in nanoseconds of `CLOCK_MONOTONIC`: not before the fork, and before anything that the thread that
        /// called it did behind it.
        at_ns: u64,
    },
    /// A process of the tree runs another program, and waits with its libraries mapped.
    Begun {
        /// Which.
        pid: Pid,
        /// Whether another thread than the first one called exec.
        by_other_thread: bool,
    },
    /// This process has waited too long at its begin, and runs on.
    Late(Pid),
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
            "born" => Self::Born { pid, parent: Pid(words.next()?.parse().ok()?), at_ns: words.next()?.parse().ok()? },
            "begun" => Self::Begun { pid, by_other_thread: words.next()?.parse().ok()? },
            "late" => Self::Late(pid),
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
            Self::Born { pid, parent, at_ns } => write!(formatter, "born {pid} {parent} {at_ns}"),
            Self::Begun { pid, by_other_thread } => write!(formatter, "begun {pid} {by_other_thread}"),
            Self::Late(pid) => write!(formatter, "late {pid}"),
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
        let launch = Order::Launch { pid: Pid(3), follow: true };
        let orders =
            [Order::Hold(Pid(7)), Order::Follow(Pid(8)), launch, Order::Go(Pid(9)), Order::Part(Pid(10)), Order::Free];
        for order in orders.into_iter().chain([Order::Object(identity)]) {
            assert_eq!(Order::parse(&order.to_string()), Some(order));
        }
        let mended = Answer::Mended { pid: Pid(1), address: u64::MAX, breakpoints: 3 };
        let born = Answer::Born { pid: Pid(2), parent: Pid(1), at_ns: u64::MAX };
        let begun = Answer::Begun { pid: Pid(5), by_other_thread: true };
        let answers = [Answer::Holds(Pid(3)), Answer::Refused(Pid(4), -1), born, begun];
        for answer in answers.into_iter().chain([Answer::Late(Pid(6)), mended]) {
            assert_eq!(Answer::parse(&answer.to_string()), Some(answer));
        }
    }

    #[test]
    fn what_is_neither_is_none() {
        for line in ["launch 1", "launch 1 2", "free 1", "born 1 2", "begun"] {
            assert_eq!((Order::parse(line), Answer::parse(line)), (None, None), "{line}");
        }
        for line in ["", "hold", "hold x", "hold 1 2", "object 1 2", "site 00", "holds -1", "mended 1 2", "x 1"] {
            assert_eq!((Order::parse(line), Answer::parse(line)), (None, None), "{line}");
        }
    }
}
