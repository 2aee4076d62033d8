//! What a child begins with.

use memtrace_common::{Address, Slot, StackId};

use super::Ledger;
use crate::event::{Block, Event, What};

/// A parent and a child that was forked from it.
struct Family(Ledger);

const PARENT: Slot = Slot(1);
const CHILD: Slot = Slot(2);

impl Family {
    fn new() -> Self {
        let mut ledger = Ledger::new();
        ledger.follow_forks();
        ledger.add_process(PARENT);
        ledger.add_process(CHILD);
        Self(ledger)
    }

    fn apply(&mut self, slot: Slot, time_ns: u64, what: What<'_>) -> &mut Self {
        self.0.apply(&Event { slot, thread: 1, time_ns, what });
        self
    }

    /// Inherited blocks and bytes, releases of those, unmatched releases, blocks of its own.
    fn child(&self) -> (u64, u64, u64, u64, u64) {
        let totals = self.0.process(CHILD).expect("added").totals();
        let own = totals.outstanding_blocks;
        (totals.inherited_blocks, totals.inherited_bytes, totals.inherited_frees, totals.frees_unmatched, own)
    }
}

const fn block(address: u64, size: u64) -> What<'static> {
    What::Allocate(Block { address: Address(address), size, level: 0, stack: StackId(5) })
}

const fn release(address: u64) -> What<'static> {
    What::Release(Address(address))
}

#[test]
fn a_child_begins_with_what_its_parent_held_at_the_fork() {
    let mut family = Family::new();
    // Released before the fork; held through it; released after it; allocated after it.
    family.apply(PARENT, 10, block(0x1000, 1)).apply(PARENT, 20, release(0x1000));
    family.apply(PARENT, 30, block(0x2000, 2)).apply(PARENT, 40, block(0x3000, 4));
    family.apply(PARENT, 60, release(0x3000)).apply(PARENT, 70, block(0x4000, 8));
    family.0.inherit(CHILD, PARENT, 50);
    assert_eq!(family.child(), (2, 6, 0, 0, 0));
    // Its releases of them match; what nobody held does not.
    family.apply(CHILD, 80, release(0x3000)).apply(CHILD, 81, release(0x4000));
    assert_eq!(family.child(), (1, 2, 1, 1, 0));
    // A block of its own where one was: that had gone unseen.
    family.apply(CHILD, 90, block(0x2000, 16));
    assert_eq!(family.child(), (0, 0, 1, 1, 1));
    assert_eq!(family.0.process(PARENT).expect("added").totals().inherited_blocks, 0);
}

#[test]
fn a_failed_realloc_leaves_an_inherited_block_and_exec_takes_all() {
    let mut family = Family::new();
    family.apply(PARENT, 10, block(0x1000, 100)).apply(PARENT, 11, block(0x2000, 50));
    family.0.inherit(CHILD, PARENT, 20);
    family.apply(CHILD, 30, What::ReallocBegin(Address(0x1000)));
    assert_eq!(family.child(), (1, 50, 1, 0, 0));
    family.apply(CHILD, 31, What::ReallocFailed);
    assert_eq!(family.child(), (2, 150, 0, 0, 0));
    family.apply(CHILD, 40, What::Exec { by_other_thread: false });
    assert_eq!(family.child(), (0, 0, 0, 0, 0));
}

#[test]
fn a_grandchild_gets_what_the_child_had() {
    let mut family = Family::new();
    family.apply(PARENT, 10, block(0x1000, 100));
    family.0.inherit(CHILD, PARENT, 20);
    family.apply(CHILD, 30, block(0x2000, 7));
    family.0.add_process(Slot(3));
    family.0.inherit(Slot(3), CHILD, 40);
    let totals = family.0.process(Slot(3)).expect("added").totals();
    assert_eq!((totals.inherited_blocks, totals.inherited_bytes), (2, 107));
}
