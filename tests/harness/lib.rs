//! The harness of the end-to-end tests: it builds the fixtures ([`fixture`]), runs them and other targets
//! ([`target`]), runs memtrace on them ([`memtrace`]), reads what memtrace reports ([`report`]), and checks that no
//! probe is left ([`code`]).
//!
//! Everything that a test starts is killed and reaped when the test drops it, and every wait has a deadline
//! ([`wait`]). The program under test is the one that `MEMTRACE_BIN` names, or a release build of this workspace.

pub mod code;
pub mod fixture;
pub mod gdb;
mod lines;
pub mod memtrace;
pub mod report;
pub mod target;
pub mod wait;

pub use fixture::Build;
pub use memtrace::{Finished, Memtrace};
pub use report::{Report, Stack};
pub use target::Target;
