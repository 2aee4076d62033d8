//! Fetches the blocks that waited in the kernel while the ring had no room.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::maps::{Array, Map, MapData};
use memtrace_common::deferred::{DeferredBlock, DeferredKey};

use super::error::{KernelError, access};

/// The reading end of the table in which events wait while a ring is full.
pub struct Deferred {
    table: MapData,
    counts: Array<MapData, u64>,
    taken: u64,
    keys: Vec<DeferredKey>,
    blocks: Vec<DeferredBlock>,
}

/// Elements per system call. A bucket's elements must fit in one; the table has about one a bucket.
const BATCH: usize = 8192;

impl Deferred {
    pub(super) fn new(table: Map, counts: Map) -> Result<Self, KernelError> {
        let Map::HashMap(table) = table else { return Err(KernelError::Map("DEFERRED")) };
        let counts = Array::try_from(counts).map_err(access("DEFERRED_COUNTS"))?;
        Ok(Self { table, counts, taken: 0, keys: Vec::new(), blocks: Vec::new() })
    }

    /// Takes all entries out of the table and hands them out; tells how many. Cheap when there are none.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the batch call.
    pub fn take(&mut self, mut on_entry: impl FnMut(DeferredKey, DeferredBlock)) -> Result<u64, KernelError> {
        let held = self.counts.get(&0, 0).map_err(access("DEFERRED_COUNTS"))?;
        if held == self.taken {
            return Ok(0);
        }
        self.keys.resize(BATCH, DeferredKey::default());
        self.blocks.resize(BATCH, DeferredBlock::default());
        let mut taken = 0;
        // The kernel's place in the table between calls: 4 bytes that mean nothing to us.
        let mut place = 0u32;
        let mut first = true;
        loop {
            let (count, more) = self.take_batch(&mut place, first)?;
            first = false;
            for (key, block) in self.keys.iter().zip(&self.blocks).take(count) {
                on_entry(*key, *block);
            }
            taken += count as u64;
            if !more {
                break;
            }
        }
        self.taken = self.taken.wrapping_add(taken);
        self.counts.set(1, self.taken, 0).map_err(access("DEFERRED_COUNTS"))?;
        Ok(taken)
    }

    fn take_batch(&mut self, place: &mut u32, first: bool) -> Result<(usize, bool), KernelError> {
        let in_batch = if first { 0 } else { std::ptr::from_mut(place) as u64 };
        let mut attributes = BatchAttributes {
            in_batch,
            out_batch: std::ptr::from_mut(place) as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.blocks.as_mut_ptr() as u64,
            count: BATCH as u32,
            map_fd: self.table.fd().as_fd().as_raw_fd() as u32,
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the buffers hold `count` elements of the map's key and value sizes (asserted in memtrace-common), and
        // live through the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_MAP_LOOKUP_AND_DELETE_BATCH,
                std::ptr::from_mut(&mut attributes),
                size_of::<BatchAttributes>(),
            )
        };
        let count = attributes.count as usize;
        if result == 0 {
            return Ok((count, true));
        }
        let error = io::Error::last_os_error();
        // ENOENT: the end of the table was reached; the elements before it are there.
        if error.raw_os_error() == Some(libc::ENOENT) {
            return Ok((count, false));
        }
        Err(KernelError::System { action: "taking blocks from the deferred table", source: error })
    }
}

/// `BPF_MAP_LOOKUP_AND_DELETE_BATCH` of include/uapi/linux/bpf.h: each bucket is read and emptied under its lock.
const BPF_MAP_LOOKUP_AND_DELETE_BATCH: libc::c_int = 25;

/// The `batch` member of `union bpf_attr`.
#[repr(C)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}
