//! The reading end of the kernel's ring buffer that carries the stacks.

use std::os::fd::AsFd as _;

use aya::maps::{Map, MapData, RingBuf};
use memtrace_common::arch::PAGE_BYTES;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use tokio::io::unix::AsyncFd;

use super::{merge::Source, reader::Next};
use crate::kernel::error::{KernelError, access};

/// Stacks, and what wakes us.
pub(super) struct Stacks {
    records: AsyncFd<RingBuf<MapData>>,
    positions: Positions,
    /// Where the programs had come to when the drain began.
    end: u64,
    /// The next record, if there is one: it must be looked at before it is handed out, maybe by a later drain.
    next: Vec<u8>,
}

impl Stacks {
    pub(super) fn new(map: Map) -> Result<Self, KernelError> {
        let Map::RingBuf(data) = &map else { return Err(KernelError::Map("STACKS")) };
        let positions = Positions::map(data)?;
        let records = RingBuf::try_from(map).map_err(access("STACKS"))?;
        // SAFETY: the ring owns its descriptor and keeps it open and the same for as long as it lives.
        let records = unsafe { AsyncFd::register(records) }.map_err(std::io::Error::from).map_err(polling)?;
        Ok(Self { records, positions, end: 0, next: Vec::new() })
    }

    /// Waits until the kernel says that a ring is filling up.
    pub(super) async fn filling(&mut self) -> Result<(), KernelError> {
        self.records.readable_mut().await.map_err(polling)?.clear_ready();
        Ok(())
    }
}

fn polling(source: std::io::Error) -> KernelError {
    KernelError::System { action: "polling the ring of stacks", source }
}

impl Source for Stacks {
    fn begin(&mut self) {
        self.end = self.positions.producer();
    }

    fn peek(&mut self) -> Next {
        if self.next.is_empty() {
            if let Some(record) = self.records.get_mut().next() {
                self.next.extend_from_slice(&record);
            } else if (self.positions.consumer().wrapping_sub(self.end) as i64) < 0 {
                return Next::Unfinished;
            }
        }
        match self.next.get(8..16).and_then(|time| time.try_into().ok()) {
            Some(time) => Next::At(u64::from_ne_bytes(time)),
            // Too short for a time: whoever decodes it will say so.
            None if !self.next.is_empty() => Next::At(0),
            None => Next::Nothing,
        }
    }

    fn take(&mut self, on_record: impl FnOnce(&[u8])) {
        on_record(&self.next);
        self.next.clear();
    }
}

/// The two position counters that the kernel shares (kernel/bpf/ringbuf.c: one page each, consumer first).
struct Positions {
    pages: *const u64,
}

const PAGE: usize = PAGE_BYTES as usize;

impl Positions {
    fn map(data: &MapData) -> Result<Self, KernelError> {
        // SAFETY: a new read-only mapping of the map's first two pages; nothing else refers to it.
        let pages =
            unsafe { mmap(std::ptr::null_mut(), 2 * PAGE, ProtFlags::READ, MapFlags::SHARED, data.fd().as_fd(), 0) };
        let pages = pages.map_err(|error| KernelError::System {
            action: "mapping the positions of the ring of stacks",
            source: error.into(),
        })?;
        Ok(Self { pages: pages.cast() })
    }

    fn consumer(&self) -> u64 {
        // SAFETY: the first page is mapped for as long as self lives.
        unsafe { self.pages.read_volatile() }
    }

    fn producer(&self) -> u64 {
        // SAFETY: the second page is mapped for as long as self lives.
        unsafe { self.pages.byte_add(PAGE).read_volatile() }
    }
}

impl Drop for Positions {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing refers to it any more.
        let _ = unsafe { munmap(self.pages.cast_mut().cast(), 2 * PAGE) };
    }
}
