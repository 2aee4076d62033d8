//! The folder in which fetched debug files are kept, in the layout of elfutils' client: `FOLDER/BUILD-ID/debuginfo`.
//!
//! memtrace mostly runs as root. Every step below the folder is taken from an open directory that nobody but root and us can write
//! to, and no symbolic link is followed, so that another user can neither plant a file nor make us write one elsewhere.

use std::{
    fs::{DirBuilder, File},
    io,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt as _},
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, renameat, unlinkat},
    io::Errno,
    process::geteuid,
};

/// What a debug file is called in the folder of its build id.
const FILE: &str = "debuginfo";

/// The cache, held open from the first file on.
pub struct Cache {
    folder: OwnedFd,
}

impl Cache {
    /// Opens the folder, and makes it for us alone if it is not there.
    ///
    /// # Errors
    ///
    /// When it can neither be opened nor made, is a symbolic link, or when another user may write to it.
    pub fn open(path: &Path) -> io::Result<Cache> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Cache { folder: open_folder(rustix::fs::CWD, path)? })
    }

    /// The debug file of this build id in hexadecimal; `None` when it is not there. That it is the right file is not checked.
    pub fn find(&self, id: &str) -> Option<File> {
        let folder = open_folder(&self.folder, id).ok()?;
        // What is not a regular file must not keep us waiting.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&folder, FILE, flags, Mode::empty()).ok()?);
        let stat = fstat(&file).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        (is_file && is_ours_alone(&stat)).then_some(file)
    }

    /// Begins a file for this build id, under another name until it is whole.
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub fn begin(&self, id: &str) -> io::Result<Part<'_>> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        match mkdirat(&self.folder, id, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let folder = open_folder(&self.folder, id)?;
        let name = format!("{FILE}.{}.{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        // Left by a process that was killed and had our number.
        let _ = unlinkat(&folder, &name, AtFlags::empty());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(&folder, &name, flags, Mode::RUSR | Mode::WUSR)?);
        Ok(Part { cache: self, id: id.to_owned(), folder, name, file, is_kept: false })
    }
}

/// A file that is being received; taken away when dropped before it is [kept](Self::keep).
pub struct Part<'a> {
    cache: &'a Cache,
    id: String,
    folder: OwnedFd,
    name: String,
    /// Where the bytes go.
    pub file: File,
    is_kept: bool,
}

impl Part<'_> {
    /// Gives the file its name: from now on it is found.
    ///
    /// # Errors
    ///
    /// When it cannot be renamed; then it is taken away.
    pub fn keep(mut self) -> io::Result<()> {
        renameat(&self.folder, &self.name, &self.folder, FILE)?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = unlinkat(&self.folder, &self.name, AtFlags::empty());
            // Only when nothing else is in it.
            let _ = unlinkat(&self.cache.folder, &self.id, AtFlags::REMOVEDIR);
        }
    }
}

fn open_folder(above: impl std::os::fd::AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(above, name, flags, Mode::empty()).map_err(|error| match error {
        Errno::LOOP | Errno::NOTDIR => io::Error::other("it is a symbolic link, or no folder"),
        error => error.into(),
    })?;
    if !is_ours_alone(&fstat(&folder)?) {
        return Err(io::Error::other("another user may write to it"));
    }
    Ok(folder)
}

/// Whether nobody but root and us may write to it.
fn is_ours_alone(stat: &Stat) -> bool {
    (stat.st_uid == 0 || stat.st_uid == geteuid().as_raw()) && stat.st_mode & 0o022 == 0
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{Read as _, Write as _},
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn a_file_is_found_once_it_is_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("made/for/it");
        let cache = Cache::open(&path).expect("a new folder");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o700);
        assert!(cache.find("ab12").is_none());
        let mut part = cache.begin("ab12").expect("a new file");
        part.file.write_all(b"symbols").expect("room for it");
        assert!(cache.find("ab12").is_none());
        part.keep().expect("it can be renamed");
        let mut text = String::new();
        cache.find("ab12").expect("it is there now").read_to_string(&mut text).expect("text");
        assert_eq!(text, "symbols");
        assert_eq!(fs::read_dir(path.join("ab12")).expect("its folder").count(), 1);
        assert_eq!(fs::metadata(path.join("ab12/debuginfo")).expect("it").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn nothing_stays_of_a_file_that_was_cut_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path()).expect("our folder");
        drop(cache.begin("ab12").expect("a new file"));
        assert_eq!(fs::read_dir(folder.path()).expect("our folder").count(), 0);
    }

    #[test]
    fn symbolic_links_lead_nowhere() {
        let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let cache = Cache::open(folder.path()).expect("our folder");
        symlink(other.path(), folder.path().join("ab12")).expect("a link");
        fs::write(other.path().join(FILE), "planted").expect("room for it");
        assert!(cache.find("ab12").is_none());
        assert!(cache.begin("ab12").is_err());
        fs::create_dir(folder.path().join("cd34")).expect("a folder");
        symlink(other.path().join(FILE), folder.path().join("cd34").join(FILE)).expect("a link");
        assert!(cache.find("cd34").is_none());
        // Renaming replaces the link, and not what it leads to.
        cache.begin("cd34").expect("a new file").keep().expect("it can be renamed");
        assert_eq!(fs::read_to_string(other.path().join(FILE)).expect("it is there"), "planted");
        let link = folder.path().join("link");
        symlink(other.path(), &link).expect("a link");
        assert!(Cache::open(&link).is_err());
    }

    #[test]
    fn what_others_may_write_to_is_not_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path()).expect("our folder");
        cache.begin("ab12").expect("a new file").keep().expect("it can be renamed");
        assert!(cache.find("ab12").is_some());
        let open_to_all = |path: &Path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("our own");
        };
        open_to_all(&folder.path().join("ab12/debuginfo"));
        assert!(cache.find("ab12").is_none());
        open_to_all(folder.path());
        assert!(Cache::open(folder.path()).is_err());
    }
}
