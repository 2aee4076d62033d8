//! How a process's stacks are undone without frame pointers: compact tables from its objects' call frame information.
//!
//! In: the ELF files that a process has mapped (untrusted), its memory mappings. Out: a [`Table`] of sorted rows for
//! each object, shared by the processes that map it, and the [`Segment`]s that say which table covers which addresses.
//! `rules` turns its rules into the rows' format, `without_rules` finds the code that has
//! none and [`decode`] reads rules from it, `go` has those of Go's code, [`table`] sorts them, [`cache`]
//! shares them, [`segments`] places them, `budget` chooses among them when not all fit, [`end`] names the ways in which
//! stacks end short. The walk itself is `memtrace_common::unwind`.

mod budget;
pub mod cache;
pub mod decode;
pub mod end;
mod go;
mod rules;
pub mod segments;
pub mod table;
mod without_rules;

pub use budget::{Admission, Budget, Extent};
pub use cache::Cache;
pub use segments::{Segment, segments};
pub use table::{Table, TableError};
