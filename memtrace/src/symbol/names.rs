//! The names of one object: file offset -> functions with file and line, by blazesym on the object's own file and on
//! its debug file.
//!
//! Each object has a blazesym symbolizer of its own, so that dropping it gives back all that it parsed, and one that
//! panicked on a hostile file spoils no other. Addresses are translated here, because the segments of a separate debug
//! file are empty, and by blazesym's reckoning a hostile segment overflows.
//!
//! blazesym maps the files: one that is truncated in place while it is read ends this program (the kernel then removes
//! its probes). Compressed sections are bounded by what they say of their size, not by what they unpack to.

use std::{
    cell::Cell,
    fs::File,
    os::unix::fs::FileExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    rc::Rc,
};

use blazesym::symbolize::{
    CodeInfo, Input, Sym, Symbolized, Symbolizer,
    source::{Elf, Source},
};

use super::{
    file::{Root, descriptor_path, open_by_path},
    object::Object,
};
use crate::{
    debuginfod::Answer,
    object::{
        debug_file::{self, DebugFile},
        demangle::{cut, demangle, is_mangled},
        go_table::{GoFunction, GoTable},
        layout::Layout,
        symbols::ElfFile,
    },
    runtime::Language,
};

/// The longest path that the system takes.
const MAX_PATH_BYTES: usize = 4096;
/// How far a symbol without a size reaches. Assembly often gives none, and such routines are short; without a bound the
/// last symbol before a stripped stretch would lay claim to all of it.
const MAX_UNSIZED_BYTES: usize = 4096;
/// A source that fails this often without an answer is not asked again: it reads its file anew each time.
const MAX_FAILURES: u32 = 3;
/// Functions inlined into each other are tens deep at most.
const MAX_INLINED: usize = 256;

/// `mov $15, %rax; syscall`, the instructions of `rt_sigreturn`: by them gdb and libgcc know a signal's trampoline too.
const SIGRETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];

/// A function at a code address, with file and line where they are known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Function {
    pub name: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
    /// Whether it was inlined into the next one.
    pub inlined: bool,
    /// The language that its runtime states; native where none does.
    pub language: Language,
}

/// One place to look in: a file with its DWARF or without.
#[derive(Debug)]
struct Lookup {
    source: Source<'static>,
    what: &'static str,
    has_lines: bool,
    failures: Cell<u32>,
    answers: Cell<bool>,
}

/// Looks names up in one object.
pub struct Names {
    layout: Layout,
    lookups: Vec<Lookup>,
    /// Go's own table, which names all its code, and nothing else.
    go: Option<GoTable>,
    symbolizer: Option<Symbolizer>,
    /// Whether a server has yet to say whether it has the debug file.
    is_waiting: bool,
    /// The object with the file that was opened for it late, and its debug file: the sources' paths refer to them.
    files: (Rc<Object>, Option<File>, Option<DebugFile>),
}

impl Names {
    /// The object's file name and its build id in hexadecimal, if it has one.
    pub fn build_id(&self) -> Option<(&str, String)> {
        let id = &self.layout.build_id;
        let hex = id.iter().map(|byte| format!("{byte:02x}")).collect();
        (!id.is_empty()).then_some((self.files.0.name.as_str(), hex))
    }

    /// Whether a server has yet to say whether it has the debug file: then names are to be opened anew when it has.
    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Prepares an object: reads its headers and searches its debug file. Where the object has no symbols and none lie here,
    /// `ask` is asked for the debug file of its build id.
    ///
    /// Of what is wrong but can be done without, `problem` is told.
    ///
    /// # Errors
    ///
    /// When the object's file cannot be read, in a sentence.
    pub fn open(
        object: &Rc<Object>,
        ours: &Rc<Root>,
        debug_dirs: &[PathBuf],
        ask: impl FnOnce(&[u8]) -> Answer,
        mut problem: impl FnMut(String),
    ) -> Result<Names, String> {
        // One that could not be kept open may still be where it was.
        let late_file = match object.file.get() {
            Some(_) => None,
            None => {
                let opened = open_by_path(object.pid, &object.mapping, object.root.as_deref(), ours);
                Some(opened.map_err(|error| error.to_string())?)
            }
        };
        let file = object.file.get().map(|(file, _)| file).or(late_file.as_ref()).ok_or("its file is not open")?;
        let layout = Layout::read(file).map_err(|error| error.to_string())?;
        // DWARF of its own is enough, but blazesym cannot be kept from following a link that is there too.
        let mut debug = if layout.has_dwarf && layout.debug_link.is_none() {
            None
        } else {
            let roots: Vec<_> = object.root.iter().chain([ours]).cloned().collect();
            debug_file::find(object.path(), &layout, &roots, debug_dirs, &mut problem)
        };
        let go = go_table(file);
        let has_names = layout.has_symbols || layout.has_dwarf || debug.is_some() || go.is_some();
        let mut is_waiting = false;
        if !has_names && !layout.build_id.is_empty() {
            match ask(&layout.build_id) {
                Answer::Pending => is_waiting = true,
                Answer::Found(found) => debug = Some(found),
                Answer::Missing => {}
            }
        }
        let mut lookups = Vec::new();
        let mut push = |file: &File, what, has_lines| {
            let mut elf = Elf::new(descriptor_path(file));
            elf.debug_syms = has_lines;
            lookups.push(Lookup {
                source: Source::Elf(elf),
                what,
                has_lines,
                failures: Cell::new(0),
                answers: Cell::new(false),
            });
        };
        // blazesym follows links to further files by path alone: it may do so for the administrator's files only. A
        // target could name a FIFO, and opening that never returns.
        if let Some(debug) = &debug {
            if !debug.is_trusted && (debug.layout.has_supplement || debug.layout.debug_link.is_some()) {
                problem("its debug file refers to another file, which is not followed: no lines".to_owned());
            } else if debug.layout.has_dwarf {
                push(&debug.file, "debug file", true);
            }
            push(&debug.file, "symbols of the debug file", false);
        }
        if layout.has_dwarf && debug.is_none() {
            if layout.has_supplement || layout.debug_link.is_some() {
                problem("its DWARF refers to another file, which is not followed: no lines".to_owned());
            } else {
                push(file, "DWARF", true);
            }
        }
        push(file, "symbols", false);
        let symbolizer = Symbolizer::builder()
            .enable_auto_reload(false)
            .enable_code_info(true)
            .enable_inlined_fns(true)
            .enable_demangling(false)
            .set_debug_dirs(Some(debug_dirs))
            .build();
        let files = (Rc::clone(object), late_file, debug);
        Ok(Names { layout, lookups, go, symbolizer: Some(symbolizer), is_waiting, files })
    }

    /// Whether the code at a file offset is what a signal handler returns to.
    pub fn is_trampoline(&self, file_offset: u64) -> bool {
        let (object, late_file, _) = &self.files;
        let file = object.file.get().map(|(file, _)| file).or(late_file.as_ref());
        let mut code = [0; SIGRETURN.len()];
        file.is_some_and(|file| file.read_exact_at(&mut code, file_offset).is_ok()) && code == SIGRETURN
    }

    /// The functions at a file offset, the innermost first; empty when there is no name for it.
    ///
    /// What failed on the way goes to `problem`.
    pub fn functions(&mut self, file_offset: u64, mut problem: impl FnMut(String)) -> Vec<Function> {
        let Some(address) = self.layout.address_of(file_offset) else {
            return Vec::new();
        };
        if let Some(go) = &self.go {
            let functions = go.functions_at(address);
            if !functions.is_empty() {
                return of_go(functions);
            }
        }
        let mut from_dwarf: Option<Vec<Function>> = None;
        for lookup in &self.lookups {
            let Some(symbolizer) = &self.symbolizer else { break };
            if lookup.failures.get() >= MAX_FAILURES && !lookup.answers.get() {
                continue;
            }
            let found = catch_unwind(AssertUnwindSafe(|| {
                let found = symbolizer.symbolize_single(&lookup.source, Input::VirtOffset(address));
                found.map(|found| if let Symbolized::Sym(symbol) = found { functions(&symbol) } else { None })
            }));
            let found = match found {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => {
                    lookup.failures.set(lookup.failures.get() + 1);
                    problem(format!("{}: {}", lookup.what, cut(&error.to_string(), 256)));
                    continue;
                }
                Err(_) => {
                    self.symbolizer = None;
                    problem(format!("{}: reading them ended in a panic; they are not read again", lookup.what));
                    break;
                }
            };
            let Some((functions, is_mangled)) = found else { continue };
            lookup.answers.set(true);
            // DWARF may have no name for the function that the lines are of, or, for a lambda, one without its scope
            // (`operator()`). The symbol has the whole name.
            let Some(mut named) = from_dwarf.take() else {
                if is_mangled || !lookup.has_lines {
                    return functions;
                }
                from_dwarf = Some(functions);
                continue;
            };
            if let (Some(outermost), Some(symbol)) = (named.last_mut(), functions.into_iter().next_back())
                && (is_mangled || outermost.name.is_none())
            {
                outermost.name = symbol.name;
            }
            return named;
        }
        from_dwarf.unwrap_or_default()
    }
}

/// The table of a file that Go linked.
fn go_table(file: &File) -> Option<GoTable> {
    let elf = ElfFile::parse(file.try_clone().ok()?).ok()?;
    GoTable::open(Rc::new(file.try_clone().ok()?), &elf)
}

fn of_go(functions: Vec<GoFunction>) -> Vec<Function> {
    let last = functions.len() - 1;
    let function = |(place, found): (usize, GoFunction)| Function {
        name: Some(found.name),
        file: found.file,
        line: found.line,
        inlined: place < last,
        language: Language::Go,
    };
    functions.into_iter().enumerate().map(function).collect()
}

/// The functions of a symbol, innermost first, and whether the outermost one's name is mangled; `None` when the symbol
/// only precedes the address.
fn functions(symbol: &Sym<'_>) -> Option<(Vec<Function>, bool)> {
    if symbol.size.is_none() && symbol.offset > MAX_UNSIZED_BYTES {
        return None;
    }
    let function = |name: &str, code: Option<&CodeInfo<'_>>, inlined| Function {
        name: (!name.is_empty()).then(|| demangle(name)),
        file: code.map(|code| cut(&code.to_path().to_string_lossy(), MAX_PATH_BYTES)),
        line: code.and_then(|code| code.line),
        inlined,
        language: Language::Native,
    };
    let inlined = symbol.inlined.iter().rev().take(MAX_INLINED);
    let mut functions: Vec<_> =
        inlined.map(|inlined| function(&inlined.name, inlined.code_info.as_ref(), true)).collect();
    functions.push(function(&symbol.name, symbol.code_info.as_deref(), false));
    Some((functions, is_mangled(&symbol.name)))
}
