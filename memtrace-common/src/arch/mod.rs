//! What depends on the processor architecture and is needed on both sides: one file for each architecture.
//!
//! Another architecture brings a file with the same names, and a choice here. Registers of a probe's context are read in
//! `memtrace-ebpf/src/arch`, instructions are decoded where they are looked for (docs/design/architectures.md lists the places).

mod x86_64;

pub use x86_64::{PAGE_BYTES, RETURN_ADDRESS_BYTES, USER_ADDRESS_END, is_signal_return, ucontext};
