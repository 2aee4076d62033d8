//! The records, byte for byte.
//!
//! Each record begins with a *head* (kind, count, slot, thread) and the time in nanoseconds of `CLOCK_MONOTONIC`.
//! An allocation's time is that of its return, a release's that of its entry. All integers have the machine's byte
//! order, and every record's length is a multiple of eight. Stacks go through a ring buffer of the kernel's, all others
//! through [rings of our own](crate::ring).

use crate::Slot;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal: $record:ident,)+) => {
        /// What a record says has happened in the target.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $name = $number,)+ }

        impl Kind {
            /// The kind with this number, if there is one.
            pub const fn from_number(number: u8) -> Option<Kind> {
                match number { $($number => Some(Kind::$name),)+ _ => None }
            }

            /// The bytes of its records; of a stack without its frames.
            pub const fn record_bytes(self) -> usize {
                match self { $(Kind::$name => size_of::<$record>(),)+ }
            }
        }
    };
}

kinds! {
    /// A heap block appeared.
    Allocate = 1: BlockRecord,
    /// A heap block is about to be released.
    Release = 2: AddressRecord,
    /// `realloc` began: the thread parks the old block.
    ReallocBegin = 3: AddressRecord,
    /// `realloc` succeeded: a new block; what the thread parked is gone.
    Reallocate = 4: BlockRecord,
    /// `realloc` failed: what the thread parked lives on.
    ReallocFailed = 5: MarkRecord,
    /// A range of pages was mapped.
    Map = 6: BlockRecord,
    /// `munmap` began: the thread parks what it tracks of the range.
    UnmapBegin = 7: RangeRecord,
    /// `munmap` failed: what the thread parked lives on.
    UnmapFailed = 8: MarkRecord,
    /// `mremap` began: the thread parks what it tracks of the old range.
    RemapBegin = 9: RangeRecord,
    /// `mremap` succeeded: a new range; what the thread parked is gone.
    Remap = 10: BlockRecord,
    /// `mremap` failed: what the thread parked lives on.
    RemapFailed = 11: MarkRecord,
    /// The frames behind a stack id: `count` addresses of 8 bytes follow.
    Stack = 12: StackRecord,
    /// The process has a new image; its old heap is gone. `count` 1: another thread than the first
    /// called exec, and probes bound to the first one are dead.
    Exec = 13: MarkRecord,
    /// A page was written to for the first time; only with `--mode growth`.
    Touch = 14: BlockRecord,
    /// The process gave the contents of a range of pages back, the range stays; only with `--mode growth`.
    Discard = 15: RangeRecord,
    /// A range of pages was mapped that may not be accessed: address space, and no memory.
    Reserve = 16: BlockRecord,
    /// Pages of a range may be accessed from now on.
    Commit = 17: RangeRecord,
    /// The interpreter frames of the stack whose record with the same id comes next. The depths of the native frames and the words
    /// of the chain follow.
    Chain = 18: ChainRecord,
    /// A pool of small blocks was made ready: the address is that of its first block, and the size 0.
    Pool = 19: BlockRecord,
}

/// The first eight bytes of every record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Head {
    /// The number of a [`Kind`].
    pub kind: u8,
    /// Frames in a stack record; in an exec see [`Kind::Exec`]; else 0.
    pub count: u8,
    /// The target.
    pub slot: u16,
    /// The thread, as the first pid namespace numbers it.
    pub thread: u32,
}

impl Head {
    /// A head for a record without frames.
    pub const fn new(kind: Kind, slot: Slot, thread: u32) -> Self {
        Self { kind: kind as u8, count: 0, slot: slot.0, thread }
    }
}

/// A block or a mapped range that appeared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct BlockRecord {
    /// Kind, slot and thread.
    pub head: Head,
    /// When the call returned.
    pub time_ns: u64,
    /// Where the block begins.
    pub address: u64,
    /// Requested bytes with their [level](crate::sampling::pack) (heap), or bytes rounded up to whole pages (mappings).
    pub size: u64,
    /// The id of the stack that asked for it.
    pub stack: u64,
}

/// The record of something that became of one block, such as its release.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct AddressRecord {
    /// Kind, slot and thread.
    pub head: Head,
    /// When the call was entered.
    pub time_ns: u64,
    /// The block's address.
    pub address: u64,
}

/// The record of something that became of a range of pages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct RangeRecord {
    /// Kind, slot and thread.
    pub head: Head,
    /// When the call was entered.
    pub time_ns: u64,
    /// Where the range begins; page-aligned in calls that can succeed.
    pub address: u64,
    /// Bytes, rounded up to whole pages.
    pub length: u64,
}

/// Something that happened to a thread or process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct MarkRecord {
    /// Kind, slot and thread.
    pub head: Head,
    /// When.
    pub time_ns: u64,
}

/// What stands before the frames of a stack; `head.count` addresses follow, the caller of the allocator first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct StackRecord {
    /// Kind, count, slot and thread.
    pub head: Head,
    /// When it was sent.
    pub time_ns: u64,
    /// The stack's id.
    pub id: u64,
    /// The number of a [`crate::unwind::StackEnd`].
    pub end: u64,
}

/// What stands before the interpreter frames of a stack. A `u32` for each of [`DEPTHS`] native frames follows, which says how many
/// words it is above the first one's stack pointer, and then `words` words of 8 bytes (see [`crate::interpreter`]), the innermost
/// frame's first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct ChainRecord {
    /// Kind, slot and thread.
    pub head: Head,
    /// When it was sent.
    pub time_ns: u64,
    /// The stack's id.
    pub id: u64,
    /// The stack pointer of the first native frame.
    pub sp: u64,
    /// The words of the chain.
    pub words: u64,
}

/// The depth of a native frame on another stack than the first one's.
pub const UNKNOWN_DEPTH: u32 = u32::MAX;

/// The depths that a chain's record carries, of which as many mean something as the stack has native frames.
pub const DEPTHS: usize = crate::limits::MAX_FRAMES + 1;

const _: () = assert!(size_of::<ChainRecord>() == 40);
const _: () = assert!(size_of::<Head>() == 8);
const _: () = assert!(size_of::<BlockRecord>() == 40);
const _: () = assert!(size_of::<AddressRecord>() == 24);
const _: () = assert!(size_of::<RangeRecord>() == 32);
const _: () = assert!(size_of::<MarkRecord>() == 16);
const _: () = assert!(size_of::<StackRecord>() == 32);
const _: () = assert!(size_of::<BlockRecord>() as u64 == crate::ring::MAX_RECORD_BYTES);
const _: () = assert!(crate::limits::MAX_FRAMES <= u8::MAX as usize);
const _: () = assert!(crate::limits::MAX_TARGETS <= u16::MAX as usize);
