//! The files whose code is mapped into a process, each once, and how to open the very file that is mapped.

use std::{
    fs::File,
    io::{self, Read, Seek},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
};

use super::{
    Pid,
    maps::Mapping,
    open::{self, FileId, OpenError},
    printable::printable,
    root::Root,
    symbols::ElfFile,
};

/// A file with executable mappings in a process. Files are told apart by device and inode, never by path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MappedObject {
    /// In which process.
    pub pid: Pid,
    /// The path in the process's own mount namespace: for display, and possibly gone or replaced.
    pub path: PathBuf,
    /// Whether the file has been removed or replaced since it was mapped.
    pub deleted: bool,
    /// The major and minor number of its device.
    pub device: (u32, u32),
    /// Its inode number.
    pub inode: u64,
    /// Its executable mappings in the order of their addresses; at least one.
    pub mappings: Vec<Mapping>,
}

/// The distinct files with executable mappings, in the order of their first address.
pub fn objects(pid: Pid, mappings: &[Mapping]) -> Vec<MappedObject> {
    let mut objects: Vec<MappedObject> = Vec::new();
    let mut known = std::collections::HashMap::new();
    for mapping in mappings.iter().filter(|mapping| mapping.executable && mapping.inode != 0) {
        // The kernel's own regions have an inode of 0; what is left without a path is a nameless file of the kernel's.
        let Some(path) = mapping.path.as_ref().filter(|path| path.is_absolute()) else { continue };
        let index = *known.entry((mapping.device, mapping.inode)).or_insert_with(|| {
            objects.push(MappedObject {
                pid,
                path: path.clone(),
                deleted: mapping.deleted,
                device: mapping.device,
                inode: mapping.inode,
                mappings: Vec::new(),
            });
            objects.len() - 1
        });
        if let Some(object) = objects.get_mut(index) {
            object.mappings.push(mapping.clone());
        }
    }
    objects
}

impl MappedObject {
    /// How far the file's code lies from where it was linked; `None` if none of its segments is where it is mapped.
    pub fn moved(&self, elf: &ElfFile<impl Read + Seek>) -> Option<u64> {
        self.mappings
            .iter()
            .find_map(|mapping| Some(mapping.start.wrapping_sub(elf.page_address_of(mapping.offset).ok()?)))
    }

    /// The mapped file, opened to read, and the path that opened it, in our own mount namespace: `/proc/PID/map_files/START-END`,
    /// which is the file itself even when it is removed, or else the target's path below `/proc/PID/root`.
    ///
    /// # Errors
    ///
    /// When neither opens, or what is at the path now is another file.
    pub fn open(&self) -> Result<(PathBuf, File), OpenError> {
        let unreachable = |source| OpenError::Unreachable {
            pid: self.pid,
            path: printable(self.path.as_os_str().as_bytes(), 200),
            source,
        };
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        for Mapping { start, end, .. } in &self.mappings {
            match open::by_range(self.pid, *start, *end) {
                Ok(opened) => return Ok(opened),
                Err(error) => failure = error,
            }
        }
        // A removed file's path leads nowhere, or to its successor, which the check would refuse.
        if self.deleted {
            return Err(unreachable(failure));
        }
        let root = Root::of_process(self.pid.0).map_err(unreachable)?;
        let id = FileId { device: self.device, inode: self.inode };
        let file = open::by_path(self.pid, &self.path, id, [&root])?;
        let inside = self.path.strip_prefix("/").unwrap_or(&self.path);
        Ok((self.pid.proc_path("root").join(inside), file))
    }
}

/// The files that this process has mapped, for tests.
#[cfg(test)]
pub(crate) fn own_objects() -> Vec<MappedObject> {
    let pid = Pid(std::process::id());
    objects(pid, &super::maps::read(pid).expect("our own maps"))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::MetadataExt as _, path::Path};

    use super::*;
    use crate::object::maps;

    #[test]
    fn files_with_code_appear_once_each() {
        let text =
            b"1000-2000 r-xp 0 fe:00 7 /bin/a\n2000-3000 r--p 0 fe:00 8 /data\n3000-4000 r-xp 0 fe:00 9 /lib/b\n\
            4000-5000 r-xp 1000 fe:00 7 /bin/a\n5000-6000 r-xp 0 00:00 0 [vdso]\n6000-7000 r-xp 0 00:00 0\n\
            7000-8000 r-xp 0 fe:01 7 /other/a (deleted)\n8000-9000 r-xp 0 00:0f 3 anon_inode:thing\n";
        let objects = objects(Pid(1), &maps::parse(text).expect("maps"));
        let found: Vec<_> =
            objects.iter().map(|object| (object.path.as_path(), object.mappings.len(), object.deleted)).collect();
        let expected =
            [(Path::new("/bin/a"), 2, false), (Path::new("/lib/b"), 1, false), (Path::new("/other/a"), 1, true)];
        assert_eq!(found, expected);
    }

    #[test]
    fn our_own_libc_opens_as_the_very_file() {
        let objects = own_objects();
        let libc = objects.iter().find(|object| object.path.ends_with("libc.so.6")).expect("a glibc program");
        let (path, file) = libc.open().expect("our own libc opens");
        assert_eq!(file.metadata().expect("metadata").ino(), libc.inode);
        assert_eq!(libc.open().expect("opens again").0, path);
        assert!(File::open(&path).is_ok());
    }

    #[test]
    fn the_fallback_refuses_another_file_at_the_same_path() {
        let objects = own_objects();
        let mut libc = objects.into_iter().find(|object| object.path.ends_with("libc.so.6")).expect("a glibc program");
        libc.mappings.clear();
        let (path, _) = libc.open().expect("opens below /proc/PID/root");
        assert!(path.starts_with(Pid(std::process::id()).proc_path("root")));
        libc.inode += 1;
        assert!(libc.open().is_err());
        libc.inode -= 1;
        libc.deleted = true;
        assert!(libc.open().is_err());
    }
}
