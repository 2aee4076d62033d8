//! The state that the BPF programs keep for each thread of a target: the allocator call it is in, what sampling and
//! prediction know of it, and room for one stack and the cache of its walks.
//!
//! Each part has one owner among the programs' modules. A state is the thread's own, survives preemption, and ends with the
//! thread.

use crate::{
    deferred::DeferredBlock,
    limits::{EXPECTED_WALKS, MAX_FRAMES, REMEMBERED_WALKS},
    remembered::Remembered,
    unwind::Segment,
};

/// The state of one thread, a value of the maps `PLACES` and `THREADS`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ThreadState {
    /// The thread that the state belongs to, by its id in the first pid namespace; 0 while it belongs to nobody.
    pub thread: u64,
    /// The outermost allocator call that the thread is in.
    pub call: Call,
    /// The pool of small blocks that the thread makes ready.
    pub pool: Pool,
    /// How far the thread is from its next sampling point.
    pub sampler: Sampler,
    /// How the result of the thread's next `malloc` is predicted.
    pub predictor: Predictor,
    /// The walk up the stack that is going on.
    pub walk: Walk,
    /// The walks that the thread has done lately.
    pub walks: WalkCache,
    /// The head of the stack record that is sent from here; the frames follow it without a gap.
    pub record: crate::event::StackRecord,
    /// The frames of the stack that is being walked: addresses, innermost first.
    pub frames: [u64; MAX_FRAMES + 1],
}

/// An allocator call from its entry to its return. Owner: the programs on heap and mapping calls; `suspend` puts it aside
/// for coroutines.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Call {
    /// The stack pointer at the call's entry, which is the address of its return address; 0 when the thread is in no call. A
    /// call that is entered with a lower stack pointer is nested in this one; one entered above it proves that this one is over.
    pub return_slot: u64,
    /// The return address that stood there at the entry; 0 if it was not read.
    pub return_address: u64,
    /// The attach cookie of the probe at the call's entry (see [`crate::cookie`]).
    pub cookie: u64,
    /// Requested bytes; of a heap call packed with its sampling level (see [`crate::sampling::pack`]).
    pub size: u64,
    /// What the return needs beside the size: `posix_memalign`'s result pointer, `realloc`'s old block, or `mremap`'s flags.
    pub argument: u64,
    /// The id of the stack that made the call.
    pub stack: u64,
    /// Bits of [`flag`].
    pub flags: u64,
    /// The deferred block that the release in a `realloc` took out of the deferred table, or put into it; undone when the
    /// `realloc` fails.
    pub parked: DeferredBlock,
}

/// A call that makes a pool of small blocks ready, from its entry to its return. It is no [`Call`]: the blocks that are allocated for
/// the pools' own books are seen as all others. Owner: `pool`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Pool {
    /// The stack pointer at the call's entry; 0 when the thread makes none ready.
    pub return_slot: u64,
    /// The attach cookie of the probe at the call's entry.
    pub cookie: u64,
    /// The id of the stack that made the call.
    pub stack: u64,
}

/// A thread's way to its next sampling point. Owner: `sample`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Sampler {
    /// Bytes that are still to be allocated before the next sampling point, plus 1; 0 before the point is drawn.
    pub until_point: u64,
    /// The sampling level at which the point was drawn.
    pub point_level: u64,
    /// The [recording window](crate::sampling::Sampling::window) of the thread's last call.
    pub window: u64,
}

/// What is known of a thread's cache of free blocks, from which the allocator takes the next one. Owner: `predict`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Predictor {
    /// Requested bytes of the call whose result may be predicted.
    pub requested: u64,
    /// The address of the thread's cache of free blocks (see [`crate::prediction`]); 0 when it is not known.
    pub cache: u64,
    /// The [number](crate::prediction::Prediction::number) of the prediction by which the cache was found.
    pub cache_of: u64,
    /// The size step of jemalloc's smallest size classes in bytes; without meaning for other allocators.
    pub quantum: u64,
    /// The block that the call is predicted to return, to be compared with what it returns; 0 when nothing is compared.
    pub predicted: u64,
    /// How many predictions are still to be made before one is compared again.
    pub until_compared: u64,
}

/// A thread's cache of whole walks (see [`crate::remembered`]), set associative. Owner: `remember`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct WalkCache {
    /// The index of the walk that is expected next, by a hash of the previous walk and the stack pointer.
    pub expected: [u8; EXPECTED_WALKS],
    /// The walks, in sets of [`crate::limits::REMEMBERED_WAYS`].
    pub remembered: [Remembered; REMEMBERED_WALKS],
}

const _: () = assert!(size_of::<Call>() == 7 * 8 + 32);
const _: () = assert!(size_of::<Sampler>() == 3 * 8 && size_of::<Predictor>() == 6 * 8);
const _: () = assert!(
    size_of::<ThreadState>()
        == 8 + size_of::<Call>()
            + size_of::<Pool>()
            + size_of::<Sampler>()
            + size_of::<Predictor>()
            + size_of::<Walk>()
            + size_of::<WalkCache>()
            + 32
            + 8 * (MAX_FRAMES + 1)
);
// With the kernel's own head it fits what the kernel allocates as 32 KiB.
const _: () = assert!(size_of::<ThreadState>() < (32 << 10) - 256);

/// A walk up the stack: the frame that it has reached, and where it stands in the cache of walks. Owners: `walk` and `remember`.
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
    /// The stack pointer with which the stack was left that the walk began on ([`crate::unwind::Frame::left`]).
    pub left: u64,
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
    /// Not 0 when the walk must not be cached, because something decided it that a cache entry cannot hold.
    pub uncacheable: u64,
    /// The index of the cache entry that the walk is, or that it is written to.
    pub entry: u64,
    /// The index in [`WalkCache::expected`] under which this walk's cache entry is noted.
    pub expectation: u64,
    /// The index of the cache entry of the walk before this one.
    pub previous: u64,
    /// The index of the first entry of the set in which the walk may be cached.
    pub set: u64,
    /// The stack id of the cache entry that was found; 0 when none was.
    pub found: u64,
    /// A count of the walks that were not expected, whose low bits choose the way of a set that is evicted.
    pub victim: u64,
    /// The address of the return address that the walk started from; on a goroutine's stack, from which Go called C, the address
    /// below the one that it was left with.
    pub base: u64,
    /// The index of the scratch buffer of this processor that holds the beginning of the stack; [`crate::limits::WINDOWS`]
    /// when none was free.
    pub window: u64,
    /// The index of the scratch memory of this processor that holds the chain of interpreter frames; [`crate::limits::WINDOWS`]
    /// when there is no chain.
    pub chain: u64,
    /// The hash that stands for the chain; 0 when there is none. It is here and in no register: the verifier would look at
    /// everything behind once for no chain, and once for any.
    pub chain_hash: u64,
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

/// The bits of [`Call::flags`], each a fact about the call that goes on.
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
