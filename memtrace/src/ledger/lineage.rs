//! Blocks that `realloc` hands from one call stack to another again and again: a log to which several callers append.
//!
//! A block that `realloc` moves or resizes belongs to the stack of that call, as any new block does: what an `append`
//! enlarges is to be blamed on it, and not on the `init` where it was small. But where the callers take turns, each stack
//! would hold the whole buffer or nothing, and none would grow. So from its third change of stack on a block stays with the
//! stack where it was born, and who enlarged it is counted.

use hashbrown::HashMap;
use memtrace_common::StackId;

/// At this change of its stack a block returns to where it was born, and stays there.
const SETTLING_MOVE: u8 = 3;

/// The most blocks whose moves are remembered, 34 bytes each at most; others belong to the stack of their last `realloc`.
const MAX_BLOCKS: usize = 1 << 18;

/// The most stacks for which it is counted who enlarges their blocks.
const MAX_STACKS: usize = 1 << 12;

/// The most callers that are told apart for one stack; the rest are one sum.
const MAX_CALLERS: usize = 16;

/// The past of a block that changed its stack at least once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lineage {
    /// The index of the stack where it was born.
    birth: u32,
    /// How often its stack changed; no higher than [`SETTLING_MOVE`].
    moves: u8,
}

impl Lineage {
    /// The past of a block of the stack `holder` after a `realloc` by `caller`; `None` if it never had another stack.
    pub fn after(past: Option<Self>, holder: u32, caller: u32) -> Option<Self> {
        match past {
            None if holder == caller => None,
            None => Some(Self { birth: holder, moves: 1 }),
            Some(known) if known.is_settled() || holder == caller => Some(known),
            Some(known) => Some(Self { moves: known.moves + 1, ..known }),
        }
    }

    /// The stack that it stays with, whoever calls `realloc`.
    pub fn settled(self) -> Option<u32> {
        self.is_settled().then_some(self.birth)
    }

    const fn is_settled(self) -> bool {
        self.moves >= SETTLING_MOVE
    }
}

/// By how much calls enlarged blocks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Enlarged {
    /// Calls.
    pub calls: u64,
    /// Bytes that the blocks became larger by; wraps.
    pub bytes: u64,
}

impl Enlarged {
    const fn add(&mut self, bytes: u64) {
        self.calls += 1;
        self.bytes = self.bytes.wrapping_add(bytes);
    }
}

/// Who enlarges the blocks of a stack.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Enlargers {
    /// The callers of `realloc`, those that added the most bytes first.
    pub callers: Vec<(StackId, Enlarged)>,
    /// What all callers did, those that are not listed included.
    pub all: Enlarged,
}

/// What is remembered of the callers of one stack.
#[derive(Debug, Default)]
struct Callers {
    /// By index of the caller's stack.
    known: Vec<(u32, Enlarged)>,
    all: Enlarged,
}

/// The pasts of the live blocks that changed their stack, and who enlarged those that settled.
#[derive(Debug, Default)]
pub struct Lineages {
    blocks: HashMap<u64, Lineage>,
    /// More than half of the room is taken by blocks that settled; no others are remembered, and nobody looks for them again.
    crowded: bool,
    stacks: HashMap<u32, Callers>,
}

impl Lineages {
    /// The past of the block at this address, which is gone.
    pub fn take(&mut self, address: u64) -> Option<Lineage> {
        // Most programs have none at most times.
        if self.blocks.is_empty() { None } else { self.blocks.remove(&address) }
    }

    /// The block at this address has a past, which is remembered if there is room.
    pub fn put(&mut self, address: u64, lineage: Lineage) {
        self.crowded &= self.blocks.len() > MAX_BLOCKS / 2;
        if self.blocks.len() >= MAX_BLOCKS && !self.crowded {
            // Most blocks change their stack once or twice and never again.
            self.blocks.retain(|_, known| known.is_settled());
            self.crowded = self.blocks.len() > MAX_BLOCKS / 2;
        }
        if self.blocks.len() < MAX_BLOCKS && (lineage.is_settled() || !self.crowded) {
            self.blocks.insert(address, lineage);
        }
    }

    /// A block that settled with the stack `holder` became larger by a call of the stack `caller`.
    pub fn enlarged(&mut self, holder: u32, caller: u32, bytes: u64) {
        if self.stacks.len() >= MAX_STACKS && !self.stacks.contains_key(&holder) {
            return;
        }
        let callers = self.stacks.entry(holder).or_default();
        callers.all.add(bytes);
        match callers.known.iter().position(|&(known, _)| known == caller) {
            Some(place) => callers.known[place].1.add(bytes),
            None if callers.known.len() < MAX_CALLERS => callers.known.push((caller, Enlarged { calls: 1, bytes })),
            None => {}
        }
    }

    /// Who enlarges the blocks of a stack; nobody unless some of them have settled with it.
    pub fn enlargers(&self, holder: u32, id: impl Fn(u32) -> StackId) -> Enlargers {
        let Some(callers) = self.stacks.get(&holder) else { return Enlargers::default() };
        let mut found: Vec<_> = callers.known.iter().map(|&(caller, enlarged)| (id(caller), enlarged)).collect();
        found.sort_by_key(|&(id, enlarged)| (std::cmp::Reverse(enlarged.bytes), id));
        Enlargers { callers: found, all: callers.all }
    }

    /// Bytes of memory that this takes, about.
    #[cfg(test)]
    pub fn heap_bytes(&self) -> usize {
        let callers: usize = self.stacks.values().map(|callers| callers.known.capacity()).sum();
        self.blocks.allocation_size() + self.stacks.allocation_size() + callers * size_of::<(u32, Enlarged)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_returns_to_its_birth_at_the_third_change_and_stays() {
        let (mut past, mut holder) = (None, 7);
        let mut held = Vec::new();
        for caller in [7, 8, 8, 9, 8, 9, 10] {
            past = Lineage::after(past, holder, caller);
            holder = past.and_then(Lineage::settled).unwrap_or(caller);
            held.push(holder);
        }
        assert_eq!(held, [7, 8, 8, 9, 7, 7, 7]);
    }

    #[test]
    fn memory_is_bounded_and_settled_blocks_are_kept_the_longest() {
        let mut lineages = Lineages::default();
        let (settled, moved) = (Lineage { birth: 1, moves: SETTLING_MOVE }, Lineage { birth: 1, moves: 1 });
        lineages.put(1, settled);
        (2..2 * MAX_BLOCKS as u64).for_each(|address| lineages.put(address, moved));
        assert!(lineages.blocks.len() <= MAX_BLOCKS);
        assert_eq!(lineages.take(1), Some(settled));
        (0..2 * MAX_BLOCKS as u64).for_each(|address| lineages.put(address, settled));
        assert!((MAX_BLOCKS / 2..=MAX_BLOCKS).contains(&lineages.blocks.len()), "{}", lineages.blocks.len());
        lineages.put(1, moved);
        assert_eq!(lineages.take(1), Some(settled), "a block that has not settled must not displace one that has");
        assert!(lineages.heap_bytes() < 48 * MAX_BLOCKS, "{}", lineages.heap_bytes());
    }

    #[test]
    fn callers_beyond_the_limit_count_in_the_sum() {
        let mut lineages = Lineages::default();
        (0..100).for_each(|caller| lineages.enlarged(5, caller, u64::from(caller) + 1));
        let Enlargers { callers, all } = lineages.enlargers(5, |index| StackId(u64::from(index)));
        assert_eq!(all, Enlarged { calls: 100, bytes: 5050 });
        assert_eq!(callers.len(), MAX_CALLERS);
        assert_eq!(callers[0], (StackId(15), Enlarged { calls: 1, bytes: 16 }));
        assert_eq!(lineages.enlargers(6, |_| StackId(0)), Enlargers::default());
        (0..2 * MAX_STACKS as u32).for_each(|holder| lineages.enlarged(holder, 1, 1));
        assert_eq!(lineages.stacks.len(), MAX_STACKS);
    }
}
