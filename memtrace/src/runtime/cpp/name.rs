//! What reports call a class: its name as it is written in the program.

use crate::object::demangle::{cut, demangle};

/// The most bytes of a name; longer ones are cut.
const MAX_NAME: usize = 256;

/// What the mangled name of a class has in front as a symbol, and what that is called.
const SYMBOL: &str = "_ZTS";
const CALLED: &str = "typeinfo name for ";

/// What `make_shared` makes: one block for the object and the count of those who share it, of a class of the library's own whose first
/// argument is the object's. By libstdc++ and by libc++.
const SHARED: [&str; 2] = ["std::_Sp_counted_ptr_inplace<", "std::__1::__shared_ptr_emplace<"];

/// The name of a class, by the mangled one that its description has.
pub fn of_class(mangled: &str) -> String {
    let symbol = format!("{SYMBOL}{mangled}");
    let demangled = demangle(&symbol);
    let name = demangled.strip_prefix(CALLED).unwrap_or(mangled);
    let shared = SHARED.iter().find_map(|begin| first_argument(name.strip_prefix(begin)?));
    cut(shared.unwrap_or(name), MAX_NAME)
}

/// The first of the arguments of a template, behind its opening bracket.
fn first_argument(arguments: &str) -> Option<&str> {
    let mut depth = 0usize;
    for (at, character) in arguments.char_indices() {
        match character {
            '<' | '(' | '[' | '{' => depth += 1,
            ',' | '>' if depth == 0 => return Some(&arguments[..at]),
            '>' | ')' | ']' | '}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_those_of_the_program() {
        for (mangled, name) in [
            ("7Session", "Session"),
            ("N3app7SessionE", "app::Session"),
            ("N3app5StoreINS_7SessionEEE", "app::Store<app::Session>"),
            ("N12_GLOBAL__N_13JobE", "(anonymous namespace)::Job"),
            ("Z4mainE3Job", "main::Job"),
            ("St23_Sp_counted_ptr_inplaceIN3app7SessionESaIvELN9__gnu_cxx12_Lock_policyE2EE", "app::Session"),
            (
                "St23_Sp_counted_ptr_inplaceISt3mapIiiSt4lessIiESaISt4pairIKiiEEESaIvELN9__gnu_cxx12_Lock_policyE2EE",
                "std::map<int, int, std::less<int>, std::allocator<std::pair<int const, int> > >",
            ),
            ("NSt3__120__shared_ptr_emplaceIN3app7SessionENS_9allocatorIS2_EEEE", "app::Session"),
            ("no mangled name", "no mangled name"),
            ("", ""),
        ] {
            assert_eq!(of_class(mangled), name);
        }
    }

    proptest! {
        #[test]
        fn any_name_ends_within_the_bound(name in "[A-Za-z0-9_$.*<>,()]{0,300}") {
            prop_assert!(of_class(&name).len() <= MAX_NAME);
        }
    }
}
