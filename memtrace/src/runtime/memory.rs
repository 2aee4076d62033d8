//! The memory of a process that may change it or end while it is read.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use crate::object::Pid;

/// Reads the memory of one process.
#[derive(Debug)]
pub struct Memory(File);

impl Memory {
    /// Opens the memory of a process; what is read is that of this process, whoever has its id later.
    ///
    /// # Errors
    ///
    /// When there is no such process, or its memory may not be read.
    pub fn open(pid: Pid) -> io::Result<Memory> {
        File::open(pid.proc_path("mem")).map(Memory)
    }

    /// Fills `bytes` from an address on; `None` if not all of it is there.
    pub fn fill(&self, address: u64, bytes: &mut [u8]) -> Option<()> {
        self.0.read_exact_at(bytes, address).ok()
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
    use super::*;

    #[test]
    fn ones_own_memory_reads_as_it_is_and_what_is_not_there_does_not() {
        let memory = Memory::open(Pid(std::process::id())).expect("one's own memory");
        let words = [7u64, u64::MAX, 3];
        let address = words.as_ptr() as u64;
        assert_eq!((memory.word(address), memory.word(address + 16)), (Some(7), Some(3)));
        assert_eq!(memory.half_word(address + 8), Some(u32::MAX));
        assert_eq!(memory.at_most(address, 24, 24).map(|bytes| bytes.len()), Some(24));
        assert_eq!(memory.at_most(address, 24, 23), None);
        assert_eq!((memory.word(8), memory.word(u64::MAX - 3)), (None, None));
    }

    #[test]
    fn words_are_found_in_what_was_read() {
        let bytes = [1, 0, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!((word_at(&bytes, 0), word_at(&bytes, 2), half_word_at(&bytes, 5)), (Some(1), None, Some(9 << 24)));
        assert_eq!(word_at(&bytes, usize::MAX), None);
    }
}
