//! Counters: one for each way to lose, defer or leave out an event, per target.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use memtrace_common::{
    counter::{Counter, TargetCounters},
    limits::MAX_TARGETS,
};

use crate::atomic;

#[btf_map]
static COUNTERS: Array<TargetCounters, MAX_TARGETS> = Array::new();

/// Adds to a counter of the target in `slot`; returns what it was before.
#[inline(always)]
pub fn add(slot: u16, counter: Counter, amount: u64) -> u64 {
    let Some(counters) = COUNTERS.get_ptr_mut(u32::from(slot)) else { return 0 };
    // SAFETY: the pointer is to a live array element; other CPUs add to it atomically as well.
    unsafe { atomic::add(&raw mut (*counters).values[counter as usize], amount) }
}
