//! V8, the JavaScript engine of Node, Deno and others: the functions and lines of its frames, and its heap as a whole.
//!
//! A file that exports V8's constants for debuggers is V8. They say where everything is ([`layout`]), which is proved on the process's heap
//! ([`proof`]) before the kernel looks for frames of it on the native stack. Functions are named from what describes them
//! ([`heap`]), and the place of a frame is found in the tables of its bytecode or its compiled code ([`compiled`]).
//!
//! V8 asks the system for pages of 256 KiB, and for objects larger than half of that by themselves. Which stack asks for a page is chance, and
//! often a thread of the collector: the stacks tell nobody who leaks. All pages together are the heap, and what is left of it after
//! collections is what JavaScript holds. V8 counts its collections of all of the heap, and what lived through the last one: both are read
//! from outside ([`Heaps`]).

pub mod bytecodes;
pub mod compiled;
mod counters;
pub mod heap;
mod heaps;
pub mod layout;
mod live;
pub mod positions;
mod proof;

use std::{collections::HashMap, fs::File};

use memtrace_common::interpreter::{Interpreter, OnStack, frames};

pub use self::{
    compiled::Places,
    heap::Reader,
    heaps::{Counted, Heaps},
    live::Live,
};
use self::{
    heap::Heap,
    layout::Layout,
    positions::Form,
    proof::{Proof, prove},
};
use super::{CodeReader, Finding, Memory, Objects, Runtime, Without, chain::Placing};
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

/// How the names of the functions begin that make memory which only collections free: what ArrayBuffers, and so Buffers, hold.
const COLLECTED: [&str; 10] = [
    "v8::ArrayBuffer::",
    "v8::SharedArrayBuffer::",
    "v8::BackingStore::",
    "v8::internal::BackingStore::",
    "v8::internal::JSArrayBuffer::",
    "node::NodeArrayBufferAllocator::",
    "v8::internal::Builtin_ArrayBuffer",
    "v8::internal::Builtin_SharedArrayBuffer",
    "node::Buffer::",
    "node::BaseObject::",
];

/// How the names of V8's constants begin.
const PREFIX: &str = "v8dbg_";

/// Looks for V8 among the files that a process maps. `known` says which files are known not to have it; more are added.
pub fn find(pid: Pid, mappings: &[Mapping], known: &mut Without) -> Finding {
    match file(&mapped::objects(pid, mappings), known) {
        Some((object, elf)) => found(pid, mappings, object, &elf),
        None => Finding::Nothing,
    }
}

/// The file in which V8 is, of these. `known` says which are known not to have it; more are added.
pub fn file<'o>(objects: &'o [MappedObject], known: &mut Without) -> Option<(&'o MappedObject, ElfFile<File>)> {
    known.find(objects, MARK)
}

/// What is found of V8 in the file that has it.
fn found(pid: Pid, mappings: &[Mapping], object: &MappedObject, elf: &ElfFile<File>) -> Finding {
    let open = || {
        let mut memory = Memory::open(pid, (object.device, object.inode)).ok()?;
        memory.confine(mappings);
        Some(memory)
    };
    let (Some(moved), Some(memory), Some(own), Some(counted)) = (object.moved(elf), open(), open(), open()) else {
        return Finding::Nothing;
    };
    let names: Vec<String> =
        layout::wanted().into_iter().chain(live::kinds::wanted()).map(|name| format!("{PREFIX}{name}")).collect();
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let Ok(symbols) = elf.symbols(&wanted, |name| name) else { return Finding::Nothing };
    let value = |address: u64| memory.half_word(address.wrapping_add(moved));
    let constants: HashMap<&str, u32> = symbols
        .iter()
        .filter_map(|(name, symbol)| Some((name.strip_prefix(PREFIX)?, value(symbol.address)?)))
        .collect();
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
    let counted = Heap { memory: counted, layout: heap.layout, form: heap.form };
    let live = Live::new(pid, (object.device, object.inode), counted, &constants);
    let census = live.map(|live| Objects::Script(Box::new(live)));
    let places = Places::new(Heap { memory: own, layout: heap.layout, form: heap.form }, types.stream, mappings);
    let reader = CodeReader::Script(Reader::new(heap));
    Finding::Proved(Box::new(Runtime { interpreter, placing, reader, places: Some(places), census }))
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

/// Whether this function makes memory that is freed when the object which holds it is collected.
pub fn makes_collected(function: &str) -> bool {
    // Templates of libraries have it in their names.
    COLLECTED.iter().any(|name| function.starts_with(name)) || function.contains("v8::BackingStore")
}

/// Whether this function of Node's itself allocates only what goes with a Buffer that it has read into. All that its program does with what is
/// read is called by it.
pub fn reads_into_buffers(function: &str) -> bool {
    function.starts_with("node::EmitToJSStreamListener::OnStreamRead")
}

/// How the names of the functions begin that are V8's inside, the tasks that Node's threads run for it, and the inspector: what they
/// allocate is V8's own.
const INSIDE: [&str; 11] = [
    "v8::internal::",
    "v8::base::",
    "v8::platform::",
    "v8_inspector::",
    "v8_crdtp::",
    "node::inspector::",
    "node::NodePlatform::",
    "node::PerIsolatePlatformData::",
    "node::WorkerThreadsTaskRunner::",
    "cppgc::internal::",
    "heap::base::",
];

/// How the names of the functions begin by which V8 asks for memory, and those of the libraries that it is built with.
const LIBRARIES: [&str; 10] = [
    "operator new",
    "v8::internal::Malloced::operator new",
    "v8::base::Malloc",
    "v8::base::Calloc",
    "std::",
    "absl::",
    "__gnu_cxx::",
    "__GI_",
    "malloc",
    "strdup",
];

/// How the names of the functions begin in which the threads begin that V8's tasks run in: Node's own. Those of V8's own platform are of V8's
/// inside.
const THREADS: [&str; 2] = ["node::(anonymous namespace)::PlatformWorkerThread", "node::PlatformWorkerThread"];

/// How the names of the files begin in which a thread begins, and in which functions are that only give and free memory.
const SYSTEM: [&str; 7] = ["libc.so", "libc-", "libpthread", "ld-linux", "ld-musl", "libstdc++.so", "libc++"];

/// Whether this function is none of V8's, or only gives memory: whoever calls it asks for that.
pub fn is_library(function: &str) -> bool {
    begins_with(function, &LIBRARIES)
}

/// Whether this function is of V8's inside. What it allocates V8 notes of its pages, of compiled code and of its threads, and goes as these do.
pub fn is_inside(function: &str) -> bool {
    begins_with(function, &INSIDE)
}

/// Whether a stack is V8's own from the allocation to the beginning of its thread. No function of the program and none of JavaScript has part in
/// it, and what V8 does in its own threads is not said to leak. `frames` are the function and the file's name of each frame.
pub fn is_own_thread<'f>(frames: impl Iterator<Item = (Option<&'f str>, Option<&'f str>)>) -> bool {
    let mut has_v8 = false;
    for (function, file) in frames {
        let is_system = file.is_some_and(|file| SYSTEM.iter().any(|name| file.starts_with(name)));
        let is_v8 = function.is_some_and(|function| is_inside(function) || begins_with(function, &THREADS));
        if !is_system && !is_v8 && !function.is_some_and(is_library) {
            return false;
        }
        has_v8 |= is_v8;
    }
    has_v8
}

/// Whether a function's name begins with one of these, which its namespace does. A template begins with what it returns.
fn begins_with(function: &str, names: &[&str]) -> bool {
    let name = function.strip_prefix("void ").or_else(|| function.strip_prefix("auto ")).unwrap_or(function);
    names.iter().any(|begin| name.starts_with(begin))
}

/// Whether this function is the part of V8 that asks the system for pages.
pub fn asks_for_pages(function: &str) -> bool {
    function.starts_with(ALLOCATOR)
}

#[cfg(test)]
mod tests;
