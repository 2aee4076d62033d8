//! The ways out of a function that may throw: its `ret` instructions.
//!
//! A return probe replaces the return address by the kernel's, for which the unwinder has no rules: an exception that
//! comes by ends the program instead of finding its handler (seen with tcmalloc's `operator new`). So functions that may
//! throw have no return probe but one on each `ret`, which costs a second trap and leaves the stack as it is.
//!
//! A function may end in a jump to another, whose ways out are then its own. An end that cannot be followed (a jump
//! through a pointer) makes the function unusable: what is not seen to return would be lost.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io::{Read, Seek},
};

use iced_x86::{Decoder, DecoderError, DecoderOptions, FlowControl, Instruction, OpKind, Register};

use super::symbols::{ElfFile, Slot, Symbol};

/// The most bytes of one function that are looked at, the most functions, and the most ways out.
const MAX_FUNCTION_BYTES: u64 = 16 << 10;
const MAX_FUNCTIONS: usize = 16;
const MAX_EXITS: usize = 64;

/// Functions that never return: what stands behind a call of one belongs to somebody else.
const NEVER_RETURN: &[&str] = &[
    "abort",
    "exit",
    "_exit",
    "__assert_fail",
    "__stack_chk_fail",
    "__cxa_throw",
    "__cxa_rethrow",
    "__cxa_bad_cast",
    "__clang_call_terminate",
    "_Unwind_Resume",
    "_ZSt9terminatev",
    "_ZSt17__throw_bad_allocv",
    "_ZSt28__throw_bad_array_new_lengthv",
];

/// What is behind the places through which a file calls other files, and itself.
struct Linkage<'a, R: Read + Seek> {
    elf: &'a ElfFile<R>,
    slots: HashMap<u64, Slot>,
    never_return: HashSet<u64>,
}

impl<'a, R: Read + Seek> Linkage<'a, R> {
    fn read(elf: &'a ElfFile<R>) -> Result<Self, String> {
        let slots = elf.slots(|_| true, |_| true).map_err(|error| error.to_string())?;
        let symbols = elf.symbols(NEVER_RETURN).map_err(|error| error.to_string())?;
        Ok(Self { elf, slots, never_return: symbols.values().map(|symbol| symbol.address).collect() })
    }

    /// Where the place leads that this call or jump goes through.
    fn through(&self, instruction: &Instruction) -> Option<&Slot> {
        let by_place = instruction.op0_kind() == OpKind::Memory && instruction.memory_base() == Register::RIP;
        self.slots.get(&instruction.memory_displacement64()).filter(|_| by_place)
    }

    /// The address in this file that a jump through a place leads to.
    fn address(&self, instruction: &Instruction) -> Option<u64> {
        match self.through(instruction)? {
            Slot::Address(address) => Some(*address),
            Slot::Name(name) => Some(self.elf.symbols(&[name]).ok()?.get(name.as_str())?.address),
        }
    }

    /// Whether a call never comes back.
    fn never_returns(&self, instruction: &Instruction) -> bool {
        let is_named =
            |slot: Option<&Slot>| matches!(slot, Some(Slot::Name(name)) if NEVER_RETURN.contains(&name.as_str()));
        if !is_near(instruction) {
            return is_named(self.through(instruction));
        }
        let target = instruction.near_branch_target();
        // A stub of the linkage table: perhaps `endbr64`, then a jump through a place.
        let stub = self.elf.code_at(target, 16).unwrap_or_default();
        let stub = Decoder::with_ip(64, stub, target, DecoderOptions::NONE)
            .into_iter()
            .take(2)
            .find(|instruction| instruction.flow_control() == FlowControl::IndirectBranch);
        self.never_return.contains(&target) || stub.is_some_and(|jump| is_named(self.through(&jump)))
    }
}

fn is_near(instruction: &Instruction) -> bool {
    matches!(instruction.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64)
}

/// The addresses, as linked, of the `ret` instructions by which a call of the function ends. The error is half a sentence.
pub(super) fn of<R: Read + Seek>(elf: &ElfFile<R>, symbol: &Symbol) -> Result<Vec<u64>, String> {
    let linkage = Linkage::read(elf)?;
    let mut exits = BTreeSet::new();
    let mut functions = vec![symbol.address];
    let mut next = 0;
    while let Some(&entry) = functions.get(next) {
        next += 1;
        // Followed as control flows: parts of a function may lie anywhere.
        // But what follows the call of a function that does not return is not of this one.
        let bytes = symbol.size.filter(|_| entry == symbol.address).unwrap_or(MAX_FUNCTION_BYTES);
        let code = elf.code_at(entry, bytes.min(MAX_FUNCTION_BYTES)).map_err(|error| error.to_string())?;
        let end = entry + code.len() as u64;
        let mut seen = BTreeSet::new();
        let mut open = vec![entry];
        while let Some(start) = open.pop() {
            let mut decoder = Decoder::with_ip(64, code, entry, DecoderOptions::NONE);
            if decoder.set_position((start - entry) as usize).is_err() {
                return Err("its code is longer than memtrace follows".to_owned());
            }
            decoder.set_ip(start);
            while decoder.can_decode() && seen.insert(decoder.ip()) {
                let instruction = decoder.decode();
                if decoder.last_error() != DecoderError::None {
                    return Err(format!("the code at {:#x} cannot be followed", instruction.ip()));
                }
                match instruction.flow_control() {
                    FlowControl::Return => {
                        exits.insert(instruction.ip());
                        break;
                    }
                    FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch if is_near(&instruction) => {
                        let target = instruction.near_branch_target();
                        if (entry..end).contains(&target) {
                            open.push(target);
                        } else if !functions.contains(&target) {
                            functions.push(target);
                        }
                        if instruction.flow_control() == FlowControl::UnconditionalBranch {
                            break;
                        }
                    }
                    FlowControl::IndirectBranch => match linkage.address(&instruction) {
                        Some(target) if functions.contains(&target) => break,
                        Some(target) => {
                            functions.push(target);
                            break;
                        }
                        None => return Err(format!("it ends in a jump through a pointer at {:#x}", instruction.ip())),
                    },
                    FlowControl::Call | FlowControl::IndirectCall if linkage.never_returns(&instruction) => break,
                    FlowControl::Exception | FlowControl::Interrupt => break,
                    _ => {}
                }
            }
        }
        if functions.len() > MAX_FUNCTIONS || exits.len() > MAX_EXITS {
            return Err("it has more ways out than memtrace follows".to_owned());
        }
    }
    Ok(exits.into_iter().collect())
}
