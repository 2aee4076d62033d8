//! Runs that are compared with Valgrind's.

/// What Valgrind adds to a program's environment: some programs copy theirs block by block, so both runs have the same.
/// Not preloaded here: the name of that one is another.
pub const LIKE_VALGRIND: [(&str, &str); 4] = [
    ("GLIBCPP_FORCE_NEW", "1"),
    ("GLIBCXX_FORCE_NEW", "1"),
    ("LD_LIBRARY_PATH", "/usr/lib/debug"),
    (
        "XD_PRELOAD",
        "/usr/libexec/valgrind/vgpreload_core-amd64-linux.so:/usr/libexec/valgrind/vgpreload_memcheck-amd64-linux.so",
    ),
];
