//! The `memtrace` program: parses flags and hands over to the library.

fn main() {}
