//! snmalloc: C's names with its prefix `sn_` (not yet checked against a build of it), and the functions that the Rust crate
//! `snmalloc-rs` calls (override/rust.cc), which have the alignment first.

use memtrace_common::signature::Signature;

use super::{Function, allocate, reallocate, release};

/// The functions that snmalloc exports under names of its own.
pub const FUNCTIONS: &[Function] = &[
    allocate("sn_malloc", Signature::size(0)),
    allocate("sn_calloc", Signature::product(0, 1)),
    reallocate("sn_realloc", Signature::size(1).of(0)),
    reallocate("sn_reallocarray", Signature::product(1, 2).of(0)),
    allocate("sn_posix_memalign", Signature::size(2).stored_at(0)),
    allocate("sn_aligned_alloc", Signature::size(1)),
    allocate("sn_memalign", Signature::size(1)),
    allocate("sn_valloc", Signature::size(0)),
    allocate("sn_pvalloc", Signature::size(0)),
    release("sn_free"),
    release("sn_cfree"),
    release("sn_free_sized"),
    allocate("sn_rust_alloc", Signature::size(1)),
    allocate("sn_rust_alloc_zeroed", Signature::size(1)),
    reallocate("sn_rust_realloc", Signature::size(3).of(0)),
    release("sn_rust_dealloc"),
];

/// Symbols that no other family defines.
pub const MARKS: &[&str] = &["sn_malloc", "sn_rust_alloc"];
