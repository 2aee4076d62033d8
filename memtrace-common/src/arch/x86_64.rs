//! x86-64 under Linux.

/// The end of the addresses that user space can use with four-level page tables.
pub const USER_ADDRESS_END: u64 = 1 << 47;

/// Bytes of a page of memory, the smallest one that is mapped.
pub const PAGE_BYTES: u64 = 4096;

/// Bytes of the return address that a call instruction pushes on the stack.
pub const RETURN_ADDRESS_BYTES: u64 = 8;

/// Where a signal handler's `ucontext` has the interrupted registers, in bytes from its start (Linux,
/// arch/x86/include/uapi/asm/sigcontext.h and asm-generic/ucontext.h).
pub mod ucontext {
    /// Where the interrupted code's frame pointer stands.
    pub const FRAME_POINTER: u64 = 120;
    /// The stack pointer; the instruction pointer is the next word.
    pub const STACK_POINTER: u64 = 160;
}

/// `mov $15, %rax; syscall`: the instructions of `rt_sigreturn`, by which a C library without rules for its trampoline
/// (musl) returns from a handler. Debuggers know it by them too.
const SIGNAL_RETURN: [u64; 2] = [0x0f00_0000_0fc0_c748, 0x05];

/// Whether code, given as its first two words, returns from a signal handler by the system call for that.
#[inline(always)]
pub const fn is_signal_return(code: [u64; 2]) -> bool {
    code[0] == SIGNAL_RETURN[0] && code[1] & 0xff == SIGNAL_RETURN[1]
}
