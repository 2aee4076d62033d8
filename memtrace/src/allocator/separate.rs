//! Symbols of a stripped file that are kept apart: compressed inside it (`.gnu_debugdata`, as Fedora does), or in a
//! separate debug file found by build id or debug link.

use std::{
    collections::HashMap,
    io::{Cursor, Read as _},
    path::Path,
    rc::Rc,
};

use super::catalogue::rust;
use crate::object::{
    bounds::{MAX_DEBUGDATA_BYTES, MAX_TABLE_BYTES},
    debug_file,
    layout::Layout,
    mapped::MappedObject,
    root::Root,
    symbols::{ElfFile, Symbol},
};

/// Where debug files are looked for, below the target's root and ours.
pub const DEBUG_DIRECTORY: &str = "/usr/lib/debug";

/// Which of the wanted names the file's separate symbols define; what cannot be read defines nothing, and is said to
/// `problem`.
pub fn symbols<'n, R: std::io::Read + std::io::Seek>(
    object: &MappedObject,
    elf: &ElfFile<R>,
    wanted: &[&'n str],
    mut problem: impl FnMut(String),
) -> HashMap<&'n str, Symbol> {
    let mut found = HashMap::new();
    match packed(elf, wanted) {
        Ok(symbols) => found.extend(symbols),
        Err(reason) => problem(format!("its .gnu_debugdata: {reason}")),
    }
    match debug_file_symbols(object, wanted, &mut problem) {
        Ok(symbols) => symbols.into_iter().for_each(|(name, symbol)| {
            found.entry(name).or_insert(symbol);
        }),
        Err(reason) => problem(format!("its debug file: {reason}")),
    }
    found
}

fn packed<'n, R: std::io::Read + std::io::Seek>(
    elf: &ElfFile<R>,
    wanted: &[&'n str],
) -> Result<HashMap<&'n str, Symbol>, String> {
    let section = elf.section(b".gnu_debugdata", MAX_DEBUGDATA_BYTES).map_err(|error| error.to_string())?;
    let Some(section) = section else { return Ok(HashMap::new()) };
    let mut bytes = Vec::new();
    let unpacked = xz2::read::XzDecoder::new(section).take(MAX_TABLE_BYTES).read_to_end(&mut bytes);
    unpacked.map_err(|error| error.to_string())?;
    let inner = ElfFile::parse(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    inner.symbols(wanted, rust::plain).map_err(|error| error.to_string())
}

fn debug_file_symbols<'n>(
    object: &MappedObject,
    wanted: &[&'n str],
    problem: impl FnMut(String),
) -> Result<HashMap<&'n str, Symbol>, String> {
    let (_, file) = object.open().map_err(|error| error.reason())?;
    let layout = Layout::read(&file).map_err(|error| error.to_string())?;
    let ours = Root::ours().map_err(|error| error.to_string())?;
    let theirs = Root::of_process(object.pid.0).ok().filter(|root| !root.is_same(&ours));
    let roots: Vec<Rc<Root>> = theirs.into_iter().chain([ours]).map(Rc::new).collect();
    let directories = [Path::new(DEBUG_DIRECTORY).to_path_buf()];
    let Some(found) = debug_file::find(&object.path, &layout, &roots, &directories, problem) else {
        return Ok(HashMap::new());
    };
    let debug = ElfFile::parse(found.file).map_err(|error| error.to_string())?;
    debug.symbols(wanted, rust::plain).map_err(|error| error.to_string())
}
