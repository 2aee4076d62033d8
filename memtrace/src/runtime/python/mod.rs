//! CPython 3.8 to 3.15: how it is recognised, and how it is proved.
//!
//! A file that defines `_PyRuntime` is CPython. Its version says where everything is ([`layout`]); each thread's state is found through
//! a thread-local variable ([`getter`]) or a key. Before that is trusted, a thread that runs Python code is looked at from outside: its
//! state has to be found by the very path that the kernel will take, and its frames have to lead to code objects with names.

pub mod getter;
pub mod layout;
pub mod lines;
pub mod objects;

use std::fs::File;

use memtrace_common::interpreter::{
    self, Chain, FrameKind, Interpreter, MAX_FRAME_WORDS, MAX_INTERPRETER_FRAMES, Path, unpack,
};

pub use self::objects::Reader;
use self::{
    getter::Variable,
    layout::{Layout, NEXT_THREAD},
};
use super::{CodeReader, Finding, Memory, Runtime, chain::Placing};
use crate::object::{
    Pid,
    mapped::MappedObject,
    symbols::{ElfFile, Symbol},
};

/// Symbols by which the version is told where the file does not say it: each is new in it.
const SINCE: [(&str, u32); 3] = [("Py_NewRef", 10), ("PyFrame_GetBack", 9), ("PyCode_NewWithPosOnlyArgs", 8)];

const RUNTIME: &str = "_PyRuntime";
const VERSION: &str = "Py_Version";
const CODE_TYPE: &str = "PyCode_Type";
const EVALUATOR: &str = "_PyEval_EvalFrameDefault";
/// Functions that return the state of the calling thread while it runs Python code, and also while it does not.
const CURRENT: &str = "_PyThreadState_GetCurrent";
const OWN: &str = "PyGILState_GetThisThreadState";

/// The most threads that are looked at for a proof.
const MAX_THREADS: usize = 64;

/// How often a thread is looked at whose frames change meanwhile.
const TRIES: usize = 4;

/// Looks for CPython among the files that a process maps.
pub fn find(pid: Pid, objects: &[MappedObject]) -> Finding {
    for object in objects {
        let Ok((_, file)) = object.open() else { continue };
        let Ok(elf) = ElfFile::parse(file) else { continue };
        let wanted: Vec<&str> = SINCE.iter().map(|(name, _)| *name).collect();
        let wanted = [&wanted[..], &[RUNTIME, VERSION, CODE_TYPE, EVALUATOR, CURRENT, OWN]].concat();
        let Ok(symbols) = elf.symbols(&wanted, |name| name) else { continue };
        if let (true, Some(&getter)) = (symbols.contains_key(RUNTIME), symbols.get(OWN)) {
            let symbol = |name: &str| symbols.get(name).copied();
            return Library { pid, object, elf, getter }.find(symbol);
        }
    }
    Finding::Nothing
}

/// The file that defines the interpreter.
struct Library<'a> {
    pid: Pid,
    object: &'a MappedObject,
    elf: ElfFile<File>,
    /// A function of it.
    getter: Symbol,
}

impl Library<'_> {
    fn find(&self, symbol: impl Fn(&str) -> Option<Symbol>) -> Finding {
        let Some(moved) = self.moved() else { return Finding::Nothing };
        let Ok(memory) = Memory::open(self.pid) else { return Finding::Nothing };
        let address = |name: &str| symbol(name).map(|symbol| symbol.address.wrapping_add(moved));
        let (Some(runtime), Some(code_type)) = (address(RUNTIME), address(CODE_TYPE)) else { return Finding::Nothing };
        let minor = match address(VERSION) {
            // The version is constant data, which is there as soon as the file is mapped.
            Some(at) => memory.half_word(at).filter(|version| version >> 24 == 3).map(|version| version >> 16 & 0xff),
            None => SINCE.iter().find(|(name, _)| symbol(name).is_some()).map(|&(_, minor)| minor),
        };
        let Some(minor) = minor else {
            return Finding::Refused("This Python is not known: the lines of its code are not named.".into());
        };
        let Some(layout) = Layout::of(minor) else {
            return Finding::Refused(format!("Python 3.{minor} is not known: the lines of its code are not named."));
        };
        if is_free_threaded(&memory, runtime) {
            return Finding::Refused(format!(
                "Python 3.{minor} without the global interpreter lock is not known: the lines of its code are not named."
            ));
        }
        let variable = |name: &str| {
            let code = self.elf.code(&symbol(name)?).ok()?;
            path(getter::variable(code, symbol(name)?.address)?, moved, &memory)
        };
        let current = variable(CURRENT);
        let own = match layout.key {
            Some(key) => by_key(&memory, runtime.wrapping_add(key)),
            None => variable(OWN).into_iter().collect(),
        };
        let reader = Reader { memory, layout, code_type };
        let interpreter = match prove(&reader, runtime, current, &own) {
            Proof::Proved(interpreter) => *interpreter,
            Proof::Waiting => return Finding::Waiting,
            Proof::Failed => {
                return Finding::Refused(format!(
                    "This build of Python 3.{minor} keeps its frames elsewhere than memtrace expects: the lines of its code are \
                     not named."
                ));
            }
        };
        let evaluator = symbol(EVALUATOR).map_or(0..0, |symbol| {
            let begin = symbol.address.wrapping_add(moved);
            begin..begin.saturating_add(symbol.size.unwrap_or(0))
        });
        let code = &layout.code;
        let placing = Placing { evaluator, first_instruction: code.first_instruction, unit: code.unit };
        let name = format!("Python 3.{minor}");
        Finding::Proved(Box::new(Runtime { name, interpreter, placing, reader: CodeReader::Python(reader) }))
    }

    /// How far the file lies from where it was linked.
    fn moved(&self) -> Option<u64> {
        let offset = self.elf.file_offset(self.getter.address).ok()?;
        let mapping = self.object.mappings.iter().find(|mapping| {
            let inside = offset.checked_sub(mapping.offset);
            inside.is_some_and(|inside| inside < mapping.end - mapping.start)
        })?;
        Some((mapping.start + (offset - mapping.offset)).wrapping_sub(self.getter.address))
    }
}

/// From 3.13 on the runtime's own structure begins with a mark, the version, and whether the build is free-threaded.
fn is_free_threaded(memory: &Memory, runtime: u64) -> bool {
    memory.bytes::<8>(runtime).as_ref() == Some(b"xdebugpy") && memory.word(runtime + 16) == Some(1)
}

/// The path to a variable; `None` where the loader has not yet written what it needs.
fn path(variable: Variable, moved: u64, memory: &Memory) -> Option<Path> {
    /// In the memory at the thread pointer: the table of the blocks of modules; bytes of an entry of it (glibc's `dtv_t`).
    const BLOCKS: i64 = 8;
    const ENTRY_BYTES: i64 = 16;
    let word = |address: u64| Some(memory.word(address.wrapping_add(moved))?.cast_signed());
    match variable {
        Variable::Offset(offset) => Path::over(&[offset]),
        Variable::OffsetAt(address) => Path::over(&[word(address).filter(|&offset| offset != 0)?]),
        Variable::Module { index, plus } => {
            let module = word(index).filter(|module| (1..1 << 16).contains(module))?;
            Path::over(&[BLOCKS, ENTRY_BYTES * module, word(index + 8)?.wrapping_add(plus)])
        }
    }
}

/// The paths by which a thread may have the value of the key that is kept at this address, one for each C library. Empty while there
/// is no key.
fn by_key(memory: &Memory, at: u64) -> Vec<Path> {
    /// Where glibc 2.34 and later, musl 1.2 have the first values, or the pointer to them, in bytes from the thread pointer.
    const GLIBC_FIRST: i64 = 0x310;
    const GLIBC_OTHERS: i64 = 0x510;
    const MUSL: i64 = 0x80;
    /// How many keys one table of glibc's has.
    const KEYS: i64 = 32;
    let (Some(is_made), Some(key)) = (memory.half_word(at), memory.half_word(at.wrapping_add(4))) else {
        return Vec::new();
    };
    let key = i64::from(key);
    if is_made != 1 || key >= 1024 {
        return Vec::new();
    }
    let glibc = match key < KEYS {
        true => Path::over(&[GLIBC_FIRST + 16 * key + 8]),
        false => Path::over(&[GLIBC_OTHERS + 8 * (key / KEYS), 16 * (key % KEYS) + 8]),
    };
    let musl = Path::over(&[0, MUSL, 8 * key]);
    [glibc, musl].into_iter().flatten().collect()
}

enum Proof {
    Proved(Box<Interpreter>),
    /// No thread runs Python code yet.
    Waiting,
    Failed,
}

/// Looks at the interpreter's threads until one proves where everything is.
fn prove(reader: &Reader, runtime: u64, current: Option<Path>, own: &[Path]) -> Proof {
    let Reader { memory, layout, .. } = reader;
    let read = |address: u64| memory.word(address);
    let mut thread = read(runtime.wrapping_add(layout.interpreters))
        .filter(|&interpreter| interpreter != 0)
        .and_then(|interpreter| read(interpreter.wrapping_add(layout.threads)))
        .unwrap_or(0);
    let mut seen = 0;
    for _ in 0..MAX_THREADS {
        if thread == 0 {
            break;
        }
        let state = thread;
        thread = read(state.wrapping_add(NEXT_THREAD)).unwrap_or(0);
        // The first word at a thread pointer is the thread pointer.
        let pointer = read(state.wrapping_add(layout.thread_id)).filter(|&pointer| pointer != 0);
        let Some(pointer) = pointer.filter(|&pointer| read(pointer) == Some(pointer)) else { continue };
        let own = own.iter().find(|path| path.follow(pointer, read) == Some(state)).copied();
        // While another thread runs, this one's is 0.
        let current =
            current.filter(|path| matches!(path.follow(pointer, read), Some(found) if found == state || found == 0));
        let Some(own) = own else { continue };
        let interpreter = match current {
            Some(current) => layout.interpreter(current, own),
            None => layout.interpreter(own, Path::default()),
        };
        if interpreter.innermost.follow(state, read).is_none_or(|frame| frame == 0) {
            continue;
        }
        seen += 1;
        if (0..TRIES).any(|_| is_proved(reader, &interpreter, state)) {
            return Proof::Proved(Box::new(interpreter));
        }
    }
    if seen == 0 { Proof::Waiting } else { Proof::Failed }
}

/// Whether all frames of a thread lead to code that has a name, and stand at one of its instructions.
fn is_proved(reader: &Reader, interpreter: &Interpreter, thread_state: u64) -> bool {
    let words = chain(&reader.memory, interpreter, thread_state);
    let placing = Placing {
        evaluator: 0..0,
        first_instruction: reader.layout.code.first_instruction,
        unit: reader.layout.code.unit,
    };
    let mut frames = 0;
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some((FrameKind::Interpreter, code)) = unpack(word) else { continue };
        let Some(instruction) = words.next() else { return false };
        let offset = placing.offset(code, instruction);
        let is_inside = reader.code_bytes(code).is_some_and(|bytes| u64::from(offset) < bytes);
        if !is_inside || reader.read(code).is_none() {
            return false;
        }
        frames += 1;
    }
    frames > 0
}

/// The chain of a thread's frames, as the kernel would send it.
fn chain(memory: &Memory, interpreter: &Interpreter, thread_state: u64) -> Vec<u64> {
    let read = |address: u64| memory.word(address);
    let mut chain = Box::new(Chain::empty());
    chain.thread_state = thread_state;
    chain.frame = interpreter.innermost.follow(thread_state, read).unwrap_or(0);
    chain.run = interpreter.run.follow(thread_state, read).unwrap_or(0);
    for _ in 0..MAX_INTERPRETER_FRAMES {
        let words = (interpreter.frame_words as usize).min(MAX_FRAME_WORDS);
        let Some(bytes) = memory.at_most(chain.frame, 8 * words as u64, 8 * MAX_FRAME_WORDS as u64) else { break };
        chain.at = 0;
        for (to, from) in chain.words.iter_mut().zip(bytes.chunks_exact(8)) {
            *to = from.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        }
        if !interpreter::step(interpreter, &mut chain, read) {
            break;
        }
    }
    chain.sent_words().to_vec()
}
