//! The files that a process has mapped, as the process sees them.
//!
//! Tables of virtual functions have addresses in them, so that the loader writes to their pages, which are the process's own from then on and are read in
//! its memory. All other pages are read in the file: one that the process has not touched could be of a file system that the
//! process itself serves, and to read it as memory could take for ever. Of files only those with code are read, which the attach reads too.

use std::{collections::HashMap, fs::File, os::unix::fs::FileExt as _};

use super::rtti;
use crate::{
    object::{
        Pid,
        mapped::{self, MappedObject},
        maps::Mapping,
    },
    runtime::Memory,
    target::pages::Pages,
};

/// The most files that are opened in one look.
const MAX_FILES: usize = 256;

/// The most bytes of a name; longer ones are none.
const MAX_TEXT: usize = 4096;

/// How much of a name is read at once, a part of a page.
const PIECE: u64 = 256;

/// The mapped files of a process, and its memory.
pub struct Image<'a> {
    memory: &'a Memory,
    mappings: &'a [Mapping],
    objects: HashMap<((u32, u32), u64), MappedObject>,
    /// Files that were opened, or could not be.
    files: HashMap<((u32, u32), u64), Option<File>>,
    pages: Pages,
}

impl<'a> Image<'a> {
    /// Of a process that maps these now, in the order of their addresses. Nothing has been read yet.
    pub fn new(pid: Pid, memory: &'a Memory, mappings: &'a [Mapping], pages: Pages) -> Self {
        let objects = mapped::objects(pid, mappings).into_iter();
        let objects = objects.map(|object| ((object.device, object.inode), object)).collect();
        Self { memory, mappings, objects, files: HashMap::new(), pages }
    }

    /// Whether a mapping is of a file with code.
    pub fn has_code(&self, mapping: &Mapping) -> bool {
        mapping.inode != 0 && self.objects.contains_key(&(mapping.device, mapping.inode))
    }

    fn mapping(&self, address: u64) -> Option<&'a Mapping> {
        let next = self.mappings.partition_point(|mapping| mapping.end <= address);
        self.mappings.get(next).filter(|mapping| mapping.start <= address && mapping.readable)
    }

    /// Fills `bytes` from an address on; `None` if not all of it is there. They lie in one page.
    fn fill(&mut self, address: u64, bytes: &mut [u8]) -> Option<()> {
        let mapping = self.mapping(address)?;
        if mapping.inode != 0 && !self.has_code(mapping) {
            return None;
        }
        if self.pages.is_own(address)? {
            return self.memory.fill_own_page(address, bytes);
        }
        if mapping.inode == 0 {
            return None;
        }
        let place = mapping.offset.checked_add(address - mapping.start)?;
        self.file(mapping)?.read_exact_at(bytes, place).ok()
    }

    fn file(&mut self, mapping: &Mapping) -> Option<&File> {
        let id = (mapping.device, mapping.inode);
        if !self.files.contains_key(&id) && self.files.len() >= MAX_FILES {
            return None;
        }
        let object = self.objects.get(&id)?;
        self.files.entry(id).or_insert_with(|| object.open().ok().map(|(_, file)| file)).as_ref()
    }
}

impl rtti::Image for Image<'_> {
    fn is_file(&self, address: u64) -> bool {
        self.mapping(address).is_some_and(|mapping| self.has_code(mapping))
    }

    fn word(&mut self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.fill(address, &mut bytes)?;
        Some(u64::from_ne_bytes(bytes))
    }

    fn text(&mut self, address: u64) -> Option<Vec<u8>> {
        let (mut text, mut at) = (Vec::new(), address);
        while text.len() < MAX_TEXT {
            let length = PIECE - at % PIECE;
            let mut piece = vec![0; usize::try_from(length).ok()?];
            self.fill(at, &mut piece)?;
            match piece.iter().position(|&byte| byte == 0) {
                Some(end) => {
                    text.extend_from_slice(&piece[..end]);
                    return Some(text);
                }
                None => text.append(&mut piece),
            }
            at = at.checked_add(length)?;
        }
        None
    }
}
