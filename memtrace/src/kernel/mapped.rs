//! An array of the kernel's that user space reads and writes through a mapping.

use std::{os::fd::AsFd as _, ptr::NonNull};

use aya::maps::{Map, MapData};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::error::{KernelError, access};

/// A mapped array of the kernel's. Its elements' size must be a multiple of eight.
pub(super) struct Mapped<T> {
    start: NonNull<T>,
    pub(super) length: usize,
    /// Keeps the descriptor.
    _data: MapData,
}

impl<T: Copy> Mapped<T> {
    pub(super) fn new(map: Map, name: &'static str) -> Result<Self, KernelError> {
        let Map::Array(data) = map else { return Err(KernelError::Map(name)) };
        let length = data.info().map_err(access(name))?.max_entries() as usize;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping of the whole array; nothing else in this process refers to it.
        let start = unsafe {
            mmap(std::ptr::null_mut(), length * size_of::<T>(), protection, MapFlags::SHARED, data.fd().as_fd(), 0)
        };
        let start = start
            .map_err(|error| KernelError::System { action: "mapping the kernel's arrays", source: error.into() })?;
        let start = NonNull::new(start.cast()).ok_or(KernelError::Map(name))?;
        Ok(Self { start, length, _data: data })
    }

    /// Where it is mapped, for as long as this lives.
    pub(super) fn start(&self) -> NonNull<T> {
        self.start
    }

    /// Writes one element; one behind the end is left out, which the callers' extents exclude.
    pub(super) fn write(&mut self, index: u32, value: T) {
        if (index as usize) < self.length {
            // SAFETY: within the mapping. The kernel's programs may read it at the same time, and do not trust what
            // they read if its range has changed meanwhile.
            unsafe { self.start.add(index as usize).write_volatile(value) };
        }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing refers to it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length * size_of::<T>()) };
    }
}
