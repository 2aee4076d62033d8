//! What the kernel side knows of a target process: one entry a slot.

/// A target's state: a value of the kernel's `TARGETS` array, which the slot indexes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct TargetState {
    /// Raised at every exec: the same addresses then mean other code, so stack ids must differ.
    pub generation: u64,
    /// The end of the heap segment as the last `brk` system call left it; 0 when not known. Used with `--syscalls`.
    pub brk: u64,
    /// The end of the first thread's stack; 0 when not known.
    pub stack_end: u64,
}

/// What lies this many bytes below the end of the first thread's stack is that stack: other mappings begin below the usual
/// limit of its size (`mmap_base` in arch/x86/mm/mmap.c).
pub const MAIN_STACK: u64 = 8 << 20;

impl TargetState {
    /// Whether an address is on the first thread's stack.
    pub const fn is_on_main_stack(&self, address: u64) -> bool {
        address < self.stack_end && self.stack_end - address <= MAIN_STACK
    }
}

const _: () = assert!(size_of::<TargetState>() == 24);

/// What is recorded of a target: a value of the kernel's `RUNNING` array, which the slot indexes.
pub mod running {
    /// No call of the target is recorded.
    pub const NO: u64 = 0;
    /// Every call of the target is recorded.
    pub const YES: u64 = 1;
    /// Every call but allocations that begin now, since the probe that sees both of their ends is about to go.
    pub const CLOSING: u64 = 2;
}
