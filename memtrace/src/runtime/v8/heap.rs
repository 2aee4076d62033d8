//! Objects in V8's heap: their types, strings, and what the description of a function says.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    rc::Rc,
};

use super::{
    layout::{self, FIRST_NO_STRING, Layout},
    positions::{self, Form, Lines, MAX_TABLE_BYTES},
};
use crate::{
    object::maps::Mapping,
    runtime::{Code, Language, Memory, code::LineTable},
};

/// The most characters of a name or path; longer ones are cut.
const MAX_CHARACTERS: u64 = 1024;
/// The most parts of a string.
const MAX_PARTS: u32 = 32;
/// The most bytes of source text that are read for lines.
const MAX_SOURCE_BYTES: u64 = 16 << 20;
/// The most scripts whose lines are kept.
const MAX_SCRIPTS: usize = 1024;
/// The most variables of a scope.
const MAX_LOCALS: u64 = 1 << 16;
/// From how many variables on a scope has a table of their names in place of the names (`kScopeInfoMaxInlinedLocalNamesSize`).
const NAMES_IN_TABLE: u64 = 75;
/// Words that are looked at behind the variables of a scope: more than may come before its outer scope.
const AFTER_LOCALS: usize = 10;

/// What reports call functions of the language that are part of the engine.
pub const BUILT_IN: &str = "[javascript built-in]";

/// The memory of a process, seen as V8's heap.
#[derive(Debug)]
pub struct Heap {
    pub(super) memory: Memory,
    pub(super) layout: Layout,
    /// How tables of source positions are written.
    pub(super) form: Form,
}

/// Whether a word is a pointer to an object.
pub const fn is_object(word: u64) -> bool {
    word & 3 == 1
}

/// The small number that a word is; `None` if it is none.
pub const fn small(word: u64) -> Option<i32> {
    if word as u32 == 0 { Some((word >> 32) as i32) } else { None }
}

impl Heap {
    /// The word at an offset in the object to which a pointer leads.
    pub fn word(&self, object: u64, offset: u64) -> Option<u64> {
        if !is_object(object) {
            return None;
        }
        self.memory.word((object - 1).checked_add(offset)?)
    }

    /// The number of an object's type.
    pub fn type_of(&self, object: u64) -> Option<u16> {
        let map = self.word(object, 0).filter(|&map| is_object(map))?;
        let bytes = self.memory.bytes::<2>((map - 1).checked_add(self.layout.instance_type)?)?;
        Some(u16::from_ne_bytes(bytes))
    }

    /// The number of elements of an array, or bytes of an array of bytes.
    fn size(&self, array: u64) -> Option<u64> {
        u64::try_from(small(self.word(array, layout::SIZE)?)?).ok()
    }

    /// An element of an array; `None` if there is no such one.
    pub fn element(&self, array: u64, index: u64) -> Option<u64> {
        if index >= self.size(array)? {
            return None;
        }
        self.word(array, layout::ELEMENTS.checked_add(index.checked_mul(8)?)?)
    }

    /// The bytes of an array of bytes, of which there are at most so many.
    pub fn bytes(&self, array: u64, limit: u64) -> Option<Vec<u8>> {
        let size = self.size(array)?;
        self.memory.at_most((array - 1).checked_add(layout::ELEMENTS)?, size, limit)
    }

    /// The text of a string, cut where it is very long; `None` for what is no string.
    pub fn string(&self, object: u64) -> Option<String> {
        let mut text = String::new();
        let mut parts = MAX_PARTS;
        self.append(object, 0, MAX_CHARACTERS, &mut text, &mut parts)?;
        Some(text)
    }

    /// Appends at most `most` characters of a string, from the character `from` on.
    fn append(&self, object: u64, from: u64, most: u64, text: &mut String, parts: &mut u32) -> Option<()> {
        *parts = parts.checked_sub(1)?;
        let (kind, length) = self.kind_of_string(object)?;
        let most = most.min(length.saturating_sub(from));
        match kind & 7 {
            // In the heap, or outside of it.
            0 | 2 => {
                let width = width(kind);
                let begin = self.characters(object, kind)?.checked_add(from.checked_mul(width)?)?;
                let bytes = self.memory.at_most(begin, most * width, 2 * MAX_CHARACTERS)?;
                append_characters(&bytes, width, text);
                Some(())
            }
            // Two strings.
            1 => {
                let first = self.word(object, layout::STRING)?;
                let (_, length) = self.kind_of_string(first)?;
                let of_first = most.min(length.saturating_sub(from));
                if of_first > 0 {
                    self.append(first, from, of_first, text, parts)?;
                }
                if of_first < most {
                    let second = self.word(object, layout::SECOND)?;
                    self.append(second, from.saturating_sub(length), most - of_first, text, parts)?;
                }
                Some(())
            }
            // Part of a string.
            3 => {
                let begin = u64::try_from(small(self.word(object, layout::SECOND)?)?).ok()?;
                self.append(self.word(object, layout::STRING)?, from + begin, most, text, parts)
            }
            // A string that has been found to equal another.
            5 => self.append(self.word(object, layout::STRING)?, from, most, text, parts),
            _ => None,
        }
    }

    /// The type of a string and its number of characters; `None` for what is no string.
    fn kind_of_string(&self, object: u64) -> Option<(u16, u64)> {
        let kind = self.type_of(object).filter(|&kind| kind < FIRST_NO_STRING)?;
        let length = self.memory.half_word((object - 1).checked_add(self.layout.length)?)?;
        Some((kind, length.into()))
    }

    /// Where the characters of a string are that is in one piece.
    fn characters(&self, object: u64, kind: u16) -> Option<u64> {
        match kind & 7 {
            0 => (object - 1).checked_add(self.layout.length + 4),
            _ => self.word(object, layout::SECOND),
        }
    }

    /// The whole text of a string that is in one piece, and the bytes of a character.
    fn text(&self, object: u64) -> Option<(Vec<u8>, usize)> {
        let mut object = object;
        for _ in 0..MAX_PARTS {
            let (kind, length) = self.kind_of_string(object)?;
            match kind & 7 {
                0 | 2 => {
                    let width = width(kind);
                    let bytes =
                        self.memory.at_most(self.characters(object, kind)?, length * width, MAX_SOURCE_BYTES)?;
                    return Some((bytes, width as usize));
                }
                // One whose second part is empty, or that is another.
                1 | 5 => object = self.word(object, layout::STRING)?,
                _ => return None,
            }
        }
        None
    }

    /// The name of the function that this describes: its own or, without one, by what the compiler would call it. `None` if there is none that
    /// can be read.
    pub fn name(&self, shared: u64) -> Option<String> {
        let name = self.word(shared, self.layout.name)?;
        if small(name).is_some() {
            return Some(String::new());
        }
        match self.type_of(name)? {
            kind if kind < FIRST_NO_STRING => self.string(name),
            kind if kind == self.layout.scope_type => Some(self.name_in_scope(name)),
            // None yet: the data of a function that is not compiled.
            _ => Some(String::new()),
        }
    }

    /// The name that a scope has of its function: behind its variables comes the function's name with a number, and then the name that the
    /// compiler would give it (`ScopeInfo` in src/objects/scope-info.tq).
    fn name_in_scope(&self, scope: u64) -> String {
        // The first word is the type.
        let word = |index: u64| self.word(scope, 8 + 8 * index);
        let is_name = |word: u64| self.type_of(word).is_some_and(|kind| kind < FIRST_NO_STRING);
        let locals = word(self.layout.locals).and_then(small).and_then(|locals| u64::try_from(locals).ok());
        let Some(locals) = locals.filter(|&locals| locals <= MAX_LOCALS) else { return String::new() };
        let mut at = self.layout.first_variable;
        // The scope of a module begins with a number more.
        if locals > 0 && word(at).is_some_and(|word| small(word).is_some()) {
            at += 1;
        }
        at += if locals < NAMES_IN_TABLE { 2 * locals } else { 1 + locals };
        let words: Vec<u64> = (at..).take(AFTER_LOCALS).map_while(word).collect();
        for (index, &found) in words.iter().enumerate() {
            if small(found).is_some() {
                continue;
            }
            if !is_name(found) {
                break;
            }
            let name = self.string(found).unwrap_or_default();
            if !name.is_empty() {
                return name;
            }
            // An empty name, a number, and perhaps the other name.
            let other = words.get(index + 2).copied().filter(|&other| is_name(other));
            return other.and_then(|other| self.string(other)).unwrap_or_default();
        }
        String::new()
    }

    /// The script of the function that this describes; `None` for a function that is built in.
    pub fn script(&self, shared: u64) -> Option<u64> {
        let script = self.word(shared, self.layout.script)?;
        (self.type_of(script)? == self.layout.script_type).then_some(script)
    }

    /// The path or name of a script, without the part that says that it is a file.
    pub fn script_name(&self, script: u64) -> Option<String> {
        let name = self.string(self.word(script, self.layout.script_name)?)?;
        Some(name.strip_prefix("file://").map(str::to_owned).unwrap_or(name)).filter(|name| !name.is_empty())
    }

    /// The bytecode of the function that this describes; `None` if it has none now.
    pub fn bytecode(&self, shared: u64) -> Option<u64> {
        let data = self.word(shared, layout::DATA)?;
        let kind = self.type_of(data)?;
        if kind == self.layout.bytecode_type {
            return Some(data);
        }
        // Code that the baseline compiler made, or data for the interpreter, which have it.
        let inside = self.word(data, self.layout.code_deoptimization)?;
        (self.type_of(inside)? == self.layout.bytecode_type).then_some(inside)
    }

    /// The table of source positions of bytecode.
    pub fn positions(&self, bytecode: u64) -> Option<Vec<u8>> {
        self.bytes(self.word(bytecode, self.layout.bytecode_positions)?, MAX_TABLE_BYTES)
    }
}

/// Bytes of a character.
const fn width(kind: u16) -> u64 {
    if kind & 8 != 0 { 1 } else { 2 }
}

fn append_characters(bytes: &[u8], width: u64, text: &mut String) {
    if width == 1 {
        // Latin 1.
        text.extend(bytes.iter().map(|&byte| char::from(byte)));
    } else {
        let units = bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        text.extend(char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)));
    }
}

/// Where the lines of a script begin, with the source text that they were found in.
type ScriptLines = (u64, Rc<[u32]>);

/// Names the functions of one process.
#[derive(Debug)]
pub struct Reader {
    pub(super) heap: Heap,
    scripts: RefCell<HashMap<u64, ScriptLines>>,
}

impl Reader {
    /// Names the functions of this heap.
    pub fn new(heap: Heap) -> Reader {
        Reader { heap, scripts: RefCell::default() }
    }

    /// What the process maps from now on.
    pub fn confine(&mut self, mappings: &[Mapping]) {
        self.heap.memory.confine(mappings);
    }

    /// The function that the object at this pointer describes; `None` if it describes none.
    pub fn read(&self, shared: u64) -> Option<Code> {
        let heap = &self.heap;
        if heap.type_of(shared)? != heap.layout.shared_type {
            return None;
        }
        let script = heap.script(shared);
        let function = heap.bytecode(shared).and_then(|bytecode| {
            let table = heap.positions(bytecode)?;
            let (_, raw) = positions::entries(&table, heap.form).next()?;
            positions::Position::of(raw).map(|position| position.character)
        });
        let mut name = heap.name(shared)?;
        if name.is_empty() {
            name = if function == Some(0) { "(top level)" } else { "(anonymous)" }.to_owned();
        }
        Some(Code {
            language: Language::Javascript,
            module: if script.is_some() { Language::Javascript.module() } else { BUILT_IN },
            name,
            file: script.and_then(|script| heap.script_name(script)),
            instruction_bytes: u64::MAX,
            lines: script.and_then(|script| self.lines(script, function)).map(LineTable::Script),
        })
    }

    /// Stands for the function that the object at this pointer describes: another has another name or script.
    pub fn identity(&self, shared: u64) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        for offset in [0, self.heap.layout.name, self.heap.layout.script] {
            self.heap.word(shared, offset)?.hash(&mut hasher);
        }
        Some(hasher.finish())
    }

    fn lines(&self, script: u64, function: Option<u32>) -> Option<Lines> {
        let heap = &self.heap;
        let source = heap.word(script, heap.layout.source)?;
        let first = small(heap.word(script, layout::LINE_OFFSET)?).and_then(|line| u32::try_from(line).ok());
        let mut scripts = self.scripts.borrow_mut();
        let begins = match scripts.get(&script).filter(|(of, _)| *of == source) {
            Some((_, begins)) => Rc::clone(begins),
            None => {
                let (text, width) = heap.text(source)?;
                let begins: Rc<[u32]> = positions::begins(&text, width).into();
                if scripts.len() >= MAX_SCRIPTS {
                    scripts.clear();
                }
                scripts.insert(script, (source, Rc::clone(&begins)));
                begins
            }
        };
        Some(Lines { begins, first: first.unwrap_or(0), function })
    }
}
