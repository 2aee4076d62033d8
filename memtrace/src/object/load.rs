//! The parts of a file that the loader maps.

use memtrace_common::arch::PAGE_BYTES;

/// A part of a file that the loader maps (`PT_LOAD`).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Load {
    /// Its virtual address, as linked.
    pub address: u64,
    /// Its size in memory.
    pub bytes: u64,
    /// Where in the file it begins.
    pub file_offset: u64,
    /// How much of it is in the file.
    pub file_bytes: u64,
    /// Whether it is mapped with permission to execute.
    pub executable: bool,
}

impl Load {
    /// The address behind the last one of this part, as linked.
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.bytes)
    }

    /// The address, as linked, of what is at this file offset; `None` when that is not in this part.
    pub fn address_of(&self, file_offset: u64) -> Option<u64> {
        let into = file_offset.checked_sub(self.file_offset).filter(|&into| into < self.file_bytes)?;
        self.address.checked_add(into)
    }

    /// The file offset of this address as linked, and how many bytes of this part follow from there on; `None` when it is not in
    /// this part, or not in the file.
    pub fn place_of(&self, address: u64) -> Option<(u64, u64)> {
        let into = address.checked_sub(self.address)?;
        let left = self.file_bytes.checked_sub(into).filter(|&left| left > 0)?;
        Some((self.file_offset.checked_add(into)?, left))
    }

    /// The address, as linked, of the beginning of a mapped page at this file offset: the loader maps whole pages, also of what
    /// lies before this part in its first page.
    pub fn page_address(&self, file_offset: u64) -> Option<u64> {
        let first_page = self.file_offset & !(PAGE_BYTES - 1);
        let is_in = (first_page..self.file_offset.saturating_add(self.file_bytes)).contains(&file_offset);
        is_in.then(|| self.address.wrapping_add(file_offset).wrapping_sub(self.file_offset))
    }

    /// [`place_of`](Self::place_of) for whole pages, as [`page_address`](Self::page_address) has them.
    pub fn page_place_of(&self, address: u64) -> Option<(u64, u64)> {
        let (first_page, end) = (self.address & !(PAGE_BYTES - 1), self.address.saturating_add(self.file_bytes));
        let is_in = (first_page..end).contains(&address);
        is_in.then(|| (self.file_offset.wrapping_add(address.wrapping_sub(self.address)), end - address))
    }
}
