//! The ring: one for all CPUs, so that all events have one order, with three classes of room.
//!
//! Allocations may fill it to the first mark, releases to the second, and what can wait nowhere else (mappings, failures,
//! exec, stacks) to the end. Nobody wakes user space for one event: it looks by itself many times a second, and is
//! woken early, once, when the ring fills faster than that.

use aya_ebpf::{
    Global,
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    btf_maps::{Array, RingBuf},
    helpers::generated::{bpf_ringbuf_output, bpf_ringbuf_query},
    macros::btf_map,
};
use memtrace_common::{
    limits::{DEFAULT_RING_BYTES, MAX_CREDIT},
    thread::ThreadState,
};

#[btf_map]
static EVENTS: RingBuf<u64, { DEFAULT_RING_BYTES as usize }> = RingBuf::new();

/// One element: not 0 once user space has been woken and has not yet drained.
#[btf_map]
static WOKEN: Array<u64, 1> = Array::new();

/// Bytes in the ring from which allocations wait.
#[unsafe(no_mangle)]
static ALLOCATION_MARK: Global<u64> = Global::new(DEFAULT_RING_BYTES as u64 / 2);

/// Bytes in the ring from which releases wait.
#[unsafe(no_mangle)]
static RELEASE_MARK: Global<u64> = Global::new(DEFAULT_RING_BYTES as u64 / 16 * 15);

/// Bytes in the ring from which user space is woken.
#[unsafe(no_mangle)]
static WAKE_MARK: Global<u64> = Global::new(DEFAULT_RING_BYTES as u64 / 16);

/// For every so many bytes of room below [`WAKE_MARK`] a thread may send one event without asking.
const CREDIT_BYTES: u64 = 4096;

/// How far a record may fill the ring.
#[derive(Clone, Copy, PartialEq)]
pub enum Class {
    /// Yields first.
    Allocation,
    /// Yields when the ring is nearly full.
    Release,
    /// Never yields.
    Essential,
}

/// Writes `record` if its class still has room; tells whether it did.
///
/// A thread that found the ring nearly empty does not ask again for its next few events: all of them together are small
/// beside the room between the marks.
#[inline(always)]
pub fn send<T: 'static>(state: Option<&mut ThreadState>, class: Class, record: T) -> bool {
    let flags = match state {
        Some(state) if state.credit != 0 => {
            state.credit -= 1;
            u64::from(BPF_RB_NO_WAKEUP)
        }
        state => {
            let used = used();
            if !has_room(class, used) {
                return false;
            }
            if let Some(state) = state
                && used < WAKE_MARK.load()
            {
                state.credit = (WAKE_MARK.load() / CREDIT_BYTES).min(MAX_CREDIT);
            }
            wake_flags(used)
        }
    };
    let Some(mut entry) = EVENTS.reserve_untyped::<T>(0) else {
        return false;
    };
    entry.write(record);
    entry.submit(flags);
    true
}

/// Writes `bytes` bytes from `record`, as an allocation's stack: it may fill the ring as far as releases may.
///
/// # Safety
///
/// `record` must point to at least `bytes` readable bytes, in a way that the verifier can see.
#[inline(always)]
pub unsafe fn send_bytes(record: *mut u8, bytes: u64) -> bool {
    let used = used();
    if !has_room(Class::Release, used) {
        return false;
    }
    // SAFETY: as the caller promises.
    unsafe { bpf_ringbuf_output(ring(), record.cast(), bytes, wake_flags(used)) == 0 }
}

#[inline(always)]
fn ring() -> *mut core::ffi::c_void {
    (&raw const EVENTS).cast_mut().cast()
}

#[inline(always)]
fn used() -> u64 {
    // SAFETY: the ring is a live map; 0 is BPF_RB_AVAIL_DATA.
    unsafe { bpf_ringbuf_query(ring(), 0) }
}

#[inline(always)]
fn has_room(class: Class, used: u64) -> bool {
    match class {
        Class::Allocation => used < ALLOCATION_MARK.load(),
        Class::Release => used < RELEASE_MARK.load(),
        Class::Essential => true,
    }
}

#[inline(always)]
fn wake_flags(used: u64) -> u64 {
    if used < WAKE_MARK.load() {
        return u64::from(BPF_RB_NO_WAKEUP);
    }
    let Some(woken) = WOKEN.get_ptr_mut(0) else { return u64::from(BPF_RB_NO_WAKEUP) };
    // SAFETY: a live array element. Two CPUs may both find 0 and wake twice, which is harmless.
    unsafe {
        if woken.read_volatile() != 0 {
            return u64::from(BPF_RB_NO_WAKEUP);
        }
        woken.write_volatile(1);
    }
    u64::from(BPF_RB_FORCE_WAKEUP)
}
