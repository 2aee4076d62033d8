//! The deferred table: what happened to blocks while the ring had no room.
//!
//! User space takes entries at any moment, so an entry is changed only by whoever has deleted it from the table
//! first: a delete that succeeds is the proof of ownership. Two programs never fight over one entry, because a block's
//! address belongs to one thread at a time, from the allocator's return to the release's entry.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap},
    macros::btf_map,
};
use memtrace_common::{
    counter::Counter,
    deferred::{DeferredBlock, DeferredKey},
    limits::MAX_DEFERRED,
    sampling,
};

use crate::{atomic, count};

#[btf_map]
static DEFERRED: HashMap<DeferredKey, DeferredBlock, MAX_DEFERRED, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// Entries put in less entries deleted by programs, and (written by user space only) entries that it took. Equal means
/// that the table is empty, and a release need not look.
#[btf_map]
static DEFERRED_COUNTS: Array<u64, 2> = Array::new();

/// What a release found in the table.
pub enum Settled {
    /// Nothing that concerns it: it goes to the ring.
    No,
    /// The block that it releases was waiting there and is gone; nobody need hear of it.
    Yes(DeferredBlock),
}

/// Cancels the waiting allocation of the block at `key`, if there is one.
#[inline(always)]
pub fn settle(key: &DeferredKey) -> Settled {
    if is_empty() {
        return Settled::No;
    }
    let Some(entry) = take(key, true) else { return Settled::No };
    if entry.released_ns != 0 {
        let _ = put(key, &DeferredBlock { released_ns: entry.released_ns, ..DeferredBlock::default() });
    }
    count::add(key.slot as u16, Counter::SettledBlocks, 1);
    count::add(key.slot as u16, Counter::SettledBytes, sampling::bytes(entry.size));
    Settled::Yes(entry)
}

/// Undoes [`settle`]: the block lives after all.
#[inline(always)]
pub fn unsettle(key: &DeferredKey, entry: &DeferredBlock) -> bool {
    let _ = take(key, false);
    let restored = put(key, entry);
    if restored {
        count::add(key.slot as u16, Counter::SettledBlocks, 1u64.wrapping_neg());
        count::add(key.slot as u16, Counter::SettledBytes, sampling::bytes(entry.size).wrapping_neg());
    }
    restored
}

/// Keeps an allocation for which the ring had no room.
#[inline(always)]
pub fn allocation(key: &DeferredKey, block: DeferredBlock) -> bool {
    let released_ns = take(key, false).map_or(0, |entry| entry.released_ns);
    put(key, &DeferredBlock { released_ns, ..block })
}

/// Whether the table has an entry for this address; then its next allocation must join it, so that no release of an
/// earlier block is overwritten by that of a later one.
#[inline(always)]
pub fn waits(key: &DeferredKey) -> bool {
    !is_empty() && DEFERRED.get_ptr(key).is_some()
}

/// Keeps a release for which the ring had no room.
#[inline(always)]
pub fn release(key: &DeferredKey, time_ns: u64) -> bool {
    let _ = take(key, false);
    put(key, &DeferredBlock { released_ns: time_ns, ..DeferredBlock::default() })
}

/// Undoes [`release`], unless user space has taken it already.
#[inline(always)]
pub fn unrelease(key: &DeferredKey) -> bool {
    take(key, false).is_some()
}

/// Deletes the entry and returns what it held, if it was there; with `only_allocated`, only one with a waiting block.
#[inline(always)]
fn take(key: &DeferredKey, only_allocated: bool) -> Option<DeferredBlock> {
    // SAFETY: the value may be freed and reused while it is read; the delete below proves that it was not.
    let entry = unsafe { *DEFERRED.get(key)? };
    if only_allocated && entry.allocated_ns == 0 {
        return None;
    }
    DEFERRED.remove(key).ok()?;
    adjust(1u64.wrapping_neg());
    Some(entry)
}

#[inline(always)]
fn put(key: &DeferredKey, entry: &DeferredBlock) -> bool {
    let stored = DEFERRED.insert(key, entry, 0).is_ok();
    if stored {
        adjust(1);
    }
    stored
}

#[inline(always)]
fn adjust(amount: u64) {
    if let Some(held) = DEFERRED_COUNTS.get_ptr_mut(0) {
        // SAFETY: a live array element.
        unsafe { atomic::add(held, amount) };
    }
}

#[inline(always)]
fn is_empty() -> bool {
    let (Some(held), Some(taken)) = (DEFERRED_COUNTS.get_ptr(0), DEFERRED_COUNTS.get_ptr(1)) else {
        return false;
    };
    // SAFETY: live array elements.
    unsafe { held.read_volatile() == taken.read_volatile() }
}
