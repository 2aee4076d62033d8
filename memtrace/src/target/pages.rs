//! Which pages of a process hold anything: `/proc/PID/pagemap` (Documentation/admin-guide/mm/pagemap.rst).

use std::{fs::File, ops::Range, os::unix::fs::FileExt as _};

use super::Pid;

/// What stands for one page, in bytes.
const ENTRY_BYTES: u64 = 8;

/// It is in memory.
const PRESENT: u64 = 1 << 63;
/// It is swapped out.
const SWAPPED: u64 = 1 << 62;
/// It is a page of a file, or of memory that processes share.
const SHARED: u64 = 1 << 61;

/// The most pages that are looked at in one read.
const BATCH: usize = 4096;

/// The pages of one process, of which a bounded number is looked at.
pub struct Pages {
    pagemap: File,
    page_bytes: u64,
    /// How many more may be looked at.
    left: u64,
    buffer: Box<[u8]>,
}

impl Pages {
    /// The pages of a process, at most `most` of them; `None` when they may not be read or it has ended. That the id is still
    /// that process's has to be looked at afterwards.
    pub fn open(pid: Pid, most: u64) -> Option<Self> {
        let pagemap = File::open(format!("/proc/{}/pagemap", pid.0)).ok()?;
        let page_bytes = rustix::param::page_size() as u64;
        Some(Self { pagemap, page_bytes, left: most, buffer: vec![0; BATCH * ENTRY_BYTES as usize].into() })
    }

    /// Pages that may still be looked at.
    #[cfg(test)]
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// How many bytes from `start` to `end` lie in pages that are in memory or in swap: those that were written to, or only
    /// read, which then are one page of zeros that all share. `None` when that is more than may be looked at, or when the
    /// process has ended.
    pub fn resident(&mut self, start: u64, end: u64) -> Option<u64> {
        let page_bytes = self.page_bytes;
        let mut resident = 0;
        self.each(start, end, |page, entry| {
            if entry & (PRESENT | SWAPPED) != 0 {
                resident += end.min(page + page_bytes) - start.max(page);
            }
        })?;
        Some(resident)
    }

    /// Calls `found` with each multiple of `step` from the begin of a range to its end whose page is in memory, and not in swap. `None`
    /// when the range has more pages than may be looked at, or when the process has ended.
    pub fn present(&mut self, range: Range<u64>, step: u64, mut found: impl FnMut(u64)) -> Option<()> {
        let page_bytes = self.page_bytes;
        self.each(range.start, range.end, |page, entry| {
            let first = page.next_multiple_of(step);
            if entry & PRESENT != 0 && range.contains(&first) && first < page + page_bytes {
                found(first);
            }
        })
    }

    /// Whether the page at an address is the process's own: written to, or without a file from the beginning. `None` when no more
    /// pages may be looked at, or when the process has ended.
    pub fn is_own(&mut self, address: u64) -> Option<bool> {
        let mut is_own = false;
        self.each(address, address.checked_add(1)?, |_, entry| {
            is_own = entry & (PRESENT | SWAPPED) != 0 && entry & SHARED == 0;
        })?;
        Some(is_own)
    }

    /// Calls `found` with the address of each page of a range and what stands for it.
    fn each(&mut self, start: u64, end: u64, mut found: impl FnMut(u64, u64)) -> Option<()> {
        if start >= end {
            return Some(());
        }
        let (mut page, last) = (start / self.page_bytes, (end - 1) / self.page_bytes);
        self.left = self.left.checked_sub(last - page + 1)?;
        while page <= last {
            let count = (last - page + 1).min(BATCH as u64) as usize;
            let buffer = &mut self.buffer[..count * ENTRY_BYTES as usize];
            self.pagemap.read_exact_at(buffer, page.checked_mul(ENTRY_BYTES)?).ok()?;
            for entry in buffer.as_chunks::<8>().0 {
                found(page * self.page_bytes, u64::from_ne_bytes(*entry));
                page += 1;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    use super::*;

    #[test]
    fn pages_that_were_written_to_are_counted_and_the_others_are_not() {
        const PAGES: usize = 10_000;
        let page = rustix::param::page_size();
        // SAFETY: a new mapping, given back below.
        let start = unsafe {
            mmap_anonymous(std::ptr::null_mut(), PAGES * page, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }
        .expect("there is room");
        for written in [0, 17, 4095, 4096, 9999] {
            // SAFETY: within the mapping.
            unsafe { start.cast::<u8>().add(written * page).write_volatile(1) };
        }
        let pid = Pid(std::process::id());
        let (first, size) = (start as u64, page as u64);
        let mut pages = Pages::open(pid, 20_000).expect("one's own pages may be read");
        assert_eq!(pages.resident(first, first + PAGES as u64 * size), Some(5 * size));
        assert_eq!(pages.resident(first + 10, first + 100), Some(90));
        assert_eq!(pages.resident(first + size, first + 17 * size + 1), Some(1));
        assert_eq!((pages.resident(first, first), pages.left()), (Some(0), 20_000 - 10_000 - 1 - 17));
        let mut found = Vec::new();
        let end = first + 20 * size;
        assert_eq!(pages.present(first + 1..end, size, |address| found.push((address - first) / size)), Some(()));
        assert_eq!(found, [17]);
        let code = Pages::open as *const () as u64;
        let own = [first, first + size, code].map(|address| pages.is_own(address));
        assert_eq!(own, [Some(true), Some(false), Some(false)], "written to, untouched, and of a file");
        assert_eq!(pages.resident(first, first + PAGES as u64 * size), None, "no more than is allowed");
        // SAFETY: mapped above, and not used any more.
        unsafe { munmap(start, PAGES * page) }.expect("it was mapped");
    }
}
