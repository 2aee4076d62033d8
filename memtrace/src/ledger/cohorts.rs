//! What sets of stacks still hold of each cohort of blocks.

use super::{Cohort, Kind, process::ProcessLedger};
use memtrace_common::StackId;

impl ProcessLedger {
    /// What each of `sets` sets of stacks still holds of each cohort: one pass over all live blocks and ranges. `member`
    /// adds the sets that a stack is in to a list; `ends_ns` cuts time as in [`cohorts`](Self::cohorts).
    pub fn cohorts_of_sets(
        &self,
        sets: usize,
        ends_ns: &[u64],
        mut member: impl FnMut(StackId, Kind, &mut Vec<u32>),
    ) -> Vec<Vec<Cohort>> {
        let mut found = vec![vec![Cohort::default(); ends_ns.len()]; sets];
        let Some(newest) = ends_ns.len().checked_sub(1) else { return found };
        // The sets of stack `i` are `sets_of[from[i]..from[i + 1]]`.
        let (mut from, mut sets_of) = (vec![0], Vec::new());
        for stack in self.stacks() {
            member(stack.id, stack.kind, &mut sets_of);
            from.push(sets_of.len());
        }
        self.for_each_live(|stack, weight, time_ns| {
            let mine = &sets_of[from[stack as usize]..from[stack as usize + 1]];
            if mine.is_empty() {
                return;
            }
            let cohort = ends_ns.partition_point(|&end| end <= time_ns).min(newest);
            for &set in mine {
                found[set as usize][cohort].add(weight.bytes());
            }
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use memtrace_common::{Address, Slot};

    use super::*;
    use crate::{
        event::{Block, Event, What},
        ledger::Ledger,
    };

    #[test]
    fn a_block_counts_in_each_set_of_its_stack() {
        let mut ledger = Ledger::new();
        ledger.add_process(Slot(0));
        for (time_ns, stack, size) in [(5, 1, 10), (15, 1, 20), (15, 2, 40), (25, 3, 80)] {
            let block = Block { address: Address(time_ns * 1000 + stack * 64), size, stack: StackId(stack), level: 0 };
            ledger.apply(&Event { slot: Slot(0), thread: 1, time_ns, what: What::Allocate(block) });
        }
        let process = ledger.process(Slot(0)).expect("as added");
        let found = process.cohorts_of_sets(2, &[10, 20], |id, _, sets| match id.0 {
            1 => sets.extend([0, 1]),
            2 => sets.push(1),
            _ => {}
        });
        let bytes: Vec<Vec<u64>> = found.iter().map(|set| set.iter().map(|cohort| cohort.bytes).collect()).collect();
        assert_eq!(bytes, [[10, 20], [10, 60]]);
        assert!(process.cohorts_of_sets(1, &[], |_, _, _| {})[0].is_empty());
    }
}
