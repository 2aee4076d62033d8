//! Heap calls: a block appears on return, disappears on entry.

use aya_ebpf::{
    Global,
    helpers::generated::bpf_ktime_get_ns,
    programs::{ProbeContext, RetProbeContext},
};
use aya_log_ebpf::warn;
use memtrace_common::{
    Slot,
    call::Call,
    cookie,
    counter::Counter,
    deferred::{DeferredBlock, DeferredKey},
    event::{AddressRecord, BlockRecord, Head, Kind, MarkRecord},
    thread::{ThreadState, flag},
    unwind::Registers,
};

use crate::{
    Site, count,
    deferred::{self, Settled},
    ring::{self, Class},
    thread, walk,
};

/// Blocks smaller than this are left out.
#[unsafe(no_mangle)]
static MIN_SIZE: Global<u64> = Global::new(0);

/// Blocks larger than this are left out.
#[unsafe(no_mangle)]
static MAX_SIZE: Global<u64> = Global::new(u64::MAX);

/// Calls with greater numbers are mappings.
const LAST_HEAP_CALL: u8 = Call::Free as u8;
const REALLOC: u8 = Call::Realloc as u8;
const REALLOCARRAY: u8 = Call::Reallocarray as u8;
const CALLOC: u8 = Call::Calloc as u8;
const POSIX_MEMALIGN: u8 = Call::PosixMemalign as u8;
const ALIGNED_ALLOC: u8 = Call::AlignedAlloc as u8;

/// The entry of a call that returns a block.
#[inline(always)]
pub fn entry(context: &ProbeContext, site: Site) {
    // SAFETY: the kernel passes a valid pt_regs.
    let regs = unsafe { &*context.regs };
    if !walk::running(site.slot) {
        return;
    }
    let Some(state) = thread::state(site.slot) else { return };
    let sp = regs.rsp;
    if thread::in_call(state, site.slot, sp) {
        return;
    }
    let (size, argument, old) = match site.call {
        CALLOC => (product(regs.rdi, regs.rsi), 0, 0),
        REALLOC => (Some(regs.rsi), regs.rdi, regs.rdi),
        REALLOCARRAY => (product(regs.rsi, regs.rdx), regs.rdi, regs.rdi),
        POSIX_MEMALIGN => (Some(regs.rdx), regs.rdi, 0),
        ALIGNED_ALLOC => (Some(regs.rsi), 0, 0),
        _ => (Some(regs.rdi), 0, 0),
    };
    let first = thread::read_word(sp).unwrap_or(0);
    state.cookie = site.cookie;
    state.size = size.unwrap_or(0);
    state.argument = argument;
    state.flags = 0;
    state.parked = DeferredBlock::default();
    state.return_address = first;
    // A product that overflows fails in the callee, which then leaves the old block alone.
    if old != 0 && size.is_some() {
        begin_realloc(state, site.slot, old);
    }
    if state.size < MIN_SIZE.load() || state.size > MAX_SIZE.load() {
        state.flags |= flag::FILTERED;
    } else {
        let registers = Registers { ip: first, sp: sp + 8, fp: regs.rbp };
        state.stack = walk::stack_id(state, site.slot, registers, first);
    }
    state.return_slot = sp;
}

/// The release that a successful realloc does: sent at entry, undone if the call fails.
#[inline(always)]
fn begin_realloc(state: &mut ThreadState, slot: u16, old: u64) {
    let key = DeferredKey { address: old, slot: u64::from(slot) };
    if let Settled::Yes(entry) = deferred::settle(&key) {
        state.parked = entry;
        return;
    }
    // SAFETY: no arguments.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    let head = Head::new(Kind::ReallocBegin, Slot(slot), thread::id());
    if ring::send(Class::Release, AddressRecord { head, time_ns, address: old }) {
        state.flags |= flag::BEGUN;
    } else if deferred::release(&key, time_ns) {
        count::add(slot, Counter::ReleasesDeferred, 1);
        state.parked.released_ns = time_ns;
    } else {
        count::add(slot, Counter::ReleasesDropped, 1);
    }
}

/// The return of a call that returns a block.
#[inline(always)]
pub fn returned(context: &RetProbeContext) {
    // SAFETY: the kernel passes a valid pt_regs.
    let regs = unsafe { &*context.regs };
    let Some(state) = thread::existing() else { return };
    // At return the stack pointer stands one word above the return address. Anything else is a nested call's return,
    // or the second of two returns through one slot after a tail call.
    if state.return_slot == 0 || state.return_slot + 8 != regs.rsp {
        return;
    }
    let call = cookie::call_number(state.cookie);
    // A heap function that tail-calls a mapping function has both return through one slot: each program ends its own.
    if call > LAST_HEAP_CALL {
        return;
    }
    state.return_slot = 0;
    let slot = cookie::slot(state.cookie).0;
    let mut address = regs.rax;
    if call == POSIX_MEMALIGN {
        if address as i32 != 0 {
            address = 0;
        } else if let Some(result) = thread::read_word(state.argument) {
            address = result;
        } else {
            count::add(slot, Counter::ResultReadFault, 1);
            return;
        }
    }
    let reallocates = call == REALLOC || call == REALLOCARRAY;
    if address == 0 {
        // With size 0 a NULL result means that the old block was freed: no failure.
        if reallocates && state.size == 0 && state.argument != 0 && begun(state) {
            return;
        }
        count::add(slot, Counter::FailedAllocations, 1);
        if reallocates {
            restore(state, slot);
        }
        return;
    }
    if state.flags & flag::FILTERED != 0 {
        count::add(slot, Counter::AllocationsFiltered, 1);
        return;
    }
    // SAFETY: no arguments.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    let kind = if state.flags & flag::BEGUN != 0 { Kind::Reallocate } else { Kind::Allocate };
    let head = Head::new(kind, Slot(slot), thread::id());
    let (size, stack) = (state.size, state.stack);
    let key = DeferredKey { address, slot: u64::from(slot) };
    if !deferred::waits(&key) && ring::send(Class::Allocation, BlockRecord { head, time_ns, address, size, stack }) {
        return;
    }
    if deferred::allocation(&key, DeferredBlock { released_ns: 0, allocated_ns: time_ns, size, stack }) {
        count::add(slot, Counter::AllocationsDeferred, 1);
        return;
    }
    count::add(slot, Counter::AllocatedBytesDropped, size);
    if count::add(slot, Counter::AllocationsDropped, 1) == 0 {
        warn!(context, "the ring and the deferred table are full: allocations are being dropped (slot {})", slot);
    }
}

/// Whether this realloc released its old block at entry, in any of the three ways.
#[inline(always)]
fn begun(state: &ThreadState) -> bool {
    state.flags & flag::BEGUN != 0 || state.parked.released_ns != 0 || state.parked.allocated_ns != 0
}

/// A realloc failed: its old block lives on.
#[inline(always)]
fn restore(state: &mut ThreadState, slot: u16) {
    let key = DeferredKey { address: state.argument, slot: u64::from(slot) };
    let restored = if state.flags & flag::BEGUN != 0 {
        // SAFETY: no arguments.
        let time_ns = unsafe { bpf_ktime_get_ns() };
        let head = Head::new(Kind::ReallocFailed, Slot(slot), thread::id());
        ring::send(Class::Essential, MarkRecord { head, time_ns })
    } else if state.parked.allocated_ns != 0 {
        deferred::unsettle(&key, &state.parked)
    } else if state.parked.released_ns != 0 {
        deferred::unrelease(&key)
    } else {
        true
    };
    if !restored {
        count::add(slot, Counter::RestoresDropped, 1);
    }
}

/// The entry of `free`.
#[inline(always)]
pub fn release(context: &ProbeContext, site: Site) {
    // SAFETY: the kernel passes a valid pt_regs.
    let regs = unsafe { &*context.regs };
    let address = regs.rdi;
    if address == 0 || !walk::running(site.slot) {
        return;
    }
    if let Some(state) = thread::existing()
        && thread::in_call(state, site.slot, regs.rsp)
    {
        return;
    }
    let key = DeferredKey { address, slot: u64::from(site.slot) };
    if let Settled::Yes(_) = deferred::settle(&key) {
        return;
    }
    // SAFETY: no arguments.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    let head = Head::new(Kind::Release, Slot(site.slot), thread::id());
    if ring::send(Class::Release, AddressRecord { head, time_ns, address }) {
        return;
    }
    if deferred::release(&key, time_ns) {
        count::add(site.slot, Counter::ReleasesDeferred, 1);
    } else if count::add(site.slot, Counter::ReleasesDropped, 1) == 0 {
        warn!(context, "the ring and the deferred table are full: releases are being dropped (slot {})", site.slot);
    }
}

/// `calloc`'s and `reallocarray`'s product, `None` when it overflows as it does for the callee.
#[inline(always)]
fn product(count: u64, size: u64) -> Option<u64> {
    // By halves: the target has no 128-bit product, and the compiler would turn a division into one.
    let (count_high, count_low) = (count >> 32, count & u64::from(u32::MAX));
    let (size_high, size_low) = (size >> 32, size & u64::from(u32::MAX));
    if count_high != 0 && size_high != 0 {
        return None;
    }
    // At most one of the two is not 0, and each is below 2^64.
    let cross = count_high * size_low + count_low * size_high;
    if cross >> 32 != 0 {
        return None;
    }
    let product = (cross << 32).wrapping_add(count_low * size_low);
    if product < cross << 32 { None } else { Some(product) }
}
