//! Opens the very file that a process has mapped: by the kernel's own link to it, or by its path, once it is known to be the same.
//!
//! Paths and links are the target's to shape. Nothing but regular files is opened, since a path may be a FIFO that blocks, or a
//! device whose opening has effects. An open file outlives its name, its container and its process.

use std::{
    fs::File,
    io,
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};
use thiserror::Error;

use super::{
    Pid, maps,
    printable::printable,
    root::{Root, open_regular},
};

/// Which file a mapping is of, as `/proc/PID/maps` has it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FileId {
    /// The major and minor number of its device.
    pub device: (u32, u32),
    /// Its inode number.
    pub inode: u64,
}

/// Why a mapped file is not opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// No way leads to it; the error of the last one.
    #[error(
        "cannot open {path}, which process {pid} has mapped: {source}; \
         opening a removed or replaced file takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE"
    )]
    Unreachable {
        /// Whose.
        pid: Pid,
        /// Which, escaped.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Another file has taken the path, and the mapped one has no other name that we could reach.
    #[error("{path} was replaced since process {pid} mapped it")]
    Replaced {
        /// Whose.
        pid: Pid,
        /// Which, escaped.
        path: String,
    },
}

impl OpenError {
    /// Why, without the file and the process.
    pub fn reason(&self) -> String {
        match self {
            Self::Unreachable { source, .. } => source.to_string(),
            Self::Replaced { .. } => "it was replaced since it was mapped".to_owned(),
        }
    }
}

/// Opens what is mapped from `start` to `end`, and says by which path: `/proc/PID/map_files/START-END`, which is the file whatever
/// became of its name, and takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE (proc(5)).
///
/// # Errors
///
/// When there is no such mapping, it is not ours to open, or not a regular file.
pub fn by_range(pid: Pid, start: u64, end: u64) -> io::Result<(PathBuf, File)> {
    let path = pid.proc_path(&format!("map_files/{start:x}-{end:x}"));
    let found = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    Ok((path, open_regular(found.as_fd())?))
}

/// Opens the file `id` by its `path` below one of `roots`, the first that has it. Process `pid` is named in errors.
///
/// # Errors
///
/// When none of them has the file at its path.
pub fn by_path<'a>(
    pid: Pid,
    path: &Path,
    id: FileId,
    roots: impl IntoIterator<Item = &'a Root>,
) -> Result<File, OpenError> {
    let shown = || printable(path.as_os_str().as_bytes(), 200);
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    let mut replaced = false;
    for root in roots {
        match root.open_file(path).and_then(|file| Ok((is_mapped_as(&file, id)?, file))) {
            Ok((true, file)) => return Ok(file),
            Ok((false, _)) => replaced = true,
            Err(error) => failure = error,
        }
    }
    Err(match replaced {
        true => OpenError::Replaced { pid, path: shown() },
        false => OpenError::Unreachable { pid, path: shown(), source: failure },
    })
}

/// Whether a mapping of this file is one of `id`. stat(2) mostly tells; on btrfs and overlayfs it names other devices, and
/// overlayfs other inodes, than `/proc/PID/maps` does. There a mapping of our own is looked up, which is named as others' are.
fn is_mapped_as(file: &File, id: FileId) -> io::Result<bool> {
    let stat = rustix::fs::fstat(file)?;
    let by_stat =
        FileId { device: (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev)), inode: stat.st_ino };
    Ok(by_stat == id || id_when_mapped(file)? == Some(id))
}

/// How `/proc/PID/maps` names this file.
fn id_when_mapped(file: &File) -> io::Result<Option<FileId>> {
    const BYTES: usize = 4096;
    // SAFETY: a new mapping, of which nothing is read or written.
    let start = unsafe { mmap(std::ptr::null_mut(), BYTES, ProtFlags::empty(), MapFlags::PRIVATE, file, 0)? };
    let mappings = maps::read(Pid(std::process::id()));
    // SAFETY: it was made above, and nothing refers to it.
    unsafe { munmap(start, BYTES)? };
    let mappings = mappings.map_err(io::Error::other)?;
    let address = start.addr() as u64;
    let ours = mappings.iter().find(|mapping| (mapping.start..mapping.end).contains(&address));
    Ok(ours.map(|mapping| FileId { device: mapping.device, inode: mapping.inode }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn libc() -> maps::Mapping {
        let mappings = maps::read(Pid(std::process::id())).expect("our own maps");
        let is_libc = |mapping: &maps::Mapping| mapping.path.as_ref().is_some_and(|path| path.ends_with("libc.so.6"));
        mappings.into_iter().find(is_libc).expect("a glibc program")
    }

    #[test]
    fn a_mapping_of_our_own_tells_how_a_file_is_named() {
        let libc = libc();
        let path = libc.path.as_deref().expect("a file");
        let id = FileId { device: libc.device, inode: libc.inode };
        assert_eq!(id_when_mapped(&File::open(path).expect("libc")).expect("it can be mapped"), Some(id));
        let other = tempfile::tempfile().expect("a file");
        assert_ne!(id_when_mapped(&other).expect("also one that is empty"), Some(id));
        assert!(!is_mapped_as(&other, id).expect("it can be mapped"));
    }

    #[test]
    fn another_file_at_the_path_is_replaced_and_none_is_unreachable() {
        let libc = libc();
        let (ours, pid) = (Root::ours().expect("our root"), Pid(std::process::id()));
        let path = libc.path.as_deref().expect("a file");
        let id = FileId { device: libc.device, inode: libc.inode };
        assert!(by_path(pid, path, id, [&ours]).is_ok());
        let other = FileId { inode: id.inode + 1, ..id };
        assert!(matches!(by_path(pid, path, other, [&ours]), Err(OpenError::Replaced { .. })));
        let nowhere = by_path(pid, Path::new("/no/such/file"), id, [&ours]);
        assert!(matches!(nowhere, Err(OpenError::Unreachable { .. })));
    }

    #[test]
    fn a_fifo_or_device_in_the_way_is_an_error_and_does_not_block() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("libc.so.6");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a fifo");
        let (ours, id) = (Root::ours().expect("our root"), FileId { device: (0, 0), inode: 0 });
        for path in [path.as_path(), Path::new("/dev/null"), folder.path()] {
            assert!(by_path(Pid(1), path, id, [&ours]).is_err(), "{}", path.display());
        }
    }
}
