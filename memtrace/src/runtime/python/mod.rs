//! CPython 3.8 to 3.15: how it is recognised, how it is proved, and which objects live in it ([`census`]).
//!
//! A file that defines `_PyRuntime` is CPython. Its version says where everything is ([`layout`]); each thread's state is found through
//! a thread-local variable ([`getter`]) or a key. Before that is trusted, a thread that runs Python code is looked at from outside: its
//! state has to be found by the very path that the kernel will take, and its frames have to lead to code objects with names.

pub mod census;
pub mod getter;
pub mod layout;
pub mod lines;
pub mod objects;
pub mod pool_function;
pub mod pools;
pub mod small;

use std::fs::File;

use memtrace_common::interpreter::{FrameKind, Interpreter, Path, unpack};

use self::layout::{Layout, NEXT_THREAD};
pub use self::{census::Census, objects::Reader};
use super::{CodeReader, Finding, Memory, Runtime, Without, walk};
use crate::object::{
    Pid,
    mapped::{self, MappedObject},
    maps::{self, Mapping},
    symbols::{ElfFile, Symbol},
};

/// Symbols by which the version is told where the file does not say it: each is new in it.
const SINCE: [(&str, u32); 3] = [("Py_NewRef", 10), ("PyFrame_GetBack", 9), ("PyCode_NewWithPosOnlyArgs", 8)];

/// The variable that only a file with CPython in it defines.
pub const RUNTIME: &str = "_PyRuntime";
const VERSION: &str = "Py_Version";
const CODE_TYPE: &str = "PyCode_Type";
const TYPE_TYPE: &str = "PyType_Type";
const EVALUATOR: &str = "_PyEval_EvalFrameDefault";
/// Functions that return the state of the calling thread while it runs Python code, and also while it does not.
const CURRENT: &str = "_PyThreadState_GetCurrent";
const OWN: &str = "PyGILState_GetThisThreadState";

/// What the lowest half byte but one of a version says of a release (`PY_RELEASE_LEVEL_FINAL` in Include/patchlevel.h).
const RELEASED: u32 = 0xf;

/// The most threads that are looked at for a proof.
const MAX_THREADS: usize = 64;

/// The most threads whose frames are looked at.
const MAX_PROOFS: usize = 8;

/// How often a thread is looked at whose frames change meanwhile.
const TRIES: usize = 4;

/// Looks for CPython among the files that a process maps.
///
/// `known` says which files are known not to define an interpreter; more are added.
pub fn find(pid: Pid, mappings: &[Mapping], known: &mut Without) -> Finding {
    let mut best = Finding::Nothing;
    for object in &mapped::objects(pid, mappings) {
        if known.contains(object) {
            continue;
        }
        let Ok((_, file)) = object.open() else { continue };
        let Ok(elf) = ElfFile::parse(file) else { continue };
        let wanted: Vec<&str> = SINCE.iter().map(|(name, _)| *name).collect();
        let wanted = [&wanted[..], &[RUNTIME, VERSION, CODE_TYPE, TYPE_TYPE, EVALUATOR, CURRENT, OWN]].concat();
        let Ok(symbols) = elf.symbols(&wanted, |name| name) else { continue };
        if symbols.contains_key(RUNTIME) && symbols.contains_key(OWN) {
            let symbol = |name: &str| symbols.get(name).copied();
            match (Library { pid, mappings, object, elf }).find(symbol) {
                proved @ Finding::Proved(_) => return proved,
                Finding::Nothing => {}
                // One of two libraries may be idle.
                other if matches!(best, Finding::Nothing | Finding::Refused(_)) => best = other,
                _ => {}
            }
        } else {
            known.add(object);
        }
    }
    best
}

/// The minor version by which functions there are, where the file does not say it.
fn minor_since(has: impl Fn(&str) -> bool) -> Option<u32> {
    SINCE.iter().find(|(name, _)| has(name)).map(|&(_, minor)| minor)
}

/// The file that defines the interpreter.
struct Library<'a> {
    pid: Pid,
    mappings: &'a [Mapping],
    object: &'a MappedObject,
    elf: ElfFile<File>,
}

impl Library<'_> {
    fn find(&self, symbol: impl Fn(&str) -> Option<Symbol>) -> Finding {
        let Some(moved) = self.object.moved(&self.elf) else { return Finding::Nothing };
        let Ok(mut memory) = Memory::open(self.pid, (self.object.device, self.object.inode)) else {
            return Finding::Nothing;
        };
        memory.confine(self.mappings);
        let address = |name: &str| symbol(name).map(|symbol| symbol.address.wrapping_add(moved));
        let (Some(runtime), Some(code_type)) = (address(RUNTIME), address(CODE_TYPE)) else { return Finding::Nothing };
        let minor = match address(VERSION) {
            // The version is constant data, which is there as soon as the file is mapped.
            Some(at) => {
                let version = memory.half_word(at).filter(|version| version >> 24 == 3);
                if version.is_some_and(|version| version >> 4 & 0xf != RELEASED) {
                    return Finding::Refused(
                        "This Python is a version before its release: the lines of its code are not named.".into(),
                    );
                }
                version.map(|version| version >> 16 & 0xff)
            }
            None => minor_since(|name| symbol(name).is_some()),
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
            let symbol = symbol(name)?;
            getter::variable(self.elf.code(&symbol).ok()?, symbol.address)
        };
        let variable = |name: &str| variable(name).map(|variable| variable.paths(moved, &memory)).unwrap_or_default();
        let current = variable(CURRENT);
        let own = match layout.key {
            Some(key) => by_key(&memory, runtime.wrapping_add(key)),
            None => variable(OWN),
        };
        let reader = Reader { memory, layout, code_type };
        let interpreter = match prove(&reader, runtime, &current, &own) {
            Proof::Proved(interpreter) => *interpreter,
            Proof::Waiting => return Finding::Waiting,
            Proof::Failed => {
                return Finding::Unproved(format!(
                    "This build of Python 3.{minor} keeps its frames elsewhere than memtrace expects: the lines of its code are \
                     not named."
                ));
            }
        };
        let evaluator = symbol(EVALUATOR).map_or(0..0, |symbol| {
            let begin = symbol.address.wrapping_add(moved);
            begin..begin.saturating_add(symbol.size.unwrap_or(0))
        });
        let readable = (self.object.device, self.object.inode);
        let placing = layout.placing(evaluator, maps::whole(self.mappings, readable));
        let census = address(TYPE_TYPE).and_then(|types| Census::open(self.pid, readable, layout, types).ok());
        let census = census.map(super::Objects::Python);
        Finding::Proved(Box::new(Runtime {
            interpreter,
            placing,
            reader: CodeReader::Python(reader),
            places: None,
            census,
        }))
    }
}

/// From 3.13 on the runtime's own structure begins with a mark, the version, and whether the build is free-threaded.
fn is_free_threaded(memory: &Memory, runtime: u64) -> bool {
    memory.bytes::<8>(runtime).as_ref() == Some(b"xdebugpy") && memory.word(runtime.wrapping_add(16)) == Some(1)
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

/// Looks at the interpreters' threads until one proves where everything is.
fn prove(reader: &Reader, runtime: u64, current: &[Path], own: &[Path]) -> Proof {
    let Reader { memory, layout, .. } = reader;
    let read = |address: u64| memory.word(address);
    // The first interpreter of the list is the newest one; behind the list stands the one of the program itself.
    let interpreters =
        [layout.interpreters + 8, layout.interpreters].map(|at| read(runtime.wrapping_add(at)).unwrap_or(0));
    let mut candidates = Vec::new();
    for interpreter in interpreters.into_iter().filter(|&interpreter| interpreter != 0) {
        let mut thread = read(interpreter.wrapping_add(layout.threads)).unwrap_or(0);
        for _ in 0..MAX_THREADS {
            if thread == 0 {
                break;
            }
            let state = thread;
            thread = read(state.wrapping_add(NEXT_THREAD)).unwrap_or(0);
            // The first word at a thread pointer is the thread pointer.
            let pointer = read(state.wrapping_add(layout.thread_id)).filter(|&pointer| pointer != 0);
            let Some(pointer) = pointer.filter(|&pointer| read(pointer) == Some(pointer)) else { continue };
            if let Some(own) = own.iter().find(|path| path.follow(pointer, read) == Some(state)) {
                candidates.push((state, pointer, *own));
            }
        }
    }
    // A variable that holds a thread's state is the one; while another thread runs it holds 0, and may be any.
    let holds = |path: &&Path, wanted: fn(u64) -> u64| {
        candidates.iter().any(|&(state, pointer, _)| path.follow(pointer, read) == Some(wanted(state)))
    };
    let current = current.iter().find(|path| holds(path, |state| state));
    let mut seen = 0;
    for &(state, _, own) in &candidates {
        let interpreter = match current {
            Some(current) => layout.interpreter(*current, own),
            None => layout.interpreter(own, Path::default()),
        };
        if interpreter.innermost.follow(state, read).is_none_or(|frame| frame == 0) {
            continue;
        }
        seen += 1;
        if (0..TRIES).any(|_| is_proved(reader, &interpreter, state)) {
            return Proof::Proved(Box::new(interpreter));
        }
        if seen == MAX_PROOFS {
            break;
        }
    }
    if seen == 0 { Proof::Waiting } else { Proof::Failed }
}

/// Whether the frames of a thread lead to their end, and each to code that has a name, at one of its instructions.
fn is_proved(reader: &Reader, interpreter: &Interpreter, thread_state: u64) -> bool {
    let Some(words) = walk::chain(&reader.memory, interpreter, thread_state) else { return false };
    let placing = reader.layout.placing(0..0, 0..0);
    let mut frames = 0;
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some((FrameKind::Interpreter, code)) = unpack(word) else { continue };
        let offset = words.next().and_then(|instruction| placing.offset(code, instruction));
        if !offset.is_some_and(|offset| reader.is_code(code, offset)) {
            return false;
        }
        frames += 1;
    }
    frames > 0
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::runtime::python::lines::{Form, Lines};

    /// The fuzzer's seeds: real tables and code, whole and damaged at each byte.
    #[test]
    fn the_fuzzers_seeds_are_read_whatever_becomes_of_them() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/python");
        let mut seeds = 0;
        for seed in fs::read_dir(folder).expect("the seeds") {
            let seed = seed.expect("a seed").path();
            let bytes = fs::read(&seed).expect("a seed");
            let [form, rest @ ..] = &bytes[..] else { panic!("{seed:?} is empty") };
            let (offset, rest) = rest.split_at(4);
            let offset = u32::from_le_bytes(offset.try_into().expect("four bytes"));
            let form = [Form::Pairs, Form::Ranges, Form::Locations][usize::from(*form)];
            let name = seed.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let line = |table: &[u8]| Lines { form, first: 100, table: table.to_vec() }.line(offset);
            if name.starts_with("lines") {
                assert!(line(rest).is_some_and(|line| (100..120).contains(&line)), "{name}: {:?}", line(rest));
            } else {
                assert!(getter::variable(rest, 0x1000).is_some(), "{name}");
            }
            for at in 0..rest.len() {
                let mut damaged = rest.to_vec();
                damaged[at] ^= 0xff;
                let _ = (line(&damaged), getter::variable(&damaged, 0x1000));
                let _ = (line(&rest[..at]), getter::variable(&rest[..at], 0x1000));
            }
            seeds += 1;
        }
        assert!(seeds >= 5, "{seeds} seeds");
    }
}
