//! How much of what a target can shape is read. A larger program is refused by name, never read in part unnoticed.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// The most bytes of one section that unwinding reads, compressed or not; the largest browsers have half of it.
pub const MAX_FRAME_BYTES: u64 = 64 << 20;

/// The most bytes of one table that is read to look up functions, or of an unpacked file of symbols; they are held in memory.
pub const MAX_TABLE_BYTES: u64 = 256 << 20;

/// The most bytes that are read of one file to look up functions.
pub const MAX_FILE_BYTES: u64 = 640 << 20;

/// The most code that is read of one function.
pub const MAX_CODE_BYTES: u64 = 64 << 10;

/// The largest symbol section of a file that is symbolised, which maps it and does not read it: the largest programs have about
/// a million symbols (24 bytes each) and 100 MB of names, browsers with all symbols three times as much.
pub const MAX_SYMBOL_BYTES: u64 = 1 << 30;

/// The largest compressed symbol table (`.gnu_debugdata`): a few MB in the largest programs; the stream says no size before.
pub const MAX_DEBUGDATA_BYTES: u64 = 16 << 20;

/// The largest debug section when unpacked: a few GB in the largest programs.
pub const MAX_UNPACKED_BYTES: u64 = 8 << 30;

/// The most sections: object files made with one section a function have tens of thousands; executables have tens.
pub const MAX_SECTIONS: u64 = 1 << 18;

/// The most segments that unwinding takes: programs have a dozen, and each function is looked up in them.
pub const MAX_SEGMENTS: u64 = 256;

/// The most bytes of the names of all sections.
pub const MAX_SECTION_NAME_BYTES: u64 = 1 << 20;

/// Notes and links to debug files are tens of bytes; more than this is not one.
pub const MAX_NOTE_BYTES: u64 = 64 << 10;

/// Linkers write 20 bytes, or 16 to 32 on request.
pub const MAX_BUILD_ID_BYTES: usize = 64;

/// How much of a symbol's name is looked at.
pub const MAX_NAME_BYTES: usize = 4 << 10;

/// The largest file of `/proc` or of a cgroup that is taken in one piece; they have a few kilobytes.
const MAX_SMALL_FILE_BYTES: u64 = 64 << 10;

/// A small file of the kernel's; at most 64 KiB of it.
///
/// # Errors
///
/// When it cannot be opened or read.
pub fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(path, MAX_SMALL_FILE_BYTES)
}

/// The beginning of a file, at most this many bytes of it.
///
/// # Errors
///
/// When it cannot be opened or read.
pub fn read_at_most(path: &Path, most_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most_bytes).read_to_end(&mut bytes)?;
    Ok(bytes)
}
