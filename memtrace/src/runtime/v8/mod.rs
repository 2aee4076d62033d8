//! V8, the JavaScript engine of Node, Deno and others: the functions and lines of its frames, and its heap as a whole.
//!
//! A file that exports V8's constants for debuggers is V8. They say where everything is ([`layout`]), which is proved on the process's heap
//! ([`proof`]) before the kernel looks for frames of it on the native stack. Functions are named from what describes them
//! ([`heap`]), and the place of a frame is found in the tables of its bytecode or its compiled code ([`compiled`]).
//!
//! V8 asks the system for pages of 256 KiB, and for objects larger than half of that by themselves. Which stack asks for a page is chance, and
//! often a thread of the collector: the stacks tell nobody who leaks. All pages together are the heap, and what is left of it after
//! collections is what JavaScript holds.

pub mod bytecodes;
pub mod compiled;
pub mod heap;
pub mod layout;
pub mod positions;
mod proof;

use std::{collections::HashMap, fs::File};

use memtrace_common::interpreter::{Interpreter, OnStack, frames};

pub use self::{compiled::Places, heap::Reader};
use self::{
    heap::Heap,
    layout::Layout,
    positions::Form,
    proof::{Proof, prove},
};
use super::{CodeReader, Finding, Memory, Runtime, Without, chain::Placing};
use crate::object::{
    Pid,
    mapped::{self, MappedObject},
    maps::Mapping,
    symbols::ElfFile,
};

/// What reports call the heap that V8 manages.
pub const HEAP: &str = "JavaScript heap";

/// A constant that V8 exports for debuggers, in each version since Node 12.
const MARK: &str = "v8dbg_HeapObjectTag";

/// How the names of the functions begin by which V8 asks for pages of its heap.
const ALLOCATOR: &str = "v8::internal::MemoryAllocator::";

/// How the names of V8's constants begin.
const PREFIX: &str = "v8dbg_";

/// Looks for V8 among the files that a process maps. `known` says which files are known not to have it; more are added.
pub fn find(pid: Pid, mappings: &[Mapping], known: &mut Without) -> Finding {
    for object in &mapped::objects(pid, mappings) {
        if known.contains(object) {
            continue;
        }
        let Ok((_, file)) = object.open() else { continue };
        let Ok(elf) = ElfFile::parse(file) else { continue };
        if elf.exports(MARK).unwrap_or(false) {
            return found(pid, mappings, object, &elf);
        }
        known.add(object);
    }
    Finding::Nothing
}

/// What is found of V8 in the file that has it.
fn found(pid: Pid, mappings: &[Mapping], object: &MappedObject, elf: &ElfFile<File>) -> Finding {
    let open = || {
        let mut memory = Memory::open(pid, (object.device, object.inode)).ok()?;
        memory.confine(mappings);
        Some(memory)
    };
    let (Some(moved), Some(memory), Some(own)) = (object.moved(elf), open(), open()) else { return Finding::Nothing };
    let names: Vec<String> = layout::wanted().iter().map(|name| format!("{PREFIX}{name}")).collect();
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let Ok(symbols) = elf.symbols(&wanted, |name| name) else { return Finding::Nothing };
    let constant = |(name, symbol): (&&'_ str, &crate::object::symbols::Symbol)| {
        let name = layout::wanted().into_iter().find(|wanted| name.strip_prefix(PREFIX) == Some(wanted))?;
        Some((name, memory.half_word(symbol.address.wrapping_add(moved))?))
    };
    let constants: HashMap<&str, u32> = symbols.iter().filter_map(constant).collect();
    let layout = match Layout::of(&constants) {
        Ok(layout) => layout,
        Err(constant) => {
            return Finding::Refused(format!(
                "This build of V8 is not known ({PREFIX}{constant}): the functions of its JavaScript code are not named."
            ));
        }
    };
    let mut heap = Heap { memory, layout, form: Form::default() };
    let types = match prove(&mut heap, mappings) {
        Proof::Proved(types, form) => {
            heap.form = form;
            types
        }
        Proof::Waiting => return Finding::Waiting,
        Proof::Failed => {
            return Finding::Unproved(
                "This build of V8 keeps its objects otherwise than memtrace expects: the functions of its JavaScript code are \
                 not named."
                    .into(),
            );
        }
    };
    let interpreter = Interpreter {
        is_known: frames::ON_STACK,
        on_stack: OnStack { code: layout.shared, code_type: types.shared, instructions_type: types.bytecode },
        ..Interpreter::default()
    };
    let placing = Placing { unit: 1, ..Placing::default() };
    let places = Places::new(Heap { memory: own, layout: heap.layout, form: heap.form }, types.stream, mappings);
    let reader = CodeReader::Script(Reader::new(heap));
    Finding::Proved(Box::new(Runtime { interpreter, placing, reader, places: Some(places), census: None }))
}

/// Reads bytes as a table of source positions, or as bytecode with the table of its baseline code, and returns the offset or the character
/// that is found: for tests of hostile memory. The first byte says which, the next four the instruction.
pub fn read_any(data: &[u8]) -> Option<i64> {
    let [kind, a, b, c, d, rest @ ..] = data else { return None };
    let at = u32::from_le_bytes([*a, *b, *c, *d]);
    let form = match kind {
        0 => Form::Signed,
        1 => Form::Tagged,
        version => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let (instructions, table) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
            let types = bytecodes::known().nth(usize::from(version - 2))?;
            return bytecodes::offset(instructions, table, at.into(), types);
        }
    };
    positions::at(rest, form, at.into()).map(|position| position.character.into())
}

/// Whether V8 is in one of these files.
pub fn is_in(objects: &[MappedObject]) -> bool {
    objects.iter().any(|object| {
        let file = object.open().ok().map(|(_, file)| file);
        let elf = file.and_then(|file| ElfFile::parse(file).ok());
        elf.is_some_and(|elf| elf.exports(MARK).unwrap_or(false))
    })
}

/// Whether this function is the part of V8 that asks the system for pages.
pub fn asks_for_pages(function: &str) -> bool {
    function.starts_with(ALLOCATOR)
}

#[cfg(test)]
mod tests;
