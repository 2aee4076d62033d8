//! One mapped file with what it defines of the catalogue and of the functions that the user named.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    path::{Path, PathBuf},
};

use super::{
    catalogue::{self, Role, c, rust},
    plan::Unusable,
    separate,
};
use crate::{
    allocator::wrapper::{ObjectName, Place, Wrapper},
    object::{
        ObjectError,
        mapped::MappedObject,
        symbols::{ElfFile, Symbol},
    },
    runtime::python,
};

/// A file that has to do with allocation, opened.
pub(super) struct Source<'a> {
    pub(super) object: &'a MappedObject,
    /// The file, as we open it.
    pub(super) open_path: PathBuf,
    pub(super) elf: ElfFile<File>,
    pub(super) symbols: HashMap<&'a str, Symbol>,
    pub(super) role: Role,
    /// The user's functions in this file.
    pub(super) wrappers: Vec<&'a Wrapper>,
}

impl<'a> Source<'a> {
    /// Looks at one file; `None` when nothing in it is to be probed. The error says why the file is unusable.
    pub(super) fn open(
        object: &'a MappedObject,
        is_executable: bool,
        wrappers: &'a [Wrapper],
        unusable: &mut Vec<Unusable>,
    ) -> Result<Option<Self>, String> {
        let (open_path, file) = object.open().map_err(|error| error.reason())?;
        let elf = match ElfFile::parse(file) {
            Err(ObjectError::NotElf) => return Ok(None),
            other => other.map_err(|error| error.to_string())?,
        };
        let wrappers: Vec<&Wrapper> =
            wrappers.iter().filter(|wrapper| names(&wrapper.object, &object.path, is_executable)).collect();
        let named: HashSet<&'a str> = wrappers.iter().filter_map(|wrapper| symbol_of(wrapper)).collect();
        let wanted: Vec<&'a str> =
            catalogue::wanted_symbols().map(|name| -> &'a str { name }).chain(named.iter().copied()).collect();
        let mut symbols = elf.symbols(&wanted, rust::plain).map_err(|error| error.to_string())?;
        let is_complete = |symbols: &HashMap<&'a str, Symbol>| {
            (Role::of(|name| symbols.contains_key(name)).allocates() || symbols.contains_key(c::LOADER_MARK))
                && named.iter().all(|name| symbols.contains_key(name))
        };
        // What a stripped file still shows is what others link to; an allocator for itself is not among it.
        if !is_complete(&symbols) && !elf.has_full_table().unwrap_or(true) {
            let problem = |reason| {
                unusable.push(Unusable { function: None, object_path: object.path.clone(), reason });
            };
            for (name, symbol) in separate::symbols(object, &elf, &wanted, problem) {
                symbols.entry(name).or_insert(symbol);
            }
        }
        let role = Role::of(|name| symbols.contains_key(name));
        let others = rust::FUNCTIONS.iter().map(|function| function.name).chain(catalogue::cpp::RAISES.iter().copied());
        let matters = role.allocates()
            || !wrappers.is_empty()
            || symbols.contains_key(python::RUNTIME)
            || others.into_iter().any(|name| symbols.contains_key(name));
        Ok(matters.then_some(Self { object, open_path, elf, symbols, role, wrappers }))
    }

    /// How far behind its address as linked the code at `address` is in the process; `None` if it is there twice, or not.
    pub(super) fn moved(&self, address: u64) -> Option<u64> {
        let offset = self.elf.file_offset(address).ok()?;
        let mut places = self.object.mappings.iter().filter_map(|mapping| {
            let into = offset.checked_sub(mapping.offset)?;
            let place = mapping.start.checked_add(into)?;
            (place < mapping.end).then_some(place)
        });
        let (place, another) = (places.next()?, places.next());
        another.is_none().then(|| place.wrapping_sub(address))
    }
}

/// The symbol that a wrapper names.
pub(super) fn symbol_of(wrapper: &Wrapper) -> Option<&str> {
    match &wrapper.place {
        Place::Symbol(name) => Some(name),
        Place::Address(_) | Place::Offset(_) => None,
    }
}

/// Whether the user's name of a file is that of this one.
pub(super) fn names(name: &ObjectName, path: &Path, is_executable: bool) -> bool {
    match name {
        ObjectName::Executable => is_executable,
        ObjectName::Named(name) if name.contains('/') => path == Path::new(name),
        ObjectName::Named(name) => path.file_name().is_some_and(|file| file == name.as_str()),
    }
}
