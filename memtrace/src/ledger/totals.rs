//! Sums over one process since the attach.

/// What the allocator calls of a process add up to.
///
/// `allocations == frees + outstanding_blocks + blocks_dropped_by_exec`, and the same for bytes. Heap blocks and mapped
/// ranges are counted apart. Sums of bytes wrap: sizes are the target's word, and an absurd one must not stop the tracer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Heap blocks that appeared.
    pub allocations: u64,
    /// Heap blocks of those that were released.
    pub frees: u64,
    /// Bytes of the blocks that appeared.
    pub allocated_bytes: u64,
    /// Bytes of the blocks that were released.
    pub freed_bytes: u64,
    /// Bytes of the blocks that live.
    pub outstanding_bytes: u64,
    /// Blocks that live.
    pub outstanding_blocks: u64,
    /// Releases of blocks that were not seen to appear; not in `frees`.
    pub frees_unmatched: u64,
    /// Blocks that came from the parent by fork and have not been seen to go; in no other number.
    pub inherited_blocks: u64,
    /// Bytes of the blocks that came from the parent by fork.
    pub inherited_bytes: u64,
    /// Releases of such blocks; not in `frees`.
    pub inherited_frees: u64,
    /// Releases that were lost, as a second allocation at the same address proves; part of `frees`.
    pub frees_implied: u64,
    /// Heap blocks that went with an old image at exec; neither freed nor outstanding.
    pub blocks_dropped_by_exec: u64,
    /// Bytes of the heap blocks that went with an old image at exec.
    pub bytes_dropped_by_exec: u64,
    /// Calls that mapped or remapped a range.
    pub maps: u64,
    /// Calls that unmapped or remapped a range of which something was known.
    pub unmaps: u64,
    /// Pieces of ranges that a new mapping at the same place replaced, wholly or in part.
    pub ranges_replaced: u64,
    /// Bytes of pages that are mapped, less those that were touched.
    pub mapped_bytes: u64,
    /// Bytes of pages that were written to; only where they are asked for.
    pub touched_bytes: u64,
    /// Bytes of address space that may not be accessed; in no other number.
    pub reserved_bytes: u64,
    /// Pieces of ranges that are mapped.
    pub mapped_ranges: u64,
    /// Pieces of ranges that went with an old image at exec.
    pub ranges_dropped_by_exec: u64,
    /// Bytes of the pieces of ranges that went with an old image at exec.
    pub mapped_bytes_dropped_by_exec: u64,
    /// New images.
    pub execs: u64,
    /// Blocks and ranges left out because no process can have such an address: a sign of broken events.
    pub addresses_impossible: u64,
}

impl Totals {
    pub(super) const fn allocated(&mut self, bytes: u64) {
        self.allocations += 1;
        self.allocated_bytes = self.allocated_bytes.wrapping_add(bytes);
        self.outstanding_blocks += 1;
        self.outstanding_bytes = self.outstanding_bytes.wrapping_add(bytes);
    }

    pub(super) const fn freed(&mut self, bytes: u64) {
        self.frees += 1;
        self.freed_bytes = self.freed_bytes.wrapping_add(bytes);
        self.outstanding_blocks -= 1;
        self.outstanding_bytes = self.outstanding_bytes.wrapping_sub(bytes);
    }

    /// What was counted as freed lives on.
    pub(super) const fn restored(&mut self, bytes: u64) {
        self.frees -= 1;
        self.freed_bytes = self.freed_bytes.wrapping_sub(bytes);
        self.outstanding_blocks += 1;
        self.outstanding_bytes = self.outstanding_bytes.wrapping_add(bytes);
    }

    pub(super) const fn dropped_by_exec(&mut self, blocks: u64, bytes: u64) {
        self.blocks_dropped_by_exec += blocks;
        self.bytes_dropped_by_exec = self.bytes_dropped_by_exec.wrapping_add(bytes);
        self.outstanding_blocks -= blocks;
        self.outstanding_bytes = self.outstanding_bytes.wrapping_sub(bytes);
    }

    pub(super) const fn settled(&mut self, blocks: u64, bytes: u64) {
        self.allocations += blocks;
        self.frees += blocks;
        self.allocated_bytes = self.allocated_bytes.wrapping_add(bytes);
        self.freed_bytes = self.freed_bytes.wrapping_add(bytes);
    }
}
