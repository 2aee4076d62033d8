//! Atomic instructions on map values.

use core::intrinsics::AtomicOrdering;

/// Adds atomically, and returns the old value.
///
/// # Safety
///
/// `target` must point into a map value.
#[inline(always)]
pub unsafe fn add(target: *mut u64, amount: u64) -> u64 {
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
pub unsafe fn exchange(target: *mut u64, value: u64) -> u64 {
    // SAFETY: as for `add`.
    unsafe { core::intrinsics::atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(target, value) }
}

/// Compares and swaps from 0 to `value`; true when the target was 0 and now is `value`.
///
/// # Safety
///
/// `target` must point into a map value.
#[inline(always)]
pub unsafe fn claim(target: *mut u64, value: u64) -> bool {
    // SAFETY: as for `add`.
    unsafe { replace(target, 0, value) }
}

/// Compares and swaps from `old` to `value`; true when the target was `old`.
///
/// # Safety
///
/// `target` must point into a map value.
#[inline(always)]
pub unsafe fn replace(target: *mut u64, old: u64, value: u64) -> bool {
    // SAFETY: as for `add`.
    let (found, _) = unsafe {
        core::intrinsics::atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
            target, old, value,
        )
    };
    found == old
}
