//! Go code, which must never have a return probe: the runtime moves stacks, and a moved stack returns to an address that
//! the kernel does not know any more (golang/go issues 22008 and 27077). Its calling convention is its own besides.

use std::io::{Read, Seek};

use crate::object::symbols::ElfFile;

/// Sections by which the linker marks a Go program; small ones.
const MARKS: [&[u8]; 2] = [b".note.go.buildid", b".go.buildinfo"];

/// The most bytes of a mark that is read.
const MARK_BYTES: u64 = 64 << 10;

/// Where Go's code begins and ends, by the linker's symbols.
const TEXT: [&str; 2] = ["runtime.text", "runtime.etext"];

/// Whether a file was linked by Go, with or without C code in it.
pub(super) fn is_linked_by_go<R: Read + Seek>(elf: &ElfFile<R>) -> bool {
    // A mark that is too long to be read is there all the same.
    MARKS.iter().any(|mark| !matches!(elf.section(mark, MARK_BYTES), Ok(None)))
}

/// Whether the code at `address` of a file is Go's, as far as it can be told: code of a file that Go linked is, unless
/// the file says where Go's code is and this is elsewhere. `name` is the function's, if it has one.
pub(super) fn is_go<R: Read + Seek>(elf: &ElfFile<R>, address: u64, name: Option<&str>) -> bool {
    if !is_linked_by_go(elf) {
        return false;
    }
    let symbols = elf.symbols(&TEXT, |name| name).unwrap_or_default();
    match (symbols.get(TEXT[0]), symbols.get(TEXT[1])) {
        (Some(start), Some(end)) => (start.address..end.address).contains(&address),
        // Go's names have the package and a dot, C's have none.
        _ => name.is_none_or(|name| name.contains('.')),
    }
}
