//! PHP 7.4 to 8.4, built without threads: how it is recognised and proved, and the functions and lines of its code ([`code`]).
//!
//! A file that defines `executor_globals` and `execute_ex` is PHP, be it a program or a module of a web server. Its modules say for which
//! interface they were compiled, which is the version ([`layout`]). The innermost frame stands in `executor_globals`, and each frame
//! has its caller's address; functions in C have frames as well. One process runs one script at a time, in its first thread.
//!
//! A process that runs a script is proved by its frames, each of which has to lead to a function with a name, at one of its instructions.
//! One that waits for a request has none; there the table of functions has to have functions under their own names.

pub mod code;
pub mod layout;
mod looped;

use std::{fs::File, ops::Range};

use memtrace_common::interpreter::{COPY, DETAILS, FrameKind, Interpreter, unpack};

pub use self::code::Reader;
use self::layout::Layout;
use super::{
    CodeReader, Finding, Memory, Runtime, Without,
    chain::Placing,
    memory::{half_word_at, word_at},
    walk,
};
use crate::object::{
    Pid,
    mapped::{self, MappedObject},
    maps::{self, Mapping},
    symbols::{ElfFile, Symbol},
};

/// The variable that has the innermost frame, and where it is kept in builds with threads.
const GLOBALS: &str = "executor_globals";
const GLOBALS_OF_THREADS: &str = "executor_globals_offset";
/// The variable that has the table of functions.
const COMPILER: &str = "compiler_globals";
/// The loop that runs code of PHP.
const LOOP: &str = "execute_ex";
/// The table of the modules that PHP consists of.
const MODULES: &str = "module_registry";

const WANTED: [&str; 5] = [GLOBALS, GLOBALS_OF_THREADS, COMPILER, LOOP, MODULES];

/// How often frames are looked at that change meanwhile.
const TRIES: usize = 8;

/// The most functions of the table that are looked at, and how many have to be there.
const MAX_FUNCTIONS: u32 = 64;
const LEAST_FUNCTIONS: u32 = 16;

/// Looks for PHP among the files that a process maps. `known` says which files are known not to have it; more are added.
pub fn find(pid: Pid, mappings: &[Mapping], known: &mut Without) -> Finding {
    for object in &mapped::objects(pid, mappings) {
        if known.contains(object) {
            continue;
        }
        let Ok((_, file)) = object.open() else { continue };
        let Ok(elf) = ElfFile::parse(file) else { continue };
        let Ok(symbols) = elf.symbols(&WANTED, |name| name) else { continue };
        let symbol = |name: &str| symbols.get(name).copied();
        let own = (symbol(GLOBALS), symbol(COMPILER), symbol(LOOP), symbol(MODULES));
        match own {
            (Some(globals), Some(compiler), Some(code), Some(modules)) => {
                return Library { pid, mappings, object, elf, globals, compiler, code, modules }.find();
            }
            (None, _, Some(_), _) if symbol(GLOBALS_OF_THREADS).is_some() => {
                return Finding::Refused(
                    "PHP with threads (ZTS) is not known: the lines of its code are not named.".into(),
                );
            }
            _ => known.add(object),
        }
    }
    Finding::Nothing
}

/// The file that defines PHP.
struct Library<'a> {
    pid: Pid,
    mappings: &'a [Mapping],
    object: &'a MappedObject,
    elf: ElfFile<File>,
    globals: Symbol,
    compiler: Symbol,
    code: Symbol,
    modules: Symbol,
}

impl Library<'_> {
    fn find(&self) -> Finding {
        let id = (self.object.device, self.object.inode);
        let (Some(moved), Ok(mut memory)) = (self.object.moved(&self.elf), Memory::open(self.pid, id)) else {
            return Finding::Nothing;
        };
        memory.confine(self.mappings);
        let address = |symbol: Symbol| symbol.address.wrapping_add(moved);
        let Some(interface) = interface(&memory, address(self.modules)) else { return Finding::Waiting };
        let Some(layout) = Layout::of(interface) else {
            return Finding::Refused(format!(
                "This version of PHP is not known (its interface to modules is {interface}): the lines of its code are not named."
            ));
        };
        let globals = address(self.globals);
        let reader = Reader { memory, layout };
        let hidden = maps::whole(self.mappings, id);
        let interpreter = layout.interpreter(globals);
        match prove(&reader, &interpreter, address(self.compiler), &hidden) {
            Proof::Proved => {}
            Proof::Waiting => return Finding::Waiting,
            Proof::Failed => {
                return Finding::Unproved(format!(
                    "This build of PHP {} keeps its frames elsewhere than memtrace expects: the lines of its code are not named.",
                    layout.version
                ));
            }
        }
        let evaluators = looped::parts(self.object, &self.elf, self.code)
            .into_iter()
            .map(|part| part.start.wrapping_add(moved)..part.end.wrapping_add(moved))
            .collect();
        Finding::Proved(Box::new(Runtime {
            interpreter,
            placing: Placing { evaluators, first_instruction: None, unit: 1, hidden },
            reader: CodeReader::Php(reader),
            places: None,
            census: None,
        }))
    }
}

/// The number of the interface that PHP's first module was compiled for; `None` while there is none.
fn interface(memory: &Memory, modules: u64) -> Option<u32> {
    let entries = memory.word(modules.wrapping_add(layout::ENTRIES)).filter(|&entries| entries != 0)?;
    let module = memory.word(entries).filter(|&module| module != 0)?;
    memory.half_word(module.checked_add(layout::INTERFACE)?)
}

/// What a look at a process says of where everything is.
enum Proof {
    Proved,
    /// It has not begun yet.
    Waiting,
    Failed,
}

fn prove(reader: &Reader, interpreter: &Interpreter, compiler: u64, hidden: &Range<u64>) -> Proof {
    let innermost = || interpreter.innermost.follow(interpreter.only_state, |address| reader.memory.word(address));
    for _ in 0..TRIES {
        match innermost() {
            None => return Proof::Failed,
            Some(0) if functions_have_their_names(reader, compiler).is_some() => return Proof::Proved,
            Some(0) => return Proof::Waiting,
            Some(_) if frames_have_names(reader, interpreter, hidden).is_some() => return Proof::Proved,
            Some(_) => {}
        }
    }
    Proof::Failed
}

/// Whether the frames lead to functions with names, at their instructions; `None` if not, or there are none.
fn frames_have_names(reader: &Reader, interpreter: &Interpreter, hidden: &Range<u64>) -> Option<()> {
    let mut frames = 0;
    let mut words = walk::chain(&reader.memory, interpreter, interpreter.only_state)?.into_iter();
    while let Some(word) = words.next() {
        let Some((FrameKind::Interpreter, address)) = unpack(word) else { continue };
        let instruction = words.next()?;
        if hidden.contains(&address) {
            continue;
        }
        let code = match address & COPY {
            0 => reader.read(address)?,
            _ => {
                let mut details = [0; DETAILS];
                for detail in &mut details {
                    (_, *detail) = unpack(words.next()?)?;
                }
                reader.copy(&details)?
            }
        };
        if code.lines.is_some() {
            code.line(instruction as u32)?;
        }
        frames += 1;
    }
    (frames > 0).then_some(())
}

/// Whether the first functions of the table are functions in C under their own names; `None` if not.
fn functions_have_their_names(reader: &Reader, compiler: u64) -> Option<()> {
    let memory = &reader.memory;
    let table = memory.word(compiler.wrapping_add(layout::FUNCTIONS))?;
    let head = memory.bytes::<32>(table)?;
    let entries = word_at(&head, layout::ENTRIES as usize)?;
    let count = half_word_at(&head, layout::ENTRY_COUNT as usize)?.min(MAX_FUNCTIONS);
    for index in 0..count {
        let entry = memory.bytes::<32>(entries.checked_add(u64::from(index) * layout::ENTRY_BYTES)?)?;
        let function = reader.read(word_at(&entry, 0)?)?;
        let key = reader.string(word_at(&entry, layout::KEY as usize)?)?;
        if function.module != code::BUILT_IN || !function.name.eq_ignore_ascii_case(&key) {
            return None;
        }
    }
    (count >= LEAST_FUNCTIONS).then_some(())
}
