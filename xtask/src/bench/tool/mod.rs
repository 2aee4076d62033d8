//! What watches while the workload runs. `attached` comes to a process that runs already; `started` is there from the
//! program's start, and takes a restart.

pub mod attached;
mod started;

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use self::attached::Attached;

/// A way to trace, or not to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tool {
    /// Nothing attached.
    Nothing,
    /// Programs that do nothing, on memtrace's probe sites.
    Empty,
    /// memtrace.
    Memtrace,
    /// memtrace, looking at a sample of the blocks: one in 512 KiB.
    MemtraceSampled,
    /// The equivalent bpftrace script (`bench/equivalent.bt`).
    Bpftrace,
    /// heaptrack's library, which writes what it sees into a file.
    Heaptrack,
    /// Valgrind's memcheck.
    Valgrind,
    /// jemalloc in place of the C library's allocator, not profiling.
    Jemalloc,
    /// jemalloc, profiling a sample of allocations: one in 512 KiB, as it does unless told otherwise.
    JemallocSampled,
    /// jemalloc, profiling every allocation.
    JemallocEvery,
}

/// What the marks in names mean.
pub const MARKS: &str =
    "* takes a restart of the program. jemalloc's profiling is compared with jemalloc, not profiling.";

impl Tool {
    /// In the order of the table.
    pub const ALL: [Tool; 10] = [
        Tool::Nothing,
        Tool::Empty,
        Tool::Memtrace,
        Tool::MemtraceSampled,
        Tool::Bpftrace,
        Tool::Heaptrack,
        Tool::Valgrind,
        Tool::Jemalloc,
        Tool::JemallocSampled,
        Tool::JemallocEvery,
    ];

    /// The row's name; a star marks what takes a restart.
    pub const fn name(self) -> &'static str {
        match self {
            Tool::Nothing => "nothing",
            Tool::Empty => "empty programs, same sites",
            Tool::Memtrace => "memtrace",
            Tool::MemtraceSampled => "memtrace --sample 512KiB",
            Tool::Bpftrace => "bpftrace equivalent",
            Tool::Heaptrack => "heaptrack *",
            Tool::Valgrind => "Valgrind memcheck *",
            Tool::Jemalloc => "jemalloc, not profiling *",
            Tool::JemallocSampled => "jemalloc, profiling a sample *",
            Tool::JemallocEvery => "jemalloc, profiling all *",
        }
    }

    /// Over which its slowdown is counted; `None` for nothing at all.
    pub const fn base(self) -> Option<Tool> {
        match self {
            Tool::Nothing => None,
            Tool::JemallocSampled | Tool::JemallocEvery => Some(Tool::Jemalloc),
            _ => Some(Tool::Nothing),
        }
    }

    /// Whether others are counted over it: it traces nothing.
    pub const fn is_base(self) -> bool {
        matches!(self, Tool::Nothing | Tool::Jemalloc)
    }

    /// Whether it is a process of its own that comes to the running program.
    pub const fn attaches(self) -> bool {
        matches!(self, Tool::Empty | Tool::Memtrace | Tool::MemtraceSampled | Tool::Bpftrace)
    }

    /// Whether the program has to be started with it.
    pub const fn takes_restart(self) -> bool {
        !matches!(self, Tool::Nothing) && !self.attaches()
    }

    /// Whether it looks at mappings, or at nothing at all.
    pub const fn sees_mappings(self) -> bool {
        matches!(self, Tool::Nothing | Tool::Empty | Tool::Memtrace)
    }

    /// The command that starts a program, under the tool if that has to be there from the start.
    pub fn start(self, program: &Path) -> Result<Command> {
        started::command(self, program)
    }

    /// Attaches to the process, and returns when all probes are in place.
    pub fn attach(self, pid: u32, memtrace: &Path) -> Result<Attached> {
        attached::attach(self, pid, memtrace)
    }
}

/// The tools that work here, and a sentence on each that does not.
pub fn present() -> Result<(Vec<Tool>, Vec<String>)> {
    let profiles = started::jemalloc_profiles()?;
    let works = |tool: &Tool| profiles || tool.base() != Some(Tool::Jemalloc);
    let tools = Tool::ALL.into_iter().filter(works).collect();
    let missing =
        (!profiles).then(|| "This libjemalloc.so.2 is built without profiling: it refuses `prof`.".to_owned());
    Ok((tools, missing.into_iter().collect()))
}

/// What a tool says of itself when it ends; `None` for what it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Said {
    /// Events that it could not keep.
    pub lost: Option<u64>,
    /// Allocations that it saw.
    pub seen: Option<u64>,
    /// The share of stacks that it remembered and did not walk, 0 to 1.
    pub remembered: Option<f64>,
    /// Frames of the stack that allocated most, if it is whole, inlined functions not counted.
    pub frames: Option<usize>,
    /// The most memory that its own process had resident until the work was done.
    pub peak_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_a_restart_has_a_star() {
        assert!(Tool::ALL.into_iter().all(|tool| tool.name().ends_with(" *") == tool.takes_restart()));
        assert!(Tool::Heaptrack.takes_restart() && !Tool::Memtrace.takes_restart());
    }

    #[test]
    fn what_is_compared_with_a_base_comes_behind_it() {
        let place = |tool| Tool::ALL.into_iter().position(|one| one == tool).unwrap();
        for tool in Tool::ALL {
            assert!(tool.base().is_none_or(|base| place(base) < place(tool) && base.is_base()), "{tool:?}");
        }
    }
}
