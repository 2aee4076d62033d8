//! The C library's functions, by the names that every allocator which replaces them takes over.

use memtrace_common::{call::Call, signature::Signature};

use super::{Function, allocate, call, reallocate, release};

/// The heap functions. C libraries give one body several names (glibc: memalign and aligned_alloc, free and cfree); of
/// two names for one address the first is taken.
pub const HEAP: &[Function] = &[
    allocate("malloc", Signature::size(0)),
    allocate("calloc", Signature::product(0, 1)),
    reallocate("realloc", Signature::size(1).of(0)),
    reallocate("reallocarray", Signature::product(1, 2).of(0)),
    allocate("posix_memalign", Signature::size(2).stored_at(0)),
    allocate("aligned_alloc", Signature::size(1)),
    allocate("memalign", Signature::size(1)),
    allocate("valloc", Signature::size(0)),
    allocate("pvalloc", Signature::size(0)),
    release("free"),
    release("cfree"),
];

/// What C libraries do not have yet, but allocators that take over their names may: C23's releases and BSD's `reallocf`.
pub const HEAP_EXTRAS: &[Function] = &[
    release("free_sized"),
    release("free_aligned_sized"),
    reallocate("reallocf", Signature::size(1).of(0).freeing_on_failure()),
];

/// The functions of a C library that map and unmap memory.
pub const MAPPING: &[Function] = &[
    call("mmap", Call::Mmap),
    call("mmap64", Call::Mmap),
    call("munmap", Call::Munmap),
    call("mremap", Call::Mremap),
    call("mprotect", Call::Protect),
];

/// What not every C library has: musl and old glibc do without it.
pub const MAPPING_EXTRAS: &[Function] = &[call("pkey_mprotect", Call::Protect)];

/// A file that defines `malloc` and one of these is a C library, or a program linked statically with one: the
/// start of a program is the C library's own work, which allocators that replace malloc leave alone.
pub const MARKS: &[&str] = &["__libc_start_main", "__libc_start_call_main", "gnu_get_libc_version"];

/// The dynamic linker of glibc. Old ones export a malloc of their own for the time before libc is there.
pub const LOADER_MARK: &str = "_rtld_global";

/// What LeakSanitizer defines wherever it is linked in, AddressSanitizer's runtime included (sanitizer/lsan_interface.h). At the
/// end of a program it stops the threads by ptrace(2), and fails, with an exit status of its own, where another process
/// holds them by it.
pub const LEAK_SANITIZER_MARK: &str = "__lsan_do_leak_check";
