//! What the kernel side remembers of a thread: the outermost allocator call it is in, and room for one stack.
//!
//! It is the thread's own, survives preemption, and ends with the thread.

use crate::{
    deferred::DeferredBlock,
    limits::{GUESSES, MAX_FRAMES, REMEMBERED_WALKS},
    remembered::Remembered,
    unwind::Segment,
};

/// A thread's state. `return_slot` 0 means that it is in no allocator call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ThreadState {
    /// The stack pointer at the outermost call's entry: the address of its return address. A call entered with a lower
    /// stack pointer is nested in it; one entered above it proves that it is over.
    pub return_slot: u64,
    /// The return address that stood there; 0 if it was not looked at.
    pub return_address: u64,
    /// The attach cookie of the call's probe.
    pub cookie: u64,
    /// Requested bytes, for a heap call with its [level](crate::sampling::pack).
    pub size: u64,
    /// What the return needs beside the size: `posix_memalign`'s result pointer, `realloc`'s old block, `mremap`'s flags.
    pub argument: u64,
    /// The id of the stack that made the call.
    pub stack: u64,
    /// Bits of [`flag`].
    pub flags: u64,
    /// Whose it is: the thread, as the first pid namespace numbers it; 0 for nobody's.
    pub thread: u64,
    /// 1 more than the bytes that are still allocated before the next sampling point; 0 until it is drawn.
    pub until_point: u64,
    /// The level at which it was drawn.
    pub point_level: u64,
    /// The [window](crate::sampling::Sampling::window) of the last call.
    pub window: u64,
    /// Requested bytes of a call whose result may be predicted.
    pub requested: u64,
    /// The address of the thread's cache of free blocks (see [`crate::prediction`]); 0 where it is not known.
    pub cache: u64,
    /// The [number](crate::prediction::Prediction::number) of the prediction by which it was found.
    pub cache_of: u64,
    /// In which steps it counts sizes, if it is jemalloc's.
    pub quantum: u64,
    /// The block that the call is predicted to return, which is compared; 0 if nothing is.
    pub predicted: u64,
    /// Predictions to come that are not compared.
    pub until_compared: u64,
    /// What the call's release of its old block took from, or put into, the deferred table; a failed `realloc` undoes it.
    pub parked: DeferredBlock,
    /// The walk up the stack that is going on.
    pub walk: Walk,
    /// The places of the remembered walks that came the last time in the same circumstances.
    pub guesses: [u8; GUESSES],
    /// Walks that this thread has done lately.
    pub remembered: [Remembered; REMEMBERED_WALKS],
    /// The head of the stack record that is sent from here; the frames follow it without a gap.
    pub record: crate::event::StackRecord,
    /// The frames of the stack being walked.
    pub frames: [u64; MAX_FRAMES + 1],
}

const _: () = assert!(
    size_of::<ThreadState>()
        == 17 * 8
            + 32
            + size_of::<Walk>()
            + GUESSES
            + REMEMBERED_WALKS * size_of::<Remembered>()
            + 32
            + 8 * (MAX_FRAMES + 1)
);
// With the kernel's own head it fits what the kernel allocates as 32 KiB.
const _: () = assert!(size_of::<ThreadState>() < (32 << 10) - 256);

/// Where a walk up the stack has arrived.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Walk {
    /// The frame's instruction pointer.
    pub ip: u64,
    /// The frame's stack pointer.
    pub sp: u64,
    /// The frame's frame pointer.
    pub fp: u64,
    /// Not 0 when `ip` is an instruction and not a return address.
    pub exact: u64,
    /// The hash of the frames so far.
    pub hash: u64,
    /// How many frames there are so far.
    pub depth: u64,
    /// The number of the [`crate::unwind::StackEnd`], once it is known.
    pub end: u64,
    /// Where the target's segments are ([`crate::unwind::segment::pack_range`]).
    pub range: u64,
    /// The segment that the last frame was in.
    pub segment: Segment,
    /// Where `fp` was read; 0 if it is still the register that the walk started with.
    pub fp_place: u64,
    /// One of [`fp_state`].
    pub fp_state: u64,
    /// Not 0 if the walk cannot be remembered.
    pub unremarkable: u64,
    /// Which remembered walk it writes over.
    pub entry: u64,
    /// Where in the guesses it is noted which remembered walk this one is.
    pub guess: u64,
    /// The remembered walk before this one.
    pub previous: u64,
    /// The first of the remembered walks that may be this one.
    pub set: u64,
    /// The id of the one that is; 0 if none is.
    pub found: u64,
    /// Counts the walks, to write over the ways of a set in turn.
    pub turn: u64,
    /// The address of the return address that it started from.
    pub base: u64,
    /// The window that holds the stack's beginning, from 0 on; none is so far on if there is none.
    pub window: u64,
}

/// What is known of the frame pointer during a walk.
pub mod fp_state {
    /// It is the register that the walk started with, and nothing has used it.
    pub const REGISTER: u64 = 0;
    /// It was read from memory, and nothing has used it.
    pub const MEMORY: u64 = 1;
    /// It was used, and what it came from is among what decides the walk.
    pub const DECIDES: u64 = 2;
}

/// Bits of [`ThreadState::flags`].
pub mod flag {
    /// The size filter leaves this call's block out.
    pub const FILTERED: u64 = 1;
    /// The ring carries the begin of this call, and so must carry its failure.
    pub const BEGUN: u64 = 2;
    /// Sampling leaves this call's block out.
    pub const UNSAMPLED: u64 = 4;
    /// Sampling left the old block out when it was allocated.
    pub const OLD_UNSAMPLED: u64 = 8;
    /// What this call maps may not be accessed.
    pub const RESERVES: u64 = 16;
}
