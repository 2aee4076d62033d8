//! The `allocator` room: which functions of a target are probed, and at which instruction each.
//!
//! In: the files whose code the target has mapped, and functions that the user named. Out: a [`Plan`]: one
//! [`ProbeSite`] for each allocator function in them, and what could not be read. The [`catalogue`] says which functions,
//! [`object::symbols`](crate::object::symbols) finds them in ELF files and `separate` in what was stripped off them, `route` tells which of them hand
//! their work on, [`site`] chooses the instruction, and [`thread_cache`] reads from the code of glibc's and jemalloc's
//! `malloc` where the block is that it is about to return. ELF files are the target's to signature: they are read with bounds
//! and never mapped into our memory, where a truncated file would kill us.

pub mod catalogue;
pub mod site;
pub mod thread_cache;

mod exits;
mod go;
mod missing;
mod plan;
mod plans;
mod route;
mod separate;
mod source;
pub mod wrapper;

pub use catalogue::Family;
pub use plan::{AllocatorError, Ends, Plan, ProbeSite, plan};
pub use plans::Plans;
