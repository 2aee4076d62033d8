//! The deferred table: what happened to blocks while the ring had no room, one entry a block, applied by time later.
//!
//! An entry holds the *net* effect on one address: a block that the ring announced may have been released
//! (`released_ns`), and a new one may live there now (`allocated_ns`). A block that is both allocated and released
//! while deferred leaves no entry; two counters keep the totals right.

/// Which block: the key of the deferred table.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(C)]
pub struct DeferredKey {
    /// The block's address.
    pub address: u64,
    /// The target's slot, widened so that the key has no padding.
    pub slot: u64,
}

/// What happened to it: the value of the deferred table.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct DeferredBlock {
    /// When a block that the ring announced earlier was released; 0 if it was not.
    pub released_ns: u64,
    /// When the block that lives there now was allocated; 0 if there is none.
    pub allocated_ns: u64,
    /// Its size in bytes, with its [level](crate::sampling::pack).
    pub size: u64,
    /// The id of its stack.
    pub stack: u64,
}

const _: () = assert!(size_of::<DeferredKey>() == 16);
const _: () = assert!(size_of::<DeferredBlock>() == 32);
