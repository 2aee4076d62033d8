//! The `kernel` room: the only one that speaks bpf(2).
//!
//! In: probe sites and the processes they belong to. Out: decoded events in their order, blocks that had to
//! wait in the kernel, and counters. [`features`] says whether it can run here, [`return_probes`]
//! whether it may in a confined process; [`Tracer`] loads the programs; [`links`]
//! attaches and detaches them; [`ring`] drains; [`deferred`] fetches what waited;
//! [`tables`] gives the programs what they unwind by, [`sampler`] what they leave out.

mod btf;
pub mod deferred;
pub mod event;
pub mod features;
pub mod links;
mod log;
mod mapped;
mod multi;
pub mod return_probes;
pub mod ring;
pub mod sampler;
pub mod tables;
mod tracer;

pub use tracer::{KernelError, Loaded, Options, Preparation, RememberedCounts, Tracer};

/// The compiled BPF programs (see docs/design/bpf-object.md for how they are built and checked).
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../memtrace-ebpf/object/memtrace.o"));
