//! One name for all forms of a function: instances of a template or of a generic function, clones that the compiler made,
//! and the versions that a JIT compiler replaces one by another as a function becomes hot.

use std::borrow::Cow;

/// What compilers put behind the name of a clone of a function.
const CLONES: [&str; 7] = [".constprop.", ".isra.", ".part.", ".cold", ".lto_priv.", ".llvm.", ".clone."];

/// How V8 marks what it compiled in a perf map, before the function's name: by the interpreter, baseline, Maglev, Turbofan.
const TIERS: [char; 4] = ['~', '^', '+', '*'];

/// The name without template arguments, suffixes of clones and the mark of a JIT compiler's tier.
pub fn family(name: &str) -> Cow<'_, str> {
    let name = without_clone(name);
    if let Some(rest) = name.strip_prefix("JS:") {
        return Cow::Owned(format!("JS:{}", rest.trim_start_matches(TIERS)));
    }
    without_arguments(name)
}

fn without_clone(name: &str) -> &str {
    CLONES.iter().filter_map(|suffix| name.find(suffix)).filter(|&at| at > 0).min().map_or(name, |at| &name[..at])
}

/// `std::vector<int, A>::push_back(int&&)` as `std::vector<>::push_back`. Angle brackets of operators stay, and so do those
/// that a name begins with (`<T as Trait>::f` in Rust).
fn without_arguments(name: &str) -> Cow<'_, str> {
    if !name.contains(['<', '(']) {
        return Cow::Borrowed(name);
    }
    let mut short = String::with_capacity(name.len());
    let mut depth = 0u32;
    let mut before = None;
    for (at, character) in name.char_indices() {
        let is_operator =
            || short.ends_with("operator") || short.ends_with("operator<") || short.ends_with("operator-");
        match character {
            '<' if depth > 0 => depth += 1,
            '<' if before.is_some_and(|before: char| before.is_alphanumeric() || matches!(before, '_' | ':'))
                && !is_operator() =>
            {
                short.push('<');
                depth = 1;
            }
            '>' if depth > 0 && before != Some('-') => {
                depth -= 1;
                if depth == 0 {
                    short.push('>');
                }
            }
            // The parameters; `operator()` and `(anonymous namespace)` are no parameters.
            '(' if depth == 0
                && at > 0
                && !name[at..].starts_with("(anonymous")
                && !(name[at..].starts_with("()") && short.ends_with("operator")) =>
            {
                break;
            }
            _ if depth == 0 => short.push(character),
            _ => {}
        }
        before = Some(character);
    }
    Cow::Owned(short)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_of_one_function_have_one_name() {
        for (name, expected) in [
            ("node_new", "node_new"),
            ("parse.constprop.0.isra.0", "parse"),
            ("load.cold", "load"),
            ("JS:*remember map23.js:3:18", "JS:remember map23.js:3:18"),
            ("JS:~remember map23.js:3:18", "JS:remember map23.js:3:18"),
            ("std::vector<int, std::allocator<int>>::push_back(int&&)", "std::vector<>::push_back"),
            ("std::map<A, B<C> >::operator[](A const&)", "std::map<>::operator[]"),
            ("void grow<(Kind)3>(Node<int>*)", "void grow<>"),
            ("Pool::operator()(int) const", "Pool::operator()"),
            ("Big::operator<(Big const&)", "Big::operator<"),
            ("operator<< <char>(int)", "operator<< <char>"),
            ("(anonymous namespace)::leak(int)", "(anonymous namespace)::leak"),
            ("<alloc::vec::Vec<T> as Extend>::extend", "<alloc::vec::Vec<> as Extend>::extend"),
            ("core::ops::function::FnOnce::call_once::h1", "core::ops::function::FnOnce::call_once::h1"),
            ("void D.leakDirect()", "void D.leakDirect"),
            ("", ""),
        ] {
            assert_eq!(family(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_taken_and_none_becomes_longer(name in any::<String>()) {
            prop_assert!(family(&name).len() <= name.len());
        }
    }
}
