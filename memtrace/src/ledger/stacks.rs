//! The stacks of one process: 64-bit ids in, small indexes out, and what each stack holds.

use hashbrown::HashTable;
use memtrace_common::StackId;

use super::Kind;

/// What one stack has allocated and still holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StackTotals {
    /// Which stack.
    pub id: StackId,
    /// What it holds.
    pub kind: Kind,
    /// Bytes that live.
    pub outstanding_bytes: u64,
    /// Blocks, or pieces of mapped ranges, that live.
    pub outstanding_blocks: u64,
    /// Blocks or mappings that ever appeared.
    pub allocations: u64,
    /// Bytes of those.
    pub allocated_bytes: u64,
}

/// The stacks of one process. A stack that holds both heap blocks and mapped ranges counts as two.
///
/// Sums of bytes wrap: sizes are the target's word, and an absurd one must not stop the tracer.
#[derive(Default)]
pub struct Stacks {
    index: HashTable<u32>,
    totals: Vec<StackTotals>,
}

impl Stacks {
    /// The index of a stack; it gets one when it is new.
    pub fn intern(&mut self, id: StackId, kind: Kind) -> u32 {
        let totals = &self.totals;
        let found = self.index.find(hash(id, kind), |&index| {
            let stack = &totals[index as usize];
            stack.id == id && stack.kind == kind
        });
        if let Some(&index) = found {
            return index;
        }
        // 2^32 stacks would take 200 GB, so this does not truncate.
        let index = self.totals.len() as u32;
        self.totals.push(StackTotals {
            id,
            kind,
            outstanding_bytes: 0,
            outstanding_blocks: 0,
            allocations: 0,
            allocated_bytes: 0,
        });
        let totals = &self.totals;
        self.index.insert_unique(hash(id, kind), index, |&index| {
            let stack = &totals[index as usize];
            hash(stack.id, stack.kind)
        });
        index
    }

    /// The index of a stack that has one.
    pub fn find(&self, id: StackId, kind: Kind) -> Option<u32> {
        let is_it = |&index: &u32| {
            let stack = &self.totals[index as usize];
            stack.id == id && stack.kind == kind
        };
        self.index.find(hash(id, kind), is_it).copied()
    }

    /// A block of the stack appeared and lives.
    pub fn allocated(&mut self, index: u32, bytes: u64) {
        self.counted(index, bytes);
        self.holds(index, bytes);
    }

    /// A block of the stack appeared; whether it lives is not said.
    pub fn counted(&mut self, index: u32, bytes: u64) {
        let stack = &mut self.totals[index as usize];
        stack.allocations += 1;
        stack.allocated_bytes = stack.allocated_bytes.wrapping_add(bytes);
    }

    /// A block of the stack lives.
    pub fn holds(&mut self, index: u32, bytes: u64) {
        let stack = &mut self.totals[index as usize];
        stack.outstanding_blocks += 1;
        stack.outstanding_bytes = stack.outstanding_bytes.wrapping_add(bytes);
    }

    /// A block of the stack that lived does not any more.
    pub fn released(&mut self, index: u32, bytes: u64) {
        let stack = &mut self.totals[index as usize];
        stack.outstanding_blocks -= 1;
        stack.outstanding_bytes = stack.outstanding_bytes.wrapping_sub(bytes);
    }

    /// Nothing lives any more.
    pub fn clear_outstanding(&mut self) {
        for stack in &mut self.totals {
            stack.outstanding_bytes = 0;
            stack.outstanding_blocks = 0;
        }
    }

    /// Every stack, in the order of the indexes.
    pub fn totals(&self) -> &[StackTotals] {
        &self.totals
    }

    /// Bytes of memory that the stacks take.
    pub fn heap_bytes(&self) -> usize {
        self.index.allocation_size() + self.totals.capacity() * size_of::<StackTotals>()
    }
}

/// An id is a hash already.
fn hash(id: StackId, kind: Kind) -> u64 {
    id.0 ^ kind as u64
}
