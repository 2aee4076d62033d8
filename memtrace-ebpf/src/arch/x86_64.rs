//! Registers of x86-64, by the System V ABI (section 3.2) and the kernel's `pt_regs`.
//!
//! At the entry of a function the stack pointer is the address of the return address, which is called the *return slot*.

use aya_ebpf::bindings::pt_regs;
use memtrace_common::{arch::RETURN_ADDRESS_BYTES, unwind::Registers};

/// The registers of a probe program's context.
#[inline(always)]
pub fn registers<'a>(registers: *mut pt_regs) -> &'a pt_regs {
    // SAFETY: the kernel passes a valid pt_regs, which outlives the program.
    unsafe { &*registers }
}

/// Reads a register of the context once, at this place.
#[inline(always)]
fn read(register: &u64) -> u64 {
    // SAFETY: a reference. Volatile, so that the compiler does not turn a choice of registers into one of places.
    unsafe { core::ptr::read_volatile(register) }
}

/// The six argument registers at a function's entry. All are read, and each by itself: the verifier allows no computed place in
/// the context.
#[inline(always)]
pub fn arguments(regs: &pt_regs) -> [u64; 6] {
    [read(&regs.rdi), read(&regs.rsi), read(&regs.rdx), read(&regs.rcx), read(&regs.r8), read(&regs.r9)]
}

/// The first four arguments at the entry of a function that maps memory.
#[inline(always)]
pub fn mapping_arguments(regs: &pt_regs) -> [u64; 4] {
    [regs.rdi, regs.rsi, regs.rdx, regs.rcx]
}

/// The first argument of a call that is about to be made, and the result of a function that is about to return.
#[inline(always)]
pub fn argument_and_result(regs: &pt_regs) -> (u64, u64) {
    (read(&regs.rdi), read(&regs.rax))
}

/// The register that holds what a function has returned.
#[inline(always)]
pub fn result(regs: &pt_regs) -> u64 {
    regs.rax
}

/// The address of the return address at a function's entry, or at the instruction that leaves it.
#[inline(always)]
pub fn return_slot(regs: &pt_regs) -> u64 {
    regs.rsp
}

/// The [`return_slot`], read once and at this place of the program.
#[inline(always)]
pub fn return_slot_once(regs: &pt_regs) -> u64 {
    read(&regs.rsp)
}

/// Whether a program that runs when a function has returned sees the return through this slot: the stack pointer is then behind
/// the return address.
#[inline(always)]
pub fn is_return_of(regs: &pt_regs, return_slot: u64) -> bool {
    return_slot + RETURN_ADDRESS_BYTES == regs.rsp
}

/// The address of the instruction that runs next.
#[inline(always)]
pub fn instruction_pointer(regs: &pt_regs) -> u64 {
    regs.rip
}

/// The registers with which a function's caller goes on at `return_address`, as seen from the function's entry.
#[inline(always)]
pub fn caller(regs: &pt_regs, return_slot: u64, return_address: u64) -> Registers {
    Registers { ip: return_address, sp: return_slot + RETURN_ADDRESS_BYTES, fp: regs.rbp }
}

/// The registers of a thread that is in the kernel, as user code left them.
#[inline(always)]
pub fn interrupted(regs: &pt_regs) -> Registers {
    Registers { ip: regs.rip, sp: regs.rsp, fp: regs.rbp }
}
