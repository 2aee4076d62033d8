//! The kernel's copy of the unwind tables: rows of all objects in one array, segments of all targets in another, both
//! written through a mapping.
//!
//! Programs read while we write. They note where a target's segments are before a walk and look again afterwards, and
//! trust a walk only if that has not changed. So what a range that is in use refers to is never written over: a change
//! is written elsewhere, then the range is set, and the place before it is left alone until the change after.

use std::{collections::HashMap, os::fd::AsFd as _, ptr::NonNull, sync::Arc};

use aya::maps::{Array, Map, MapData};
use memtrace_common::{
    Slot,
    limits::{MAX_SEGMENTS, MAX_TARGET_SEGMENTS},
    unwind::segment::{self, TRAMPOLINE},
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::tracer::{KernelError, access};
use crate::unwind::{self, Table};

/// Where in an array something is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Extent {
    first: u32,
    count: u32,
}

/// The tables in the kernel.
pub struct Tables {
    rows: Mapped<u64>,
    segments: Mapped<segment::Segment>,
    ranges: Array<MapData, u64>,
    /// By the address of the table, which `Placed` keeps alive.
    placed: HashMap<*const Table, Placed>,
    targets: HashMap<Slot, Target>,
}

/// A table whose rows are in the array.
struct Placed {
    /// Keeps the key's address from becoming another table's.
    _table: Arc<Table>,
    extent: Extent,
}

/// What a target refers to: now, and before the last change.
#[derive(Default)]
struct Target {
    now: Used,
    before: Used,
}

#[derive(Default)]
struct Used {
    segments: Extent,
    tables: Vec<*const Table>,
}

/// A target's code, as far as unwinding goes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Coverage {
    /// Segments with a table.
    pub segments: usize,
    /// Segments left out because the arrays are full.
    pub left_out: usize,
}

impl Tables {
    pub(super) fn new(rows: Map, segments: Map, ranges: Map) -> Result<Self, KernelError> {
        Ok(Self {
            rows: Mapped::new(rows, "ROWS")?,
            segments: Mapped::new(segments, "SEGMENTS")?,
            ranges: Array::try_from(ranges).map_err(access("SEGMENT_RANGES"))?,
            placed: HashMap::new(),
            targets: HashMap::new(),
        })
    }

    /// Rows in use, and how many there is room for.
    pub fn rows(&self) -> (usize, usize) {
        (self.placed.values().map(|placed| placed.extent.count as usize).sum(), self.rows.length)
    }

    /// Gives a target new segments, sorted by address. `trampoline` is the page of the kernel's return probes in it.
    ///
    /// # Errors
    ///
    /// When the range cannot be set.
    pub fn set(
        &mut self,
        slot: Slot,
        segments: &[unwind::Segment],
        trampoline: Option<(u64, u64)>,
    ) -> Result<Coverage, KernelError> {
        let mut coverage = Coverage::default();
        let mut list: Vec<segment::Segment> = Vec::with_capacity(segments.len() + 1);
        let mut tables = Vec::new();
        for segment in segments.iter().take(MAX_TARGET_SEGMENTS - 1) {
            let Some(extent) = self.place(&segment.table, &tables) else { continue };
            tables.push(Arc::as_ptr(&segment.table));
            list.push(segment::Segment {
                start: segment.start,
                end: segment.end,
                base: segment.base,
                first_row: extent.first,
                rows: extent.count,
            });
        }
        coverage.segments = list.len();
        coverage.left_out = segments.len() - list.len();
        if let Some((start, end)) = trampoline {
            list.push(segment::Segment { start, end, base: 0, first_row: 0, rows: TRAMPOLINE });
        }
        list.sort_by_key(|segment| segment.start);
        let count = list.len() as u32;
        let busy = self.targets.values().flat_map(|target| [target.now.segments, target.before.segments]);
        let Some(first) = free_extent(busy, count, MAX_SEGMENTS as u32) else {
            return Ok(Coverage { segments: 0, left_out: segments.len() });
        };
        for (index, segment) in (first..).zip(list) {
            self.segments.write(index, segment);
        }
        // Programs on other processors must see the entries before the range that leads to them.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        let range = segment::pack_range(first, count);
        self.ranges.set(u32::from(slot.0), range, 0).map_err(access("SEGMENT_RANGES"))?;
        let target = self.targets.entry(slot).or_default();
        target.before = std::mem::replace(&mut target.now, Used { segments: Extent { first, count }, tables });
        Ok(coverage)
    }

    /// Where the rows of a table are; puts them there if need be. `wanted` are the tables of the change going on.
    fn place(&mut self, table: &Arc<Table>, wanted: &[*const Table]) -> Option<Extent> {
        let key = Arc::as_ptr(table);
        if let Some(placed) = self.placed.get(&key) {
            return Some(placed.extent);
        }
        let count = u32::try_from(table.rows.len()).ok()?;
        let first = match self.free_rows(count) {
            Some(first) => first,
            None => {
                self.evict(wanted);
                self.free_rows(count)?
            }
        };
        for (index, &row) in (first..).zip(&table.rows) {
            self.rows.write(index, row);
        }
        let extent = Extent { first, count };
        self.placed.insert(key, Placed { _table: Arc::clone(table), extent });
        Some(extent)
    }

    fn free_rows(&self, count: u32) -> Option<u32> {
        let limit = u32::try_from(self.rows.length).ok()?;
        free_extent(self.placed.values().map(|placed| placed.extent), count, limit)
    }

    /// Forgets the tables that no target refers to, now or before its last change.
    fn evict(&mut self, wanted: &[*const Table]) {
        let targets = &self.targets;
        let used = |key: &*const Table| {
            wanted.contains(key)
                || targets.values().any(|target| target.now.tables.contains(key) || target.before.tables.contains(key))
        };
        self.placed.retain(|key, _| used(key));
    }
}

/// The first place for `count` elements of `limit` that overlaps nothing busy.
fn free_extent(busy: impl Iterator<Item = Extent>, count: u32, limit: u32) -> Option<u32> {
    let mut busy: Vec<Extent> = busy.filter(|extent| extent.count > 0).collect();
    busy.sort_by_key(|extent| extent.first);
    let mut at = 0;
    for extent in busy {
        if extent.first.saturating_sub(at) >= count && extent.first >= at {
            return Some(at);
        }
        at = at.max(extent.first + extent.count);
    }
    (limit.saturating_sub(at) >= count).then_some(at)
}

/// A mapped array of the kernel's.
struct Mapped<T> {
    start: NonNull<T>,
    length: usize,
    /// Keeps the descriptor.
    _data: MapData,
}

impl<T: Copy> Mapped<T> {
    fn new(map: Map, name: &'static str) -> Result<Self, KernelError> {
        let Map::Array(data) = map else { return Err(KernelError::Map(name)) };
        let length = data.info().map_err(access(name))?.max_entries() as usize;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping of the whole array; nothing else in this process refers to it.
        let start = unsafe {
            mmap(std::ptr::null_mut(), length * size_of::<T>(), protection, MapFlags::SHARED, data.fd().as_fd(), 0)
        };
        let start =
            start.map_err(|error| KernelError::System { action: "mapping the unwind tables", source: error.into() })?;
        let start = NonNull::new(start.cast()).ok_or(KernelError::Map(name))?;
        Ok(Self { start, length, _data: data })
    }

    /// Writes one element; one behind the end is left out, which the callers' extents exclude.
    fn write(&mut self, index: u32, value: T) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_places_overlap_nothing_busy() {
        let busy = [Extent { first: 10, count: 5 }, Extent { first: 0, count: 4 }, Extent { first: 12, count: 8 }];
        let free = |count, limit| free_extent(busy.into_iter(), count, limit);
        assert_eq!(free(6, 100), Some(4));
        assert_eq!(free(7, 100), Some(20));
        assert_eq!(free(80, 100), Some(20));
        assert_eq!(free(81, 100), None);
        assert_eq!(free_extent(std::iter::empty(), 100, 100), Some(0));
    }
}
