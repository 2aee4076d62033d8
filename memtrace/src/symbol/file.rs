//! The target's files, opened once while it lives: by the kernel's own link to what is mapped, or below the target's
//! root with the inode checked.
//!
//! An open file outlives its name, its container and its process, so whatever is opened here can be symbolised to the
//! end of the run. Nothing but regular files is opened: a path below a target's root may be a FIFO that blocks, or a
//! device whose opening has effects.

use std::{cell::Cell, fs::File, io, os::fd::AsFd, path::PathBuf, rc::Rc};

use rustix::fs::{Mode, OFlags, Stat};
use thiserror::Error;

pub use crate::target::root::{Root, descriptor_path};
use crate::target::{Pid, root::open_regular};

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

/// Why the file of a mapping could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// No way led to it; the error of the last one.
    #[error("cannot open {} as process {pid} maps it: {source}", path.display())]
    Unreachable {
        /// The process.
        pid: u32,
        /// The path that it maps.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another file has taken the path, and the mapped one has no other name that we could reach.
    #[error("{} was replaced since process {pid} mapped it", path.display())]
    Replaced {
        /// The process.
        pid: u32,
        /// The path that it maps.
        path: PathBuf,
    },
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
    /// None open, `limit` allowed.
    pub fn new(limit: usize) -> Self {
        Self { open: Rc::default(), limit }
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// How many may be.
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

/// Opens the file that `mapping` of process `pid` maps.
///
/// First by `/proc/PID/map_files`, which is the mapped file whatever became of its name, and needs CAP_SYS_ADMIN or
/// CAP_CHECKPOINT_RESTORE (proc(5)). Then by its path below the target's root, if the inode there is the same; the
/// device numbers are not compared, because on btrfs and overlayfs those of `maps` and of `stat` differ. Last by the
/// same path below our root, for a target that has gone, if inode and device are the same.
///
/// # Errors
///
/// When none of the ways leads to the file.
pub fn open_mapped(pid: u32, mapping: &ModuleMapping, ours: &Root) -> Result<File, OpenError> {
    let by_range = Pid(pid).proc_path(&format!("map_files/{:x}-{:x}", mapping.start, mapping.end));
    let by_range = rustix::fs::open(by_range, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(io::Error::from)
        .and_then(|found| open_regular(found.as_fd()));
    match by_range {
        Ok(file) => Ok(file),
        Err(_) => open_by_path(pid, mapping, Root::of_process(pid).ok().as_ref(), ours),
    }
}

/// [`open_mapped`] without the process: by path only.
///
/// # Errors
///
/// When neither root has the file at its path.
pub fn open_by_path(pid: u32, mapping: &ModuleMapping, root: Option<&Root>, ours: &Root) -> Result<File, OpenError> {
    let path = mapping.path.clone().unwrap_or_default();
    let mut replaced = false;
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    let same_device = |stat: &Stat| {
        (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev)) == (mapping.device.0, mapping.device.1)
    };
    for (root, check_device) in root.map(|root| (root, false)).into_iter().chain([(ours, true)]) {
        match root.open_file(&path).and_then(|file| Ok((rustix::fs::fstat(&file)?, file))) {
            Ok((stat, file)) if stat.st_ino == mapping.inode && (!check_device || same_device(&stat)) => {
                return Ok(file);
            }
            Ok(_) => replaced = true,
            Err(error) => failure = error,
        }
    }
    Err(if replaced {
        OpenError::Replaced { pid, path }
    } else {
        OpenError::Unreachable { pid, path, source: failure }
    })
}
