//! The ledger of one process: what each event does to its blocks, ranges and totals.

use memtrace_common::{Address, StackId, deferred::DeferredBlock};

use super::{
    Kind,
    blocks::{self, Blocks, LiveBlock},
    counted::{self, Counts},
    deferred::{Change, Closings, Deferred, Turn},
    distribution::{Cohort, Distributions},
    estimate::{Distances, Precision, Weight},
    inherited::{Inherited, Recent},
    lineage::{Enlargers, Lineage, Lineages},
    parked::{OpenCall, OpenCalls, Taken},
    ranges::{Piece, Ranges},
    stacks::{StackTotals, Stacks},
    totals::Totals,
};
use crate::event::{Block, Event, Range, What};

/// Pages of one stack that are touched, or may be accessed, one after the other within this time are one range.
const TOGETHER_NS: u64 = 1_000_000_000;

/// The live blocks and mappings of one process, and their sums.
#[derive(Default)]
pub struct ProcessLedger {
    blocks: Blocks,
    ranges: Ranges,
    /// Pages that were written to, with `--mode growth`; they are not in `ranges` as well.
    touched: Ranges,
    stacks: Stacks,
    /// What runtimes say of their own memory; nobody's blocks.
    pub(super) counts: Counts,
    /// Address space that may not be accessed, and so is no memory.
    reserved: Ranges,
    /// Whose that is, by indexes of their own.
    reservers: Stacks,
    calls: OpenCalls,
    deferred: Deferred,
    closings: Closings,
    totals: Totals,
    last_exec_ns: u64,
    inherited: Inherited,
    lineages: Lineages,
    /// Kept where children may be traced.
    recent: Option<Recent>,
}

impl ProcessLedger {
    /// What the process has allocated and freed since the attach, in sums.
    pub fn totals(&self) -> Totals {
        Totals {
            mapped_bytes: self.ranges.bytes(),
            mapped_ranges: self.ranges.len() as u64,
            touched_bytes: self.touched.bytes(),
            reserved_bytes: self.reserved.bytes(),
            ..self.totals
        }
    }

    /// Every stack that ever allocated, and what it holds; where blocks are sampled, what it holds by the estimate.
    pub fn stacks(&self) -> impl ExactSizeIterator<Item = StackTotals> + '_ {
        self.stacks.estimates()
    }

    /// Every stack with how well it is known, and what runtimes say of their own memory.
    pub fn all_held(&self) -> impl Iterator<Item = (StackTotals, Option<Precision>)> + '_ {
        let mut precision = self.precision();
        let seen = self.stacks().map(move |stack| {
            let precision = precision.as_mut().and_then(Iterator::next).filter(|_| stack.kind == Kind::Heap);
            (stack, precision)
        });
        seen.chain(self.counts().map(|counted::Count { totals, precision }| (totals, precision)))
    }

    /// Bytes of address space that a stack has reserved and that may not be accessed; in no other number.
    pub fn reserved_by(&self, id: StackId) -> u64 {
        let index = self.reservers.find(id, Kind::Map);
        index.map_or(0, |index| self.reservers.totals()[index as usize].outstanding_bytes)
    }

    /// How well the numbers of [`stacks`](Self::stacks) are known, in the same order; `None` where every block is seen.
    pub fn precision(&self) -> Option<impl Iterator<Item = Precision> + '_> {
        self.stacks.precision()
    }

    /// Who enlarges the blocks of a stack that `realloc` handed to and fro.
    pub fn enlargers(&self, id: StackId, kind: Kind) -> Enlargers {
        let find = |holder| self.lineages.enlargers(holder, |caller| self.stacks.totals()[caller as usize].id);
        self.stacks.find(id, kind).map(find).unwrap_or_default()
    }

    /// Blocks of these levels are a sample from now on.
    pub(super) fn sample(&mut self, distances: Distances) {
        self.stacks.sample(distances);
    }

    /// Where the live heap blocks begin that were seen.
    pub fn addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.blocks.iter().map(|block| Address(block.address))
    }

    /// How many live heap blocks there are that were seen.
    pub fn live_blocks_seen(&self) -> usize {
        self.blocks.len()
    }

    /// The live heap blocks that were seen, in no particular order: where each begins, its bytes, and the chance with which one like it is
    /// seen.
    pub fn seen_blocks(&self) -> impl Iterator<Item = (Address, u64, f64)> + '_ {
        let seen = |block: LiveBlock| (Address(block.address), block.size, self.stacks.chance(block.size, block.level));
        self.blocks.iter().map(seen)
    }

    /// The live heap blocks at these addresses: stack, bytes that each stands for, and when it appeared.
    pub fn blocks_at<'a>(&'a self, addresses: &'a [u64]) -> impl Iterator<Item = (StackId, Kind, u64, u64)> + 'a {
        addresses.iter().filter_map(|&address| {
            let block = self.blocks.get(address)?;
            let of = &self.stacks.totals()[block.stack as usize];
            Some((of.id, of.kind, self.stacks.weigh(block.size, block.level).bytes(), block.time_ns))
        })
    }

    /// Records how old and how large the live blocks of the wanted stacks are, each with its group: one pass over all blocks
    /// and ranges. A stack that is wanted twice counts for one of its groups.
    pub fn distribute(&self, wanted: &[(StackId, Kind, usize)], into: &mut Distributions) {
        let stacks: Vec<(StackId, Kind)> = wanted.iter().map(|&(id, kind, _)| (id, kind)).collect();
        self.each_wanted(&stacks, |position, size, time_ns, weight| {
            into.record(wanted[position].2, size, weight.blocks().max(1), time_ns);
        });
    }

    /// What the wanted stacks still hold of each cohort, in the order of `wanted`: one pass over all blocks and ranges.
    ///
    /// `ends_ns` cuts time, ascending: cohort `i` is what appeared before `ends_ns[i]` and not before `ends_ns[i - 1]`;
    /// the last cohort also has what appeared later. Blocks are those that were seen, bytes what they stand for. Nothing is
    /// counted when `ends_ns` is empty; a stack that is wanted twice counts once.
    pub fn cohorts(&self, wanted: &[(StackId, Kind)], ends_ns: &[u64]) -> Vec<Vec<Cohort>> {
        let mut found = vec![vec![Cohort::default(); ends_ns.len()]; wanted.len()];
        let Some(newest) = ends_ns.len().checked_sub(1) else { return found };
        self.each_wanted(wanted, |position, _, time_ns, weight| {
            let cohort = ends_ns.partition_point(|&end| end <= time_ns).min(newest);
            found[position][cohort].add(weight.bytes());
        });
        found
    }

    /// Visits the live blocks and ranges of at least `least` bytes of the wanted stacks: the stack's group, where the block
    /// begins, and its bytes.
    pub fn large_blocks(&self, wanted: &[(StackId, Kind, usize)], least: u64, mut visit: impl FnMut(usize, u64, u64)) {
        let stacks: Vec<(StackId, Kind)> = wanted.iter().map(|&(id, kind, _)| (id, kind)).collect();
        let positions = self.positions(&stacks);
        let mut look = |stack: u32, start, bytes| {
            if bytes >= least
                && let Some(position) = positions[stack as usize]
            {
                visit(wanted[position as usize].2, start, bytes);
            }
        };
        self.blocks.iter().for_each(|block| look(block.stack, block.address, block.size));
        self.ranges.iter().for_each(|piece| look(piece.stack, piece.start, piece.length()));
    }

    /// The position of each stack in `wanted`, by its index.
    fn positions(&self, wanted: &[(StackId, Kind)]) -> Vec<Option<u32>> {
        let mut positions = vec![None; self.stacks.totals().len()];
        for (position, &(id, kind)) in (0..).zip(wanted) {
            if let Some(index) = self.stacks.find(id, kind) {
                positions[index as usize] = Some(position);
            }
        }
        positions
    }

    /// Visits every live block and range of the wanted stacks: position in `wanted`, size, time, and what it stands for.
    fn each_wanted(&self, wanted: &[(StackId, Kind)], mut visit: impl FnMut(usize, u64, u64, Weight)) {
        let positions = self.positions(wanted);
        let mut record = |stack: u32, size, level, time_ns| {
            if let Some(position) = positions[stack as usize] {
                visit(position as usize, size, time_ns, self.stacks.weigh(size, level));
            }
        };
        self.blocks.iter().for_each(|block| record(block.stack, block.size, block.level, block.time_ns));
        let pieces = self.ranges.iter().chain(self.touched.iter());
        pieces.for_each(|piece| record(piece.stack, piece.length(), 0, piece.time_ns));
    }

    /// Calls `seen` with index of the stack, weight and time of every live block and mapped piece.
    pub(super) fn for_each_live(&self, mut seen: impl FnMut(u32, Weight, u64)) {
        let weigh = |size, level| self.stacks.weigh(size, level);
        self.blocks.iter().for_each(|block| seen(block.stack, weigh(block.size, block.level), block.time_ns));
        let pieces = self.ranges.iter().chain(self.touched.iter());
        pieces.for_each(|piece| seen(piece.stack, weigh(piece.length(), 0), piece.time_ns));
    }

    /// Address, size, stack and time of every live block, by address.
    #[cfg(test)]
    pub(super) fn live_blocks(&self) -> Vec<(u64, u64, StackId, u64)> {
        let stack = |index: u32| self.stacks.totals()[index as usize].id;
        let blocks = self.blocks.iter();
        let mut live: Vec<_> = blocks.map(|b| (b.address, b.size, stack(b.stack), b.time_ns)).collect();
        live.sort_unstable();
        live
    }

    pub(super) fn apply(&mut self, event: &Event<'_>) {
        let Event { thread, time_ns, .. } = *event;
        match event.what {
            What::Allocate(block) => self.allocate(block, time_ns),
            What::Release(address) => {
                self.release(address, time_ns);
            }
            What::ReallocBegin(address) => {
                let taken = self.release(address, time_ns);
                self.park(thread, OpenCall::Realloc, time_ns, taken);
            }
            What::Reallocate(block) => {
                let taken = self.calls.end(thread, OpenCall::Realloc);
                self.reallocate(block, time_ns, taken);
            }
            What::ReallocFailed => self.restore(thread, OpenCall::Realloc),
            What::Map(block) => self.map(block, time_ns),
            What::UnmapBegin(range) => {
                let taken = self.unmap(range);
                self.park(thread, OpenCall::Munmap, time_ns, taken);
            }
            What::UnmapFailed => self.restore(thread, OpenCall::Munmap),
            What::RemapBegin(range) => {
                let taken = self.unmap(range);
                self.park(thread, OpenCall::Mremap, time_ns, taken);
            }
            What::Remap(block) => {
                let taken = self.calls.end(thread, OpenCall::Mremap);
                // The pages stay as accessible as they were.
                let is_reserved = taken == Some(Taken::Reservation);
                if is_reserved { self.reserve(block, time_ns) } else { self.map(block, time_ns) }
            }
            What::RemapFailed => self.restore(thread, OpenCall::Mremap),
            What::Exec { .. } => self.exec(time_ns),
            What::Touch(page) => self.touch(page, time_ns),
            What::Discard(range) => self.discard(range),
            What::Reserve(block) => self.reserve(block, time_ns),
            What::Commit(range) => self.commit(range, time_ns),
            What::Stack { .. } | What::Chain { .. } | What::Pool(_) => {}
        }
    }

    pub(super) fn defer(&mut self, address: Address, block: &DeferredBlock) {
        if self.is_possible(address) {
            self.deferred.push(address, block);
        }
    }

    pub(super) fn settle_deferred(&mut self) {
        while let Some((turn, change)) = self.deferred.take_first() {
            self.change(turn, change);
        }
        self.closings.settle();
    }

    pub(super) const fn add_settled(&mut self, blocks: u64, bytes: u64) {
        self.totals.settled(blocks, bytes);
    }

    fn allocate(&mut self, block: Block, time_ns: u64) {
        if self.is_possible(block.address) {
            self.catch_up(block.address, time_ns);
            self.insert(block, time_ns);
        }
    }

    /// A release, or the beginning of a `realloc`: what it took, `None` where no block can be.
    fn release(&mut self, address: Address, time_ns: u64) -> Option<Taken> {
        if !self.is_possible(address) {
            return None;
        }
        self.catch_up(address, time_ns);
        let Some(block) = self.blocks.remove(address.0) else {
            if let Some(size) = self.take_inherited(address.0) {
                self.totals.inherited_frees += 1;
                return Some(Taken::Inherited(address.0, size));
            }
            self.totals.frees_unmatched += 1;
            return Some(Taken::UnknownBlock);
        };
        let past = self.count_free(&block, time_ns);
        Some(Taken::Block(block, past))
    }

    /// A `realloc` succeeded, and this is what it had taken.
    fn reallocate(&mut self, block: Block, time_ns: u64, taken: Option<Taken>) {
        let Some(Taken::Block(old, past)) = taken else { return self.allocate(block, time_ns) };
        if !self.is_possible(block.address) {
            return;
        }
        self.catch_up(block.address, time_ns);
        let caller = self.stacks.intern(block.stack, Kind::Heap);
        let Some(lineage) = Lineage::after(past, old.stack, caller) else { return self.insert(block, time_ns) };
        let settled = lineage.settled();
        self.insert_for(settled.unwrap_or(caller), caller, block, time_ns);
        self.lineages.put(block.address.0, lineage);
        let Some(holder) = settled else { return };
        self.stacks.moved(caller, block.size);
        if block.size > old.size {
            self.lineages.enlarged(holder, caller, block.size - old.size);
        }
    }

    fn map(&mut self, block: Block, time_ns: u64) {
        let Some((start, end)) = self.bounds(block.address, block.size) else { return };
        self.totals.maps += 1;
        self.replace(start, end);
        let stack = self.stacks.intern(block.stack, Kind::Map);
        self.stacks.counted(stack, end - start, 0);
        self.ranges.add(Piece { start, end, stack, time_ns }, &mut self.stacks);
    }

    fn reserve(&mut self, block: Block, time_ns: u64) {
        let Some((start, end)) = self.bounds(block.address, block.size) else { return };
        self.totals.maps += 1;
        self.replace(start, end);
        let stack = self.reservers.intern(block.stack, Kind::Map);
        self.reserved.add(Piece { start, end, stack, time_ns }, &mut self.reservers);
    }

    /// A new mapping takes the place of what is mapped there.
    fn replace(&mut self, start: u64, end: u64) {
        let replaced = &mut self.totals.ranges_replaced;
        self.ranges.cut(start, end, &mut self.stacks, |_| *replaced += 1);
        self.touched.cut(start, end, &mut self.stacks, |_| ());
        self.reserved.cut(start, end, &mut self.reservers, |_| ());
    }

    /// What of a range was reserved may be accessed from now on, and counts as mapped now by the stack that reserved it.
    fn commit(&mut self, range: Range, time_ns: u64) {
        let Some((start, end)) = self.bounds(range.address, range.length) else { return };
        let Self { reserved, reservers, ranges, stacks, .. } = self;
        let mut committed = Vec::new();
        reserved.cut(start, end, reservers, |piece| committed.push(piece));
        for piece in committed {
            let stack = stacks.intern(reservers.totals()[piece.stack as usize].id, Kind::Map);
            stacks.counted(stack, piece.length(), 0);
            ranges.extend(Piece { stack, time_ns, ..piece }, TOGETHER_NS, stacks);
        }
    }

    fn touch(&mut self, page: Block, time_ns: u64) {
        let Some((start, end)) = self.bounds(page.address, page.size) else { return };
        let stack = self.stacks.intern(page.stack, Kind::Touched);
        self.stacks.counted(stack, end - start, 0);
        self.ranges.cut(start, end, &mut self.stacks, |_| ());
        self.touched.touch(Piece { start, end, stack, time_ns }, TOGETHER_NS, &mut self.stacks);
    }

    /// The contents of pages are gone. That their mapping failed to go does not bring them back: they would be touched anew.
    fn discard(&mut self, range: Range) {
        if let Some((start, end)) = self.bounds(range.address, range.length) {
            self.touched.cut(start, end, &mut self.stacks, |_| ());
        }
    }

    fn unmap(&mut self, range: Range) -> Option<Taken> {
        let (start, end) = self.bounds(range.address, range.length)?;
        self.touched.cut(start, end, &mut self.stacks, |_| ());
        let mut was_reserved = false;
        self.reserved.cut(start, end, &mut self.reservers, |_| was_reserved = true);
        let mut taken: Option<(Piece, Vec<Piece>)> = None;
        self.ranges.cut(start, end, &mut self.stacks, |piece| match &mut taken {
            None => taken = Some((piece, Vec::new())),
            Some((_, rest)) => rest.push(piece),
        });
        let Some((first, rest)) = taken else { return was_reserved.then_some(Taken::Reservation) };
        self.totals.unmaps += 1;
        Some(Taken::Pieces { first, rest })
    }

    fn park(&mut self, thread: u32, call: OpenCall, began_ns: u64, taken: Option<Taken>) {
        match taken {
            Some(taken) => self.calls.park(thread, call, began_ns, taken),
            None => self.calls.close(thread),
        }
    }

    /// A call failed: what it took lives on, as it was.
    fn restore(&mut self, thread: u32, call: OpenCall) {
        match self.calls.end(thread, call) {
            // A block that lives there now proves that events were lost; it stays, and the old one stays freed.
            Some(Taken::Block(block, past)) if self.blocks.time_ns(block.address).is_none() => {
                self.blocks.insert(block);
                self.stacks.holds(block.stack, block.size, block.level);
                self.totals.restored(block.size);
                if let Some(past) = past {
                    self.lineages.put(block.address, past);
                }
            }
            Some(Taken::Inherited(address, size)) => {
                self.totals.inherited_frees -= 1;
                self.totals.inherited_blocks += 1;
                self.totals.inherited_bytes = self.totals.inherited_bytes.wrapping_add(size);
                self.inherited.put_back(address, size);
            }
            Some(Taken::UnknownBlock) => self.totals.frees_unmatched -= 1,
            Some(Taken::Pieces { first, rest }) => {
                self.totals.unmaps -= 1;
                self.ranges.restore(first, &mut self.stacks);
                rest.into_iter().for_each(|piece| self.ranges.restore(piece, &mut self.stacks));
            }
            Some(Taken::Block(..) | Taken::Reservation) | None => {}
        }
    }

    fn exec(&mut self, time_ns: u64) {
        for (turn, change) in self.deferred.take_all_before(time_ns) {
            self.change(turn, change);
        }
        self.totals.execs += 1;
        self.totals.dropped_by_exec(self.totals.outstanding_blocks, self.totals.outstanding_bytes);
        self.totals.ranges_dropped_by_exec += self.ranges.len() as u64;
        self.totals.mapped_bytes_dropped_by_exec += self.ranges.bytes();
        self.blocks = Blocks::default();
        self.lineages = Lineages::default();
        self.ranges.clear();
        self.touched.clear();
        self.reserved.clear();
        self.stacks.clear_outstanding();
        self.reservers.clear_outstanding();
        self.calls.clear();
        self.set_inherited(Inherited::default());
        self.recent.iter_mut().for_each(Recent::clear);
        self.last_exec_ns = time_ns;
    }

    /// Applies the deferred changes of an address that come before an event of it.
    fn catch_up(&mut self, address: Address, time_ns: u64) {
        if self.deferred.is_empty() {
            return;
        }
        while let Some((turn, change)) = self.deferred.take_before(address, time_ns) {
            self.change(turn, change);
        }
    }

    fn change(&mut self, turn: Turn, change: Change) {
        match change {
            Change::Release => self.release_deferred(turn.address, turn.time_ns),
            Change::Allocate { size, level, stack } => {
                self.allocate_deferred(Block { address: turn.address, size, level, stack }, turn.time_ns);
            }
        }
    }

    fn release_deferred(&mut self, address: Address, time_ns: u64) {
        if let Some(block) = self.blocks.remove_older(address.0, time_ns) {
            self.count_free(&block, time_ns);
        } else if self.closings.correct(address.0, time_ns) {
            self.totals.frees_implied -= 1;
        } else if time_ns >= self.last_exec_ns {
            match self.take_inherited(address.0) {
                Some(_) => self.totals.inherited_frees += 1,
                None => self.totals.frees_unmatched += 1,
            }
        }
        // Else the block went with the old image and is counted there.
    }

    fn allocate_deferred(&mut self, block: Block, time_ns: u64) {
        let younger = self.blocks.time_ns(block.address.0).filter(|&live_ns| live_ns > time_ns);
        if time_ns >= self.last_exec_ns && younger.is_none() {
            return self.insert(block, time_ns);
        }
        let stack = self.stacks.intern(block.stack, Kind::Heap);
        self.stacks.counted(stack, block.size, block.level);
        self.totals.allocated(block.size);
        if let Some(younger_ns) = younger.filter(|_| time_ns >= self.last_exec_ns) {
            self.totals.freed(block.size);
            self.totals.frees_implied += 1;
            self.closings.record(block.address.0, time_ns, younger_ns);
        } else {
            self.totals.dropped_by_exec(1, block.size);
        }
    }

    fn insert(&mut self, block: Block, time_ns: u64) {
        let stack = self.stacks.intern(block.stack, Kind::Heap);
        self.insert_for(stack, stack, block, time_ns);
    }

    /// A block appeared by a call of the stack `caller` and is one of `stack`.
    fn insert_for(&mut self, stack: u32, caller: u32, block: Block, time_ns: u64) {
        let Block { address: Address(address), size, level, .. } = block;
        self.stacks.counted(caller, size, level);
        self.stacks.holds(stack, size, level);
        self.totals.allocated(size);
        // Where a block appears none can be left of the parent's: it went before the process was attached.
        self.take_inherited(address);
        if let Some(old) = self.blocks.insert(LiveBlock { address, size, level, stack, time_ns }) {
            self.count_free(&old, time_ns);
            self.totals.frees_implied += 1;
            self.closings.record(address, old.time_ns, time_ns);
        }
    }

    /// A block is gone: its past, if it had changed its stack.
    fn count_free(&mut self, block: &LiveBlock, released_ns: u64) -> Option<Lineage> {
        self.stacks.released(block.stack, block.size, block.level);
        self.totals.freed(block.size);
        if let Some(recent) = &mut self.recent {
            recent.push(*block, released_ns);
        }
        self.lineages.take(block.address)
    }

    /// Keeps what is released, for children that may be forked.
    pub(super) fn keep_recent(&mut self) {
        self.recent.get_or_insert_default();
    }

    /// What a child has that was forked from this process at a time, as far as this ledger knows; nothing if those are more
    /// than `most` blocks.
    pub(super) fn heap_at(&self, time_ns: u64, most: u64) -> Inherited {
        let live = self.blocks.iter().filter(|block| block.time_ns < time_ns).map(|block| (block.address, block.size));
        let gone = self.recent.iter().flat_map(|recent| recent.alive_at(time_ns));
        Inherited::new(most, self.inherited.iter().chain(live).chain(gone))
    }

    /// The process began with these blocks.
    pub(super) fn set_inherited(&mut self, inherited: Inherited) {
        (self.totals.inherited_blocks, self.totals.inherited_bytes) = inherited.sums();
        self.inherited = inherited;
    }

    fn take_inherited(&mut self, address: u64) -> Option<u64> {
        let size = self.inherited.take(address)?;
        self.totals.inherited_blocks -= 1;
        self.totals.inherited_bytes = self.totals.inherited_bytes.wrapping_sub(size);
        Some(size)
    }

    const fn is_possible(&mut self, address: Address) -> bool {
        let possible = address.0 < blocks::ADDRESS_END;
        self.totals.addresses_impossible += !possible as u64;
        possible
    }

    /// The first byte of a range and the one after its last, `None` for a range that cannot be.
    fn bounds(&mut self, start: Address, length: u64) -> Option<(u64, u64)> {
        if !self.is_possible(start) {
            return None;
        }
        let end = start.0.saturating_add(length).min(blocks::ADDRESS_END);
        (end > start.0).then_some((start.0, end))
    }
}
