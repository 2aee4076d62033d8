//! Where a function's calls lead: whether it does its work itself or hands it to another probed function.
//!
//! One release must be one event. A release probe has no return probe where it can be spared, so two releases nested in
//! each other would be two events: the outer one is then left out if it always calls the inner one, and gets a return
//! probe if it may. The same tells a Rust program's own allocator from one that calls malloc.
//!
//! What is followed: direct calls and jumps, and indirect ones through a place that the dynamic linker fills (linkage
//! table stubs, and code built without them), a few functions deep. A call through another pointer leads nowhere here.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    io::{Read, Seek},
};

use iced_x86::{Decoder, DecoderError, DecoderOptions, FlowControl, Instruction, OpKind, Register};

use crate::object::symbols::{ElfFile, Slot};

/// What a function does with a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Route {
    /// All by itself.
    Own,
    /// It may call one of the functions in question.
    Sometimes,
    /// It calls one of them whenever it is called.
    Always,
}

/// The functions in question, as one file sees them.
pub struct Destinations {
    /// Their addresses in this file, as linked.
    pub addresses: HashSet<u64>,
    /// Places that hold the address of one of them at run time.
    pub slots: HashSet<u64>,
}

/// The most bytes of one function that are looked at, and how many functions deep.
const MAX_FUNCTION_BYTES: u64 = 4096;
const MAX_DEPTH: usize = 2;
/// The most functions that are followed from one; whoever has more may call anything.
const MAX_FUNCTIONS: usize = 500;

impl Destinations {
    /// The functions of these names and of these addresses.
    pub fn new<R: Read + Seek>(
        elf: &ElfFile<R>,
        names: &HashSet<&str>,
        addresses: HashSet<u64>,
    ) -> Result<Self, crate::object::ObjectError> {
        let slots: HashMap<u64, Slot> =
            elf.slots(|name| names.contains(name), |address| addresses.contains(&address))?;
        Ok(Self { addresses, slots: slots.into_keys().collect() })
    }

    /// Where the function at `address` leads.
    pub fn route<R: Read + Seek>(&self, elf: &ElfFile<R>, address: u64) -> Route {
        self.follow(elf, address, MAX_DEPTH, &Cell::new(MAX_FUNCTIONS))
    }

    fn follow<R: Read + Seek>(&self, elf: &ElfFile<R>, entry: u64, depth: usize, left: &Cell<usize>) -> Route {
        let Some(still) = left.get().checked_sub(1) else { return Route::Sometimes };
        left.set(still);
        let Ok(code) = elf.code_at(entry, MAX_FUNCTION_BYTES) else { return Route::Own };
        let mut decoder = Decoder::with_ip(64, code, entry, DecoderOptions::NONE);
        let mut result = Route::Own;
        // Until the first branch, what is met is met on every way.
        let mut straight = true;
        // How far code is known to be reached by a branch over the end of a path.
        let mut reached = entry;
        while decoder.can_decode() {
            let instruction = decoder.decode();
            if decoder.last_error() != DecoderError::None {
                break;
            }
            let met = match instruction.flow_control() {
                FlowControl::Call | FlowControl::UnconditionalBranch => near_target(&instruction)
                    .map(|target| self.at(elf, target, entry, depth, left))
                    .unwrap_or(Route::Own),
                FlowControl::IndirectCall | FlowControl::IndirectBranch => self.through(&instruction),
                FlowControl::ConditionalBranch => {
                    straight = false;
                    let target = near_target(&instruction).unwrap_or(0);
                    reached = reached.max(target.min(entry + MAX_FUNCTION_BYTES));
                    Route::Own
                }
                _ => Route::Own,
            };
            match met {
                Route::Always if straight => return Route::Always,
                Route::Always | Route::Sometimes => result = Route::Sometimes,
                Route::Own => {}
            }
            let ends = matches!(
                instruction.flow_control(),
                FlowControl::Return
                    | FlowControl::UnconditionalBranch
                    | FlowControl::IndirectBranch
                    | FlowControl::Exception
                    | FlowControl::Interrupt
            );
            if ends {
                if let Some(target) = near_target(&instruction).filter(|&target| target > instruction.ip()) {
                    // A jump ahead within the function, if a short one; a far one is another function.
                    if target - instruction.ip() < 128 {
                        reached = reached.max(target);
                    }
                }
                if reached < decoder.ip() {
                    break;
                }
                straight = false;
            }
        }
        result
    }

    /// What a direct call or jump to `target` meets.
    fn at<R: Read + Seek>(&self, elf: &ElfFile<R>, target: u64, entry: u64, depth: usize, left: &Cell<usize>) -> Route {
        if target == entry {
            Route::Own
        } else if self.addresses.contains(&target) {
            Route::Always
        } else if depth == 0 {
            Route::Own
        } else {
            self.follow(elf, target, depth - 1, left)
        }
    }

    /// What a call or jump through memory meets.
    fn through(&self, instruction: &Instruction) -> Route {
        let by_place = instruction.op0_kind() == OpKind::Memory && instruction.memory_base() == Register::RIP;
        if by_place && self.slots.contains(&instruction.memory_displacement64()) { Route::Always } else { Route::Own }
    }
}

fn near_target(instruction: &Instruction) -> Option<u64> {
    let near = matches!(instruction.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64);
    near.then(|| instruction.near_branch_target())
}
