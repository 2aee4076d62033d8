//! The memory of a process that may change it or end while it is read.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _, sync::OnceLock};

use rustix::fs::{MemfdFlags, fstat, major, memfd_create, minor};

use crate::object::{Pid, maps::Mapping};

/// Reads the memory of one process.
///
/// Where a file is mapped nothing is read, but for one file, pages that have been written to, and memory that processes share without a
/// file: the file may be of a file system that the process itself serves, which could keep whoever reads it waiting for ever.
#[derive(Debug)]
pub struct Memory {
    file: File,
    /// Device and inode of the file that may be read.
    readable: ((u32, u32), u64),
    /// Where other files are mapped, in the order of their addresses.
    others: Vec<Range<u64>>,
}

impl Memory {
    /// Opens the memory of a process; what is read is that of this process, whoever has its id later.
    ///
    /// # Errors
    ///
    /// When there is no such process, or its memory may not be read.
    pub fn open(pid: Pid, readable: ((u32, u32), u64)) -> io::Result<Memory> {
        Ok(Memory { file: File::open(pid.proc_path("mem"))?, readable, others: Vec::new() })
    }

    /// What the process maps from now on.
    pub fn confine(&mut self, mappings: &[Mapping]) {
        let shared = shared_device();
        let is_other = |mapping: &&Mapping| {
            mapping.inode != 0 && (mapping.device, mapping.inode) != self.readable && Some(mapping.device) != shared
        };
        self.others = mappings.iter().filter(is_other).map(|mapping| mapping.start..mapping.end).collect();
        self.others.sort_unstable_by_key(|range| range.start);
    }

    /// Whether none of these bytes is of a file that may not be read.
    fn may_read(&self, address: u64, bytes: u64) -> bool {
        let Some(end) = address.checked_add(bytes) else { return false };
        let next = self.others.partition_point(|range| range.end <= address);
        self.others.get(next).is_none_or(|range| end <= range.start)
    }

    /// Fills `bytes` from an address on; `None` if not all of it is there.
    pub fn fill(&self, address: u64, bytes: &mut [u8]) -> Option<()> {
        if !self.may_read(address, bytes.len() as u64) {
            return None;
        }
        self.file.read_exact_at(bytes, address).ok()
    }

    /// Fills `bytes` from an address on, also where a file is mapped: of a page that the caller knows to be the process's own. `None` if not all
    /// of it is there.
    pub fn fill_own_page(&self, address: u64, bytes: &mut [u8]) -> Option<()> {
        self.file.read_exact_at(bytes, address).ok()
    }

    /// The `N` bytes at an address.
    pub fn bytes<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(address, &mut bytes)?;
        Some(bytes)
    }

    /// The 8-byte word at an address.
    pub fn word(&self, address: u64) -> Option<u64> {
        self.bytes(address).map(u64::from_ne_bytes)
    }

    /// The 4-byte number at an address.
    pub fn half_word(&self, address: u64) -> Option<u32> {
        self.bytes(address).map(u32::from_ne_bytes)
    }

    /// `length` bytes from an address on, at most `limit`; `None` if there are more or they cannot be read.
    pub fn at_most(&self, address: u64, length: u64, limit: u64) -> Option<Vec<u8>> {
        if length > limit {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        self.fill(address, &mut bytes)?;
        Some(bytes)
    }
}

/// The device that memory has which processes share without a file, as with a child: it stands in the list of mappings as a file of the
/// kernel's own, on a file system that nobody can serve. `None` where that cannot be asked.
fn shared_device() -> Option<(u32, u32)> {
    static DEVICE: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *DEVICE.get_or_init(|| {
        let file = memfd_create("device", MemfdFlags::CLOEXEC).ok()?;
        let device = fstat(file).ok()?.st_dev;
        Some((major(device), minor(device)))
    })
}

/// Where the memory of an [`image`] begins.
pub const IMAGE_BEGIN: u64 = 4096;

/// Reads bytes as if they were memory from [`IMAGE_BEGIN`] on, as [`Memory::at_most`] reads that of a process: for tests of hostile memory.
pub fn image(bytes: &[u8]) -> impl Fn(u64, u64, u64) -> Option<Vec<u8>> {
    move |address, length, limit| {
        let at = usize::try_from(address.checked_sub(IMAGE_BEGIN)?).ok()?;
        let length = usize::try_from(length).ok().filter(|_| length <= limit)?;
        Some(bytes.get(at..at.checked_add(length)?)?.to_vec())
    }
}

/// The 8-byte word at a place of what has been read.
pub fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// The 4-byte number at a place of what has been read.
pub fn half_word_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

    use super::*;
    use crate::object::maps;

    #[test]
    fn ones_own_memory_reads_as_it_is_and_what_is_not_there_does_not() {
        let memory = Memory::open(Pid(std::process::id()), ((0, 0), 0)).expect("one's own memory");
        let words = [7u64, u64::MAX, 3];
        let address = words.as_ptr() as u64;
        assert_eq!((memory.word(address), memory.word(address + 16)), (Some(7), Some(3)));
        assert_eq!(memory.half_word(address + 8), Some(u32::MAX));
        assert_eq!(memory.at_most(address, 24, 24).map(|bytes| bytes.len()), Some(24));
        assert_eq!(memory.at_most(address, 24, 23), None);
        assert_eq!((memory.word(8), memory.word(u64::MAX - 3)), (None, None));
    }

    #[test]
    fn mapped_files_are_not_read_but_for_one() {
        let pid = Pid(std::process::id());
        let mappings = maps::read(pid).expect("one's own mappings");
        let is_file = |mapping: &&Mapping| mapping.inode != 0 && mapping.executable;
        let files: Vec<_> = mappings.iter().filter(is_file).collect();
        let [own, .., other] = &files[..] else { panic!("the program and a library in {mappings:?}") };
        let mut memory = Memory::open(pid, (own.device, own.inode)).expect("one's own memory");
        assert!(memory.word(other.start).is_some());
        memory.confine(&mappings);
        assert!(memory.word(own.start).is_some());
        assert_eq!(
            (memory.word(other.start), memory.word(other.start - 4), memory.word(other.end - 4)),
            (None, None, None)
        );
        let local = 7u64;
        assert_eq!(memory.word(&raw const local as u64), Some(7));
    }

    #[test]
    fn memory_that_is_shared_without_a_file_is_read() {
        let shared = memfd_create("shared", MemfdFlags::CLOEXEC).map(File::from).expect("memory");
        shared.write_all_at(&7u64.to_ne_bytes(), 4096).expect("memory");
        let map = Map::of(&shared);
        let pid = Pid(std::process::id());
        let mappings = maps::read(pid).expect("one's own mappings");
        assert!(mappings.iter().any(|mapping| mapping.start == map.address() && mapping.inode != 0));
        let mut memory = Memory::open(pid, ((0, 0), 0)).expect("one's own memory");
        memory.confine(&mappings);
        assert_eq!(memory.word(map.address() + 4096), Some(7));
    }

    /// Two pages of a file, mapped.
    struct Map(*mut core::ffi::c_void);

    impl Map {
        const BYTES: usize = 8192;

        fn of(file: &File) -> Map {
            // SAFETY: new pages, which nobody takes for Rust's.
            let map = unsafe { mmap(std::ptr::null_mut(), Self::BYTES, ProtFlags::READ, MapFlags::SHARED, file, 0) };
            Map(map.expect("a mapping"))
        }

        fn address(&self) -> u64 {
            self.0 as u64
        }
    }

    impl Drop for Map {
        fn drop(&mut self) {
            // SAFETY: these pages were mapped by `of`, and nobody has a reference to them.
            let unmapped = unsafe { munmap(self.0, Self::BYTES) };
            assert!(unmapped.is_ok());
        }
    }

    #[test]
    fn words_are_found_in_what_was_read() {
        let bytes = [1, 0, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!((word_at(&bytes, 0), word_at(&bytes, 2), half_word_at(&bytes, 5)), (Some(1), None, Some(9 << 24)));
        assert_eq!(word_at(&bytes, usize::MAX), None);
    }
}
