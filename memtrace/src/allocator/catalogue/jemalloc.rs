//! jemalloc (jemalloc(3)): plain names, `je_` as it is often built into programs, `_rjem_` and `_rjem_je_` as the Rust
//! crates `tikv-jemallocator` and `jemallocator` build it.

use memtrace_common::signature::Signature;

use super::{Function, allocate, reallocate, release};

macro_rules! prefixed {
    ($($prefix:literal),+) => { &[$(
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
    )+] };
}

/// The functions of jemalloc under the prefixes that programs build it with.
pub const PREFIXED: &[Function] = prefixed!("je_", "_rjem_", "_rjem_je_");

/// Its functions beside those of C under plain names.
pub const PLAIN: &[Function] = &[
    allocate("mallocx", Signature::size(0)),
    reallocate("rallocx", Signature::size(1).of(0)),
    reallocate("xallocx", Signature::size(1).of(0).in_place()),
    release("dallocx"),
    release("sdallocx"),
];

/// Symbols that no other family defines.
pub const MARKS: &[&str] =
    &["mallctl", "mallocx", "je_malloc", "je_mallctl", "_rjem_malloc", "_rjem_mallctl", "_rjem_je_malloc"];
