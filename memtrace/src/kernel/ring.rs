//! The ring's reading end.

use std::os::fd::AsFd as _;

use aya::maps::{Array, Map, MapData, RingBuf};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use tokio::io::unix::AsyncFd;

use super::{
    event::{DecodeError, Event, decode},
    tracer::{KernelError, access},
};

/// The ring buffer, drained by one reader.
pub struct Ring {
    events: AsyncFd<RingBuf<MapData>>,
    woken: Array<MapData, u64>,
    positions: Positions,
    bytes: u64,
}

/// What one call of [`Ring::drain`] did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Drained {
    /// Events handed out.
    pub events: u64,
    /// Records that could not be decoded.
    pub undecodable: u64,
}

impl Ring {
    pub(super) fn new(events: Map, woken: Map) -> Result<Self, KernelError> {
        let Map::RingBuf(data) = &events else { return Err(KernelError::Map("EVENTS")) };
        let positions = Positions::map(data)?;
        let bytes = data.info().map_err(access("EVENTS"))?.max_entries().into();
        let events = RingBuf::try_from(events).map_err(access("EVENTS"))?;
        // SAFETY: the ring owns its descriptor and keeps it open and the same for as long as it lives.
        let events = unsafe { AsyncFd::register(events) }
            .map_err(std::io::Error::from)
            .map_err(|source| KernelError::System { action: "polling the event ring", source })?;
        Ok(Self { events, woken: Array::try_from(woken).map_err(access("WOKEN"))?, positions, bytes })
    }

    /// Waits until the kernel says that the ring is filling up.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be polled any more.
    pub async fn filling(&mut self) -> Result<(), KernelError> {
        let mut guard = self
            .events
            .readable_mut()
            .await
            .map_err(|source| KernelError::System { action: "polling the event ring", source })?;
        guard.clear_ready();
        Ok(())
    }

    /// Hands out what the ring holds, in order, until it is empty or one ring's worth has been read.
    ///
    /// # Errors
    ///
    /// When the wake-up flag cannot be reset.
    pub fn drain(&mut self, mut on_event: impl FnMut(&Event<'_>)) -> Result<Drained, KernelError> {
        self.woken.set(0, 0, 0).map_err(access("WOKEN"))?;
        let end = self.positions.consumer().wrapping_add(self.bytes);
        let mut drained = Drained::default();
        let ring = self.events.get_mut();
        while let Some(record) = ring.next() {
            match decode(&record) {
                Ok(event) => {
                    drained.events += 1;
                    on_event(&event);
                }
                Err(DecodeError::TooShort { .. } | DecodeError::UnknownKind(_) | DecodeError::UnknownStackEnd(_)) => {
                    drained.undecodable += 1;
                }
            }
            if drained.events.is_multiple_of(1024) && self.positions.consumer().wrapping_sub(end) < self.bytes {
                break;
            }
        }
        Ok(drained)
    }

    /// Where the kernel writes next: everything sent before now lies below it.
    pub fn written(&self) -> Position {
        Position(self.positions.producer())
    }

    /// Whether everything below `position` has been handed out. A record that a preempted program has reserved and not
    /// yet filled holds up all behind it, so an ended drain alone does not say so.
    pub fn has_reached(&self, position: Position) -> bool {
        self.positions.consumer().wrapping_sub(position.0) as i64 >= 0
    }

    /// Bytes waiting, and the ring's size.
    pub fn fill(&self) -> (u64, u64) {
        (self.positions.producer().wrapping_sub(self.positions.consumer()), self.bytes)
    }
}

/// A place in the stream of records.
#[derive(Clone, Copy, Debug)]
pub struct Position(u64);

/// The two position counters that the kernel shares (kernel/bpf/ringbuf.c: one page each, consumer first).
struct Positions {
    pages: *const u64,
}

const PAGE: usize = memtrace_common::limits::PAGE_BYTES as usize;

impl Positions {
    fn map(data: &MapData) -> Result<Self, KernelError> {
        // SAFETY: a new read-only mapping of the map's first two pages; nothing else refers to it.
        let pages =
            unsafe { mmap(std::ptr::null_mut(), 2 * PAGE, ProtFlags::READ, MapFlags::SHARED, data.fd().as_fd(), 0) };
        let pages = pages.map_err(|error| KernelError::System {
            action: "mapping the event ring's positions",
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
