//! The functions that are probed, and the marks by which allocators are known: one file a family.

pub mod c;
pub mod cpp;
pub mod duckdb;
pub mod jemalloc;
pub mod mimalloc;
pub mod rust;
pub mod snmalloc;
pub mod tcmalloc;
pub mod zend;

use std::fmt;

use memtrace_common::{call::Call, signature::Signature};

use crate::runtime::python;

/// A function, and what it does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Function {
    /// Its symbol.
    pub name: &'static str,
    /// What it does.
    pub call: Call,
    /// Where it has its arguments.
    pub signature: Signature,
}

impl Function {
    /// The integer arguments that are read, a bit each.
    pub const fn arguments(&self) -> u8 {
        self.call.arguments() | self.signature.arguments()
    }
}

const fn allocate(name: &'static str, signature: Signature) -> Function {
    Function { name, call: Call::Allocate, signature }
}

const fn reallocate(name: &'static str, signature: Signature) -> Function {
    Function { name, call: Call::Reallocate, signature }
}

/// Nearly every release has the block as its first argument.
const fn release(name: &'static str) -> Function {
    release_of(name, 0)
}

const fn release_of(name: &'static str, block: u8) -> Function {
    Function { name, call: Call::Release, signature: Signature::block(block) }
}

const fn call(name: &'static str, call: Call) -> Function {
    Function { name, call, signature: Signature(0) }
}

/// Makes [`Family`] of one table: its name, what people call it, the symbols that only this family defines, and its functions
/// beside those of C and C++.
macro_rules! families {
    ($($(#[$doc:meta])* $name:ident, $shown:literal, $marks:expr, [$($functions:expr),*];)+) => {
        /// An allocator beside the C library's.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Family { $($(#[$doc])* $name,)+ }

        impl Family {
            /// All families, in the order in which they are looked for.
            pub const ALL: [Family; [$($shown),+].len()] = [$(Family::$name),+];

            /// Symbols that only this family defines; none where a family is known in another way.
            pub const fn marks(self) -> &'static [&'static str] {
                match self { $(Family::$name => $marks,)+ }
            }

            /// Its functions beside those of C and C++.
            pub fn functions(self) -> impl Iterator<Item = &'static Function> {
                let lists: &'static [&'static [Function]] = match self { $(Family::$name => &[$($functions),*],)+ };
                lists.iter().copied().flatten()
            }
        }

        impl fmt::Display for Family {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(match self { $(Family::$name => $shown,)+ })
            }
        }
    };
}

families! {
    /// jemalloc.org.
    Jemalloc, "jemalloc", jemalloc::MARKS, [jemalloc::PLAIN, jemalloc::PREFIXED];
    /// gperftools' tcmalloc, and google/tcmalloc.
    Tcmalloc, "tcmalloc", tcmalloc::MARKS, [tcmalloc::FUNCTIONS];
    /// microsoft/mimalloc.
    Mimalloc, "mimalloc", mimalloc::MARKS, [mimalloc::FUNCTIONS, mimalloc::MORE];
    /// microsoft/snmalloc.
    Snmalloc, "snmalloc", snmalloc::MARKS, [snmalloc::FUNCTIONS];
    /// PHP's.
    Zend, "PHP's memory manager", zend::MARKS, [zend::FUNCTIONS, zend::FIXED];
    /// DuckDB's.
    DuckDb, "DuckDB's allocator", duckdb::MARKS, [duckdb::FUNCTIONS];
    /// A Rust program's own global allocator.
    Rust, "a global allocator of its own", &[], [rust::FUNCTIONS];
    /// It defines malloc and free, and nothing else tells what it is.
    Unknown, "an allocator of its own", &[], [];
}

/// Every symbol that this room asks a file for.
pub fn wanted_symbols() -> impl Iterator<Item = &'static str> {
    let standard = [c::HEAP, c::HEAP_EXTRAS, c::MAPPING, c::MAPPING_EXTRAS, cpp::OPERATORS];
    standard
        .into_iter()
        .flatten()
        .chain(Family::ALL.into_iter().flat_map(Family::functions))
        .map(|function| function.name)
        .chain(c::MARKS.iter().copied())
        .chain([c::LOADER_MARK, c::LEAK_SANITIZER_MARK])
        .chain(Family::ALL.into_iter().flat_map(|family| family.marks().iter().copied()))
        .chain(cpp::RAISES.iter().copied())
        .chain([python::RUNTIME])
}

/// What a file is, by the symbols it defines.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Role {
    /// The C library, or a program linked statically with it.
    pub is_libc: bool,
    /// Whether C's heap functions are here.
    pub has_heap: bool,
    /// Allocators beside the C library's.
    pub families: Vec<Family>,
}

impl Role {
    /// Tells a file's role from which symbols it defines.
    pub fn of(defines: impl Fn(&str) -> bool) -> Role {
        if defines(c::LOADER_MARK) {
            return Role::default();
        }
        // A static program that never frees has no `free`: musl's linker input leaves it out.
        let is_libc = defines("malloc") && c::MARKS.iter().any(|mark| defines(mark));
        let has_heap = is_libc || defines("malloc") && defines("free");
        let marked = |family: &Family| family.marks().iter().any(|mark| defines(mark));
        let mut families: Vec<Family> = Family::ALL.into_iter().filter(marked).collect();
        if has_heap && !is_libc && families.is_empty() {
            families.push(Family::Unknown);
        }
        Role { is_libc, has_heap, families }
    }

    /// Whether the file has anything to do with allocation.
    pub fn allocates(&self) -> bool {
        self.is_libc || !self.families.is_empty()
    }

    /// The functions that are looked for in the file, in order: of two names for one address the first is taken.
    pub fn functions(&self) -> Vec<&'static Function> {
        let mut functions: Vec<&'static Function> = Vec::new();
        if self.has_heap {
            functions.extend(c::HEAP.iter().chain(c::HEAP_EXTRAS));
        }
        for family in &self.families {
            functions.extend(family.functions());
        }
        if self.allocates() {
            functions.extend([c::MAPPING, c::MAPPING_EXTRAS, cpp::OPERATORS].into_iter().flatten());
        }
        functions
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn role_of(symbols: &[&str]) -> Role {
        Role::of(|name| symbols.contains(&name))
    }

    fn role(is_libc: bool, has_heap: bool, families: &[Family]) -> Role {
        Role { is_libc, has_heap, families: families.to_vec() }
    }

    #[test]
    fn roles_follow_the_symbols_not_the_name() {
        assert_eq!(role_of(&["malloc", "free", "__libc_start_main"]), role(true, true, &[]));
        assert_eq!(role_of(&["malloc", "free"]), role(false, true, &[Family::Unknown]));
        assert_eq!(role_of(&["malloc", "free", "mallctl"]), role(false, true, &[Family::Jemalloc]));
        for prefixed in ["_rjem_malloc", "_rjem_je_malloc", "je_mallctl", "je_arrow_malloc"] {
            assert_eq!(role_of(&[prefixed]), role(false, false, &[Family::Jemalloc]), "{prefixed}");
        }
        assert_eq!(
            role_of(&["malloc", "free", "gnu_get_libc_version", "mi_malloc"]),
            role(true, true, &[Family::Mimalloc])
        );
        assert_eq!(role_of(&["malloc", "free", "_rtld_global"]), Role::default());
        assert_eq!(
            role_of(&["malloc", "__libc_start_main"]),
            role(true, true, &[]),
            "a static program that never frees"
        );
        assert_eq!(role_of(&["_emalloc", "_zend_mm_alloc"]), role(false, false, &[Family::Zend]));
        assert_eq!(role_of(duckdb::MARKS), role(false, false, &[Family::DuckDb]));
        assert_eq!(role_of(&["malloc"]), Role::default());
        assert!(!role_of(&[]).allocates());
    }

    #[test]
    fn one_name_has_one_meaning_and_every_heap_call_has_a_signature() {
        let mut known: HashMap<&str, Function> = HashMap::new();
        for family in Family::ALL {
            let role = role(true, true, &[family]);
            for &function in role.functions() {
                let other = *known.entry(function.name).or_insert(function);
                assert_eq!(other, function, "{}", function.name);
                assert_eq!(function.call.is_mapping(), function.signature == Signature(0), "{}", function.name);
                let replaces = function.call == Call::Reallocate || function.call.is_release();
                assert_eq!(function.signature.block_selector() != 0, replaces, "{}", function.name);
            }
        }
        assert_eq!(known["mi_heap_recalloc"].signature, Signature::product(2, 3).of(1));
        assert_eq!(known["mi_calloc"].signature, Signature::product(0, 1));
        assert_eq!(known["_emalloc_3072"].signature.fixed_bytes(), 3072);
        assert_eq!(known["_efree_3072"].signature, Signature::block(0));
        assert_eq!(known["je_arrow_rallocx"].signature, Signature::size(1).of(0));
        assert_eq!(known["_rjem_xallocx"].signature, Signature::size(1).of(0).in_place());
    }
}
