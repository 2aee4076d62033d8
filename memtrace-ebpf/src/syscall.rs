//! Mapping calls and `brk` seen as system calls, for programs that make them without libc (`--syscalls`).

use aya_ebpf::{
    Global,
    bindings::pt_regs,
    helpers::{
        bpf_probe_read_kernel,
        generated::{bpf_get_current_task_btf, bpf_task_pt_regs},
    },
    programs::TracePointContext,
};
use memtrace_common::{Slot, call::Call, cookie, event::Kind, signature::Signature, thread::flag};

use crate::{
    arch, lifecycle,
    mapping::{self, whole_pages},
    site::Site,
    thread, walk,
    walk::TARGETS,
};

/// System call numbers, as the running architecture has them.
#[unsafe(no_mangle)]
static MMAP_NUMBER: Global<u64> = Global::new(9);
#[unsafe(no_mangle)]
static MUNMAP_NUMBER: Global<u64> = Global::new(11);
#[unsafe(no_mangle)]
static BRK_NUMBER: Global<u64> = Global::new(12);
#[unsafe(no_mangle)]
static MREMAP_NUMBER: Global<u64> = Global::new(25);
#[unsafe(no_mangle)]
static MADVISE_NUMBER: Global<u64> = Global::new(28);
#[unsafe(no_mangle)]
static MPROTECT_NUMBER: Global<u64> = Global::new(10);
#[unsafe(no_mangle)]
static PKEY_MPROTECT_NUMBER: Global<u64> = Global::new(329);

/// The contents are not needed any more (include/uapi/asm-generic/mman-common.h).
const MADV_DONTNEED: u64 = 4;
const MADV_FREE: u64 = 8;
const MADV_DONTNEED_LOCKED: u64 = 24;

const BRK: u8 = Call::Brk as u8;

/// The tracepoint's record: 8 bytes common to all, the number, then the arguments or the result
/// (events/syscalls/sys_enter_mmap/format in tracefs).
const NUMBER_OFFSET: usize = 8;
const ARGUMENTS_OFFSET: usize = 16;

/// Runs when a system call that maps memory was entered.
#[inline(always)]
pub fn entry(context: &TracePointContext) {
    let Some(slot) = lifecycle::current_slot() else { return };
    if !walk::running(slot) {
        return;
    }
    if number(context) == Some(MADVISE_NUMBER.load()) {
        discard(context, slot);
        return;
    }
    let Some(call) = call(context) else { return };
    let Some(state) = thread::state(slot) else { return };
    let Some(regs) = saved_registers() else { return };
    let registers = arch::interrupted(&regs);
    if thread::standing(state, slot, registers.sp) != thread::Standing::Outermost {
        return;
    }
    // SAFETY: sys_enter records have six arguments of 8 bytes.
    let Ok(arguments) = (unsafe { context.read_at::<mapping::Arguments>(ARGUMENTS_OFFSET) }) else { return };
    if call as u8 == Call::Protect as u8 {
        mapping::protect(slot, arguments);
        return;
    }
    let site = Site { cookie: cookie::pack(call, Signature::default(), Slot(slot)), call: call as u8, slot };
    if site.call != BRK {
        mapping::begin(state, site, arguments, registers, registers.sp);
        return;
    }
    let Some(target) = TARGETS.get(u32::from(slot)) else { return };
    state.call.cookie = site.cookie;
    state.call.flags = 0;
    state.call.argument = target.brk;
    state.call.return_address = registers.ip;
    let wanted = whole_pages(arguments[0]);
    let old = whole_pages(target.brk);
    if arguments[0] != 0 && wanted < old {
        mapping::begin_unmap(state, slot, Kind::UnmapBegin, wanted, old - wanted);
    } else if wanted > old {
        state.call.stack = walk::stack_from(state, slot, registers);
    }
    state.call.return_slot = registers.sp;
}

/// The running task's user registers, as they were saved when it entered the kernel.
#[inline(always)]
pub fn saved_registers() -> Option<pt_regs> {
    // SAFETY: the task is the running one, and its saved registers are where the helper says.
    unsafe { bpf_probe_read_kernel(bpf_task_pt_regs(bpf_get_current_task_btf()) as *const pt_regs).ok() }
}

/// `madvise`: what it says is not needed is gone. It hardly ever fails, and then what it named was no memory.
#[inline(always)]
fn discard(context: &TracePointContext, slot: u16) {
    // SAFETY: sys_enter records have six arguments of 8 bytes.
    let Ok(arguments) = (unsafe { context.read_at::<mapping::Arguments>(ARGUMENTS_OFFSET) }) else { return };
    if matches!(arguments[2], MADV_DONTNEED | MADV_FREE | MADV_DONTNEED_LOCKED) {
        mapping::send_about(slot, Kind::Discard, arguments[0], whole_pages(arguments[1]));
    }
}

/// A system call is about to return.
#[inline(always)]
pub fn exit(context: &TracePointContext) {
    let Some(slot) = lifecycle::current_slot() else { return };
    let Some(call) = call(context) else { return };
    let Some(state) = thread::existing() else { return };
    // SAFETY: sys_exit records have one result of 8 bytes.
    let Ok(result) = (unsafe { context.read_at::<u64>(ARGUMENTS_OFFSET) }) else { return };
    let noted = state.call.return_slot != 0 && cookie::call_number(state.call.cookie) == call as u8;
    if call as u8 != BRK {
        if noted {
            mapping::finish(state, result);
        }
        return;
    }
    let Some(target) = TARGETS.get_ptr_mut(u32::from(slot)) else { return };
    // SAFETY: a live array element; the kernel serialises brk in one process.
    unsafe { (*target).brk = result };
    if !noted {
        return;
    }
    state.call.return_slot = 0;
    let (old, new) = (whole_pages(state.call.argument), whole_pages(result));
    if state.call.argument == 0 {
        return;
    }
    if new > old {
        mapping::send_range(slot, Kind::Map, old, new - old, state.call.stack);
    } else if new == old && state.call.flags & flag::BEGUN != 0 {
        mapping::send_mark(slot, Kind::UnmapFailed);
    }
}

#[inline(always)]
fn number(context: &TracePointContext) -> Option<u64> {
    // SAFETY: every system-call record has its number there, in 4 bytes; what pads them is not cleared.
    Some(u64::from(unsafe { context.read_at::<u32>(NUMBER_OFFSET) }.ok()?))
}

#[inline(always)]
fn call(context: &TracePointContext) -> Option<Call> {
    let number = number(context)?;
    if number == MMAP_NUMBER.load() {
        Some(Call::Mmap)
    } else if number == MUNMAP_NUMBER.load() {
        Some(Call::Munmap)
    } else if number == MREMAP_NUMBER.load() {
        Some(Call::Mremap)
    } else if number == BRK_NUMBER.load() {
        Some(Call::Brk)
    } else if number == MPROTECT_NUMBER.load() || number == PKEY_MPROTECT_NUMBER.load() {
        Some(Call::Protect)
    } else {
        None
    }
}
