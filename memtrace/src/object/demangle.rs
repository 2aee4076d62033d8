//! Names as people write them: C++ and Rust symbols demangled, every name cut at a bound.
//!
//! Names come from the target and are untrusted. A mangled name of a few hundred bytes can stand for terabytes, since it
//! may refer back to its own parts; so the demanglers write into a buffer that refuses to grow past the bound. Control
//! characters are left in: the report escapes them.

use std::fmt::{self, Write};

use cpp_demangle::DemangleOptions;

/// The most bytes of a function's name, mangled or not.
pub const MAX_NAME_BYTES: usize = 16 << 10;

/// The demangled form of `name`, or `name` itself when it is not mangled or too long to demangle.
pub fn demangle(name: &str) -> String {
    // `.symtab` may carry the version (`memcpy@@GLIBC_2.14`, `name@VERSION`), which is no part of the name.
    let unversioned = name.split_once(if is_mangled(name) { "@" } else { "@@" });
    let name = unversioned.map_or(name, |(name, _)| name);
    if name.len() <= MAX_NAME_BYTES && is_mangled(name) {
        let mut out = Bounded(String::new());
        // Both schemes begin with `_Z`; Rust's legacy one ends with a hash, which its demangler looks for.
        if let Ok(rust) = rustc_demangle::try_demangle(name) {
            if write!(out, "{rust:#}").is_ok() {
                return out.0;
            }
        } else if let Ok(cpp) = cpp_demangle::Symbol::new(name)
            && cpp.structured_demangle(&mut out, &DemangleOptions::default()).is_ok()
        {
            return out.0;
        }
    }
    cut(name, MAX_NAME_BYTES)
}

/// Whether a name looks mangled; any other is C, or plain already.
pub fn is_mangled(name: &str) -> bool {
    name.starts_with("_Z") || name.starts_with("_R")
}

/// At most `limit` bytes of `text`, cut between characters.
pub fn cut(text: &str, limit: usize) -> String {
    text[..text.floor_char_boundary(limit)].to_owned()
}

/// Text that ends in an error where it would exceed [`MAX_NAME_BYTES`].
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_NAME_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_languages_are_demangled_and_c_is_left_alone() {
        assert_eq!(demangle("_ZN3foo3barEv"), "foo::bar()");
        assert_eq!(demangle("_ZN4core3fmt5write17h0123456789abcdefE"), "core::fmt::write");
        assert_eq!(demangle("_RNvC6_123foo3bar"), "123foo::bar");
        assert_eq!(demangle("_ZN3foo3barEv@@V_1.0"), "foo::bar()");
        assert_eq!(demangle("memcpy@@GLIBC_2.14"), "memcpy");
        for plain in ["f", "i", "main", "_start", "_Z", "_R", "", "malloc@plt"] {
            assert_eq!(demangle(plain), plain);
        }
    }

    #[test]
    fn a_name_that_unfolds_without_end_is_shown_mangled() {
        // Each level is a template of the level before, twice: 2^60 bytes when written out.
        let mut name = String::from("_Z1f1AIiiE");
        let mut previous = String::from("S0_");
        for level in 1..60u32 {
            write!(name, "1AI{previous}{previous}E").expect("a string takes any text");
            previous = format!("S{}_", char::from_digit(level % 36, 36).unwrap_or('0').to_ascii_uppercase());
        }
        assert!(demangle(&name).len() <= MAX_NAME_BYTES);
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(demangle(&"ä".repeat(MAX_NAME_BYTES)).len(), MAX_NAME_BYTES);
        assert_eq!(cut("aä", 2), "a");
    }

    proptest! {
        #[test]
        fn any_name_ends_within_the_bound(name in "(_Z|_R|)[A-Za-z0-9_$.]{0,300}") {
            prop_assert!(demangle(&name).len() <= MAX_NAME_BYTES);
        }
    }
}
