//! The functions that are probed, and the marks by which a C library and other allocators are known.

use std::fmt;

use memtrace_common::call::Call;

/// A function of the C library, and what it does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Function {
    /// Its symbol.
    pub name: &'static str,
    /// What it does.
    pub call: Call,
}

const fn function(name: &'static str, call: Call) -> Function {
    Function { name, call }
}

/// The functions that are probed, in order: of two names for one address the first is taken. C libraries give one body
/// several names (glibc: memalign and aligned_alloc, mmap and mmap64, free and cfree).
pub const FUNCTIONS: &[Function] = &[
    function("malloc", Call::Malloc),
    function("calloc", Call::Calloc),
    function("realloc", Call::Realloc),
    function("reallocarray", Call::Reallocarray),
    function("posix_memalign", Call::PosixMemalign),
    function("aligned_alloc", Call::AlignedAlloc),
    function("memalign", Call::AlignedAlloc),
    function("valloc", Call::Valloc),
    function("pvalloc", Call::Valloc),
    function("free", Call::Free),
    function("cfree", Call::Free),
    function("mmap", Call::Mmap),
    function("mmap64", Call::Mmap),
    function("munmap", Call::Munmap),
    function("mremap", Call::Mremap),
];

/// A file that defines `malloc`, `free` and one of these is a C library, or a program linked statically with one: the
/// start of a program is the C library's own work, which allocators that replace malloc leave alone.
pub const LIBC_MARKS: &[&str] = &["__libc_start_main", "__libc_start_call_main", "gnu_get_libc_version"];

/// The dynamic linker of glibc. Old ones export a malloc of their own for the time before libc is there.
pub const LOADER_MARK: &str = "_rtld_global";

/// An allocator other than the C library's.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Family {
    /// jemalloc.org.
    Jemalloc,
    /// gperftools' tcmalloc, and google/tcmalloc.
    Tcmalloc,
    /// microsoft/mimalloc.
    Mimalloc,
    /// It defines malloc and free, and nothing else tells what it is.
    Unknown,
}

impl fmt::Display for Family {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Family::Jemalloc => "jemalloc",
            Family::Tcmalloc => "tcmalloc",
            Family::Mimalloc => "mimalloc",
            Family::Unknown => "an allocator of its own",
        })
    }
}

/// Symbols that only one family defines. The plain names are those of C builds; `_rjem_` is what Rust programs with a
/// statically linked jemalloc have, and the mangled ones are google/tcmalloc's.
pub const FAMILY_MARKS: &[(&str, Family)] = &[
    ("mallctl", Family::Jemalloc),
    ("mallocx", Family::Jemalloc),
    ("je_malloc", Family::Jemalloc),
    ("je_mallctl", Family::Jemalloc),
    ("_rjem_malloc", Family::Jemalloc),
    ("_rjem_mallctl", Family::Jemalloc),
    ("tc_malloc", Family::Tcmalloc),
    ("TCMallocInternalMalloc", Family::Tcmalloc),
    ("MallocExtension_Internal_GetNumericProperty", Family::Tcmalloc),
    ("mi_malloc", Family::Mimalloc),
    ("mi_version", Family::Mimalloc),
    ("_mi_malloc_generic", Family::Mimalloc),
];

/// Every symbol that this room asks a file for.
pub fn wanted_symbols() -> impl Iterator<Item = &'static str> {
    FUNCTIONS
        .iter()
        .map(|function| function.name)
        .chain(LIBC_MARKS.iter().copied())
        .chain([LOADER_MARK])
        .chain(FAMILY_MARKS.iter().map(|&(name, _)| name))
}

/// What a file is, by the symbols it defines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It has nothing to do with allocation.
    Other,
    /// The C library, or a program linked statically with it.
    Libc,
    /// An allocator of another family.
    Foreign(Family),
    /// A program linked statically with the C library and another allocator, whose heap functions are that one's.
    LibcWithForeignHeap(Family),
}

/// Tells a file's role from which symbols it defines.
pub fn role(defines: impl Fn(&str) -> bool) -> Role {
    if defines(LOADER_MARK) {
        return Role::Other;
    }
    let heap = defines("malloc") && defines("free");
    let family = FAMILY_MARKS.iter().find(|(mark, _)| defines(mark)).map(|&(_, family)| family);
    let libc = LIBC_MARKS.iter().any(|mark| defines(mark));
    match (heap, libc, family) {
        (true, true, None) => Role::Libc,
        (true, true, Some(family)) => Role::LibcWithForeignHeap(family),
        (_, _, Some(family)) => Role::Foreign(family),
        (true, false, None) => Role::Foreign(Family::Unknown),
        (false, _, None) => Role::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role_of(symbols: &[&str]) -> Role {
        role(|name| symbols.contains(&name))
    }

    #[test]
    fn roles_follow_the_symbols_not_the_name() {
        assert_eq!(role_of(&["malloc", "free", "__libc_start_main"]), Role::Libc);
        assert_eq!(role_of(&["malloc", "free"]), Role::Foreign(Family::Unknown));
        assert_eq!(role_of(&["malloc", "free", "mallctl"]), Role::Foreign(Family::Jemalloc));
        assert_eq!(role_of(&["_rjem_malloc"]), Role::Foreign(Family::Jemalloc));
        assert_eq!(
            role_of(&["malloc", "free", "gnu_get_libc_version", "mi_malloc"]),
            Role::LibcWithForeignHeap(Family::Mimalloc)
        );
        assert_eq!(role_of(&["malloc", "free", "_rtld_global"]), Role::Other);
        assert_eq!(role_of(&["malloc", "__libc_start_main"]), Role::Other);
        assert_eq!(role_of(&[]), Role::Other);
    }
}
