//! PHP's memory manager (Zend/zend_alloc.h), which takes its memory from the system in chunks of 2 MiB. Its names are
//! exported, as extensions call them.
//!
//! Where the size is known to the compiler, PHP calls a function for this size. `_estrdup`, `_safe_emalloc` and the like are not
//! here: they call `_emalloc` or `_erealloc`.

use memtrace_common::signature::Signature;

use super::{Function, allocate, reallocate, release, release_of};

/// The functions that take any size, and a heap where PHP has more than one.
pub const FUNCTIONS: &[Function] = &[
    allocate("_emalloc", Signature::size(0)),
    allocate("_ecalloc", Signature::product(0, 1)),
    reallocate("_erealloc", Signature::size(1).of(0)),
    reallocate("_erealloc2", Signature::size(1).of(0)),
    release("_efree"),
    allocate("_emalloc_large", Signature::size(0)),
    allocate("_emalloc_huge", Signature::size(0)),
    release("_efree_large"),
    release("_efree_huge"),
    allocate("_zend_mm_alloc", Signature::size(1)),
    reallocate("_zend_mm_realloc", Signature::size(2).of(1)),
    reallocate("_zend_mm_realloc2", Signature::size(2).of(1)),
    release_of("_zend_mm_free", 1),
];

macro_rules! sizes {
    ($($bytes:literal),+) => {
        /// The functions for one size each: `ZEND_MM_BINS_INFO` of Zend/zend_alloc_sizes.h.
        pub const FIXED: &[Function] = &[$(
            allocate(concat!("_emalloc_", $bytes), Signature::fixed($bytes)),
            release(concat!("_efree_", $bytes)),
        )+];
    };
}

sizes!(
    8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280,
    1536, 1792, 2048, 2560, 3072
);

/// Symbols that no other family defines.
pub const MARKS: &[&str] = &["_zend_mm_alloc", "zend_mm_startup"];
