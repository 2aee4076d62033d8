//! The thread's cache: where `malloc` finds the block that it is about to return.
//!
//! Allocators keep for each thread a cache of free blocks, sorted by size into bins. Where it is and how it is laid out is
//! no interface, and changes with versions. So it is read from the code of `malloc`, and it is proven rather than
//! recognised: `machine` runs the code on values of which only the argument is known, as far as it goes without calling
//! anything, and `paths` follows all paths through it. `glibc` and `jemalloc` say what such a call has to do, for the
//! smallest and the largest size of each bin. If anything differs for one of these sizes, nothing is found.
//!
//! What the code alone does not show: whether the word that holds an offset from the thread pointer is one that the
//! dynamic linker fills.

use self::paths::Code;

pub use self::place::ThreadPlace;

/// Where an allocator keeps a thread's cache of free blocks.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ThreadCache {
    /// glibc's, behind a pointer.
    Glibc {
        /// Where the pointer to it is.
        pointer: ThreadPlace,
        /// Bytes from its beginning to the pointer to the first bin's first block (128 with glibc 2.30 to 2.41). Those of
        /// the other bins follow, 8 bytes each.
        bins: u64,
    },
    /// jemalloc's, in the thread's storage itself.
    /// What `malloc` returns is told by [`memtrace_common::prediction`].
    Jemalloc {
        /// Where the bytes are counted that the thread has allocated (`u64`). Behind it is the threshold (`u64`).
        allocated: ThreadPlace,
        /// Bytes from there to the first bin.
        bins: u64,
        /// The table of the classes (`u8`), as linked.
        classes: u64,
    },
}

/// Finds the cache of the calling thread from which `malloc` takes a block.
///
/// `code` is what the file holds from the function's entry on, `address` the entry's address as linked, and `size` the
/// size of the function in bytes if it is known. `None` if this is not proven, as with other allocators and with a
/// `malloc` that hands its work on to a function outside of `code`.
pub fn find(code: &[u8], address: u64, size: Option<u64>) -> Option<ThreadCache> {
    let length = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX);
    let code = Code { bytes: code.get(..length).unwrap_or(code), address };
    glibc::find(code).or_else(|| jemalloc::find(code))
}

mod flags;
mod glibc;
mod jemalloc;
mod machine;
mod memory;
mod paths;
mod place;
mod registers;
mod value;

#[cfg(test)]
mod tests;
