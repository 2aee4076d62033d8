//! The place that a probe sits on.

use aya_ebpf::{EbpfContext as _, helpers::generated::bpf_get_attach_cookie, programs::ProbeContext};
use memtrace_common::cookie;

/// What a probe knows of the place it sits on.
#[derive(Clone, Copy)]
pub struct Site {
    /// The attach cookie (see `memtrace_common::cookie`).
    pub cookie: u64,
    /// The number of the call that the cookie names.
    pub call: u8,
    /// The target's slot.
    pub slot: u16,
}

/// The place that the running program was attached to.
#[inline(always)]
pub fn attach_cookie(context: &ProbeContext) -> Site {
    // SAFETY: the context is the one that this program was called with.
    let packed = unsafe { bpf_get_attach_cookie(context.as_ptr()) };
    Site { cookie: packed, call: cookie::call_number(packed), slot: cookie::slot(packed).0 }
}
