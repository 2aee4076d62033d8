//! Mapping calls: ranges of pages appear on success and disappear from entry on, unless the call fails.
//!
//! Shared by the uprobes on libc's functions and by the system-call tracepoints.

use aya_ebpf::programs::ProbeContext;
use memtrace_common::{
    Slot,
    arch::PAGE_BYTES,
    call::Call,
    cookie,
    counter::Counter,
    event::{BlockRecord, Head, Kind, MarkRecord, RangeRecord},
    thread::{ThreadState, flag},
    unwind::Registers,
};

use crate::{
    arch, count, pool,
    ring::{self, Class},
    site::Site,
    thread::{self, Standing},
    walk,
};

const MMAP: u8 = Call::Mmap as u8;
const MUNMAP: u8 = Call::Munmap as u8;
const MREMAP: u8 = Call::Mremap as u8;
const PROTECT: u8 = Call::Protect as u8;

/// `mremap` keeps the old range mapped (include/uapi/linux/mman.h).
const MREMAP_DONTUNMAP: u64 = 4;

/// Pages with one of these may be accessed: read, write, execute (include/uapi/asm-generic/mman-common.h).
const ACCESS: u64 = 1 | 2 | 4;

/// The first four arguments of a mapping call.
pub type Arguments = [u64; 4];

/// The entry of `mmap`, `munmap` or `mremap` in libc. It has no return probe but probes on its ways out: signal handlers
/// call these on stacks of their own, where a return probe can end the target (see [`thread::standing`]).
#[inline(always)]
pub fn entry(context: &ProbeContext, site: Site) {
    let regs = arch::registers(context.regs);
    if !walk::running(site.slot) {
        return;
    }
    let Some(state) = thread::state(site.slot) else { return };
    if pool::is_part(state, arch::return_slot(regs)) {
        return;
    }
    match thread::standing(state, site.slot, arch::return_slot(regs)) {
        Standing::Nested => return,
        _ if site.call == PROTECT => {
            protect(site.slot, arch::mapping_arguments(regs));
            return;
        }
        Standing::Outermost => {}
        Standing::Elsewhere => {
            elsewhere(site, arch::mapping_arguments(regs));
            return;
        }
    }
    let return_slot = arch::return_slot(regs);
    let first = thread::read_word(return_slot).unwrap_or(0);
    begin(state, site, arch::mapping_arguments(regs), arch::caller(regs, return_slot, first), return_slot);
}

/// A call while the thread is in another on another stack, whose end finds no room to be noted. What it unmaps goes, as it
/// nearly always does; what it maps is not known.
#[inline(always)]
fn elsewhere(site: Site, arguments: Arguments) {
    let length = whole_pages(arguments[1]);
    if site.call == MUNMAP && arguments[0] & (PAGE_BYTES - 1) == 0 && length != 0 {
        send_about(site.slot, Kind::UnmapBegin, arguments[0], length);
    } else {
        count::add(site.slot, Counter::CallsOnOtherStacks, 1);
    }
}

/// Sends that pages may be accessed. A call that fails has most often changed the pages before the one that is wrong.
#[inline(always)]
pub fn protect(slot: u16, arguments: Arguments) {
    let length = whole_pages(arguments[1]);
    if arguments[2] & ACCESS != 0 && arguments[0] & (PAGE_BYTES - 1) == 0 && length != 0 {
        send_about(slot, Kind::Commit, arguments[0], length);
    }
}

/// Whether the call that the thread is in is one of these.
#[inline(always)]
pub fn is_in(state: &ThreadState) -> bool {
    matches!(cookie::call_number(state.call.cookie), MMAP | MUNMAP | MREMAP)
}

/// Notes the call, and sends what it is about to unmap.
#[inline(always)]
pub fn begin(state: &mut ThreadState, site: Site, arguments: Arguments, registers: Registers, return_slot: u64) {
    state.call.cookie = site.cookie;
    state.call.flags = 0;
    state.call.argument = 0;
    state.call.return_address = registers.ip;
    match site.call {
        MMAP => {
            state.call.size = whole_pages(arguments[1]);
            if arguments[2] & ACCESS == 0 {
                state.call.flags = flag::RESERVES;
            }
        }
        MUNMAP => {
            state.call.size = whole_pages(arguments[1]);
            begin_unmap(state, site.slot, Kind::UnmapBegin, arguments[0], state.call.size);
        }
        MREMAP => {
            state.call.size = whole_pages(arguments[2]);
            // With old length 0 (a second view of a shared mapping) or MREMAP_DONTUNMAP the old range stays.
            if arguments[1] != 0 && arguments[3] & MREMAP_DONTUNMAP == 0 {
                begin_unmap(state, site.slot, Kind::RemapBegin, arguments[0], whole_pages(arguments[1]));
            }
        }
        _ => return,
    }
    if site.call != MUNMAP {
        state.call.stack = walk::stack_from(state, site.slot, registers);
    }
    state.call.return_slot = return_slot;
}

/// Ends the call that [`begin`] noted: `result` is what libc or the kernel returned.
#[inline(always)]
pub fn finish(state: &mut ThreadState, result: u64) {
    state.call.return_slot = 0;
    let slot = cookie::slot(state.call.cookie).0;
    let call = cookie::call_number(state.call.cookie);
    // libc says MAP_FAILED (all ones), the kernel a negative error number above -4096.
    let failed = result > u64::MAX - 4096 || (call == MUNMAP && result != 0);
    let begun = state.call.flags & flag::BEGUN != 0;
    if failed {
        if begun {
            send_mark(slot, if call == MUNMAP { Kind::UnmapFailed } else { Kind::RemapFailed });
        }
        return;
    }
    if call == MUNMAP {
        return;
    }
    let kind = match state.call.flags {
        flags if flags & flag::RESERVES != 0 => Kind::Reserve,
        _ if begun => Kind::Remap,
        _ => Kind::Map,
    };
    send_range(slot, kind, result, state.call.size, state.call.stack);
}

/// Sends that a range of pages appeared.
#[inline(always)]
pub fn send_range(slot: u16, kind: Kind, address: u64, size: u64, stack: u64) {
    let head = Head::new(kind, Slot(slot), thread::id());
    if !ring::send(Class::Essential, BlockRecord { head, time_ns: ring::now(), address, size, stack }) {
        count::add(slot, Counter::MappingsDropped, 1);
    }
}

/// Sends a range that is about to disappear; remembers that its failure must be sent as well.
#[inline(always)]
pub fn begin_unmap(state: &mut ThreadState, slot: u16, kind: Kind, address: u64, length: u64) {
    // The kernel refuses these before it touches anything.
    if address & (PAGE_BYTES - 1) != 0 || length == 0 {
        return;
    }
    if send_about(slot, kind, address, length) {
        state.call.flags |= flag::BEGUN;
    }
}

/// Sends that something becomes of a range; whether there was room.
#[inline(always)]
pub fn send_about(slot: u16, kind: Kind, address: u64, length: u64) -> bool {
    let head = Head::new(kind, Slot(slot), thread::id());
    let sent = ring::send(Class::Essential, RangeRecord { head, time_ns: ring::now(), address, length });
    if !sent {
        count::add(slot, Counter::MappingsDropped, 1);
    }
    sent
}

/// Sends that what was begun failed.
#[inline(always)]
pub fn send_mark(slot: u16, kind: Kind) {
    send_head(Head::new(kind, Slot(slot), thread::id()));
}

/// Sends a mark with this head.
#[inline(always)]
pub fn send_head(head: Head) {
    let slot = head.slot;
    if !ring::send(Class::Essential, MarkRecord { head, time_ns: ring::now() }) {
        count::add(slot, Counter::MappingsDropped, 1);
    }
}

/// Rounds a length in bytes up to whole pages.
#[inline(always)]
pub fn whole_pages(bytes: u64) -> u64 {
    bytes.wrapping_add(PAGE_BYTES - 1) & !(PAGE_BYTES - 1)
}
