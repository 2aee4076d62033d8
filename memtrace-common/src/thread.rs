//! What the kernel side remembers of a thread: the outermost allocator call it is in, and room for one stack.
//!
//! It lives in task storage, so that it is the thread's own, survives preemption, and ends with the thread.

use crate::{deferred::DeferredBlock, limits::MAX_FRAMES};

/// A thread's state. `return_slot` 0 means that it is in no allocator call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ThreadState {
    /// The stack pointer at the outermost call's entry: the address of its return address. A call entered with a lower
    /// stack pointer is nested in it; one entered above it proves that it is over.
    pub return_slot: u64,
    /// The return address that stood there.
    pub return_address: u64,
    /// The attach cookie of the call's probe.
    pub cookie: u64,
    /// Requested bytes.
    pub size: u64,
    /// What the return needs beside the size: `posix_memalign`'s result pointer, `realloc`'s old block, `mremap`'s flags.
    pub argument: u64,
    /// The id of the stack that made the call.
    pub stack: u64,
    /// Bits of [`flag`].
    pub flags: u64,
    /// What the call's release of its old block took from, or put into, the deferred table; a failed `realloc` undoes it.
    pub parked: DeferredBlock,
    /// The head of the stack record that is sent from here; the frames follow it without a gap.
    pub record: crate::event::StackRecord,
    /// The frames of the stack being walked.
    pub frames: [u64; MAX_FRAMES + 1],
}

const _: () = assert!(size_of::<ThreadState>() == 7 * 8 + 32 + 24 + 8 * (MAX_FRAMES + 1));

/// Bits of [`ThreadState::flags`].
pub mod flag {
    /// The size filter leaves this call's block out.
    pub const FILTERED: u64 = 1;
    /// The ring carries the begin of this call, and so must carry its failure.
    pub const BEGUN: u64 = 2;
}
