//! The harness of the end-to-end tests: it builds the fixtures ([`fixture`]), runs them and other targets ([`target`]),
//! services of several processes among them ([`service`], [`postgres`]), talks to servers ([`client`]), runs memtrace on
//! them ([`memtrace`]), on a terminal too ([`terminal`]), reads what memtrace reports ([`report`]), opens it in a
//! browser ([`browser`]), builds programs in Go ([`go`]), finds Python interpreters
//! ([`python`]), compares stacks with what a program says itself ([`own_stacks`]), serves debug files ([`debuginfod`]), asks gdb ([`gdb`]), checks that no probe is left ([`code`]), and limits the memory of targets
//! ([`cgroup`]).
//!
//! Everything that a test starts is killed and reaped when the test drops it, and every wait has a deadline
//! ([`wait`]). The program under test is the one that `MEMTRACE_BIN` names, or a release build of this workspace.

pub mod browser;
pub mod cgroup;
pub mod client;
pub mod code;
pub mod debuginfod;
pub mod fixture;
pub mod gdb;
pub mod go;
mod lines;
pub mod memtrace;
pub mod own_stacks;
pub mod postgres;
pub mod python;
pub mod report;
pub mod service;
pub mod target;
pub mod terminal;
pub mod valgrind;
pub mod wait;

pub use fixture::Build;
pub use memtrace::{Finished, Memtrace};
pub use report::{Asked, Frame, Group, Heap, Report, Stack};
pub use service::Service;
pub use target::Target;
pub use terminal::OnTerminal;
