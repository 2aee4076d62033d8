//! The runtimes that are tried, and the tests of each.

use super::runtime::{Origin, Runtime};

/// Of Python: frames in the fixed cases, the stack of every block, a start under memtrace, small objects, and objects by type.
const PYTHON: &[&str] = &[
    "python::frames_are_those_that_every_interpreter_itself_names",
    "python::an_interpreter_that_is_started_is_known_before_long",
    "python_differential::",
    "small_objects::",
    "census::",
];
/// Of Node: frames of JavaScript, and its heap.
const NODE: &[&str] = &["node::"];
/// Of Go: its heap and its goroutines.
const GO: &[&str] = &["go::"];

/// All runtimes, in the order in which they are tried.
pub const RUNTIMES: &[Runtime] = &[
    python("Python 3.13", "python3.13", false),
    python("Python 3.14", "python3.14", false),
    python("Python 3.14 compiling", "python3.14", true),
    python("Python 3.15", "python3.15", false),
    python("Python 3.15 compiling", "python3.15", true),
    node("Node 20", "20.20.2"),
    node("Node 22", "22.23.3"),
    node("Node 24", "24.21.0"),
    node("Node 26", "26.12.1"),
    Runtime {
        name: "Go 1.26",
        origin: Origin::Go { package: "golang-1.26-go", programs: "lib/go-1.26/bin" },
        tests: GO,
    },
];

const fn python(name: &'static str, package: &'static str, with_compiler: bool) -> Runtime {
    Runtime { name, origin: Origin::Python { package, with_compiler }, tests: PYTHON }
}

const fn node(name: &'static str, version: &'static str) -> Runtime {
    Runtime { name, origin: Origin::Node(version), tests: NODE }
}
