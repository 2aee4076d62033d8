//! Where in the program: the words for a frame, and the frame that tells most.

use crate::report::{
    escape::escape,
    snapshot::{Frame, Stack},
};

/// The first frame that is not a wrapper around the allocator, else the first one. That an `operator new` or a
/// container's growth called malloc is true of every leak of such a program.
pub(super) fn meaningful(stack: &Stack) -> Option<&Frame> {
    let tells = |frame: &&Frame| frame.function.as_deref().is_some_and(|name| !is_plumbing(name));
    stack.frames.iter().find(tells).or_else(|| stack.frames.first())
}

/// Whether functions of this name allocate for others.
fn is_plumbing(name: &str) -> bool {
    const PREFIXES: [&str; 16] = [
        "operator new",
        "std::",
        "__gnu_cxx::",
        "alloc::",
        "<alloc::",
        "core::",
        "<core::",
        "hashbrown::",
        "<T as alloc::",
        "__rust_",
        "__rdl_",
        "__rustc",
        "__libc_",
        "_IO_",
        "g_malloc",
        "<std::",
    ];
    const NAMES: [&str; 22] = [
        "malloc",
        "calloc",
        "realloc",
        "strdup",
        "__strdup",
        "strndup",
        "__strndup",
        "xmalloc",
        "xcalloc",
        "xrealloc",
        "xstrdup",
        "asprintf",
        "vasprintf",
        "__vasprintf_internal",
        "getdelim",
        "getline",
        "reallocarray",
        "zmalloc",
        "zcalloc",
        "zrealloc",
        "g_strdup",
        "g_realloc",
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NAMES.contains(&name)
}

/// The function's name, or its address without one.
pub(super) fn function(frame: &Frame) -> String {
    escape(frame.function.as_deref().unwrap_or(&frame.address)).into_owned()
}

/// `server.c:42`; the whole path if `whole`.
pub(super) fn source(frame: &Frame, whole: bool) -> Option<String> {
    let file = frame.file.as_deref()?;
    let file = if whole { file } else { file.rsplit('/').next().unwrap_or(file) };
    let line = frame.line.map(|line| format!(":{line}")).unwrap_or_default();
    Some(format!("{}{line}", escape(file)))
}

/// `server.c:42`, else the module.
pub(super) fn origin(frame: &Frame) -> Option<String> {
    source(frame, false).or_else(|| frame.module.as_deref().map(|module| escape(module).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{frame, stack};

    fn told(names: &[&str]) -> Option<String> {
        let frames = names.iter().map(|name| frame(name, "server", None)).collect();
        meaningful(&Stack { frames, ..stack() }).map(function)
    }

    #[test]
    fn wrappers_around_the_allocator_are_passed_over() {
        let names = ["operator new(unsigned long)", "std::vector<int>::push_back(int&&)", "Cache::fill()", "main"];
        assert_eq!(told(&names).as_deref(), Some("Cache::fill()"));
        let names = ["alloc::raw_vec::finish_grow", "<alloc::vec::Vec<T> as Extend>::extend", "app::load", "main"];
        assert_eq!(told(&names).as_deref(), Some("app::load"));
        assert_eq!(told(&["stdlib_wrapper", "main"]).as_deref(), Some("stdlib_wrapper"));
    }

    #[test]
    fn a_stack_of_wrappers_shows_its_first() {
        assert_eq!(told(&["xmalloc", "std::vector<int>::reserve"]).as_deref(), Some("xmalloc"));
        assert_eq!(told(&[]), None);
    }
}
