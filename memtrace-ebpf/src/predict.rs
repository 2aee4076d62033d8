//! Which block `malloc` is about to return, so that its return need not be seen: a third of what a pair of calls costs.
//!
//! The thread's own cache is read at the entry, see [`memtrace_common::prediction`]. A thread's first prediction
//! and some later ones are compared with what the call returns; the first wrong one ends them for the target.

use aya_ebpf::{btf_maps::Array, helpers::bpf_probe_read_user, macros::btf_map};
use memtrace_common::{
    cookie,
    counter::Counter,
    limits::MAX_TARGETS,
    prediction::{self, COMPARED_EVERY, Memory, Prediction, kind},
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
    let block =
        prediction::next_block(kind, bins, bytes, state.predictor.cache, state.predictor.quantum, &TargetMemory)?;
    if state.predictor.until_compared == 0 {
        state.predictor.until_compared = COMPARED_EVERY - 1;
        state.predictor.predicted = block;
        return None;
    }
    state.predictor.until_compared -= 1;
    remember::count_outcome(Outcome::Predicted);
    Some(block)
}

struct TargetMemory;

impl Memory for TargetMemory {
    #[inline(always)]
    fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_user(address as *const [u64; N]).ok() }
    }

    #[inline(always)]
    fn byte(&self, address: u64) -> Option<u8> {
        // SAFETY: as above.
        unsafe { bpf_probe_read_user(address as *const u8).ok() }
    }
}

/// Where the running thread's cache is, and in which steps it counts sizes.
#[inline(never)]
fn find(target: *const Prediction, quantum: &mut u64) -> Option<u64> {
    // SAFETY: a live array element.
    let target = unsafe { *target };
    let offset = prediction::offset(&target, &TargetMemory)?;
    let pointer = thread::pointer()?;
    prediction::cache(&target, pointer.wrapping_add(offset), quantum, &TargetMemory)
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
