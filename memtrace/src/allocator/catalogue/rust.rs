//! What Rust's code calls for memory. In most programs these lead to malloc or to an allocator of another family, which
//! is probed; they are probed themselves where a program's `#[global_allocator]` is an allocator of its own.

use memtrace_common::signature::Signature;

use super::{Function, allocate, reallocate, release};

/// `alloc(size, align)`, `realloc(pointer, old_size, align, new_size)`, `dealloc(pointer, size, align)`
/// (library/alloc/src/alloc.rs). The `__rg_` ones are the program's own, which the `__rust_` ones jump to in programs of
/// older compilers.
pub const FUNCTIONS: &[Function] = &[
    allocate("__rg_alloc", Signature::size(0)),
    allocate("__rg_alloc_zeroed", Signature::size(0)),
    reallocate("__rg_realloc", Signature::size(3).of(0)),
    release("__rg_dealloc"),
    allocate("__rust_alloc", Signature::size(0)),
    allocate("__rust_alloc_zeroed", Signature::size(0)),
    reallocate("__rust_realloc", Signature::size(3).of(0)),
    release("__rust_dealloc"),
];

/// Compilers from 1.87 on mangle these names, with a hash of the compiler's in them: `_RNvCs.._7___rustc12___rust_alloc`
/// is `__rust_alloc`. Any other name is returned as it is.
pub fn plain(name: &[u8]) -> &[u8] {
    const CRATE: &[u8] = b"_7___rustc";
    if !name.starts_with(b"_RNv") {
        return name;
    }
    let Some(at) = name.windows(CRATE.len()).position(|part| part == CRATE) else { return name };
    // A length, an underscore that ends it, the identifier.
    let rest = &name[at + CRATE.len()..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match rest[digits..].strip_prefix(b"_") {
        Some(plain) if digits > 0 && plain.starts_with(b"__r") => plain,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mangled_names_become_plain_and_others_stay() {
        assert_eq!(plain(b"_RNvCs5QKde7ScR4H_7___rustc12___rust_alloc"), b"__rust_alloc");
        assert_eq!(plain(b"_RNvCsdBezzDwma51_7___rustc14___rust_dealloc"), b"__rust_dealloc");
        assert_eq!(plain(b"__rust_alloc"), b"__rust_alloc");
        assert_eq!(plain(b"_RNvCs5QKde7ScR4H_4main4main"), b"_RNvCs5QKde7ScR4H_4main4main");
        assert_eq!(plain(b"_RNv_7___rustc"), b"_RNv_7___rustc");
    }
}
