//! Which block `malloc` is about to return, so that its return need not be seen: a third of what a pair of calls costs.
//!
//! The thread's own cache is read at the entry, see [`memtrace_common::prediction`]. A thread's first prediction
//! and some later ones are compared with what the call returns; the first wrong one ends them for the target.

use aya_ebpf::{
    Global,
    btf_maps::Array,
    helpers::{
        bpf_probe_read_user,
        generated::{bpf_get_current_task_btf, bpf_probe_read_kernel},
    },
    macros::btf_map,
};
use memtrace_common::{
    cookie,
    counter::Counter,
    limits::MAX_TARGETS,
    prediction::{COMPARED_EVERY, Prediction, glibc, jemalloc, kind},
    thread::ThreadState,
};

use crate::{
    count,
    remember::{self, Outcome},
    thread,
};

/// By slot; user space writes it.
#[btf_map]
static PREDICTIONS: Array<Prediction, MAX_TARGETS> = Array::new();

/// Where in the kernel's `task_struct` the thread pointer is: bytes.
#[unsafe(no_mangle)]
static THREAD_POINTER: Global<u64> = Global::new(0);

/// The block that the call which the thread is about to make will return. `None` if its return has to be seen: nothing is
/// known, or what is known is to be compared.
#[inline(always)]
pub fn result(state: &mut ThreadState, slot: u16) -> Option<u64> {
    let target = PREDICTIONS.get_ptr(u32::from(slot))?;
    // SAFETY: a live array element, written by user space at any moment. A half-written one is found out by comparing.
    let Prediction { kind, number, bins, .. } = unsafe { *target };
    if kind == kind::NONE {
        return None;
    }
    if state.predictor.cache == 0 || state.predictor.cache_of != number {
        state.predictor.cache = find(target, &mut state.predictor.quantum).unwrap_or(0);
        state.predictor.cache_of = number;
        state.predictor.until_compared = 0;
        if state.predictor.cache == 0 {
            return None;
        }
    }
    // SAFETY: a reference. Volatile, so that it is read here.
    let bytes = unsafe { (&raw const state.predictor.requested).read_volatile() };
    let block = if kind == kind::GLIBC {
        thread::read_word(state.predictor.cache + bins + 8 * glibc::bin(bytes)?)?
    } else {
        let (bin, size) = jemalloc::class(bytes, state.predictor.quantum)?;
        let [before, due] = read::<[u64; 2]>(state.predictor.cache)?;
        let [top, _requests, ends] = read::<[u64; 3]>(state.predictor.cache + bins + jemalloc::BIN_BYTES * bin)?;
        let bits = |at: u64| (ends >> (8 * (at - 16))) as u16;
        let (fewest, none) = (bits(jemalloc::LOW_WATER), bits(jemalloc::EMPTY));
        if before.wrapping_add(size) >= due || (top as u16 == fewest && top as u16 == none) {
            return None;
        }
        thread::read_word(top)?
    };
    if block == 0 {
        return None;
    }
    if state.predictor.until_compared == 0 {
        state.predictor.until_compared = COMPARED_EVERY - 1;
        state.predictor.predicted = block;
        return None;
    }
    state.predictor.until_compared -= 1;
    remember::count_outcome(Outcome::Predicted);
    Some(block)
}

#[inline(always)]
fn read<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address, and any bits are a T.
    unsafe { bpf_probe_read_user(address as *const T).ok() }
}

/// Where the running thread's cache is, and in which steps it counts sizes.
#[inline(never)]
fn find(target: *const Prediction, quantum: &mut u64) -> Option<u64> {
    // SAFETY: a live array element.
    let Prediction { kind, offset_address, mut offset, telling_address, .. } = unsafe { *target };
    if offset_address != 0 {
        let distance = thread::read_word(offset_address)?;
        // Before the loader has been there nothing stands in its place.
        if distance == 0 {
            return None;
        }
        offset = offset.wrapping_add(distance);
    }
    let mut pointer = 0u64;
    // SAFETY: the helper checks the address.
    let failed = unsafe {
        let place = bpf_get_current_task_btf().cast::<u8>().wrapping_add(THREAD_POINTER.load() as usize);
        bpf_probe_read_kernel((&raw mut pointer).cast(), 8, place.cast())
    };
    if failed != 0 {
        return None;
    }
    let place = pointer.wrapping_add(offset);
    if kind == kind::GLIBC {
        return thread::read_word(place);
    }
    *quantum = jemalloc::quantum(read::<u8>(telling_address)?)?;
    Some(place)
}

/// A call has returned `result`; it may have been predicted.
#[inline(always)]
pub fn compare(state: &ThreadState, result: u64) {
    if state.predictor.predicted != 0 && state.predictor.predicted != result {
        let slot = cookie::slot(state.call.cookie).0;
        forget(slot);
        count::add(slot, Counter::PredictionsWrong, 1);
    }
}

/// A block is released; it may be the cache itself, at the end of the thread.
#[inline(always)]
pub fn released(state: &mut ThreadState, address: u64) {
    if state.predictor.cache == address {
        state.predictor.cache = 0;
    }
}

/// Nothing is predicted any more for the target: it was wrong, or another program has its caches elsewhere.
#[inline(always)]
pub fn forget(slot: u16) {
    if let Some(target) = PREDICTIONS.get_ptr_mut(u32::from(slot)) {
        // SAFETY: a live array element.
        unsafe { (&raw mut (*target).kind).write_volatile(kind::NONE) };
    }
}
