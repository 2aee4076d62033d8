//! The ways out of a function that has no return probe: its `ret` instructions, and jumps at its end to functions that return
//! what they were given.
//!
//! Such are functions that may throw, and all with `--no-return-probes`. A return probe replaces the return address by the
//! kernel's, for which the unwinder has no rules: an exception that comes by ends the program instead of finding its handler
//! (seen with tcmalloc's `operator new`). So functions that may throw have no return probe but one on each `ret`, which costs
//! a second trap and leaves the stack as it is.
//!
//! A function may end in a jump to another, whose ways out are then its own; but glibc's `calloc` ends in one to `memset`, of
//! which there are many, and which is chosen when the program starts. It returns its first argument, so that the jump itself
//! is a way out on which the result is known. An end that cannot be followed (another jump through a pointer) makes the
//! function unusable: what is not seen to return would be lost.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io::{Read, Seek},
    ops::Range,
};

use iced_x86::{Decoder, DecoderError, DecoderOptions, FlowControl, Instruction, OpKind, Register};

use super::catalogue::rust;
use crate::object::symbols::{ElfFile, Slot, Symbol};

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

/// Functions that return their first argument (ISO C, 7.26).
const RETURN_THEIR_FIRST: &[&str] = &["memcpy", "memmove", "memset"];

/// A way out of a function.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Exit {
    /// The instruction's address, as linked.
    pub(super) address: u64,
    /// It is a jump to a function that returns its first argument, and no `ret`.
    pub(super) is_jump: bool,
}

/// What is behind the places through which a file calls other files, and itself. Read once for all functions of the file.
pub(super) struct Linkage<'a, R: Read + Seek> {
    elf: &'a ElfFile<R>,
    slots: HashMap<u64, Slot>,
    never_return: HashSet<u64>,
    return_their_first: HashSet<u64>,
}

impl<'a, R: Read + Seek> Linkage<'a, R> {
    /// Reads it. The error is half a sentence.
    pub(super) fn read(elf: &'a ElfFile<R>) -> Result<Self, String> {
        let slots = elf.slots(|_| true, |_| true).map_err(|error| error.to_string())?;
        let addresses = |names| -> Result<HashSet<u64>, String> {
            let symbols = elf.symbols(names, rust::plain).map_err(|error| error.to_string())?;
            Ok(symbols.values().map(|symbol| symbol.address).collect())
        };
        let (never_return, return_their_first) = (addresses(NEVER_RETURN)?, addresses(RETURN_THEIR_FIRST)?);
        Ok(Self { elf, slots, never_return, return_their_first })
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
            Slot::Name(name) => Some(self.elf.symbols(&[name], rust::plain).ok()?.get(name.as_str())?.address),
            Slot::Chosen(_) => None,
        }
    }

    /// The jump at the beginning of a stub of the linkage table: perhaps `endbr64`, then a jump through a place.
    fn stub(&self, address: u64) -> Option<Instruction> {
        let code = self.elf.code_at(address, 16).unwrap_or_default();
        let decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
        decoder.into_iter().take(2).find(|instruction| instruction.flow_control() == FlowControl::IndirectBranch)
    }

    /// Whether a jump leads to a function that returns its first argument.
    fn returns_its_first(&self, jump: &Instruction) -> bool {
        let leads_there = |slot: Option<&Slot>| match slot {
            Some(Slot::Name(name)) => RETURN_THEIR_FIRST.contains(&name.as_str()),
            Some(Slot::Address(address) | Slot::Chosen(address)) => self.return_their_first.contains(address),
            None => false,
        };
        if !is_near(jump) {
            return leads_there(self.through(jump));
        }
        let target = jump.near_branch_target();
        self.return_their_first.contains(&target)
            || self.stub(target).is_some_and(|jump| leads_there(self.through(&jump)))
    }

    /// Whether a call never comes back.
    fn never_returns(&self, instruction: &Instruction) -> bool {
        let is_named =
            |slot: Option<&Slot>| matches!(slot, Some(Slot::Name(name)) if NEVER_RETURN.contains(&name.as_str()));
        if !is_near(instruction) {
            return is_named(self.through(instruction));
        }
        let target = instruction.near_branch_target();
        self.never_return.contains(&target) || self.stub(target).is_some_and(|jump| is_named(self.through(&jump)))
    }
}

fn is_near(instruction: &Instruction) -> bool {
    matches!(instruction.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64)
}

/// Whether a jump does not stay inside.
fn leaves(jump: &Instruction, inside: Range<u64>) -> bool {
    !is_near(jump) || !inside.contains(&jump.near_branch_target())
}

/// The instructions by which a call of the function ends. The error is half a sentence.
pub(super) fn of<R: Read + Seek>(linkage: &Linkage<'_, R>, symbol: &Symbol) -> Result<Vec<Exit>, String> {
    let elf = linkage.elf;
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
                        exits.insert(Exit { address: instruction.ip(), is_jump: false });
                        break;
                    }
                    FlowControl::UnconditionalBranch | FlowControl::IndirectBranch
                        if leaves(&instruction, entry..end) && linkage.returns_its_first(&instruction) =>
                    {
                        exits.insert(Exit { address: instruction.ip(), is_jump: true });
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
