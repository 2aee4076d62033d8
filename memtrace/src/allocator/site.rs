//! The probe site: at which instruction of a function the breakpoint goes.
//!
//! A uprobe whose instruction the kernel *emulates* traps once; any other is single-stepped out of line and traps a
//! second time. So the site is the first emulated instruction on the straight line from the entry where the call looks
//! as it did at the entry: its arguments, the stack pointer and the registers that unwinding starts from are
//! untouched, control always comes by, and comes by once. Where there is none, the site is the entry.
//!
//! Emulated, by arch/x86/kernel/uprobes.c (`branch_setup_xol_ops`, `push_setup_xol_ops`; all since Linux 5.0, and
//! memtrace needs later ones anyway): `push r64`, the one-byte `nop`, and relative `jmp`, `jcc` and `call`. A branch
//! with an operand-size prefix is not. The multi-byte `nop` (0f 1f) is emulated by newer kernels only, or turned into
//! a system call by the newest: it is left out, so that the choice depends on the file and not on the machine.
//!
//! What a decoder cannot see: indirect jumps to the middle of the straight line, and jumps from a function's cold part
//! that the compiler moved elsewhere. Both would have to lead back to before the function's first branch, which
//! compilers do for loops that begin there, and those have direct branches.

use iced_x86::{
    Decoder, DecoderError, DecoderOptions, FlowControl, Formatter, Instruction, InstructionInfoFactory, IntelFormatter,
    OpAccess, OpKind, Register,
};
use memtrace_common::signature::REGISTER_ARGUMENTS;
use thiserror::Error;

use crate::object::bounds::MAX_CODE_BYTES;

/// The instruction of a function that a probe goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Site {
    /// Bytes from the function's entry.
    pub displacement: u64,
    /// The instruction there, in Intel syntax with addresses as linked.
    pub instruction: String,
    /// Whether the kernel emulates it, so that a hit is one trap and not two.
    pub emulated: bool,
    /// Whether a branch inside the function leads back to its entry: then the probe may fire more than once a call.
    pub reentered: bool,
}

/// Why a function has no site.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SiteError {
    /// What stands at the entry is no instruction, or its end is missing.
    #[error("the bytes at its entry are not an instruction")]
    NoInstruction,
    /// The kernel refuses to probe it.
    #[error("the kernel cannot probe the instruction at its entry, and no later one will do")]
    Refused,
}

/// Chooses the probe site of a function.
///
/// `code` is what the file holds from the function's entry on, `address` the entry's address, and `size` the size of
/// the function in bytes if it is known. `arguments` has a bit for each integer argument that the probe reads. Unless all of the function is there to be checked for branches, only the entry
/// can be chosen.
///
/// # Errors
///
/// When the entry does not decode, or the kernel would not set a probe there and there is no better site.
pub fn choose(code: &[u8], address: u64, size: Option<u64>, arguments: u8) -> Result<Site, SiteError> {
    let code = match size {
        Some(size) => &code[..code.len().min(usize::try_from(size).unwrap_or(usize::MAX))],
        None => code,
    };
    let whole = size.is_some_and(|size| size == code.len() as u64 && size <= MAX_CODE_BYTES);
    let branches = if whole { branch_targets(code, address) } else { None };
    let reentered = branches.as_ref().is_some_and(|targets| targets.contains(&address));

    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut information = InstructionInfoFactory::new();
    let mut entry = None;
    while decoder.can_decode() {
        let at = decoder.position();
        let instruction = decoder.decode();
        if decoder.last_error() != DecoderError::None {
            break;
        }
        let bytes = &code[at..at + instruction.len()];
        let displacement = at as u64;
        let site = |emulated| Site { displacement, instruction: text(&instruction), emulated, reentered };
        if displacement > 0 {
            // A branch to anywhere between the entry and here would make control come by twice.
            let line = address..=address + displacement;
            let Some(targets) = &branches else { break };
            if targets.iter().any(|target| line.contains(target)) {
                break;
            }
        }
        if is_emulated(bytes) {
            return Ok(site(true));
        }
        if displacement == 0 {
            entry = Some(is_probeable(bytes).then(|| site(false)).ok_or(SiteError::Refused));
        }
        if !passes_through(&instruction) || changes_the_call(&instruction, &mut information, arguments) {
            break;
        }
    }
    entry.unwrap_or(Err(SiteError::NoInstruction))
}

/// The registers of a function's integer arguments, in order (System V ABI for x86-64, section 3.2.3).
const ARGUMENTS: [Register; REGISTER_ARGUMENTS as usize] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

/// The stack pointer, where the return address is, and what a caller's frame may be found by (ibid., figure 3.4).
const KEPT: [Register; 7] =
    [Register::RSP, Register::RBP, Register::RBX, Register::R12, Register::R13, Register::R14, Register::R15];

/// Whether the kernel emulates this instruction; see the top of this file.
fn is_emulated(bytes: &[u8]) -> bool {
    // The `bnd` prefix, which branches of code built for MPX carry, changes nothing for the kernel.
    let branch = bytes.strip_prefix(&[0xf2]).unwrap_or(bytes);
    matches!(bytes, [0x50..=0x57] | [0x41, 0x50..=0x57] | [0x90] | [0x66, 0x90])
        || matches!(branch, [0xeb | 0x70..=0x7f, _] | [0xe8 | 0xe9, _, _, _, _] | [0x0f, 0x80..=0x8f, _, _, _, _])
}

/// Whether the kernel sets a probe here: it refuses some prefixes (ibid., `is_prefix_bad`).
fn is_probeable(bytes: &[u8]) -> bool {
    let prefixes = bytes
        .iter()
        .take_while(|byte| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3));
    // endbr64 begins with f3 and has no other prefix; `notrack jmp` is one of the refused.
    !prefixes.into_iter().any(|prefix| matches!(prefix, 0x26 | 0x2e | 0x36 | 0x3e | 0xf0))
}

/// Whether control always goes from this instruction to the next one.
fn passes_through(instruction: &Instruction) -> bool {
    instruction.flow_control() == FlowControl::Next && !instruction.is_privileged()
}

/// Whether this instruction writes a register that the probe needs as it was at the entry.
fn changes_the_call(instruction: &Instruction, information: &mut InstructionInfoFactory, arguments: u8) -> bool {
    let is_argument =
        |register| ARGUMENTS.iter().position(|&other| other == register).is_some_and(|at| arguments & 1 << at != 0);
    information.info(instruction).used_registers().iter().any(|used| {
        let written =
            !matches!(used.access(), OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
        let register = used.register().full_register();
        written && (is_argument(register) || KEPT.contains(&register))
    })
}

/// Where the function's direct branches and calls lead; `None` when a part of it does not decode, so that what follows
/// may be read out of step.
fn branch_targets(code: &[u8], address: u64) -> Option<Vec<u64>> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut targets = Vec::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if decoder.last_error() != DecoderError::None {
            return None;
        }
        let near = matches!(instruction.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64);
        if instruction.op_count() == 0 || !near {
            continue;
        }
        let target = instruction.near_branch_target();
        // A call of the function by itself is recursion: another call, with its own return address.
        if !(instruction.flow_control() == FlowControl::Call && target == address) {
            targets.push(target);
        }
    }
    Some(targets)
}

fn text(instruction: &Instruction) -> String {
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_leading_zeros(false);
    options.set_branch_leading_zeros(false);
    options.set_show_branch_size(false);
    options.set_space_after_operand_separator(true);
    options.set_rip_relative_addresses(false);
    let mut text = String::new();
    formatter.format(instruction, &mut text);
    text
}

#[cfg(test)]
mod tests;
