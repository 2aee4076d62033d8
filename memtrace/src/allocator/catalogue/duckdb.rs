//! DuckDB's buffers (src/include/duckdb/common/allocator.hpp). Its jemalloc is inlined into these functions, so that probes on
//! `duckdb_je_malloc` and the like miss most calls.
//!
//! They are what an `Allocator` calls through pointers, so they cannot be inlined: `AllocateData` and `FreeData` before them are,
//! the latter into every `AllocatedData` that ends. The first argument is the allocator's own data. Where DuckDB is
//! built without jemalloc they call malloc, and throw when it fails.

use memtrace_common::signature::Signature;

use super::{Function, allocate, reallocate, release_of};

/// What these functions are called (Itanium C++ ABI, section 5.1).
pub const FUNCTIONS: &[Function] = &[
    allocate(ALLOCATE, Signature::size(1).throwing()),
    reallocate(
        "_ZN6duckdb9Allocator17DefaultReallocateEPNS_20PrivateAllocatorDataEPhmm",
        Signature::size(3).of(1).throwing(),
    ),
    release_of("_ZN6duckdb9Allocator11DefaultFreeEPNS_20PrivateAllocatorDataEPhm", 1),
];

const ALLOCATE: &str = "_ZN6duckdb9Allocator15DefaultAllocateEPNS_20PrivateAllocatorDataEm";

/// Symbols that no other family defines.
pub const MARKS: &[&str] = &[ALLOCATE];
