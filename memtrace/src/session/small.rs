//! Small objects of Python: which stack made each pool ready that they lie in, and what is in it now, as stacks of a kind of their own.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Instant,
};

use memtrace_common::{Slot, StackId};

use super::notice;
use crate::{
    event::Block,
    ledger::{Count, Kind, Ledger, StackTotals},
    runtime::python::small::{Pool, PoolReader},
    target::Pid,
    turns::Turns,
};

/// The share of the time that reading the heads of pools gets, as one part in this many.
const PARTS: u32 = 100;

/// The most pools of a process that are kept in mind: 8 GiB of them.
const MAX_POOLS: usize = 1 << 19;

/// The most pools that wait for their heads to be read. More are read at once.
const MAX_NEW: usize = 1 << 14;

/// The most stacks of a process that are told apart.
const MAX_STACKS: usize = 1 << 16;

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
    turns: Turns,
    /// Whether it was said that there are too many.
    has_said: bool,
}

/// A pool, as of the last time that its head was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Known {
    stack: StackId,
    block_bytes: u32,
    live: u32,
    /// The most blocks that were ever seen to be in use.
    most: u32,
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

    /// Reads what the pools hold, and puts it into the ledger.
    pub(super) fn ask(&mut self, ledger: &mut Ledger) {
        self.fresh.clear();
        for (&slot, target) in &mut self.targets {
            if target.turns.may_begin() && target.read() {
                self.fresh.insert(slot);
                target.tell(slot, ledger);
            }
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
            turns: Turns::default(),
            has_said: false,
        }
    }

    /// Reads all heads; false if the process has ended.
    fn read(&mut self) -> bool {
        let begun = Instant::now();
        if !self.reader.as_mut().is_some_and(PoolReader::look) {
            return false;
        }
        self.settle();
        self.read_heads();
        self.sum();
        self.turns.ended(begun.elapsed(), PARTS);
        true
    }

    /// Finds the pools of those blocks that have come since.
    fn settle(&mut self) {
        let Some(reader) = &self.reader else { return self.new.clear() };
        for (block, stack) in std::mem::take(&mut self.new) {
            let Some(Pool { address, block_bytes, live }) = reader.around(block) else { continue };
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
        }
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

/// A pool is its stack's no more.
fn leave(stacks: &mut HashMap<StackId, Sum>, known: Known) {
    let sum = stacks.entry(known.stack).or_default();
    sum.gone_objects += u64::from(known.most);
    sum.gone_bytes = sum.gone_bytes.wrapping_add(u64::from(known.most) * u64::from(known.block_bytes));
}
