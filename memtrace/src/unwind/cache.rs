//! Tables shared by all processes of a run: each object's is made once.
//!
//! Objects are the same when everything that a table is made from is the same: their segments and the bytes of their
//! call frame information, compared by a hash with a key that is new in each run. A build id alone does not decide, for
//! whoever writes a file also writes its build id, and could pass off wrong rules as the C library's. A file that was
//! read before (same device, inode, size and times) is not read again.

use std::{
    collections::HashMap,
    fs::File,
    hash::RandomState,
    io::{BufReader, Cursor, Read, Seek},
    os::unix::fs::MetadataExt as _,
    sync::{Arc, Weak},
};

use super::table::{Source, Table, TableError};
use crate::object::ObjectError;

/// The most rows of all tables together that are in use: 256 MiB.
pub const MAX_ROWS: usize = 32 << 20;

/// The most files that are remembered; when there are more all are forgotten, and at worst read again.
const MAX_FILES: usize = 1 << 16;

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The tables of a run. Those that nothing uses any more are freed.
#[derive(Debug, Default)]
pub struct Cache {
    by_file: HashMap<FileIdentity, Result<Weak<Table>, TableError>>,
    by_contents: HashMap<u64, Weak<Table>>,
    key: RandomState,
}

impl Cache {
    /// A cache that holds no tables yet.
    pub fn new() -> Cache {
        Cache::default()
    }

    /// A file's table, made now or before. That it has none is remembered too.
    ///
    /// # Errors
    ///
    /// As for [`Table::read`]; when the tables in use have more than [`MAX_ROWS`] rows together.
    pub fn of_file(&mut self, file: &File) -> Result<Arc<Table>, TableError> {
        let metadata = file.metadata().map_err(ObjectError::from)?;
        let identity = FileIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        match self.by_file.get(&identity) {
            Some(Ok(table)) => {
                if let Some(table) = table.upgrade() {
                    return Ok(table);
                }
            }
            Some(Err(error)) => return Err(error.clone()),
            None => {}
        }
        let made = self.make(&mut BufReader::new(file), Some(file));
        if self.by_file.len() >= MAX_FILES {
            self.by_file.clear();
        }
        // A table that had no room may have it later.
        if made != Err(TableError::CacheFull) {
            self.by_file.insert(identity, made.as_ref().map(Arc::downgrade).map_err(TableError::clone));
        }
        made
    }

    /// The table of an object in memory that has no file.
    ///
    /// # Errors
    ///
    /// As for [`Cache::of_file`].
    pub fn of_image(&mut self, image: &[u8]) -> Result<Arc<Table>, TableError> {
        self.make(&mut Cursor::new(image), None)
    }

    /// The rows of all tables in use.
    pub fn rows(&self) -> usize {
        self.by_contents.values().filter_map(Weak::upgrade).map(|table| table.rows.len()).sum()
    }

    fn make<R: Read + Seek>(&mut self, reader: &mut R, file: Option<&File>) -> Result<Arc<Table>, TableError> {
        let source = Source::read(reader, file)?;
        let fingerprint = source.fingerprint(&self.key);
        if let Some(table) = self.by_contents.get(&fingerprint).and_then(Weak::upgrade) {
            return Ok(table);
        }
        let table = Arc::new(source.table()?);
        self.by_contents.retain(|_, table| table.strong_count() > 0);
        if self.rows() + table.rows.len() > MAX_ROWS {
            return Err(TableError::CacheFull);
        }
        self.by_contents.insert(fingerprint, Arc::downgrade(&table));
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn own_file() -> File {
        File::open("/proc/self/exe").expect("our own program")
    }

    #[test]
    fn one_file_and_its_copies_share_a_table_until_nobody_uses_it() {
        let mut cache = Cache::new();
        let table = cache.of_file(&own_file()).expect("a table");
        assert!(Arc::ptr_eq(&table, &cache.of_file(&own_file()).expect("the same")));
        let image = std::fs::read("/proc/self/exe").expect("our own program");
        let mut copy = tempfile::tempfile().expect("a file");
        copy.write_all(&image).expect("written");
        assert!(Arc::ptr_eq(&table, &cache.of_file(&copy).expect("the same")));
        assert!(Arc::ptr_eq(&table, &cache.of_image(&image).expect("the same")));
        assert_eq!(cache.rows(), table.rows.len());
        drop(table);
        assert_eq!(cache.rows(), 0);
        assert!(cache.of_file(&own_file()).is_ok());
    }

    #[test]
    fn a_file_with_the_same_build_id_but_other_rules_has_its_own_table() {
        let mut cache = Cache::new();
        let mut image = std::fs::read("/proc/self/exe").expect("our own program");
        let table = cache.of_image(&image).expect("a table");
        // The last advance of the last function: other rules in an otherwise equal file.
        let rules = crate::object::frames::FrameFile::read(&mut Cursor::new(&image)).expect("an ELF file").eh_frame;
        let at = image.windows(rules.len()).position(|window| window == rules).expect("its rules");
        let advance = rules.iter().rposition(|byte| (0x41..0x7f).contains(byte)).expect("an advance");
        image[at + advance] ^= 1;
        let other = cache.of_image(&image).expect("a table");
        assert!(!Arc::ptr_eq(&table, &other));
        assert_eq!(table.build_id, other.build_id);
    }

    #[test]
    fn what_has_no_table_is_not_read_again() {
        let mut cache = Cache::new();
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"#!/bin/sh").expect("written");
        let error = TableError::Read(ObjectError::NotElf);
        assert_eq!(cache.of_file(&file).err(), Some(error.clone()));
        assert_eq!(cache.by_file.len(), 1);
        assert_eq!(cache.of_file(&file).err(), Some(error));
    }
}
