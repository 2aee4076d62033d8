//! What a program calls itself, where that is not its file's name: `redis-server` is a link to `redis-check-rdb`, and the
//! kernel's maps show only where the link leads.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::Read as _,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use super::Pid;
use crate::object::{maps::Mapping, root::Root};

/// The longest first argument that is read, in bytes: a path, and room for what a program makes of it.
const MAX_ARGUMENT: u64 = 4096;

/// A program's path in the process's maps, and the path of the link in the same folder through which it was started.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Called {
    /// As mapped.
    pub path: PathBuf,
    /// As started; it leads to the same file.
    pub link: PathBuf,
}

/// What a process's program is called; `None` when that is its file's name, or not known.
pub fn called(pid: Pid, mappings: &[Mapping]) -> Option<Called> {
    let path = fs::read_link(pid.proc_path("exe")).ok()?;
    let inode = mappings.iter().find(|mapping| mapping.path.as_deref() == Some(&path))?.inode;
    let root = Root::of_process(pid.0).ok()?;
    names(pid).into_iter().find_map(|name| {
        let link = link(&path, &name)?;
        let file = root.open_file(&link).ok()?;
        (rustix::fs::fstat(&file).ok()?.st_ino == inode).then(|| Called { path: path.clone(), link })
    })
}

/// Beside the file, under another name. One that the file's name only adds a version to, as in `python3` and `python3.11`,
/// says less than the file's name.
fn link(path: &Path, name: &OsStr) -> Option<PathBuf> {
    let file = path.file_name()?;
    (!name.is_empty() && !file.as_bytes().starts_with(name.as_bytes())).then(|| path.with_file_name(name))
}

/// The file name of the first argument, and the name that the kernel keeps, of at most 15 bytes.
fn names(pid: Pid) -> Vec<OsString> {
    let read = |name| {
        let mut bytes = Vec::new();
        let file = fs::File::open(pid.proc_path(name)).ok()?;
        file.take(MAX_ARGUMENT).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let argument = read("cmdline").unwrap_or_default();
    let first = argument.split(|&byte| byte == 0).next().unwrap_or_default();
    // A login shell's begins with a dash; a title that a program gave itself goes on behind a space or a colon.
    let first = first.strip_prefix(b"-").unwrap_or(first);
    let end = first.iter().position(|&byte| matches!(byte, b' ' | b':')).unwrap_or(first.len());
    let base = first[..end].rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let kept = read("comm").unwrap_or_default();
    let kept = kept.strip_suffix(b"\n").unwrap_or(&kept);
    // A name that has a slash or is a folder's leads elsewhere.
    let is_name = |name: &&[u8]| !name.is_empty() && !name.contains(&b'/') && *name != b"." && *name != b"..";
    [base, kept].into_iter().filter(is_name).map(|name| OsString::from_vec(name.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, process::Command};

    use super::*;
    use crate::object::maps;

    /// What `sleep` is called when it is started through a path.
    fn of(start: &Path) -> Option<Called> {
        let mut child = Command::new(start).arg("600").spawn().unwrap();
        let pid = Pid(child.id());
        let name = fs::canonicalize(start).unwrap();
        // The new image is there once it has its own maps.
        let mappings = loop {
            let mappings = maps::read(pid).unwrap();
            if mappings.iter().any(|mapping| mapping.path.as_deref() == Some(&name)) {
                break mappings;
            }
            std::thread::yield_now();
        };
        let called = called(pid, &mappings);
        child.kill().unwrap();
        child.wait().unwrap();
        called
    }

    #[test]
    fn a_program_that_was_started_through_a_link_has_the_links_name() {
        let folder = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(folder.path()).unwrap();
        let (file, link) = (folder.join("server-tool"), folder.join("our-service"));
        fs::copy("/bin/sleep", &file).unwrap();
        symlink("server-tool", &link).unwrap();
        assert_eq!(of(&link), Some(Called { path: file.clone(), link }));
        assert_eq!(of(&file), None);
        // A shorter name of it, and a link in another folder, are none.
        let (short, other) = (folder.join("server"), tempfile::tempdir().unwrap());
        symlink("server-tool", &short).unwrap();
        assert_eq!(of(&short), None);
        let elsewhere = other.path().join("elsewhere");
        symlink(&file, &elsewhere).unwrap();
        assert_eq!(of(&elsewhere), None);
    }

    #[test]
    fn names_stay_in_the_folder() {
        assert_eq!(link(Path::new("/bin/a"), OsStr::new("b")), Some(PathBuf::from("/bin/b")));
        assert_eq!(link(Path::new("/bin/python3.11"), OsStr::new("python3")), None);
        assert_eq!(link(Path::new("/bin/a"), OsStr::new("")), None);
    }
}
