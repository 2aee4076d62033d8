//! jemalloc (jemalloc(3)): plain names, and the prefixes that programs build it with, in one table.

use memtrace_common::signature::Signature;

use super::{Function, allocate, reallocate, release};

macro_rules! prefixed {
    ($($prefix:literal),+ $(,)?) => {
        /// The functions of jemalloc under the prefixes that programs build it with.
        pub const PREFIXED: &[Function] = &[$(
            allocate(concat!($prefix, "malloc"), Signature::size(0)),
            allocate(concat!($prefix, "calloc"), Signature::product(0, 1)),
            reallocate(concat!($prefix, "realloc"), Signature::size(1).of(0)),
            allocate(concat!($prefix, "posix_memalign"), Signature::size(2).stored_at(0)),
            allocate(concat!($prefix, "aligned_alloc"), Signature::size(1)),
            allocate(concat!($prefix, "memalign"), Signature::size(1)),
            allocate(concat!($prefix, "valloc"), Signature::size(0)),
            allocate(concat!($prefix, "pvalloc"), Signature::size(0)),
            release(concat!($prefix, "free")),
            release(concat!($prefix, "free_sized")),
            release(concat!($prefix, "free_aligned_sized")),
            allocate(concat!($prefix, "mallocx"), Signature::size(0)),
            reallocate(concat!($prefix, "rallocx"), Signature::size(1).of(0)),
            reallocate(concat!($prefix, "xallocx"), Signature::size(1).of(0).in_place()),
            release(concat!($prefix, "dallocx")),
            release(concat!($prefix, "sdallocx")),
        )+];

        /// Symbols that no other family defines.
        pub const MARKS: &[&str] = &[
            "mallctl",
            "mallocx",
            $(concat!($prefix, "malloc"), concat!($prefix, "mallctl")),+
        ];
    };
}

prefixed! {
    // As it is often built into programs.
    "je_",
    // As the Rust crates tikv-jemallocator and jemallocator build it.
    "_rjem_", "_rjem_je_",
    // As Apache Arrow builds it, for one of its memory pools: in libarrow of the Python package pyarrow.
    "je_arrow_",
}

/// Its functions beside those of C under plain names.
pub const PLAIN: &[Function] = &[
    allocate("mallocx", Signature::size(0)),
    reallocate("rallocx", Signature::size(1).of(0)),
    reallocate("xallocx", Signature::size(1).of(0).in_place()),
    release("dallocx"),
    release("sdallocx"),
];
