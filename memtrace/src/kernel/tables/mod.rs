//! The kernel's copy of the unwind tables: rows of all objects in one array, segments of all targets in another, both
//! written through a mapping.
//!
//! Programs read while we write. They note where a target's segments are before a walk and look again afterwards, and
//! keep of a walk only its first frame if that has changed. So a list of segments in use is never written over: a
//! change is written elsewhere, and then the target's range is set to it. Rows are written over only after the range
//! of every target whose list leads to them has been set to a list that does not: whatever walk has read them then
//! finds its range changed. Which rows these are, when there is no room for all, says [`Budget`].

mod places;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use aya::maps::{Array, Map, MapData};
use memtrace_common::{
    Slot,
    limits::{MAX_SEGMENTS, MAX_TARGET_SEGMENTS},
    unwind::segment::{self, TRAMPOLINE},
};

use self::places::Places;
use super::{
    error::{KernelError, access},
    mapped::Mapped,
};
use crate::unwind::{self, Admission, Budget, Extent, Table};

/// Stands for a table that [`Tables::tables`] keeps alive.
type Key = *const Table;

/// The unwind tables that the kernel's programs read.
pub struct Tables {
    rows: Mapped<u64>,
    segments: Mapped<segment::Segment>,
    ranges: Array<MapData, u64>,
    places: Places,
    budget: Budget<Key>,
    /// The tables that the budget knows.
    tables: HashMap<Key, Arc<Table>>,
    targets: HashMap<Slot, Target>,
    evicted: u64,
}

/// A target's code, as far as unwinding goes.
#[derive(Default)]
struct Target {
    /// Sorted by address.
    segments: Vec<unwind::Segment>,
    trampoline: Option<(u64, u64)>,
    /// The word that leads to the list in the kernel.
    range: u64,
    list: Extent,
    /// The list before the last change.
    list_before: Extent,
    /// The tables of the segments in the list.
    listed: BTreeSet<Key>,
    /// Segments that are not in the list.
    left_out: usize,
    /// Whether the kernel's program was found to have dropped the list at exec: the segments are of the old image then,
    /// and are not listed again.
    is_dropped: bool,
}

/// How full the kernel's unwind tables are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fill {
    /// Rows in use.
    pub rows: usize,
    /// Rows that there is room for.
    pub room: usize,
    /// Segments of all targets without room.
    pub left_out: usize,
    /// Tables that had to make room for others although a target mapped them, since the start.
    pub evicted: u64,
}

impl Tables {
    pub(super) fn new(rows: Map, segments: Map, ranges: Map) -> Result<Self, KernelError> {
        let rows = Mapped::new(rows, "ROWS")?;
        Ok(Self {
            budget: Budget::new(u32::try_from(rows.length).unwrap_or(u32::MAX)),
            rows,
            segments: Mapped::new(segments, "SEGMENTS")?,
            ranges: Array::try_from(ranges).map_err(access("SEGMENT_RANGES"))?,
            places: Places::new(MAX_SEGMENTS as u32),
            tables: HashMap::new(),
            targets: HashMap::new(),
            evicted: 0,
        })
    }

    /// How full the kernel's unwind tables are now.
    pub fn fill(&self) -> Fill {
        Fill {
            rows: self.budget.rows(),
            room: self.budget.limit() as usize,
            left_out: self.targets.values().map(|target| target.left_out).sum(),
            evicted: self.evicted,
        }
    }

    /// Gives a target new segments, sorted by address. `trampoline` is the page of the kernel's return probes in it.
    ///
    /// # Errors
    ///
    /// When the range of a target cannot be set.
    pub fn set(
        &mut self,
        slot: Slot,
        segments: Vec<unwind::Segment>,
        trampoline: Option<(u64, u64)>,
    ) -> Result<(), KernelError> {
        let target = self.targets.entry(slot).or_default();
        let before = std::mem::replace(&mut target.segments, segments);
        target.trampoline = trampoline;
        let keys = |segments: &[unwind::Segment]| -> BTreeSet<Key> {
            segments.iter().map(|segment| Arc::as_ptr(&segment.table)).collect()
        };
        let (old, new) = (keys(&before), keys(&target.segments));
        let mut newly = Vec::new();
        for segment in &target.segments {
            let key = Arc::as_ptr(&segment.table);
            if !old.contains(&key) && !newly.contains(&key) {
                newly.push(key);
                self.tables.insert(key, Arc::clone(&segment.table));
                // Longer tables than any that is made would not fit anyway.
                self.budget.map(key, u32::try_from(segment.table.rows.len()).unwrap_or(u32::MAX));
            }
        }
        for &key in old.difference(&new) {
            if self.budget.unmap(key) {
                self.tables.remove(&key);
            }
        }
        self.admit(&newly, Some(slot))
    }

    /// The target has ended.
    ///
    /// # Errors
    ///
    /// When its range cannot be set.
    pub fn remove(&mut self, slot: Slot) -> Result<(), KernelError> {
        if self.targets.contains_key(&slot) {
            self.set(slot, Vec::new(), None)?;
            self.targets.remove(&slot);
        }
        Ok(())
    }

    /// From now on, [`used`](Self::used) tells of a new look at the targets' stacks.
    pub fn begin_look(&mut self) {
        self.budget.begin_look();
    }

    /// A stack of the target that allocated since the last look has a frame whose call ends before this address.
    pub fn used(&mut self, slot: Slot, address: u64) {
        if let Some(key) = self.segment(slot, address).map(|segment| Arc::as_ptr(&segment.table)) {
            self.budget.mark_used(key);
        }
    }

    /// Whether the address is in code of the target that has a table, but one without room.
    pub fn is_left_out(&self, slot: Slot, address: u64) -> bool {
        self.segment(slot, address).is_some_and(|segment| self.budget.place(Arc::as_ptr(&segment.table)).is_none())
    }

    /// The segment that the call before a return address is in.
    fn segment(&self, slot: Slot, address: u64) -> Option<&unwind::Segment> {
        let segments = &self.targets.get(&slot)?.segments;
        let call = address.wrapping_sub(1);
        let next = segments.partition_point(|segment| segment.start <= call);
        segments[..next].last().filter(|segment| call < segment.end)
    }

    /// Makes room, if it can be made, for the tables that were left out and that this look found used.
    ///
    /// # Errors
    ///
    /// When the range of a target cannot be set.
    pub fn readmit(&mut self) -> Result<(), KernelError> {
        let mut missed: Vec<Key> = self.budget.missed().collect();
        if missed.is_empty() {
            return Ok(());
        }
        // The small ones first: more of them fit.
        missed.sort_by_key(|key| self.tables.get(key).map_or(0, |table| table.rows.len()));
        self.admit(&missed, None)
    }

    /// Gives these tables places as far as there is room or can be made, and brings the lists of the targets up to date:
    /// in any case that of `changed`.
    fn admit(&mut self, keys: &[Key], changed: Option<Slot>) -> Result<(), KernelError> {
        let mut placed = BTreeSet::new();
        let mut gone = BTreeSet::new();
        for &key in keys {
            if let Admission::Placed { evicted, forgotten, moved } = self.budget.admit(key) {
                self.evicted += evicted.len() as u64;
                placed.insert(key);
                placed.extend(moved.iter().copied());
                gone.extend(evicted.into_iter().chain(moved).chain(forgotten.iter().copied()));
                for key in forgotten {
                    self.tables.remove(&key);
                }
            }
        }
        for slot in self.slots(|target| !target.listed.is_disjoint(&gone)) {
            self.list(slot, &placed, false)?;
        }
        for key in &placed {
            let (Some(place), Some(table)) = (self.budget.place(*key), self.tables.get(key)) else { continue };
            for (index, &row) in (place.first..).zip(&table.rows) {
                self.rows.write(index, row);
            }
        }
        let maps_one =
            |target: &Target| target.segments.iter().any(|segment| placed.contains(&Arc::as_ptr(&segment.table)));
        for slot in self.slots(maps_one).into_iter().filter(|&slot| Some(slot) != changed) {
            self.list(slot, &BTreeSet::new(), false)?;
        }
        match changed {
            Some(slot) => self.list(slot, &BTreeSet::new(), true),
            None => Ok(()),
        }
    }

    fn slots(&self, wanted: impl Fn(&Target) -> bool) -> Vec<Slot> {
        self.targets.iter().filter(|(_, target)| wanted(target)).map(|(&slot, _)| slot).collect()
    }

    /// Writes a target's list of segments, without those of the tables in `unwritten`. The target's maps were read just
    /// now if it `is_fresh`; otherwise there is no list for one that has replaced its image since, until they are read.
    fn list(&mut self, slot: Slot, unwritten: &BTreeSet<Key>, is_fresh: bool) -> Result<(), KernelError> {
        let Some(target) = self.targets.get(&slot) else { return Ok(()) };
        let index = u32::from(slot.0);
        let is_known = || -> Result<bool, KernelError> {
            Ok(self.ranges.get(&index, 0).map_err(access("SEGMENT_RANGES"))? == target.range)
        };
        let is_dropped = !is_fresh && (target.is_dropped || !is_known()?);
        let mut list = Vec::with_capacity(target.segments.len() + 1);
        let mut listed = BTreeSet::new();
        let segments = target.segments.iter().filter(|_| !is_dropped);
        let segments = segments.filter(|segment| !unwritten.contains(&Arc::as_ptr(&segment.table)));
        for segment in segments {
            let key = Arc::as_ptr(&segment.table);
            let Some(place) = self.budget.place(key) else { continue };
            if list.len() >= MAX_TARGET_SEGMENTS - 1 {
                break;
            }
            list.push(segment::Segment {
                start: segment.start,
                end: segment.end,
                base: segment.base,
                first_row: place.first,
                rows: place.count,
            });
            listed.insert(key);
        }
        let left_out = target.segments.len() - list.len();
        if let Some((start, end)) = target.trampoline.filter(|_| !is_dropped) {
            list.push(segment::Segment { start, end, base: 0, first_row: 0, rows: TRAMPOLINE });
            list.sort_by_key(|segment| segment.start);
        }
        let count = list.len() as u32;
        let first = self.list_place(count);
        let Some(target) = self.targets.get_mut(&slot) else { return Ok(()) };
        target.is_dropped = is_dropped;
        target.list_before = target.list;
        match first.filter(|_| count > 0) {
            Some(first) => {
                for (index, segment) in (first..).zip(list) {
                    self.segments.write(index, segment);
                }
                target.list = Extent { first, count };
                target.range = segment::pack_range(first, count);
                (target.listed, target.left_out) = (listed, left_out);
            }
            // Without a list stacks end at their first frame, and say so; an old list could say what is wrong.
            None => {
                (target.list, target.range) = (Extent::default(), 0);
                (target.listed, target.left_out) = (BTreeSet::new(), target.segments.len());
            }
        }
        // Programs on other processors must see the entries before the range that leads to them.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        self.ranges.set(index, target.range, 0).map_err(access("SEGMENT_RANGES"))?;
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }

    /// A place for a list. That of the list before each target's last change is taken only when there is no other.
    fn list_place(&mut self, count: u32) -> Option<u32> {
        let targets = &self.targets;
        let all = targets.values().flat_map(|target| [target.list, target.list_before]);
        let present = targets.values().map(|target| target.list);
        self.places.take(count, all).or_else(|| self.places.take(count, present))
    }
}
