//! Where a Go program keeps its runtime's variables: by its symbols, or in a stripped program by the code that uses them.

use std::{collections::HashMap, fs::File};

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind, Register};

use crate::object::{
    go_table::GoTable,
    symbols::{ElfFile, Symbol},
};

/// The most code that is looked at of a function.
const MAX_CODE: u64 = 16 << 10;

/// The most places that a function's code may name.
const MAX_PLACES: usize = 256;

/// A variable of the runtime, and the functions that use it, the likeliest first.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    name: &'static str,
    users: &'static [&'static str],
}

/// The list of the places that allocated, of which the runtime keeps a sample.
pub const BUCKETS: Variable =
    Variable { name: "runtime.mbuckets", users: &["runtime.mProf_FlushLocked", "runtime.stkbucket"] };

/// Of how many bytes one is drawn.
pub const RATE: Variable = Variable {
    name: "runtime.MemProfileRate",
    users: &["runtime.nextSample", "runtime.mallocinit", "runtime.mProf_Malloc", "runtime.schedinit"],
};

/// The list of all goroutines, those that have ended among them.
pub const GOROUTINES: Variable =
    Variable { name: "runtime.allgs", users: &["runtime.allgadd", "runtime.forEachG", "runtime.forEachGRace"] };

/// The names of what goroutines wait for.
pub const REASONS: Variable = Variable {
    name: "runtime.waitReasonStrings",
    users: &["runtime.waitReason.String", "runtime.goroutineheader", "runtime.waitReason.isMutexWait"],
};

/// The state of the collector's pacing, with what it counts of the heap.
pub const CONTROLLER: Variable = Variable {
    name: "runtime.gcController",
    users: &["runtime.gcControllerCommit", "runtime.gcStart", "runtime.gcMark", "runtime.gcinit"],
};

const ALL: [Variable; 5] = [BUCKETS, RATE, GOROUTINES, REASONS, CONTROLLER];

/// The variables of one program, all addresses as linked.
pub struct Variables<'a> {
    elf: &'a ElfFile<File>,
    table: &'a GoTable,
    symbols: HashMap<&'static str, Symbol>,
}

impl<'a> Variables<'a> {
    /// The variables of the runtime that a file holds.
    pub fn of(elf: &'a ElfFile<File>, table: &'a GoTable) -> Self {
        let names = ALL.map(|variable| variable.name);
        let symbols = elf.symbols(&names, |name| name).unwrap_or_default();
        Self { elf, table, symbols }
    }

    /// Where a variable may be: by its symbol, or where the code of its users leads, the likeliest first. What is there has to prove
    /// which one it is.
    pub fn places(&self, variable: Variable) -> Vec<u64> {
        match self.symbols.get(variable.name) {
            Some(symbol) => vec![symbol.address],
            None => variable.users.iter().flat_map(|user| self.named_by(user)).take(MAX_PLACES).collect(),
        }
    }

    /// The data that a function's code names.
    fn named_by(&self, function: &str) -> Vec<u64> {
        let Some((begin, end)) = self.table.find(function) else { return Vec::new() };
        let Ok(code) = self.elf.code_at(begin, end.saturating_sub(begin).min(MAX_CODE)) else { return Vec::new() };
        places(code, begin)
    }
}

/// The addresses of data that code names relative to itself, or absolutely, in the order of the code and each once.
fn places(code: &[u8], begin: u64) -> Vec<u64> {
    let mut decoder = Decoder::with_ip(64, code, begin, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let mut found = Vec::new();
    while decoder.can_decode() && found.len() < MAX_PLACES {
        decoder.decode_out(&mut instruction);
        let names_memory = (0..instruction.op_count()).any(|index| instruction.op_kind(index) == OpKind::Memory);
        let is_absolute = instruction.memory_base() == Register::None && instruction.memory_index() == Register::None;
        if names_memory && (instruction.is_ip_rel_memory_operand() || is_absolute) {
            let place = instruction.memory_displacement64();
            if !found.contains(&place) {
                found.push(place);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_code_names_is_found_once_each() {
        // mov rax, [rip+0x10]; lea rcx, [rip+0x20]; mov rdx, [rax+8]; mov rax, [rip+2]
        let code = [
            0x48, 0x8b, 0x05, 0x10, 0, 0, 0, 0x48, 0x8d, 0x0d, 0x20, 0, 0, 0, 0x48, 0x8b, 0x50, 8, 0x48, 0x8b, 0x05,
            0xfe, 0xff, 0xff, 0xff,
        ];
        assert_eq!(places(&code, 0x1000), [0x1017, 0x102e]);
        for cut in 0..code.len() {
            let _ = places(&code[..cut], u64::MAX - 3);
        }
    }
}
