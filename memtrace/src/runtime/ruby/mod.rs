//! Ruby 3.1 (MRI): how it is recognised and proved, and the functions and lines of its code ([`code`]).
//!
//! A file that defines `ruby_api_version` and `ruby_init` is Ruby, and says which version it is. Each thread has a thread-local variable with the
//! context that it runs, be it the thread's own or a fiber's; the frames of a context lie in an array ([`layout`]). Before that is
//! trusted, the main thread is looked at from outside: its context has to be found by the very path that the kernel will take, and its frames
//! have to lead to code with a name, at one of its instructions.

pub mod code;
pub mod layout;
pub mod places;

use std::{collections::HashMap, fs::File};

use memtrace_common::interpreter::{FrameKind, Interpreter, Path, unpack};

pub use self::code::Reader;
use super::{CodeReader, Finding, Memory, Runtime, Without, chain::Placing, thread_local::Variable, walk};
use crate::object::{
    Pid,
    mapped::{self, MappedObject},
    maps::Mapping,
    symbols::{ElfFile, Symbol},
};

/// What only a file with Ruby in it defines: its version, in three numbers, and the function that begins it.
const VERSION: &str = "ruby_api_version";
const BEGIN: &str = "ruby_init";
/// The thread-local variable that has the context that a thread runs.
const CONTEXT: &str = "ruby_current_ec";
/// The variable that has the virtual machine.
const MACHINE: &str = "ruby_current_vm_ptr";
/// The function that is called for each run of frames.
const RUN: &str = "rb_vm_exec";

/// How often frames are looked at that change meanwhile.
const TRIES: usize = 8;

/// Looks for Ruby among the files that a process maps. `known` says which files are known not to have it; more are added.
pub fn find(pid: Pid, mappings: &[Mapping], known: &mut Without) -> Finding {
    for object in &mapped::objects(pid, mappings) {
        if known.contains(object) {
            continue;
        }
        let Ok((_, file)) = object.open() else { continue };
        let Ok(elf) = ElfFile::parse(file) else { continue };
        let Ok(symbols) = elf.symbols(&[VERSION, BEGIN, CONTEXT, MACHINE, RUN], |name| name) else { continue };
        if symbols.contains_key(VERSION) && symbols.contains_key(BEGIN) {
            return found(pid, mappings, object, &elf, &symbols);
        }
        known.add(object);
    }
    Finding::Nothing
}

/// What is found of Ruby in the file that has it.
fn found(
    pid: Pid,
    mappings: &[Mapping],
    object: &MappedObject,
    elf: &ElfFile<File>,
    symbols: &HashMap<&str, Symbol>,
) -> Finding {
    let (Some(moved), Ok(mut memory)) = (object.moved(elf), Memory::open(pid, (object.device, object.inode))) else {
        return Finding::Nothing;
    };
    memory.confine(mappings);
    let address = |name: &str| symbols.get(name).map(|symbol| symbol.address.wrapping_add(moved));
    let Some(version) = address(VERSION).and_then(|at| Some([memory.half_word(at)?, memory.half_word(at + 4)?])) else {
        return Finding::Nothing;
    };
    let [major, minor] = version;
    let unknown =
        || Finding::Refused(format!("Ruby {major}.{minor} is not known: the lines of its code are not named."));
    if version != layout::KNOWN {
        return unknown();
    }
    let (Some(machine), Some(run)) = (address(MACHINE), address(RUN)) else { return unknown() };
    let Ok(Some(index)) = elf.module_index(CONTEXT) else {
        return Finding::Refused(format!(
            "This build of Ruby {major}.{minor} keeps its threads' contexts elsewhere than memtrace expects: the lines of its code are \
             not named."
        ));
    };
    let paths = Variable::Module { index, plus: 0 }.paths(moved, &memory);
    let reader = Reader { memory };
    let interpreter = match prove(&reader, machine, &paths) {
        Proof::Proved(interpreter) => *interpreter,
        Proof::Waiting => return Finding::Waiting,
        Proof::Failed => {
            return Finding::Unproved(format!(
                "This build of Ruby {major}.{minor} keeps its frames elsewhere than memtrace expects: the lines of its code are not \
                 named."
            ));
        }
    };
    let run = run..run.saturating_add(symbols.get(RUN).and_then(|symbol| symbol.size).unwrap_or(0));
    Finding::Proved(Box::new(Runtime {
        interpreter,
        placing: Placing { evaluators: vec![run], first_instruction: None, unit: 1, hidden: 0..0 },
        reader: CodeReader::Ruby(reader),
        places: None,
        census: None,
    }))
}

/// What a look at a process says of where everything is.
enum Proof {
    Proved(Box<Interpreter>),
    /// It has not begun yet.
    Waiting,
    Failed,
}

fn prove(reader: &Reader, machine: u64, paths: &[Path]) -> Proof {
    let read = |address: u64| reader.memory.word(address);
    let Some(thread) = Path::over(&[0, layout::MAIN_THREAD.cast_signed()]).and_then(|path| path.follow(machine, read))
    else {
        return Proof::Waiting;
    };
    let of_thread = |at: u64| read(thread.wrapping_add(at)).filter(|&word| word != 0);
    let Some(pointer) = of_thread(layout::THREAD_POINTER).filter(|_| thread != 0) else { return Proof::Waiting };
    // The first word at a thread pointer is the thread pointer.
    if read(pointer) != Some(pointer) {
        return Proof::Failed;
    }
    for _ in 0..TRIES {
        let Some(context) = of_thread(layout::CONTEXT) else { return Proof::Waiting };
        let Some(path) = paths.iter().find(|path| path.follow(pointer, read) == Some(context)) else { continue };
        let interpreter = layout::interpreter(*path);
        match frames_have_names(reader, &interpreter, context) {
            Some(0) => return Proof::Waiting,
            Some(_) => return Proof::Proved(Box::new(interpreter)),
            None => {}
        }
    }
    Proof::Failed
}

/// How many frames a context has, each of which leads to code with a name, at one of its instructions; `None` if one does not.
fn frames_have_names(reader: &Reader, interpreter: &Interpreter, context: u64) -> Option<usize> {
    let mut frames = 0;
    let mut words = walk::chain(&reader.memory, interpreter, context)?.into_iter();
    while let Some(word) = words.next() {
        let Some((FrameKind::Interpreter, address)) = unpack(word) else { continue };
        let instruction = words.next()?;
        reader.read(address)?.line(instruction as u32)?;
        frames += 1;
    }
    Some(frames)
}
