//! The `runtime` room: interpreters of other languages in a process, and the names of the code that they run.
//!
//! In: what a process has mapped, and its memory. Out: for the kernel, where an interpreter keeps its frames
//! ([`memtrace_common::interpreter`]); for stacks, which native frame runs which interpreter frames ([`chain`]); for reports, the
//! function, file and line of the code ([`code`]). C++ has no runtime to find: its objects say their class themselves
//! ([`cpp`]). A runtime is a folder and a line in [`find`]. It is recognised by what its
//! files define, never by their names, and proved on a live thread before anything of it is trusted: its insides are no interface,
//! and what is not known is said and not guessed. All memory that is read is the target's to shape: every read and every loop has
//! a bound.

pub mod ask;
pub mod blocks;
mod by_type;
mod census;
pub mod chain;
pub mod code;
pub mod count;
pub mod cpp;
pub mod go;
pub mod language;
pub mod php;
pub mod python;
pub mod ruby;
pub mod v8;

mod lines;
mod memory;
mod pages;
#[cfg(test)]
mod seeds;
mod thread_local;
mod walk;

use std::{collections::HashSet, fs::File, time::Duration};

use memtrace_common::interpreter::{DETAILS, Interpreter};

use self::chain::Placing;
pub use self::{
    blocks::Block,
    census::{Blocks, Census, Due, Objects},
    code::Code,
    language::Language,
    memory::Memory,
};
use crate::object::{Pid, mapped::MappedObject, maps::Mapping, symbols::ElfFile};

/// The share of a processor that reading a process's books gets, as one part in this many.
pub const PARTS: u32 = 100;

/// What the first looks at a process's books may take together before they rest as long as the others: a leak is told after some of them.
pub const CREDIT: Duration = Duration::from_secs(1);

/// A look that takes longer rests as if it had taken this time: a minute.
const LONGEST_TURN: Duration = Duration::from_millis(600);

/// An interpreter that was found in a process and proved.
#[derive(Debug)]
pub struct Runtime {
    /// What the kernel needs to walk its frames.
    pub interpreter: Interpreter,
    /// Which native frame runs which of its frames.
    pub placing: Placing,
    /// What names its code.
    pub reader: CodeReader,
    /// What finds the functions that a frame stands for, and their places; `None` where a frame itself says it.
    pub places: Option<v8::Places>,
    /// What counts its objects by type; `None` where that cannot be.
    pub census: Option<Objects>,
}

/// What was found of interpreters in a process.
#[derive(Debug)]
pub enum Finding {
    /// No interpreter that memtrace knows.
    Nothing,
    /// An interpreter that runs no code yet, by which it could be proved.
    Waiting,
    /// An interpreter whose frames are walked and named.
    Proved(Box<Runtime>),
    /// An interpreter whose frames led nowhere, and what that means if it stays so, as a sentence.
    Unproved(String),
    /// An interpreter whose frames are not named, and why, as a sentence.
    Refused(String),
}

/// Files that are known to have no interpreter, of each kind.
#[derive(Debug, Default)]
pub struct Known {
    python: Without,
    v8: Without,
    php: Without,
    ruby: Without,
}

/// Files that have no interpreter of one kind, by device and inode.
#[derive(Debug, Default)]
pub struct Without(HashSet<((u32, u32), u64)>);

impl Without {
    /// The most files that are kept in mind.
    const MOST: usize = 4096;

    fn contains(&self, object: &MappedObject) -> bool {
        self.0.contains(&(object.device, object.inode))
    }

    fn add(&mut self, object: &MappedObject) {
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        self.0.insert((object.device, object.inode));
    }

    /// The first of these files that exports a name; those that do not are known from then on.
    fn find<'o>(&mut self, objects: &'o [MappedObject], mark: &str) -> Option<(&'o MappedObject, ElfFile<File>)> {
        for object in objects {
            if self.contains(object) {
                continue;
            }
            let Ok((_, file)) = object.open() else { continue };
            let Ok(elf) = ElfFile::parse(file) else { continue };
            if elf.exports(mark).unwrap_or(false) {
                return Some((object, elf));
            }
            self.add(object);
        }
        None
    }
}

/// Looks for an interpreter in a process that maps these now. `known` says which files have none; more are added.
pub fn find(pid: Pid, mappings: &[Mapping], known: &mut Known) -> Finding {
    let mut best = Finding::Nothing;
    let looks: [&mut dyn FnMut() -> Finding; 4] = [
        &mut || python::find(pid, mappings, &mut known.python),
        &mut || v8::find(pid, mappings, &mut known.v8),
        &mut || php::find(pid, mappings, &mut known.php),
        &mut || ruby::find(pid, mappings, &mut known.ruby),
    ];
    // A program may have several, all but one of them idle: what was found later counts if nothing was proved.
    for look in looks {
        match look() {
            proved @ Finding::Proved(_) => return proved,
            Finding::Nothing => {}
            found => best = found,
        }
    }
    best
}

/// Names the code of an interpreter in one process.
#[derive(Debug)]
pub enum CodeReader {
    /// Python's.
    Python(python::Reader),
    /// V8's, of JavaScript.
    Script(v8::Reader),
    /// PHP's.
    Php(php::Reader),
    /// Ruby's.
    Ruby(ruby::Reader),
}

impl CodeReader {
    /// The code that the interpreter keeps at this address now; `None` if there is none.
    pub fn read(&self, address: u64) -> Option<Code> {
        match self {
            CodeReader::Python(reader) => reader.read(address),
            CodeReader::Script(reader) => reader.read(address),
            CodeReader::Php(reader) => reader.read(address),
            CodeReader::Ruby(reader) => reader.read(address),
        }
    }

    /// The code of which a frame ran a copy that may be gone, named by its details; `None` where there is no such code.
    pub fn copy(&self, details: &[u64; DETAILS]) -> Option<Code> {
        match self {
            CodeReader::Php(reader) => reader.copy(details),
            CodeReader::Python(_) | CodeReader::Script(_) | CodeReader::Ruby(_) => None,
        }
    }

    /// What the process maps from now on.
    pub fn confine(&mut self, mappings: &[Mapping]) {
        match self {
            CodeReader::Python(reader) => reader.confine(mappings),
            CodeReader::Script(reader) => reader.confine(mappings),
            CodeReader::Php(reader) => reader.confine(mappings),
            CodeReader::Ruby(reader) => reader.confine(mappings),
        }
    }

    /// Stands for what is at this address, so that other code which takes its place is told from it; `None` if that cannot be read.
    /// It costs one read.
    pub fn identity(&self, address: u64) -> Option<u64> {
        match self {
            CodeReader::Python(reader) => reader.identity(address),
            CodeReader::Script(reader) => reader.identity(address),
            CodeReader::Php(reader) => reader.identity(address),
            CodeReader::Ruby(reader) => reader.identity(address),
        }
    }
}
