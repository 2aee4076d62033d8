//! The ways out of calls that have no return probe: it would stand in an exception's way, or it may not be used.

use aya_ebpf::programs::ProbeContext;
use memtrace_common::cookie;

use crate::{arch, heap, mapping, pool, site::Site, suspend, thread};

/// A thread is about to leave a function.
#[inline(always)]
pub fn way_out(context: &ProbeContext, site: Site) {
    let regs = arch::registers(context.regs);
    let Some(state) = thread::existing() else { return };
    if pool::is_over(state, |slot| slot == arch::return_slot(regs)) {
        pool::finish(state, arch::argument_and_result(regs).1);
        return;
    }
    if state.call.return_slot != arch::return_slot(regs) && !suspend::resume(state, arch::return_slot(regs), site.slot)
    {
        return;
    }
    if !cookie::signature(state.call.cookie).ends_at_exits() {
        return;
    }
    // A jump to a function that returns its first argument has it there, a `ret` in the register for results.
    let (first, returned) = arch::argument_and_result(regs);
    let result = if cookie::signature(site.cookie).block_selector() != 0 { first } else { returned };
    if mapping::is_in(state) {
        mapping::finish(state, result);
    } else {
        heap::finish(context, state, result);
    }
}
