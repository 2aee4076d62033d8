//! Programs that stand on both ends of a call, from Linux 6.13 on. At the entry they return 1 if the return need not be seen: the
//! kernel then leaves the return address alone.

use aya_ebpf::{EbpfContext as _, helpers::generated::bpf_get_func_ip, programs::ProbeContext};

use crate::arch;

/// Whether this program runs at the return of a call.
#[inline(always)]
pub fn is_return(context: &ProbeContext) -> bool {
    // The probe's own address; at the return the instruction pointer is the caller's already.
    // SAFETY: the context is the one that this program was called with.
    let probed = unsafe { bpf_get_func_ip(context.as_ptr()) };
    probed != arch::instruction_pointer(arch::registers(context.regs))
}
