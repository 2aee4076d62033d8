//! The table that every Go program carries to name its own code, stripped or not: functions, files, lines, and what is inlined.
//!
//! It is the section `.gopclntab`, as Go 1.18 and later write it (cmd/internal/objabi and runtime/symtab.go of Go). The file is the target's
//! to shape: it is read piece by piece, and every piece and every loop has a bound.

mod functions;

use std::{
    cell::RefCell,
    collections::HashMap,
    fs::File,
    io::{Read, Seek},
    os::unix::fs::FileExt as _,
    rc::Rc,
};

use super::symbols::{ElfFile, Section};

/// What the section is called, in a file that is loaded where it was linked, and in one that may be loaded anywhere.
const SECTIONS: [&[u8]; 2] = [b".gopclntab", b".data.rel.ro.gopclntab"];

/// The section into which a C linker may have put it, how much of one is looked through, and at which alignment.
const MERGED_SECTION: &[u8] = b".data.rel.ro";
const MAX_MERGED_SECTION: u64 = 64 << 20;
const ALIGNMENT: u64 = 32;

/// What else every file of Go has.
const BUILD_INFO: &[u8] = b".go.buildinfo";

/// The sections of which every file of Go has one.
pub const MARKS: [&[u8]; 3] = [SECTIONS[0], SECTIONS[1], BUILD_INFO];

/// Sections that may have the module's own data (`runtime.moduledata`), which begins with the table's address, and how much of one is
/// looked through.
const MODULE_SECTIONS: [&[u8]; 3] = [b".go.module", b".noptrdata", b".data"];
const MAX_MODULE_SECTION: u64 = 16 << 20;

/// In a module's data: where its code begins, and where the trees of inlined functions do (`gofunc`): up to Go 1.19, from 1.20 on, and
/// from 1.27 on, where the value before has become a small number.
const MODULE_TEXT: u64 = 176;
const MODULE_TREES: [u64; 3] = [304, 320, 344];

/// What the table begins with: of Go 1.18 and 1.19, and of those from 1.20 on.
const MAGIC_18: u32 = 0xffff_fff0;
const MAGIC_20: u32 = 0xffff_fff1;

/// Bytes that are read of the file at once.
const PIECE: u64 = 16 << 10;

/// The most pieces that are kept.
const MAX_PIECES: usize = 256;

/// The most bytes of a name.
const MAX_NAME: usize = 4096;

/// The most steps of one run of values by code address, and the most functions that are inlined into each other.
const MAX_STEPS: usize = 1 << 16;
const MAX_INLINED: usize = 64;

/// Numbers of the tables of a function (`internal/abi/symtab.go`).
const INLINE_INDEX: u32 = 2;
const INLINE_TREE: u32 = 3;

/// A function at a place of the code, where it was written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GoFunction {
    /// Its name with its package, as Go writes it.
    pub name: String,
    /// The source file of the instruction.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
}

/// Whether a file is of Go, and so has such a table.
pub fn is_in(elf: &ElfFile<impl Read + Seek>) -> bool {
    MARKS.iter().any(|name| matches!(elf.section_place(name), Ok(Some(_))))
}

/// Where the table is: a section, or the rest of one that begins with it.
fn place(elf: &ElfFile<impl Read + Seek>, pieces: &Pieces) -> Option<Section> {
    let section = |name: &[u8]| elf.section_place(name).ok().flatten();
    if let Some(section) = SECTIONS.iter().find_map(|name| section(name)) {
        return Some(section);
    }
    section(BUILD_INFO)?;
    let Section { file_offset, bytes, address } = section(MERGED_SECTION)?;
    let places = (0..bytes.min(MAX_MERGED_SECTION)).filter(|at| (address.wrapping_add(*at)).is_multiple_of(ALIGNMENT));
    let begins_here = |at: &u64| {
        let first = file_offset.checked_add(*at).and_then(|at| pieces.number(at, 8));
        first.is_some_and(|first| [MAGIC_18, MAGIC_20].map(header).contains(&first))
    };
    let inside = places.into_iter().find(begins_here)?;
    Some(Section { file_offset: file_offset + inside, bytes: bytes - inside, address: address.wrapping_add(inside) })
}

/// The first eight bytes of a table for x86-64: two of them are 0, an instruction has at least 1 byte, and a pointer has 8.
const fn header(magic: u32) -> u64 {
    magic as u64 | 1 << 48 | 8 << 56
}

/// The table by which one file names Go's code.
#[derive(Debug)]
pub struct GoTable {
    pieces: Pieces,
    /// Where it is in the file, and how long it is.
    offset: u64,
    bytes: u64,
    is_18: bool,
    /// The least number of bytes of an instruction.
    quantum: u64,
    functions: u64,
    /// Where code begins, as linked.
    text: u64,
    /// Where its parts begin, in bytes from its own begin.
    names: u64,
    units: u64,
    files: u64,
    values: u64,
    entries: u64,
    /// Where the trees of inlined functions are in the file; `None` if that is not known.
    trees: Option<u64>,
}

/// A function of the table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where its code begins, as linked, and what is behind it.
    begin: u64,
    /// Where its record is in the table.
    record: u64,
}

impl GoTable {
    /// The table of a file; `None` if it has none, or one of a form that is not known.
    pub fn open(file: Rc<File>, elf: &ElfFile<impl Read + Seek>) -> Option<GoTable> {
        let pieces = Pieces::of(file);
        let Section { file_offset: offset, bytes, address } = place(elf, &pieces)?;
        offset.checked_add(bytes)?;
        let word = |at: u64| pieces.number(offset + at, 8);
        let magic = pieces.number(offset, 4)?;
        let (quantum, pointer) = (pieces.number(offset + 6, 1)?, pieces.number(offset + 7, 1)?);
        if ![MAGIC_18, MAGIC_20].map(u64::from).contains(&magic) || pointer != 8 || quantum != 1 {
            return None;
        }
        let mut table = GoTable {
            offset,
            bytes,
            is_18: magic == u64::from(MAGIC_18),
            quantum,
            functions: word(8)?,
            text: word(24)?,
            names: word(32)?,
            units: word(40)?,
            files: word(48)?,
            values: word(56)?,
            entries: word(64)?,
            trees: None,
            pieces,
        };
        let module = Module::find(elf, &table.pieces, address);
        // From Go 1.26 on the header does not say where the code begins; nor does a file that may be loaded anywhere.
        let text = Some(table.text).filter(|&text| text != 0).or_else(|| module.as_ref()?.word(MODULE_TEXT))?;
        let trees = if table.is_18 { &MODULE_TREES[..1] } else { &MODULE_TREES[1..] };
        let trees = trees.iter().filter_map(|&at| module.as_ref()?.word(at)).find(|&trees| trees >= text);
        table.trees = trees.and_then(|trees| elf.data_offset(trees));
        table.text = text;
        Some(table)
    }

    /// The function that has the code at an address, as linked: where it begins, and its name.
    pub fn function_at(&self, address: u64) -> Option<(u64, String)> {
        let entry = self.entry_of(address)?;
        Some((entry.begin, self.name(self.number(entry.record + 4, 4)?)?))
    }

    /// The functions at an address, as linked, the innermost first: those that are inlined, and the one they are inlined into.
    pub fn functions_at(&self, address: u64) -> Vec<GoFunction> {
        let Some(entry) = self.entry_of(address) else { return Vec::new() };
        let mut found = Vec::new();
        let mut at = address;
        for _ in 0..MAX_INLINED {
            let Some((name, parent)) = self.inlined(entry, at) else { break };
            let (file, line) = self.line(entry, at);
            found.push(GoFunction { name, file, line });
            at = entry.begin.saturating_add(parent);
        }
        let name = self.number(entry.record + 4, 4).and_then(|name| self.name(name));
        if let Some(name) = name {
            let (file, line) = self.line(entry, at);
            found.push(GoFunction { name, file, line });
        }
        found
    }

    /// The function of this name: where its code begins and ends, as linked. It goes through all functions.
    pub fn find(&self, wanted: &str) -> Option<(u64, u64)> {
        (0..self.functions_in_table()).find_map(|index| {
            let entry = self.entry(index)?;
            let name = self.number(entry.record + 4, 4)?;
            self.is_name(name, wanted).then(|| Some((entry.begin, self.begin_of(index + 1)?)))?
        })
    }

    fn number(&self, at: u64, bytes: usize) -> Option<u64> {
        (at.checked_add(bytes as u64)? <= self.bytes).then(|| self.pieces.number(self.offset + at, bytes))?
    }

    /// How many functions there are, at most as many as there is room for.
    fn functions_in_table(&self) -> u64 {
        self.functions.min(self.bytes / 8)
    }

    fn begin_of(&self, index: u64) -> Option<u64> {
        Some(self.text.wrapping_add(self.number(self.entries.checked_add(8 * index)?, 4)?))
    }

    fn entry(&self, index: u64) -> Option<Entry> {
        let record = self.number(self.entries.checked_add(8 * index + 4)?, 4)?;
        Some(Entry { begin: self.begin_of(index)?, record: self.entries.checked_add(record)? })
    }

    fn entry_of(&self, address: u64) -> Option<Entry> {
        // Where a table lies about its order, nothing or something else is found, in as many steps.
        let (mut low, mut high) = (0, self.functions_in_table());
        if address < self.begin_of(low)? || address >= self.begin_of(high)? {
            return None;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.begin_of(middle)? <= address { low = middle } else { high = middle }
        }
        self.entry(low)
    }

    fn name(&self, at: u64) -> Option<String> {
        self.text_at(self.names.checked_add(at)?)
    }

    fn is_name(&self, at: u64, wanted: &str) -> bool {
        let Some(at) = self.names.checked_add(at).filter(|&at| at < self.bytes) else { return false };
        let mut bytes = [0; 64];
        let Some(bytes) = bytes.get_mut(..=wanted.len()) else { return false };
        self.pieces.fill(self.offset + at, bytes).is_some() && bytes.strip_suffix(&[0]) == Some(wanted.as_bytes())
    }

    /// The text that ends with a zero byte.
    fn text_at(&self, at: u64) -> Option<String> {
        let mut text = Vec::new();
        while text.len() < MAX_NAME {
            match self.number(at + text.len() as u64, 1)? {
                0 => return Some(String::from_utf8_lossy(&text).into_owned()),
                byte => text.push(byte as u8),
            }
        }
        None
    }

    /// The value that holds at an address, of a run that begins at this place of the values.
    fn value(&self, run: u64, begin: u64, wanted: u64) -> Option<i64> {
        // 0 stands for no run.
        let mut at = self.values.checked_add(Some(run).filter(|&run| run != 0)?)?;
        let (mut address, mut value) = (begin, -1i64);
        for step in 0..MAX_STEPS {
            let change = self.varint(&mut at)?;
            if change == 0 && step > 0 {
                return None;
            }
            let change = u32::try_from(change).ok()?;
            value += i64::from((change >> 1) as i32 ^ -((change & 1) as i32));
            address = address.checked_add(self.varint(&mut at)?.checked_mul(self.quantum)?)?;
            if wanted < address {
                return Some(value);
            }
        }
        None
    }

    fn varint(&self, at: &mut u64) -> Option<u64> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.number(*at, 1)?;
            *at += 1;
            value |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn line(&self, entry: Entry, address: u64) -> (Option<String>, Option<u32>) {
        let value = |at: u64| self.value(self.number(entry.record + at, 4)?, entry.begin, address);
        let file = || {
            let index = u64::try_from(value(20)?).ok()?;
            let unit = self.number(entry.record + 32, 4)?;
            let at = self.number(self.units.checked_add(4 * unit.checked_add(index)?)?, 4)?;
            // What has no file has the largest number.
            (at != u64::from(u32::MAX)).then(|| self.text_at(self.files.checked_add(at)?))?
        };
        (file(), value(24).and_then(|line| u32::try_from(line).ok()))
    }

    /// The innermost function that is inlined at an address, and the place in the code of its caller, in bytes from the begin of the
    /// function that has them all.
    fn inlined(&self, entry: Entry, address: u64) -> Option<(String, u64)> {
        // Go 1.20 put the line where a function begins in front of its numbers of tables.
        let counts = if self.is_18 { 36 } else { 40 };
        let runs = self.number(entry.record + 28, 4)?;
        let trees = self.number(entry.record + counts + 3, 1)?;
        let tables = entry.record + counts + 4;
        if runs <= u64::from(INLINE_INDEX) || trees <= u64::from(INLINE_TREE) {
            return None;
        }
        let index = self.value(self.number(tables + 4 * u64::from(INLINE_INDEX), 4)?, entry.begin, address)?;
        let tree = self.number(tables + 4 * runs.checked_add(u64::from(INLINE_TREE))?, 4)?;
        if tree == u64::from(u32::MAX) {
            return None;
        }
        let node_bytes = if self.is_18 { 20 } else { 16 };
        let node = self.trees?.checked_add(tree)?.checked_add(u64::try_from(index).ok()?.checked_mul(node_bytes)?)?;
        let (name, parent) = if self.is_18 { (12, 16) } else { (4, 8) };
        let number = |at: u64| self.pieces.number(node.checked_add(at)?, 4);
        Some((self.name(number(name)?)?, number(parent)?))
    }
}

/// The module's own data in a file.
struct Module<'a, R: Read + Seek> {
    elf: &'a ElfFile<R>,
    pieces: &'a Pieces,
    /// Where it is, as linked.
    address: u64,
    /// Whether its words are written when the file is loaded.
    is_moved: bool,
}

impl<'a, R: Read + Seek> Module<'a, R> {
    /// The one that begins with the table's address.
    fn find(elf: &'a ElfFile<R>, pieces: &'a Pieces, table: u64) -> Option<Self> {
        let section = |name: &&[u8]| elf.section_place(name).ok().flatten();
        let linked = MODULE_SECTIONS.iter().filter_map(section).find_map(|section| {
            let mut places = (0..section.bytes.min(MAX_MODULE_SECTION) / 8).map(|index| 8 * index);
            let inside = places.find(|at| pieces.number(section.file_offset + at, 8) == Some(table))?;
            Some(section.address.wrapping_add(inside))
        });
        let moved = || elf.moved_words(|_, word| word == table).ok()?.first().map(|&(at, _)| at);
        let (address, is_moved) = linked.map(|at| (at, false)).or_else(|| Some((moved()?, true)))?;
        Some(Self { elf, pieces, address, is_moved })
    }

    fn word(&self, at: u64) -> Option<u64> {
        let at = self.address.checked_add(at)?;
        if self.is_moved {
            return self.elf.moved_words(|place, _| place == at).ok()?.first().map(|&(_, word)| word);
        }
        self.pieces.number(self.elf.data_offset(at)?, 8)
    }
}

/// A file that is read piece by piece, of which some are kept.
#[derive(Debug)]
struct Pieces {
    file: Rc<File>,
    kept: RefCell<HashMap<u64, Box<[u8]>>>,
}

impl Pieces {
    fn of(file: Rc<File>) -> Pieces {
        Pieces { file, kept: RefCell::default() }
    }

    /// The number of at most 8 bytes, the lowest first, at an offset in the file.
    fn number(&self, at: u64, bytes: usize) -> Option<u64> {
        let mut number = [0; 8];
        self.fill(at, &mut number[..bytes])?;
        Some(u64::from_le_bytes(number))
    }

    fn fill(&self, mut at: u64, mut bytes: &mut [u8]) -> Option<()> {
        while !bytes.is_empty() {
            let (piece, inside) = (at / PIECE, (at % PIECE) as usize);
            let mut kept = self.kept.borrow_mut();
            if !kept.contains_key(&piece) {
                if kept.len() >= MAX_PIECES {
                    kept.clear();
                }
                kept.insert(piece, self.read(piece)?);
            }
            let found = kept.get(&piece)?.get(inside..)?;
            let length = found.len().min(bytes.len());
            if length == 0 {
                return None;
            }
            let (now, later) = bytes.split_at_mut(length);
            now.copy_from_slice(&found[..length]);
            (at, bytes) = (at + length as u64, later);
        }
        Some(())
    }

    fn read(&self, piece: u64) -> Option<Box<[u8]>> {
        let mut bytes = vec![0; PIECE as usize];
        let mut length = 0;
        while length < bytes.len() {
            match self.file.read_at(&mut bytes[length..], piece * PIECE + length as u64) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        bytes.truncate(length);
        Some(bytes.into())
    }
}

#[cfg(test)]
mod tests;
