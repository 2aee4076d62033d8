//! The `allocator` room: which functions of a target are probed, and at which instruction each.
//!
//! In: the files whose code the target has mapped. Out: a [`Plan`]: one [`ProbeSite`] for each allocator function of
//! its C library, the foreign allocators that are not traced, and what could not be read. The [`catalogue`] says which
//! functions, [`symbols`] finds them in ELF files, [`site`] chooses the instruction. ELF files are the target's to
//! shape: they are read with bounds and never mapped into our memory, where a truncated file would kill us.

pub mod catalogue;
pub mod site;
pub mod symbols;

mod plan;

pub use catalogue::Family;
pub use plan::{AllocatorError, ForeignAllocator, Plan, ProbeSite, Unusable, plan};
