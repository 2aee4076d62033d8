//! Exceptions that leave a call that is followed, as `operator new` does when memory is out: the call failed.

use aya_ebpf::programs::ProbeContext;
use memtrace_common::{cookie, counter::Counter};

use crate::{arch, count, heap, site::Site, thread};

/// The entry of the function that looks for a handler.
#[inline(always)]
pub fn raise(context: &ProbeContext, site: Site) {
    let regs = arch::registers(context.regs);
    let Some(state) = thread::existing() else { return };
    if state.call.return_slot == 0
        || arch::return_slot(regs) > state.call.return_slot
        || !cookie::signature(state.call.cookie).throws()
    {
        return;
    }
    state.call.return_slot = 0;
    count::add(site.slot, Counter::FailedAllocations, 1);
    heap::thrown(state, site.slot);
}
