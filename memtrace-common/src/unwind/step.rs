//! One step up the stack. Straight-line code without allocation, slices or panics, which the kernel's verifier accepts.

use super::{
    MemoryReader, Registers, StackEnd,
    row::{Cfa, FramePointer, Rule},
    switch,
};
use crate::arch::{PAGE_BYTES, USER_ADDRESS_END, is_signal_return, ucontext};

/// A frame on the way up the stack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame {
    /// Its registers.
    pub registers: Registers,
    /// Whether `ip` is the very instruction at which the frame stands, as in a thread's innermost frame and one that
    /// a signal interrupted. In all others it is a return address, and so the instruction after the call.
    pub exact: bool,
    /// The stack pointer with which the stack was left that the walk began on, or has come back to: 0 as long as it was not left, 1
    /// when the walk has come back to it ([`Switch`](super::Switch)).
    pub left: u64,
}

impl Frame {
    /// The innermost frame: `ip` is the instruction that is executed next.
    pub const fn innermost(registers: Registers) -> Frame {
        Frame { registers, exact: true, left: 0 }
    }

    /// A caller's frame: `ip` is the address to which its callee returns.
    pub const fn caller(registers: Registers) -> Frame {
        Frame { registers, exact: false, left: 0 }
    }

    /// The address by which its rule is found. A call may be a function's last instruction (to one that never
    /// returns), so that the return address belongs to the next function already.
    #[inline(always)]
    pub const fn lookup_address(&self) -> u64 {
        self.registers.ip.wrapping_sub(if self.exact { 0 } else { 1 })
    }
}

/// The caller's frame, by the rule that the table has for this one.
///
/// # Errors
///
/// The [`StackEnd`]; `Complete` when this is the outermost frame.
#[inline(always)]
pub fn step<M: MemoryReader>(rule: Rule, frame: &Frame, memory: &M) -> Result<Frame, StackEnd> {
    let registers = &frame.registers;
    let (cfa, fp) = match rule {
        Rule::Frame { cfa, fp } => (cfa, fp),
        Rule::SignalFrame => return interrupted(frame, memory),
        Rule::Switch(switch) => return switch::step(switch, frame, memory),
        Rule::EndOfStack => return Err(StackEnd::Complete),
        Rule::Gap => return Err(StackEnd::FdeGap),
        Rule::WithoutRules => return step_without_rules(frame, memory, StackEnd::FdeGap),
        Rule::Unsupported(_) => return Err(StackEnd::UnsupportedRule),
    };
    let cfa = match cfa {
        Cfa::Sp(offset) => plus(registers.sp, offset),
        Cfa::Fp(offset) => plus(registers.fp, offset),
        Cfa::DerefSp { offset, add } => plus(word(memory, plus(registers.sp, offset))?, add),
        Cfa::DerefFp { offset, add } => plus(word(memory, plus(registers.fp, offset))?, add),
        Cfa::Plt { threshold } => {
            let pushed = registers.ip & 15 >= threshold as u64;
            registers.sp.wrapping_add(if pushed { 16 } else { 8 })
        }
    };
    if cfa <= registers.sp || cfa >= USER_ADDRESS_END || cfa & 7 != 0 {
        return Err(StackEnd::NotClimbing);
    }
    // Where the frame pointer is next to the return address one read fetches both. Not so otherwise: the word below
    // may be below the stack, in a page that is not there.
    let (caller_fp, ip) = match fp {
        FramePointer::AtCfa(-16) => {
            let [caller_fp, ip] = pair(memory, cfa - 16)?;
            (caller_fp, ip)
        }
        FramePointer::AtCfa(offset) => (word(memory, plus(cfa, offset))?, word(memory, cfa - 8)?),
        FramePointer::AtFp(offset) => (word(memory, plus(registers.fp, offset))?, word(memory, cfa - 8)?),
        FramePointer::Unchanged => (registers.fp, word(memory, cfa - 8)?),
    };
    if ip == 0 {
        return Err(StackEnd::Complete);
    }
    if !is_user_code(ip) {
        return Err(StackEnd::BadReturnAddress);
    }
    Ok(Frame { registers: Registers { ip, sp: cfa, fp: caller_fp }, exact: false, left: frame.left })
}

/// The caller's frame in code that has no table: just-in-time compiled, or stripped of its rules. By frame pointer,
/// unless it is a signal's trampoline.
///
/// # Errors
///
/// The [`StackEnd`]; `NoTable` when the register does not hold a frame pointer.
#[inline(always)]
pub fn step_without_table<M: MemoryReader>(frame: &Frame, memory: &M) -> Result<Frame, StackEnd> {
    step_without_rules(frame, memory, StackEnd::NoTable)
}

#[inline(always)]
fn step_without_rules<M: MemoryReader>(frame: &Frame, memory: &M, end: StackEnd) -> Result<Frame, StackEnd> {
    if memory.read_pair(frame.registers.ip).is_some_and(is_signal_return) {
        return interrupted(frame, memory);
    }
    match step_frame_pointer(frame, memory) {
        Err(StackEnd::NoFramePointer) => Err(end),
        other => other,
    }
}

/// The caller's frame by the frame pointer alone: `ip' = [fp + 8]`, `fp' = [fp]`, `sp' = fp + 16`
/// (System V ABI for x86-64, section 3.2.2).
///
/// # Errors
///
/// The [`StackEnd`]; `Complete` when the frame pointer is 0, which marks the outermost frame (ABI, section 3.4.1).
#[inline(always)]
pub fn step_frame_pointer<M: MemoryReader>(frame: &Frame, memory: &M) -> Result<Frame, StackEnd> {
    let Registers { sp, fp, .. } = frame.registers;
    if fp == 0 {
        return Err(StackEnd::Complete);
    }
    // A frame pointer lies at or above the stack pointer, and frames are 8-byte aligned at least.
    if fp < sp || fp & 7 != 0 || fp >= USER_ADDRESS_END {
        return Err(StackEnd::NoFramePointer);
    }
    let [caller_fp, ip] = pair(memory, fp)?;
    if ip == 0 {
        return Err(StackEnd::Complete);
    }
    if !is_user_code(ip) {
        return Err(StackEnd::NoFramePointer);
    }
    Ok(Frame { registers: Registers { ip, sp: fp + 16, fp: caller_fp }, exact: false, left: frame.left })
}

/// The frame that a signal interrupted. It need not be above the handler's: that one may have a stack of its own.
#[inline(always)]
fn interrupted<M: MemoryReader>(frame: &Frame, memory: &M) -> Result<Frame, StackEnd> {
    let handler = &frame.registers;
    let [sp, ip] = pair(memory, handler.sp.wrapping_add(ucontext::STACK_POINTER))?;
    let fp = word(memory, handler.sp.wrapping_add(ucontext::FRAME_POINTER))?;
    if !is_user_code(ip) {
        return Err(StackEnd::BadReturnAddress);
    }
    Ok(Frame { registers: Registers { ip, sp, fp }, exact: true, left: frame.left })
}

#[inline(always)]
pub(super) fn is_user_code(ip: u64) -> bool {
    (PAGE_BYTES..USER_ADDRESS_END).contains(&ip)
}

#[inline(always)]
fn plus(address: u64, offset: i32) -> u64 {
    address.wrapping_add(offset as i64 as u64)
}

#[inline(always)]
pub(super) fn word<M: MemoryReader>(memory: &M, address: u64) -> Result<u64, StackEnd> {
    memory.read_word(address).ok_or(StackEnd::ReadFault)
}

#[inline(always)]
pub(super) fn pair<M: MemoryReader>(memory: &M, address: u64) -> Result<[u64; 2], StackEnd> {
    memory.read_pair(address).ok_or(StackEnd::ReadFault)
}

#[cfg(test)]
mod tests;
