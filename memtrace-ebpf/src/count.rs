//! Counters: one for each way to lose, defer or leave out an event, per target.

use core::intrinsics::AtomicOrdering;

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use memtrace_common::{
    counter::{Counter, TargetCounters},
    limits::MAX_TARGETS,
};

#[btf_map]
static COUNTERS: Array<TargetCounters, MAX_TARGETS> = Array::new();

/// Adds to a counter of the target in `slot`; returns what it was before.
#[inline(always)]
pub fn add(slot: u16, counter: Counter, amount: u64) -> u64 {
    let Some(counters) = COUNTERS.get_ptr_mut(u32::from(slot)) else { return 0 };
    // SAFETY: the pointer is to a live array element; other CPUs add to it atomically as well.
    unsafe { atomic_add(&raw mut (*counters).values[counter as usize], amount) }
}

/// Adds atomically, and returns the old value.
///
/// # Safety
///
/// `target` must point into a map value.
#[inline(always)]
pub unsafe fn atomic_add(target: *mut u64, amount: u64) -> u64 {
    // SAFETY: aligned (map values are 8-byte aligned) and valid as the caller promises. The library's `AtomicU64` has no
    // `fetch_add` on this target, whose compare-and-swap it does not know of; the instruction exists (BPF_ATOMIC).
    unsafe { core::intrinsics::atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(target, amount) }
}

/// Puts a value in place of another, which it returns.
///
/// # Safety
///
/// `target` must point into a map value.
#[inline(always)]
pub unsafe fn atomic_exchange(target: *mut u64, value: u64) -> u64 {
    // SAFETY: as for `atomic_add`.
    unsafe { core::intrinsics::atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(target, value) }
}
