//! C++: which class the object in a block is of, by the run-time type information (RTTI) that compilers write for classes with
//! virtual functions.
//!
//! In: live blocks, and the memory and the files of the process. Out: a [`Count`] for each class. An object of such a class begins
//! with a pointer into the table of its virtual functions, and in front of these stands what leads to the name of the class
//! ([`rtti`]): in stripped programs too, and whatever the library of the language is linked to. What a table leads to is found out once, and again
//! when the process maps other code. The process runs on meanwhile: all that is read is its to shape.

mod image;
mod name;
pub mod rtti;

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    sync::Arc,
};

use self::image::Image;
use super::{
    Language, Memory,
    blocks::{Block, each_start},
    by_type::{ByType, Sum},
    count::Count,
    memory::word_at,
};
use crate::{
    object::{
        Pid,
        maps::{self, Mapping},
    },
    target::pages::Pages,
};

/// The most classes that are told apart in one process.
const MAX_CLASSES: usize = 1 << 14;

/// The most addresses in mapped files of which it is kept in mind whether they are tables of a class.
const MAX_KNOWN: usize = 1 << 17;

/// The most pages of which it is asked in one look whether they are in memory: 32 GiB.
const MAX_PAGES: u64 = 1 << 23;

/// What is read of each block.
const WORD: u64 = 8;

/// Answers that are kept at hand: as a power of two.
const AT_HAND: u32 = 12;

/// Counts the objects of C++ classes in the blocks of one process.
#[derive(Debug)]
pub struct Classes {
    pid: Pid,
    memory: Memory,
    /// What each address in a mapped file is the table of: the place of its class in `names`.
    tables: HashMap<u64, Option<usize>>,
    names: Vec<Arc<str>>,
    /// Stands for the files that were mapped when these were found out.
    files: u64,
    types: ByType,
}

impl Classes {
    /// Of a process, as long as it runs this program.
    ///
    /// # Errors
    ///
    /// When the memory of the process may not be read.
    pub fn open(pid: Pid) -> io::Result<Self> {
        Ok(Self {
            pid,
            memory: Memory::open(pid, ((0, 0), 0))?,
            tables: HashMap::new(),
            names: Vec::new(),
            files: 0,
            types: ByType::new(Language::Native, MAX_CLASSES),
        })
    }

    /// The objects of each class in these blocks, which are in the order of their addresses. None where the process has ended.
    pub fn count(&mut self, blocks: &[Block]) -> Vec<Count> {
        let found = if blocks.is_empty() { Some(Vec::new()) } else { self.look(blocks) };
        found.map(|found| self.types.take(found).collect()).unwrap_or_default()
    }

    fn look(&mut self, blocks: &[Block]) -> Option<Vec<(Arc<str>, Sum)>> {
        let mappings = maps::read(self.pid).ok().filter(|mappings| !mappings.is_empty())?;
        self.memory.confine(&mappings);
        let (mut pages, pages_of_files) = (Pages::open(self.pid, MAX_PAGES)?, Pages::open(self.pid, MAX_PAGES)?);
        let image = Image::new(self.pid, &self.memory, &mappings, pages_of_files);
        let files = fingerprint(&mappings, &image);
        if std::mem::replace(&mut self.files, files) != files {
            self.tables.clear();
            self.names.clear();
        }
        let mut look = Look {
            image,
            tables: &mut self.tables,
            names: &mut self.names,
            kinds: HashMap::new(),
            sums: Vec::new(),
            at_hand: vec![(0, None); 1 << AT_HAND].into(),
        };
        each_start(&self.memory, &mut pages, blocks, WORD, |block, start| {
            if let Some(class) = word_at(start, 0).and_then(|word| look.class(word)) {
                look.sums[class].add(block.sum());
            }
        });
        let sums = look.sums;
        Some(self.names.iter().cloned().zip(sums).filter(|(_, sum)| sum.seen > 0).collect())
    }
}

/// Stands for where files with code are mapped.
fn fingerprint(mappings: &[Mapping], image: &Image<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for mapping in mappings.iter().filter(|mapping| image.has_code(mapping)) {
        (mapping.start, mapping.end, mapping.offset, mapping.device, mapping.inode).hash(&mut hasher);
    }
    hasher.finish()
}

/// One look at the blocks of a process.
struct Look<'a> {
    image: Image<'a>,
    tables: &'a mut HashMap<u64, Option<usize>>,
    names: &'a mut Vec<Arc<str>>,
    /// What was found out about what describes classes.
    kinds: HashMap<u64, bool>,
    /// Of each class of `names` that was asked for.
    sums: Vec<Sum>,
    /// Of what was asked lately.
    at_hand: Box<[(u64, Option<usize>)]>,
}

impl Look<'_> {
    /// The class whose objects begin with this word, as its place in `sums`.
    fn class(&mut self, word: u64) -> Option<usize> {
        if word == 0 || !word.is_multiple_of(8) || word >> 47 != 0 {
            return None;
        }
        let place = (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - AT_HAND)) as usize;
        if self.at_hand[place].0 != word {
            self.at_hand[place] = (word, self.find(word));
        }
        self.at_hand[place].1
    }

    fn find(&mut self, word: u64) -> Option<usize> {
        if !rtti::Image::is_file(&self.image, word) {
            return None;
        }
        let class = match self.tables.get(&word) {
            Some(known) => *known,
            None if self.tables.len() >= MAX_KNOWN || self.names.len() >= MAX_CLASSES => None,
            None => {
                let class = rtti::class_name(&mut self.image, &mut self.kinds, word).map(|mangled| {
                    self.names.push(name::of_class(&mangled).into());
                    self.names.len() - 1
                });
                self.tables.insert(word, class);
                class
            }
        }?;
        self.sums.resize(self.names.len(), Sum::default());
        Some(class)
    }
}
