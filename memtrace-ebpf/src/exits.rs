//! The ways out of calls that have no return probe: it would stand in an exception's way, or it may not be used.

use aya_ebpf::programs::ProbeContext;
use memtrace_common::cookie;

use crate::{Site, heap, mapping, suspend, thread};

/// A thread is about to leave a function.
#[inline(always)]
pub fn way_out(context: &ProbeContext, site: Site) {
    // SAFETY: the kernel passes a valid pt_regs.
    let regs = unsafe { &*context.regs };
    let Some(state) = thread::existing() else { return };
    // At a `ret`, or a jump that ends the function, the stack pointer is at the return address.
    if state.call.return_slot != regs.rsp && !suspend::resume(state, regs.rsp, site.slot) {
        return;
    }
    if !cookie::shape(state.call.cookie).ends_at_exits() {
        return;
    }
    // A jump to a function that returns its first argument has it there, a `ret` in the register for results.
    // SAFETY: references. Both are read: the verifier allows no computed place in the context.
    let (first, returned) = unsafe { (core::ptr::read_volatile(&regs.rdi), core::ptr::read_volatile(&regs.rax)) };
    let result = if cookie::shape(site.cookie).block_selector() != 0 { first } else { returned };
    if mapping::is_in(state) {
        mapping::finish(state, result);
    } else {
        heap::finish(context, state, result);
    }
}
