//! Heap calls: a block appears on return, disappears on entry.

use aya_ebpf::{
    EbpfContext, Global,
    bindings::pt_regs,
    programs::{ProbeContext, RetProbeContext},
};
use aya_log_ebpf::warn;
use memtrace_common::{
    Slot,
    arch::USER_ADDRESS_END,
    call::Call,
    cookie,
    counter::Counter,
    deferred::{DeferredBlock, DeferredKey},
    event::{AddressRecord, BlockRecord, Head, Kind, MarkRecord},
    sampling,
    thread::{ThreadState, flag},
};

use crate::{
    arch, count,
    deferred::{self, Settled},
    predict, remember,
    ring::{self, Class},
    sample, session,
    site::{Site, attach_cookie},
    thread::{self, Standing},
    walk,
};

/// Blocks smaller than this are left out.
#[unsafe(no_mangle)]
static MIN_SIZE: Global<u64> = Global::new(0);

/// Blocks larger than this are left out.
#[unsafe(no_mangle)]
static MAX_SIZE: Global<u64> = Global::new(u64::MAX);

const ALLOCATE: u8 = Call::Allocate as u8;
const REALLOCATE: u8 = Call::Reallocate as u8;
const RELEASE_OUTER: u8 = Call::ReleaseOuter as u8;

/// The argument that a selector of a [`Signature`](memtrace_common::signature::Signature) names: 1 is the first, 0 none.
#[inline(always)]
fn argument(arguments: [u64; 6], selector: u32) -> u64 {
    // By far the most have it first.
    if selector == 1 {
        return arguments[0];
    }
    match selector {
        2 => arguments[1],
        3 => arguments[2],
        4 => arguments[3],
        5 => arguments[4],
        6 => arguments[5],
        _ => 0,
    }
}

/// Both ends of a call that returns a block. At the entry: 1 if the return need not be seen.
#[inline(always)]
pub fn session(context: &ProbeContext) -> u32 {
    let regs = arch::registers(context.regs);
    if !session::is_return(context) {
        let site = attach_cookie(context);
        return u32::from(!entry::<true>(context, site));
    }
    if let Some(state) = thread::existing()
        && is_its_return(state, regs)
    {
        predict::compare(state, arch::result(regs));
        finish(context, state, arch::result(regs));
    }
    0
}

/// Whether the return with these registers is that of the call that the thread is in.
#[inline(always)]
fn is_its_return(state: &ThreadState, regs: &pt_regs) -> bool {
    // Anything else is a nested call's return, or the second of two returns
    // through one slot after a tail call.
    state.call.return_slot != 0
        && arch::is_return_of(regs, state.call.return_slot)
        && !cookie::signature(state.call.cookie).ends_at_exits()
}

/// The entry of a call that returns a block; whether its return has to be seen. In a `SESSION` one program sees both.
#[inline(always)]
pub fn entry<const SESSION: bool>(context: &ProbeContext, site: Site) -> bool {
    let regs = arch::registers(context.regs);
    let running =
        if SESSION && site.call == ALLOCATE { walk::running_to_the_end(site.slot) } else { walk::running(site.slot) };
    if !running {
        return false;
    }
    let Some(state) = thread::state(site.slot) else { return false };
    sample::begin_window(state);
    let sp = arch::return_slot(regs);
    let tail_called_by = if state.call.return_slot == sp { state.call.return_address } else { 0 };
    match thread::standing(state, site.slot, sp) {
        Standing::Outermost => {}
        Standing::Nested => return false,
        Standing::Elsewhere => {
            count::add(site.slot, Counter::CallsOnOtherStacks, 1);
            return false;
        }
    }
    let signature = cookie::signature(site.cookie);
    let arguments = arch::arguments(regs);
    // One of the two is 0.
    let mut size = Some(argument(arguments, signature.size_selector()) | signature.fixed_bytes());
    if signature.count_selector() != 0 {
        size = product(argument(arguments, signature.count_selector()), size.unwrap_or(0));
    }
    let old = argument(arguments, signature.block_selector());
    let stored_at = argument(arguments, signature.result_selector());
    state.call.cookie = site.cookie;
    state.call.size = size.unwrap_or(0);
    state.call.argument = if signature.result_selector() != 0 { stored_at } else { old };
    state.call.flags = 0;
    if site.call == REALLOCATE {
        set_parked(state, DeferredBlock::default());
    }
    // A product that overflows fails in the callee, which then leaves the old block alone.
    if old != 0 && size.is_some() {
        begin_realloc(state, site.slot, old);
    }
    if SESSION {
        state.predictor.requested = state.call.size;
    }
    let level = if state.call.size < MIN_SIZE.load() || state.call.size > MAX_SIZE.load() {
        state.call.flags |= flag::FILTERED;
        None
    } else {
        let size = state.call.size;
        let level = sample::draw(state, size);
        if level.is_none() {
            state.call.flags |= flag::UNSAMPLED;
        }
        level
    };
    if let Some(level) = level {
        state.call.size = sampling::pack(state.call.size, level);
        let mut first = remember::open(state, sp).unwrap_or(0);
        // It returns where the function that tail-called it would, though another tool's return probe may hide that.
        if tail_called_by != 0 && thread::is_trampoline(first) {
            first = tail_called_by;
        }
        state.call.return_address = first;
        state.call.stack = walk::stack_id(state, site.slot, arch::caller(regs, sp, first));
    } else if signature.ends_at_exits() {
        state.call.return_address = thread::read_word(sp).unwrap_or(0);
    } else {
        // Not worth a read of the target's memory: while it is pending the kernel's trampoline stands there.
        state.call.return_address = 0;
    }
    // As late as this, and with the size from memory: the verifier would look at the walk once for each outcome and size.
    if SESSION {
        state.predictor.predicted = 0;
        if signature.is_predicted()
            && let Some(block) = predict::result(state, site.slot)
        {
            appear(context, state, site.slot, block);
            return false;
        }
    }
    state.call.return_slot = sp;
    true
}

/// Field by field: the compiler would call a function that clears byte by byte.
#[inline(always)]
fn set_parked(state: &mut ThreadState, block: DeferredBlock) {
    let parked = &raw mut state.call.parked;
    // SAFETY: a reference's fields.
    unsafe {
        (&raw mut (*parked).released_ns).write_volatile(block.released_ns);
        (&raw mut (*parked).allocated_ns).write_volatile(block.allocated_ns);
        (&raw mut (*parked).size).write_volatile(block.size);
        (&raw mut (*parked).stack).write_volatile(block.stack);
    }
}

/// The release that a successful realloc does: sent at entry, undone if the call fails.
#[inline(always)]
fn begin_realloc(state: &mut ThreadState, slot: u16, old: u64) {
    let key = DeferredKey { address: old, slot: u64::from(slot) };
    if sample::is_unseen(&key) {
        state.call.flags |= flag::OLD_UNSAMPLED;
        return;
    }
    if let Settled::Yes(entry) = deferred::settle(&key) {
        set_parked(state, entry);
        return;
    }
    let time_ns = ring::now();
    let head = Head::new(Kind::ReallocBegin, Slot(slot), state.thread as u32);
    if ring::send(Class::Release, AddressRecord { head, time_ns, address: old }) {
        state.call.flags |= flag::BEGUN;
    } else if deferred::release(&key, time_ns) {
        count::add(slot, Counter::ReleasesDeferred, 1);
        state.call.parked.released_ns = time_ns;
    } else {
        count::add(slot, Counter::ReleasesDropped, 1);
    }
}

/// The return of a call that returns a block.
#[inline(always)]
pub fn returned(context: &RetProbeContext) {
    let regs = arch::registers(context.regs);
    let Some(state) = thread::existing() else { return };
    if is_its_return(state, regs) {
        finish(context, state, arch::result(regs));
    }
}

/// Ends the call that the thread is in, which returned `result`.
#[inline(always)]
pub fn finish(context: &impl EbpfContext, state: &mut ThreadState, result: u64) {
    let call = cookie::call_number(state.call.cookie);
    // A heap function that tail-calls a mapping function has both return through one slot: each program ends its own.
    if !matches!(call, ALLOCATE | REALLOCATE | RELEASE_OUTER) {
        return;
    }
    state.call.return_slot = 0;
    let slot = cookie::slot(state.call.cookie).0;
    if call == RELEASE_OUTER {
        return;
    }
    let signature = cookie::signature(state.call.cookie);
    let mut address = result;
    if signature.is_in_place() {
        // The usable size: at least the requested one if the block could be made so large.
        address = if result >= sampling::bytes(state.call.size) { state.call.argument } else { 0 };
    } else if signature.result_selector() != 0 {
        if address as i32 != 0 {
            address = 0;
        } else if let Some(result) = thread::read_word(state.call.argument) {
            address = result;
        } else {
            count::add(slot, Counter::ResultReadFault, 1);
            return;
        }
    }
    let reallocates = call == REALLOCATE;
    if address == 0 {
        // With size 0 a NULL result means that the old block was freed: no failure.
        if reallocates && sampling::bytes(state.call.size) == 0 && state.call.argument != 0 && begun(state) {
            return;
        }
        count::add(slot, Counter::FailedAllocations, 1);
        if reallocates && !signature.frees_on_failure() {
            restore(state, slot);
        }
        return;
    }
    appear(context, state, slot, address);
}

/// The thread's call has made the block at `address`, or is about to.
#[inline(always)]
fn appear(context: &impl EbpfContext, state: &mut ThreadState, slot: u16, address: u64) {
    if state.call.flags & flag::FILTERED != 0 {
        count::add(slot, Counter::AllocationsFiltered, 1);
        return;
    }
    let key = DeferredKey { address, slot: u64::from(slot) };
    if state.call.flags & flag::UNSAMPLED != 0 {
        count::add(slot, Counter::AllocationsUnsampled, 1);
        count::add(slot, Counter::AllocatedBytesUnsampled, state.call.size);
        if sample::is_stale(&key) {
            send_release(context, state.thread as u32, &key);
        }
        return;
    }
    if sampling::bytes(state.call.size) >= USER_ADDRESS_END {
        count::add(slot, Counter::ImplausibleSizes, 1);
        return;
    }
    let time_ns = ring::now();
    let kind = if state.call.flags & flag::BEGUN != 0 { Kind::Reallocate } else { Kind::Allocate };
    let head = Head::new(kind, Slot(slot), state.thread as u32);
    let (size, stack) = (state.call.size, state.call.stack);
    let record = BlockRecord { head, time_ns, address, size, stack };
    // A block whose release would not be known is as good as dropped.
    if sample::note(&key) {
        if !deferred::waits(&key) && ring::send(Class::Allocation, record) {
            return;
        }
        if deferred::allocation(&key, DeferredBlock { released_ns: 0, allocated_ns: time_ns, size, stack }) {
            count::add(slot, Counter::AllocationsDeferred, 1);
            return;
        }
    }
    count::add(slot, Counter::AllocatedBytesDropped, sampling::bytes(size));
    if count::add(slot, Counter::AllocationsDropped, 1) == 0 {
        warn!(context, "no room is left in the kernel: allocations are being dropped (slot {})", slot);
    }
}

/// A call that returns a block threw an exception instead: it failed.
#[inline(always)]
pub fn thrown(state: &mut ThreadState, slot: u16) {
    if cookie::call_number(state.call.cookie) == REALLOCATE && !cookie::signature(state.call.cookie).frees_on_failure()
    {
        restore(state, slot);
    }
}

/// Whether this realloc released its old block at entry, in any of the three ways, or found it to be none of ours.
#[inline(always)]
fn begun(state: &ThreadState) -> bool {
    state.call.flags & (flag::BEGUN | flag::OLD_UNSAMPLED) != 0
        || state.call.parked.released_ns != 0
        || state.call.parked.allocated_ns != 0
}

/// A realloc failed: its old block lives on.
#[inline(always)]
fn restore(state: &mut ThreadState, slot: u16) {
    let key = DeferredKey { address: state.call.argument, slot: u64::from(slot) };
    let restored = if state.call.flags & flag::BEGUN != 0 {
        let time_ns = ring::now();
        let head = Head::new(Kind::ReallocFailed, Slot(slot), state.thread as u32);
        ring::send(Class::Essential, MarkRecord { head, time_ns })
    } else if state.call.parked.allocated_ns != 0 {
        deferred::unsettle(&key, &state.call.parked)
    } else if state.call.parked.released_ns != 0 {
        deferred::unrelease(&key)
    } else {
        true
    };
    if state.call.flags & flag::OLD_UNSAMPLED != 0 {
        count::add(slot, Counter::ReleasesUnsampled, 1u64.wrapping_neg());
    } else if !restored || !sample::note(&key) {
        count::add(slot, Counter::RestoresDropped, 1);
    }
}

/// The entry of `free` and its like.
#[inline(always)]
pub fn release(context: &ProbeContext, site: Site) {
    let regs = arch::registers(context.regs);
    let address = argument(arch::arguments(regs), cookie::signature(site.cookie).block_selector());
    if address == 0 || !walk::running(site.slot) {
        return;
    }
    // Of a sample most releases end here. Those within other calls are counted as well, of blocks that nobody drew either.
    let key = DeferredKey { address, slot: u64::from(site.slot) };
    if sample::is_foreign(&key) {
        return;
    }
    let mut thread = 0;
    if let Some(state) = thread::existing() {
        sample::begin_window(state);
        if thread::standing(state, site.slot, arch::return_slot(regs)) == Standing::Nested {
            return;
        }
        predict::released(state, address);
        thread = state.thread as u32;
    }
    if !sample::is_unseen(&key) {
        send_release(context, if thread == 0 { thread::id() } else { thread }, &key);
    }
}

/// Both ends of a function that releases a block and may call others that do, as [`session`] of one that returns a block.
#[inline(always)]
pub fn release_session(context: &ProbeContext) -> u32 {
    if !session::is_return(context) {
        return u32::from(!release_outer(context, attach_cookie(context)));
    }
    let regs = arch::registers(context.regs);
    if let Some(state) = thread::existing()
        && is_its_return(state, regs)
        && cookie::call_number(state.call.cookie) == RELEASE_OUTER
    {
        state.call.return_slot = 0;
    }
    0
}

/// The entry of a function that releases a block and may call others that do, which are part of it; whether its return has
/// to be seen.
#[inline(always)]
pub fn release_outer(context: &ProbeContext, site: Site) -> bool {
    let regs = arch::registers(context.regs);
    let address = argument(arch::arguments(regs), cookie::signature(site.cookie).block_selector());
    let sp = arch::return_slot_once(regs);
    if !walk::running(site.slot) {
        return false;
    }
    let Some(state) = thread::state(site.slot) else { return false };
    sample::begin_window(state);
    let standing = thread::standing(state, site.slot, sp);
    if standing == Standing::Nested {
        return false;
    }
    // On another stack the release counts all the same; what it calls is then a release of its own, of a block that is gone.
    let is_outermost = standing == Standing::Outermost;
    if is_outermost {
        state.call.cookie = site.cookie;
        state.call.return_address = thread::read_word(sp).unwrap_or(0);
        state.call.return_slot = sp;
    }
    let key = DeferredKey { address, slot: u64::from(site.slot) };
    if address != 0 && !sample::is_unseen(&key) {
        send_release(context, state.thread as u32, &key);
    }
    is_outermost
}

#[inline(always)]
fn send_release(context: &impl EbpfContext, thread: u32, key: &DeferredKey) {
    let (address, slot) = (key.address, key.slot as u16);
    if let Settled::Yes(_) = deferred::settle(key) {
        return;
    }
    let time_ns = ring::now();
    let head = Head::new(Kind::Release, Slot(slot), thread);
    if ring::send(Class::Release, AddressRecord { head, time_ns, address }) {
        return;
    }
    if deferred::release(key, time_ns) {
        count::add(slot, Counter::ReleasesDeferred, 1);
    } else if count::add(slot, Counter::ReleasesDropped, 1) == 0 {
        warn!(context, "the ring and the deferred table are full: releases are being dropped (slot {})", slot);
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
