//! mimalloc (mimalloc.h): the `mi_` names. `mi_heap_` functions have the heap as their first argument.

use memtrace_common::signature::Signature;

use super::{Function, allocate, reallocate, release};

/// Functions that exist with and without a heap before their other arguments.
macro_rules! with_and_without_heap {
    ($(($call:ident, $name:literal, $($part:ident($($argument:literal),*)).+)),+ $(,)?) => { &[
        $($call(concat!("mi_", $name), with_and_without_heap!(@ 0, $($part($($argument),*)).+)),)+
        $($call(concat!("mi_heap_", $name), with_and_without_heap!(@ 1, $($part($($argument),*)).+)),)+
    ] };
    (@ $shift:literal, $first:ident($($a:literal),*) $(. $next:ident($($b:literal),*))*) => {
        Signature::$first($($a + $shift),*)$(.$next($($b + $shift),*))*
    };
}

/// Its allocating functions, with a heap and without.
pub const FUNCTIONS: &[Function] = with_and_without_heap![
    (allocate, "malloc", size(0)),
    (allocate, "malloc_small", size(0)),
    (allocate, "zalloc", size(0)),
    (allocate, "zalloc_small", size(0)),
    (allocate, "calloc", product(0, 1)),
    (allocate, "mallocn", product(0, 1)),
    (reallocate, "realloc", size(1).of(0)),
    (reallocate, "reallocn", product(1, 2).of(0)),
    (reallocate, "reallocf", size(1).of(0).freeing_on_failure()),
    (reallocate, "reallocarray", product(1, 2).of(0)),
    (reallocate, "rezalloc", size(1).of(0)),
    (reallocate, "recalloc", product(1, 2).of(0)),
    (allocate, "malloc_aligned", size(0)),
    (allocate, "malloc_aligned_at", size(0)),
    (allocate, "zalloc_aligned", size(0)),
    (allocate, "zalloc_aligned_at", size(0)),
    (allocate, "calloc_aligned", product(0, 1)),
    (allocate, "calloc_aligned_at", product(0, 1)),
    (reallocate, "realloc_aligned", size(1).of(0)),
    (reallocate, "realloc_aligned_at", size(1).of(0)),
    (reallocate, "rezalloc_aligned", size(1).of(0)),
    (reallocate, "rezalloc_aligned_at", size(1).of(0)),
    (reallocate, "recalloc_aligned", product(1, 2).of(0)),
    (reallocate, "recalloc_aligned_at", product(1, 2).of(0)),
    (allocate, "alloc_new", size(0).throwing()),
    (allocate, "alloc_new_n", product(0, 1).throwing()),
];

/// The functions of mimalloc that only some of its builds export.
pub const MORE: &[Function] = &[
    reallocate("mi_expand", Signature::size(1).of(0)),
    reallocate("mi_aligned_recalloc", Signature::product(1, 2).of(0)),
    reallocate("mi_aligned_offset_recalloc", Signature::product(1, 2).of(0)),
    allocate("mi_posix_memalign", Signature::size(2).stored_at(0)),
    allocate("mi_aligned_alloc", Signature::size(1)),
    allocate("mi_memalign", Signature::size(1)),
    allocate("mi_valloc", Signature::size(0)),
    allocate("mi_pvalloc", Signature::size(0)),
    allocate("mi_new", Signature::size(0).throwing()),
    allocate("mi_new_aligned", Signature::size(0).throwing()),
    allocate("mi_new_nothrow", Signature::size(0)),
    allocate("mi_new_aligned_nothrow", Signature::size(0)),
    allocate("mi_new_n", Signature::product(0, 1).throwing()),
    reallocate("mi_new_realloc", Signature::size(1).of(0).throwing()),
    reallocate("mi_new_reallocn", Signature::product(1, 2).of(0).throwing()),
    release("mi_free"),
    release("mi_free_size"),
    release("mi_free_size_aligned"),
    release("mi_free_aligned"),
    release("mi_cfree"),
];

/// Symbols that no other family defines.
pub const MARKS: &[&str] = &["mi_malloc", "mi_version", "_mi_malloc_generic"];
