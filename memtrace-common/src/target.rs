//! What the kernel side knows of a target process: one entry a slot.

/// A target's state: a value of the kernel's `TARGETS` array, which the slot indexes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct TargetState {
    /// Raised at every exec: the same addresses then mean other code, so stack ids must differ.
    pub generation: u64,
    /// The end of the heap segment as the last `brk` system call left it; 0 when not known. Used with `--syscalls`.
    pub brk: u64,
}

const _: () = assert!(size_of::<TargetState>() == 16);

/// What is recorded of a target: a value of the kernel's `RUNNING` array, which the slot indexes.
pub mod running {
    /// Nothing.
    pub const NO: u64 = 0;
    /// Every call.
    pub const YES: u64 = 1;
    /// Every call but allocations that begin now, since the probe that sees both of their ends is about to go.
    pub const CLOSING: u64 = 2;
}
