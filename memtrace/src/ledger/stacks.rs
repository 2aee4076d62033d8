//! The stacks of one process: 64-bit ids in, small indexes out, and what each stack holds.

use hashbrown::HashTable;
use memtrace_common::StackId;

use super::{
    Kind,
    estimate::{Distances, Precision, Weight},
};

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
    /// Bytes of the blocks or mappings that ever appeared.
    pub allocated_bytes: u64,
    /// How many of the allocations are no new blocks: `realloc` moved or resized a block that stays with the stack where it was born.
    pub moves: u64,
    /// Bytes of the blocks in `moves`, by their sizes after the move.
    pub moved_bytes: u64,
}

/// The stacks of one process. A stack that holds both heap blocks and mapped ranges counts as two.
///
/// Sums of bytes wrap: sizes are the target's word, and an absurd one must not stop the tracer.
#[derive(Default)]
pub struct Stacks {
    index: HashTable<u32>,
    totals: Vec<StackTotals>,
    /// Kept where blocks are sampled.
    sampled: Option<Box<Sampled>>,
}

/// What the blocks that were seen stand for, by stack.
#[derive(Default)]
struct Sampled {
    distances: Distances,
    live: Vec<Weight>,
    ever: Vec<Weight>,
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
        if let Some(sampled) = &mut self.sampled {
            sampled.live.push(Weight::default());
            sampled.ever.push(Weight::default());
        }
        self.totals.push(StackTotals {
            id,
            kind,
            outstanding_bytes: 0,
            outstanding_blocks: 0,
            allocations: 0,
            allocated_bytes: 0,
            moves: 0,
            moved_bytes: 0,
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

    /// Blocks of these levels are a sample from now on.
    pub fn sample(&mut self, distances: Distances) {
        let totals = &self.totals;
        let sampled = self.sampled.get_or_insert_with(|| {
            // Until now every block was seen.
            let exact = |blocks, bytes| Weight::exact(blocks, bytes);
            Box::new(Sampled {
                distances,
                live: totals.iter().map(|stack| exact(stack.outstanding_blocks, stack.outstanding_bytes)).collect(),
                ever: totals.iter().map(|stack| exact(stack.allocations, stack.allocated_bytes)).collect(),
            })
        });
        sampled.distances = distances;
    }

    /// What a block stands for that was seen at this level.
    pub fn weigh(&self, bytes: u64, level: u8) -> Weight {
        self.sampled.as_ref().map_or(Weight::exact(1, bytes), |sampled| sampled.distances.weigh(bytes, level))
    }

    /// The chance with which a block of this size is seen at this level.
    pub fn chance(&self, bytes: u64, level: u8) -> f64 {
        self.sampled.as_ref().map_or(1.0, |sampled| sampled.distances.chance(bytes, level))
    }

    /// A block of the stack appeared; whether it lives is not said.
    pub fn counted(&mut self, index: u32, bytes: u64, level: u8) {
        if let Some(sampled) = &mut self.sampled {
            sampled.ever[index as usize].add(sampled.distances.weigh(bytes, level));
        }
        let stack = &mut self.totals[index as usize];
        stack.allocations += 1;
        stack.allocated_bytes = stack.allocated_bytes.wrapping_add(bytes);
    }

    /// The last block that was counted for the stack is no new one.
    pub fn moved(&mut self, index: u32, bytes: u64) {
        let stack = &mut self.totals[index as usize];
        stack.moves += 1;
        stack.moved_bytes = stack.moved_bytes.wrapping_add(bytes);
    }

    /// A block of the stack lives.
    pub fn holds(&mut self, index: u32, bytes: u64, level: u8) {
        if let Some(sampled) = &mut self.sampled {
            sampled.live[index as usize].add(sampled.distances.weigh(bytes, level));
        }
        let stack = &mut self.totals[index as usize];
        stack.outstanding_blocks += 1;
        stack.outstanding_bytes = stack.outstanding_bytes.wrapping_add(bytes);
    }

    /// A block of the stack that lived does not any more.
    pub fn released(&mut self, index: u32, bytes: u64, level: u8) {
        if let Some(sampled) = &mut self.sampled {
            sampled.live[index as usize].take(sampled.distances.weigh(bytes, level));
        }
        let stack = &mut self.totals[index as usize];
        stack.outstanding_blocks -= 1;
        stack.outstanding_bytes = stack.outstanding_bytes.wrapping_sub(bytes);
    }

    /// Notes that no block of any stack lives any more.
    pub fn clear_outstanding(&mut self) {
        for stack in &mut self.totals {
            stack.outstanding_bytes = 0;
            stack.outstanding_blocks = 0;
        }
        self.sampled.iter_mut().for_each(|sampled| sampled.live.fill(Weight::default()));
    }

    /// Every stack, in the order of the indexes: the blocks that were seen.
    pub fn totals(&self) -> &[StackTotals] {
        &self.totals
    }

    /// Every stack, in the order of the indexes: what the blocks that were seen stand for.
    pub fn estimates(&self) -> impl ExactSizeIterator<Item = StackTotals> + '_ {
        self.totals.iter().enumerate().map(|(index, &seen)| {
            let Some(sampled) = &self.sampled else { return seen };
            let (live, ever) = (sampled.live[index], sampled.ever[index]);
            StackTotals {
                outstanding_bytes: live.bytes(),
                outstanding_blocks: live.blocks(),
                allocations: ever.blocks(),
                allocated_bytes: ever.bytes(),
                ..seen
            }
        })
    }

    /// How well these are known, in the same order; `None` where every block is seen.
    pub fn precision(&self) -> Option<impl Iterator<Item = Precision> + '_> {
        let sampled = self.sampled.as_ref()?;
        Some(self.totals.iter().zip(&sampled.live).zip(&sampled.ever).map(|((seen, live), ever)| Precision {
            live_seen: seen.outstanding_blocks,
            ever_seen: seen.allocations - seen.moves,
            live: live.variance(),
            // A block that settled where it was born was counted where `realloc` was called.
            turnover: (2.0 * ever.variance() - live.variance()).max(live.variance()),
        }))
    }
}

/// An id is a hash already.
fn hash(id: StackId, kind: Kind) -> u64 {
    id.0 ^ kind as u64
}
