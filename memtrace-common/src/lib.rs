//! What the BPF programs and user space share: the layout of events and map values, limits, and the unwind step.
//!
//! In: nothing. Out: plain types, `no_std`, with every size that crosses the kernel boundary asserted at compile
//! time. The code that runs in the kernel (`stack`, `unwind`) is generic over a memory reader, so that the host tests it.

#![cfg_attr(not(test), no_std)]

pub mod arch;
pub mod call;
pub mod cookie;
pub mod counter;
pub mod deferred;
pub mod event;
pub mod interpreter;
pub mod limits;
pub mod prediction;
pub mod remembered;
pub mod ring;
pub mod sampling;
pub mod signature;
pub mod stack;
pub mod target;
pub mod thread;
pub mod unwind;
pub mod walk_cache;

/// A virtual address in a target process.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(transparent)]
pub struct Address(pub u64);

/// The 64-bit hash that names a call stack: of the process's slot and every frame address. Never 0 in an event.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(transparent)]
pub struct StackId(pub u64);

/// The index of a target process in the kernel's target table; it stands in every event in place of the pid.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(transparent)]
pub struct Slot(pub u16);
