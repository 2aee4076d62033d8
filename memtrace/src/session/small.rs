//! Small objects of Python: which stack made each pool ready that they lie in, and what is in it now, as stacks of a kind of their own.
//!
//! A pool is made ready by whoever happens to need a block when there is none. That need not be who keeps what is in it later: where
//! many objects come and go, these fill the pools, and what stays lies in their gaps. So the block that each pool was made ready for is
//! looked at again and again in the first seconds. Where it is given back, the pool is nobody's, and all such pools are one heap.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use memtrace_common::{Slot, StackId};

use super::notice;
use crate::{
    event::Block,
    ledger::{Count, Kind, Ledger, StackTotals},
    object::maps::Mapping,
    runtime::{
        CREDIT, PARTS,
        python::small::{Pool, PoolReader},
    },
    symbol::Symbolizer,
    target::Pid,
    turns::{Turns, thread_time},
};

/// The most pools of a process that are kept in mind: 8 GiB of them.
const MAX_POOLS: usize = 1 << 19;

/// The most pools that wait for their heads to be read. More are read at once.
const MAX_NEW: usize = 1 << 14;

/// The most stacks of a process that are told apart.
const MAX_STACKS: usize = 1 << 16;

/// By which id the pools of a process that are nobody's are one stack.
pub(super) const NOBODY: StackId = StackId(0x736d_616c_6c6f_626a);

/// How often it is looked whether the first block of a pool was given back, and at how many pools at most.
const LOOKS: u32 = 64;
const MAX_YOUNG: usize = 4096;

/// The pools of all targets.
#[derive(Default)]
pub(super) struct SmallObjects {
    targets: HashMap<Slot, Target>,
    /// Targets whose pools were read when they were asked for the last time.
    fresh: HashSet<Slot>,
}

/// The pools of one process.
struct Target {
    pid: Pid,
    /// `None` while its memory may not be read.
    reader: Option<PoolReader>,
    /// Blocks of pools that were made ready since the heads were read the last time, and by whom.
    new: Vec<(u64, StackId)>,
    /// By where they begin.
    pools: BTreeMap<u64, Known>,
    stacks: HashMap<StackId, Sum>,
    /// Pools whose first block is still looked at.
    young: VecDeque<Young>,
    turns: Turns,
    looks: Turns,
    /// Whether it was said that there are too many.
    has_said: bool,
}

/// A pool, as of the last time that its head was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Known {
    /// Who made it ready; [`NOBODY`] where what they took of it was given back.
    stack: StackId,
    block_bytes: u32,
    live: u32,
    /// The most blocks that were ever seen to be in use.
    most: u32,
}

/// A pool whose first block is still looked at.
#[derive(Clone, Copy, Debug)]
struct Young {
    address: u64,
    pool_bytes: u32,
    block: u64,
    looks: u32,
}

/// What the pools of one stack hold.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Sum {
    objects: u64,
    bytes: u64,
    /// What was in pools that the stack has no more.
    gone_objects: u64,
    gone_bytes: u64,
}

impl SmallObjects {
    /// A stack has made the pool ready that this block is in.
    pub(super) fn take(&mut self, slot: Slot, pid: Pid, block: Block) {
        let target = self.targets.entry(slot).or_insert_with(|| Target::new(pid));
        target.new.push((block.address.0, block.stack));
        if target.new.len() >= MAX_NEW {
            target.settle();
        }
    }

    /// Looks at pools that were made ready lately.
    pub(super) fn look(&mut self) {
        self.targets.values_mut().for_each(Target::look);
    }

    /// Reads what the pools hold, and puts it into the ledger.
    pub(super) fn ask(&mut self, ledger: &mut Ledger, symbols: &mut Symbolizer) {
        self.fresh.clear();
        for (&slot, target) in &mut self.targets {
            if target.turns.may_begin() && target.read() {
                self.fresh.insert(slot);
                target.tell(slot, ledger);
                name_nobody(slot, target, symbols);
            }
        }
    }

    /// What a target maps from now on.
    pub(super) fn confine(&mut self, slot: Slot, mappings: &[Mapping]) {
        if let Some(reader) = self.targets.get_mut(&slot).and_then(|target| target.reader.as_mut()) {
            reader.confine(mappings);
        }
    }

    /// Whether what a target's pools hold was read when it was asked for the last time.
    pub(super) fn is_known_now(&self, slot: Slot) -> bool {
        self.fresh.contains(&slot)
    }

    /// The target has ended; what its pools held stays what they hold.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.targets.remove(&slot);
    }

    /// The target runs another program: its pools are gone.
    pub(super) fn exec(&mut self, slot: Slot, ledger: &mut Ledger) {
        if let Some(mut target) = self.targets.remove(&slot) {
            target.pools.clear();
            target.sum();
            target.tell(slot, ledger);
        }
    }
}

impl Target {
    fn new(pid: Pid) -> Self {
        Self {
            pid,
            reader: PoolReader::open(pid).ok(),
            new: Vec::new(),
            pools: BTreeMap::new(),
            stacks: HashMap::new(),
            young: VecDeque::new(),
            turns: Turns::with_credit(CREDIT),
            looks: Turns::default(),
            has_said: false,
        }
    }

    /// Reads all heads; false if the process has ended.
    fn read(&mut self) -> bool {
        let begun = thread_time();
        if !self.reader.as_mut().is_some_and(PoolReader::look) {
            return false;
        }
        self.settle();
        self.read_heads();
        self.sum();
        self.turns.ended(thread_time() - begun, PARTS);
        true
    }

    /// Finds the pools of those blocks that have come since.
    fn settle(&mut self) {
        let Some(reader) = &self.reader else { return self.new.clear() };
        for (block, stack) in std::mem::take(&mut self.new) {
            let Some(Pool { address, bytes, block_bytes, live }) = reader.around(block) else { continue };
            let has_room = self.pools.len() < MAX_POOLS && self.stacks.len() < MAX_STACKS;
            if !has_room && !self.pools.contains_key(&address) {
                if !std::mem::replace(&mut self.has_said, true) {
                    notice::too_many_pools(self.pid);
                }
                continue;
            }
            self.stacks.entry(stack).or_default();
            if let Some(before) = self.pools.insert(address, Known { stack, block_bytes, live, most: live }) {
                leave(&mut self.stacks, before);
            }
            if self.young.len() < MAX_YOUNG {
                self.young.push_back(Young { address, pool_bytes: bytes, block, looks: LOOKS });
            }
        }
    }

    /// Looks whether the first blocks of young pools are still in use.
    fn look(&mut self) {
        if self.new.is_empty() && self.young.is_empty() || !self.looks.may_begin() {
            return;
        }
        let begun = thread_time();
        self.settle();
        let (Some(reader), pools) = (&self.reader, &mut self.pools) else { return };
        self.young.retain_mut(|young| {
            young.looks -= 1;
            let is_free = reader.is_free(young.address, young.pool_bytes, young.block);
            if is_free && let Some(known) = pools.get_mut(&young.address) {
                known.stack = NOBODY;
            }
            !is_free && young.looks > 0
        });
        self.looks.ended(thread_time() - begun, PARTS);
    }

    /// Reads the heads of the pools that are in memory.
    fn read_heads(&mut self) {
        let Some(reader) = &self.reader else { return };
        let addresses: Vec<u64> = self.pools.keys().copied().collect();
        let present = reader.present(&addresses);
        let stacks = &mut self.stacks;
        self.pools.retain(|address, known| {
            if !present.contains(address) {
                return true;
            }
            match reader.at(*address) {
                Some(now) if now.block_bytes == known.block_bytes => {
                    known.live = now.live;
                    known.most = known.most.max(now.live);
                    true
                }
                // It is empty, or others have made it ready for other blocks, which they tell of.
                _ => {
                    leave(stacks, *known);
                    false
                }
            }
        });
    }

    fn sum(&mut self) {
        self.stacks.values_mut().for_each(|sum| (sum.objects, sum.bytes) = (0, 0));
        for known in self.pools.values() {
            let sum = self.stacks.entry(known.stack).or_default();
            sum.objects += u64::from(known.live);
            sum.bytes += u64::from(known.live) * u64::from(known.block_bytes);
        }
    }

    fn tell(&self, slot: Slot, ledger: &mut Ledger) {
        for (&id, sum) in &self.stacks {
            let totals = StackTotals {
                id,
                kind: Kind::Small,
                outstanding_bytes: sum.bytes,
                outstanding_blocks: sum.objects,
                allocations: sum.objects + sum.gone_objects,
                allocated_bytes: sum.bytes.wrapping_add(sum.gone_bytes),
                moves: 0,
                moved_bytes: 0,
            };
            ledger.set_count(slot, Count { totals, precision: None });
        }
    }
}

/// Has what is nobody's named by the code of the interpreter that allocates it.
fn name_nobody(slot: Slot, target: &Target, symbols: &mut Symbolizer) {
    if target.stacks.contains_key(&NOBODY) && !symbols.contains(slot, NOBODY) {
        let mut known = target.stacks.keys().filter(|&&id| id != NOBODY);
        let address = known.find_map(|&id| symbols.frames(slot, id).frames.first().map(|frame| frame.address));
        if let Some(address) = address {
            let _ = symbols.observe_written(slot, NOBODY, &[address]);
        }
    }
}

/// A pool is its stack's no more.
fn leave(stacks: &mut HashMap<StackId, Sum>, known: Known) {
    let sum = stacks.entry(known.stack).or_default();
    sum.gone_objects += u64::from(known.most);
    sum.gone_bytes = sum.gone_bytes.wrapping_add(u64::from(known.most) * u64::from(known.block_bytes));
}

#[cfg(test)]
mod tests {
    use memtrace_common::Address;

    use super::*;
    use crate::{runtime::python::pools::tests::pool, symbol};

    const POOL: usize = 16 << 10;
    const SLOT: Slot = Slot(0);
    const WHO: StackId = StackId(7);

    /// Pools in this process's own memory.
    struct Pools {
        memory: Vec<u8>,
        first: usize,
    }

    impl Pools {
        fn new(count: usize) -> Self {
            let memory = vec![0; (count + 1) * POOL];
            let first = memory.as_ptr().align_offset(POOL);
            Self { memory, first }
        }

        fn address(&self, index: usize) -> u64 {
            self.memory.as_ptr() as u64 + (self.first + index * POOL) as u64
        }

        /// A pool of 64-byte blocks, of which the first ones are free.
        fn fill(&mut self, index: usize, free: usize, live: usize) {
            let bytes = pool(POOL, self.address(index), 64, free, live);
            let at = self.first + index * POOL;
            self.memory[at..at + POOL].copy_from_slice(&bytes);
        }
    }

    fn held(small: &mut SmallObjects, stack: StackId) -> (u64, u64) {
        let mut ledger = Ledger::new();
        ledger.add_process(SLOT);
        let mut symbols = Symbolizer::new(symbol::Options::default()).expect("our own root");
        small.targets.values_mut().for_each(|target| target.turns = Turns::default());
        small.ask(&mut ledger, &mut symbols);
        let counts: Vec<_> = ledger.process(SLOT).expect("added").counts().collect();
        let of = counts.iter().find(|count| count.totals.id == stack && count.totals.kind == Kind::Small);
        of.map_or((0, 0), |count| (count.totals.outstanding_blocks, count.totals.outstanding_bytes))
    }

    fn take(small: &mut SmallObjects, block: u64, stack: StackId) {
        let block = Block { address: Address(block), size: 0, level: 0, stack };
        small.take(SLOT, Pid(std::process::id()), block);
    }

    #[test]
    fn a_stack_holds_what_is_in_use_in_its_pools() {
        let (mut pools, mut small) = (Pools::new(3), SmallObjects::default());
        pools.fill(0, 0, 200);
        pools.fill(1, 0, 5);
        take(&mut small, pools.address(0) + 48, WHO);
        take(&mut small, pools.address(1) + 48, WHO);
        // A block in no pool.
        take(&mut small, pools.address(2) + 48, WHO);
        assert_eq!(held(&mut small, WHO), (205, 205 * 64));
        pools.fill(1, 0, 50);
        assert_eq!(held(&mut small, WHO), (250, 250 * 64));
        // An empty pool is none, and neither is one of another size.
        pools.fill(1, 50, 0);
        assert_eq!(held(&mut small, WHO), (200, 200 * 64));
        pools.fill(1, 0, 50);
        assert_eq!(held(&mut small, WHO), (200, 200 * 64), "it is another's, who told nothing of it");
        take(&mut small, pools.address(0) + 48, StackId(8));
        assert_eq!((held(&mut small, WHO), held(&mut small, StackId(8))), ((0, 0), (200, 200 * 64)));
    }

    #[test]
    fn a_pool_whose_first_block_is_given_back_is_nobodys() {
        let (mut pools, mut small) = (Pools::new(2), SmallObjects::default());
        pools.fill(0, 0, 200);
        pools.fill(1, 0, 200);
        take(&mut small, pools.address(0) + 48, WHO);
        take(&mut small, pools.address(1) + 48, WHO);
        small.look();
        assert_eq!(held(&mut small, WHO), (400, 400 * 64));
        pools.fill(1, 1, 199);
        small.targets.values_mut().for_each(|target| target.looks = Turns::default());
        small.look();
        assert_eq!((held(&mut small, WHO), held(&mut small, NOBODY)), ((200, 200 * 64), (199, 199 * 64)));
        small.exec(SLOT, &mut Ledger::new());
        assert_eq!(held(&mut small, WHO), (0, 0));
    }

    #[test]
    fn only_so_many_looks_are_taken() {
        let (mut pools, mut small) = (Pools::new(1), SmallObjects::default());
        pools.fill(0, 0, 200);
        take(&mut small, pools.address(0) + 48, WHO);
        for _ in 0..=LOOKS {
            small.targets.values_mut().for_each(|target| target.looks = Turns::default());
            small.look();
        }
        assert!(small.targets.values().all(|target| target.young.is_empty()));
    }
}
