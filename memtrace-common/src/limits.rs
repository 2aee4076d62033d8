//! Bounds that both sides rely on.

/// The most frames a stack carries; deeper ones end with [`crate::unwind::StackEnd::TooDeep`].
pub const MAX_FRAMES: usize = 127;

/// The most processes traced at once.
pub const MAX_TARGETS: usize = 1024;

/// Slots of the kernel's "already sent" set of stacks; a power of two. A stack that loses its slot is sent again.
pub const SENT_STACKS: usize = 1 << 16;

/// The most blocks whose allocation or release can wait in the kernel while the ring is full.
pub const MAX_DEFERRED: usize = 1 << 20;

/// The most live blocks that sampling can have drawn, of all targets together.
pub const MAX_SAMPLED: usize = 1 << 22;

/// The most executable mappings of all targets together.
pub const MAX_SEGMENTS: usize = 1 << 16;

/// The most executable mappings of one target whose tables are used.
pub const MAX_TARGET_SEGMENTS: usize = 1 << 12;

/// Threads whose state is found by their id, as long as no two of them share its lowest bits; a power of two. Others' is
/// found more slowly.
pub const PLACED_THREADS: usize = 256;

/// Walks that each thread remembers, in sets of [`REMEMBERED_WAYS`]; a power of two.
pub const REMEMBERED_WALKS: usize = 64;

/// Expectations of each thread, which of its remembered walks comes next; a power of two.
pub const EXPECTED_WALKS: usize = 512;

/// Walks from the same return address and stack pointer that are told apart by the words above; a power of two.
pub const REMEMBERED_WAYS: usize = 16;

/// The most words that decide a remembered walk; longer ones are not remembered.
pub const MAX_REMEMBERED_WORDS: usize = 48;

/// The most pieces of the stack that hold these words.
pub const MAX_PIECES: usize = 8;

/// The most words of all pieces of a stack together; a power of two.
pub const WINDOW_WORDS: usize = 1024;

/// Windows of a processor: so many programs can be preempted while they use one. A further one walks the stack.
pub const WINDOWS: usize = 4;

/// Words between two that decide from which on it costs less to read them in two pieces: a read costs as much as the
/// copying of some 4 KiB, which also displace what the program has in its cache.
pub const PIECE_GAP: u64 = 256;

/// The default size of all rings together in bytes; a power of two and a multiple of the page size.
pub const DEFAULT_RING_BYTES: u32 = 64 << 20;

/// The most calls that wait on stacks of their own (coroutines) over all targets.
pub const MAX_SUSPENDED: usize = 1024;
