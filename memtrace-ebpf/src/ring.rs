//! Sending: records into the rings (`memtrace_common::ring`), with three classes of room, and stacks into a ring buffer of
//! the kernel's.
//!
//! A program reserves room in its processor's ring by one atomic instruction. Nobody else is kept from that, or waited for:
//! between processors nothing is shared. As a ring fills up, allocations have to wait from a half on, releases from fifteen
//! sixteenths on (`deferred`); everything else (mappings, failures, exec) may fill it to the end. Nobody wakes user space for
//! one record: it looks by itself many times a second, and is woken early, once, when a ring fills faster than that.

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    btf_maps::{Array, RingBuf},
    helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_ringbuf_output, bpf_ringbuf_query},
    macros::btf_map,
};
use memtrace_common::{
    arch::PAGE_BYTES,
    event::{AddressRecord, BlockRecord, MarkRecord, RangeRecord},
    limits::DEFAULT_RING_BYTES,
    ring::{MAX_RECORD_BYTES, MAX_RINGS, RingPage, RingPositions, record_begin},
};

use crate::atomic;

/// Pages of all rings, one ring behind the other; user space sets how many, and reads through a mapping.
#[btf_map]
static EVENTS: Array<RingPage, { DEFAULT_RING_BYTES as usize / PAGE_BYTES as usize }, { BPF_F_MMAPABLE as usize }> =
    Array::new();

/// Positions of all rings; user space reads and writes them through a mapping.
#[btf_map]
static POSITIONS: Array<RingPositions, MAX_RINGS, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Stacks that user space has not seen yet.
#[btf_map]
static STACKS: RingBuf<u64, { DEFAULT_RING_BYTES as usize / 4 }> = RingBuf::new();

/// One element: not 0 once user space has been woken and has not yet drained.
#[btf_map]
static WOKEN: Array<u64, 1> = Array::new();

/// One less than the number of rings.
#[unsafe(no_mangle)]
static RING_MASK: Global<u64> = Global::new(0);

/// The bytes of one ring; a power of two.
#[unsafe(no_mangle)]
static RING_BYTES: Global<u64> = Global::new(DEFAULT_RING_BYTES as u64);

/// How often room is asked for if others of the same processor, or of one with the same ring, come in between.
const TRIES: usize = 4;

/// How far a record may fill a ring.
#[derive(Clone, Copy, PartialEq)]
pub enum Class {
    /// Yields first.
    Allocation,
    /// Yields when the ring is nearly full.
    Release,
    /// Never yields.
    Essential,
}

/// What rings carry: whole words, no more than [`MAX_RECORD_BYTES`], the first of them a head.
///
/// # Safety
///
/// The type must be just that, without padding.
pub unsafe trait Record: Copy {}

// SAFETY: `memtrace_common::event` asserts their sizes.
unsafe impl Record for AddressRecord {}
// SAFETY: as above.
unsafe impl Record for BlockRecord {}
// SAFETY: as above.
unsafe impl Record for MarkRecord {}
// SAFETY: as above.
unsafe impl Record for RangeRecord {}

/// The time that a record carries, which the rings are merged by: nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// Writes `record` if its class still has room; tells whether it did.
#[inline(always)]
pub fn send<T: Record>(class: Class, record: T) -> bool {
    // SAFETY: no arguments.
    let ring = u64::from(unsafe { bpf_get_smp_processor_id() }) & RING_MASK.load();
    let Some(positions) = POSITIONS.get_ptr_mut(ring as u32) else { return false };
    let ring_bytes = RING_BYTES.load();
    for _ in 0..TRIES {
        // SAFETY: a live array element, which others write at any moment.
        let (written, read) = unsafe {
            ((&raw const (*positions).written).read_volatile(), (&raw const (*positions).read).read_volatile())
        };
        let used = written.wrapping_sub(read);
        let begin = record_begin(written);
        let end = begin + size_of::<T>() as u64;
        if used >= mark(class, ring_bytes) || end.wrapping_sub(read) > ring_bytes {
            return false;
        }
        // SAFETY: a live array element.
        if unsafe { atomic::replace(&raw mut (*positions).written, written, end) } {
            write(ring * ring_bytes + (begin & (ring_bytes - 1)), &record);
            if used >= ring_bytes / 16 {
                wake();
            }
            return true;
        }
    }
    false
}

/// Bytes in a ring from which this class has to wait.
#[inline(always)]
const fn mark(class: Class, ring_bytes: u64) -> u64 {
    match class {
        Class::Allocation => ring_bytes / 2,
        Class::Release => ring_bytes / 16 * 15,
        Class::Essential => ring_bytes,
    }
}

/// Fills room that was reserved; the head last, which says that the rest is there. (x86-64 keeps the order of writes.)
#[inline(always)]
fn write<T: Record>(place: u64, record: &T) {
    let Some(page) = EVENTS.get_ptr_mut((place / PAGE_BYTES) as u32) else { return };
    // A number of which the compiler knows nothing: it leaves the check in place that the verifier needs.
    let word = core::hint::black_box(place) as usize & (PAGE_BYTES as usize - 1);
    if word > (PAGE_BYTES - MAX_RECORD_BYTES) as usize {
        return;
    }
    // SAFETY: within the page, and both are whole words. Volatile, so that the order stays.
    unsafe {
        let (to, from) = (page.byte_add(word).cast::<u64>(), (&raw const *record).cast::<u64>());
        for index in (0..size_of::<T>() / 8).rev() {
            to.add(index).write_volatile(from.add(index).read());
        }
    }
}

/// Writes `bytes` bytes from `record`, a stack, if there is room; tells whether there was.
///
/// # Safety
///
/// `record` must point to at least `bytes` readable bytes, in a way that the verifier can see.
#[inline(always)]
pub unsafe fn send_stack(record: *mut u8, bytes: u64) -> bool {
    // SAFETY: the ring is a live map; 0 is BPF_RB_AVAIL_DATA.
    if unsafe { bpf_ringbuf_query(stacks(), 0) } >= RING_BYTES.load() / 16 {
        wake();
    }
    // SAFETY: as the caller promises.
    unsafe { bpf_ringbuf_output(stacks(), record.cast(), bytes, u64::from(BPF_RB_NO_WAKEUP)) == 0 }
}

#[inline(always)]
fn stacks() -> *mut core::ffi::c_void {
    (&raw const STACKS).cast_mut().cast()
}

/// Wakes user space, which waits for the kernel's ring buffer, unless that was done and it has not drained since.
#[inline(never)]
fn wake() {
    let Some(woken) = WOKEN.get_ptr_mut(0) else { return };
    // SAFETY: a live array element. Two CPUs may both find 0 and wake twice, which is harmless.
    unsafe {
        if woken.read_volatile() != 0 {
            return;
        }
        woken.write_volatile(1);
    }
    if let Some(nothing) = STACKS.reserve_untyped::<u64>(0) {
        nothing.discard(u64::from(BPF_RB_FORCE_WAKEUP));
    }
}
