//! Sampling: which allocations are drawn, and which releases are of blocks that were.
//!
//! Nothing of it is in the programs of a run that does not sample: [`SAMPLES`] is a constant to the verifier, which drops
//! what can never run.

use aya_ebpf::{
    Global,
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap},
    helpers::generated::bpf_get_prandom_u32,
    macros::btf_map,
};
use memtrace_common::{
    counter::Counter,
    deferred::DeferredKey,
    limits::MAX_SAMPLED,
    sampling::{Sampling, distance, exponential},
    thread::ThreadState,
};

use crate::count;

/// Whether this run samples, or may come to.
#[unsafe(no_mangle)]
static SAMPLES: Global<u64> = Global::new(0);

/// One element, which user space writes.
#[btf_map]
static SAMPLING: Array<Sampling, 1> = Array::new();

/// The live blocks that were drawn. The value means nothing.
#[btf_map]
static SAMPLED: HashMap<DeferredKey, u64, MAX_SAMPLED, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// How this run samples; `None` if it never does.
#[inline(always)]
fn sampling() -> Option<&'static Sampling> {
    if SAMPLES.load() == 0 { None } else { SAMPLING.get(0) }
}

/// The level at which a block of this size is drawn; `None` if it is not.
#[inline(always)]
pub fn draw(state: &mut ThreadState, size: u64) -> Option<u64> {
    let Some(sampling) = sampling() else { return Some(0) };
    let level = sampling.level;
    let distance = distance(sampling.base, level);
    if distance == 0 {
        return Some(0);
    }
    // The exponential distribution has no memory, so the distance may be drawn anew at any time.
    if state.sampler.until_point == 0 || state.sampler.point_level != level {
        state.sampler.until_point = 1 + next(distance);
        state.sampler.point_level = level;
    }
    // A block without bytes is as likely as one of one byte.
    let size = if size == 0 { 1 } else { size };
    if state.sampler.until_point > size {
        state.sampler.until_point -= size;
        return None;
    }
    state.sampler.until_point = 1 + next(distance);
    Some(level)
}

#[inline(always)]
fn next(distance: u64) -> u64 {
    // SAFETY: no arguments.
    let (high, low) = unsafe { (bpf_get_prandom_u32(), bpf_get_prandom_u32()) };
    exponential(u64::from(high) << 32 | u64::from(low), distance)
}

/// Forgets the call that the thread was in when the probes were taken away: its return was not seen.
#[inline(always)]
pub fn begin_window(state: &mut ThreadState) {
    if let Some(sampling) = sampling()
        && state.sampler.window != sampling.window
    {
        state.sampler.window = sampling.window;
        state.call.return_slot = 0;
    }
}

/// Whether a block that was drawn is in the set though another has come to its place: its release was not seen.
#[inline(always)]
pub fn is_stale(key: &DeferredKey) -> bool {
    sampling().is_some() && forget(key)
}

/// Notes a block that was drawn, so that its release will be known; whether there was room.
#[inline(always)]
pub fn note(key: &DeferredKey) -> bool {
    sampling().is_none_or(|sampling| sampling.notes == 0) || SAMPLED.insert(key, 0u64, 0).is_ok()
}

/// Whether a block is certainly none that was drawn; then its release is counted.
#[inline(always)]
pub fn is_foreign(key: &DeferredKey) -> bool {
    sampling().is_some_and(|sampling| sampling.filters != 0) && SAMPLED.get_ptr(key).is_none() && skipped(key)
}

/// Whether a release is of a block that was not drawn; then it is counted. A block that was is forgotten.
#[inline(always)]
pub fn is_unseen(key: &DeferredKey) -> bool {
    sampling().is_some_and(|sampling| sampling.notes != 0 && !forget(key) && sampling.filters != 0) && skipped(key)
}

/// Takes a block out of the set; whether it was there. A deletion locks a bucket, and most blocks are not there.
#[inline(always)]
fn forget(key: &DeferredKey) -> bool {
    SAMPLED.get_ptr(key).is_some() && SAMPLED.remove(key).is_ok()
}

/// Counts a release that nobody hears of.
#[inline(always)]
fn skipped(key: &DeferredKey) -> bool {
    count::add(key.slot as u16, Counter::ReleasesUnsampled, 1);
    true
}
