//! Root directories, and regular files below them: a target may live in another one than ours.
//!
//! Nothing but regular files is opened: a path below a target's root may be a FIFO that blocks, or a device whose opening
//! has effects.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

/// A root directory: ours, or that of a target in another one. Held open, it outlives the target.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    identity: (u64, u64),
    is_ours: bool,
}

impl Root {
    /// Our own root.
    ///
    /// # Errors
    ///
    /// When `/` cannot be opened.
    pub fn ours() -> io::Result<Root> {
        Ok(Root { is_ours: true, ..Root::open(Path::new("/"))? })
    }

    /// The root of a process.
    ///
    /// # Errors
    ///
    /// When the process has gone, or is not ours to look into.
    pub fn of_process(pid: u32) -> io::Result<Root> {
        Root::open(&super::Pid(pid).proc_path("root"))
    }

    /// The directory at `path`, as the root of a process.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&directory)?;
        Ok(Root { directory, identity: (stat.st_dev, stat.st_ino), is_ours: false })
    }

    /// Whether this is the root that we run in, whose debug directories belong to the administrator.
    pub fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// Whether both are the same directory.
    pub fn is_same(&self, other: &Root) -> bool {
        self.identity == other.identity
    }

    /// Opens a regular file below this root for reading; symbolic links cannot lead out of it.
    ///
    /// # Errors
    ///
    /// When there is no such file, or it is not a regular one.
    pub fn open_file(&self, path: &Path) -> io::Result<File> {
        self.open_with(path, OFlags::empty())
    }

    /// [`open_file`](Self::open_file) for a directory that others may write to: the file itself must not be a symbolic
    /// link either.
    ///
    /// # Errors
    ///
    /// When there is no such file, or it is not a regular one.
    pub fn open_file_itself(&self, path: &Path) -> io::Result<File> {
        self.open_with(path, OFlags::NOFOLLOW)
    }

    fn open_with(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        // The kernel gives up with EAGAIN when a rename anywhere races with the walk (openat2(2)).
        let mut tries_left = 8;
        loop {
            match rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), resolve) {
                Ok(found) => return open_regular(found.as_fd()),
                Err(rustix::io::Errno::AGAIN) if tries_left > 0 => tries_left -= 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Opens for reading what an `O_PATH` descriptor stands for, once it is known to be a regular file.
pub fn open_regular(found: BorrowedFd<'_>) -> io::Result<File> {
    let stat = rustix::fs::fstat(found)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("not a regular file"));
    }
    // Whoever holds a lease on the file could keep a blocking open waiting (fcntl(2), F_SETLEASE).
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(descriptor_path(found))
}

/// The path by which this very process can open the file again.
pub fn descriptor_path(file: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))
}
