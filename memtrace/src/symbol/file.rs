//! The target's files, opened once while it lives, and kept open to the end of the run within a bound.

use std::{
    cell::Cell,
    fs::File,
    path::{Path, PathBuf},
    rc::Rc,
};

use thiserror::Error;

pub use crate::object::root::{Root, descriptor_path};
use crate::object::{
    Pid,
    open::{self, FileId, OpenError},
};

/// One executable mapping of a process, as `/proc/PID/maps` has it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ModuleMapping {
    /// The first address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Where in the file `start` is.
    pub file_offset: u64,
    /// Major and minor number of the file's device; 0, 0 for what is not a file.
    pub device: (u32, u32),
    /// The file's inode; 0 for what is not a file.
    pub inode: u64,
    /// The file's path, without the kernel's ` (deleted)`; `[vdso]` and the like; `None` for
    /// anonymous memory.
    pub path: Option<PathBuf>,
}

/// Why the file of a mapping is not used.
#[derive(Debug, Error)]
pub enum FileError {
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The run's bound on open files is reached.
    #[error("{} was not opened: {limit} files are open already", path.display())]
    TooMany {
        /// The path that is mapped.
        path: PathBuf,
        /// The bound.
        limit: usize,
    },
}

/// How many files may be open at once, and how many are. Clones share both.
#[derive(Clone, Debug)]
pub struct OpenFiles {
    open: Rc<Cell<usize>>,
    limit: usize,
}

impl OpenFiles {
    /// A count of open files that begins with none and allows `limit`.
    pub fn new(limit: usize) -> Self {
        Self { open: Rc::default(), limit }
    }

    /// How many files are open now.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// How many files may be open at once.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Leave to hold one more file open, or `None` at the bound.
    pub fn permit(&self) -> Option<Permit> {
        let open = self.open.get();
        (open < self.limit).then(|| {
            self.open.set(open + 1);
            Permit(Rc::clone(&self.open))
        })
    }
}

/// Leave to hold one file open; given back on drop.
#[derive(Debug)]
pub struct Permit(Rc<Cell<usize>>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl ModuleMapping {
    /// Which file the mapping is of.
    pub fn file_id(&self) -> FileId {
        FileId { device: self.device, inode: self.inode }
    }
}

/// Opens the file that `mapping` of process `pid` maps: by the kernel's own link to it, or by its path below the target's root,
/// or below ours for a target that has gone.
///
/// # Errors
///
/// When none of the ways leads to the file.
pub fn open_mapped(pid: u32, mapping: &ModuleMapping, ours: &Root) -> Result<File, OpenError> {
    match open::by_range(Pid(pid), mapping.start, mapping.end) {
        Ok((_, file)) => Ok(file),
        Err(_) => open_by_path(pid, mapping, Root::of_process(pid).ok().as_ref(), ours),
    }
}

/// [`open_mapped`] without the process: by path only.
///
/// # Errors
///
/// When neither root has the file at its path.
pub fn open_by_path(pid: u32, mapping: &ModuleMapping, root: Option<&Root>, ours: &Root) -> Result<File, OpenError> {
    let path = mapping.path.as_deref().unwrap_or(Path::new(""));
    open::by_path(Pid(pid), path, mapping.file_id(), root.into_iter().chain([ours]))
}
