//! Which table covers which addresses of a process.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path, sync::Arc};

use memtrace_common::arch::PAGE_BYTES;
use thiserror::Error;

use super::{Cache, Table, TableError};
use crate::object::{Pid, mapped, maps::Mapping, open::OpenError};

/// The kernel's own shared object in each process, which has no file.
const VDSO: &str = "[vdso]";

/// More than any vDSO has.
const MAX_VDSO_BYTES: u64 = 1 << 20;

/// A range of addresses that one table covers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Segment {
    /// The first address.
    pub start: u64,
    /// The address behind the last.
    pub end: u64,
    /// The address that the table's offsets count from. It may be behind `start`, and wraps around.
    pub base: u64,
    /// The table.
    pub table: Arc<Table>,
}

/// Mapped code that has no table, and why.
#[derive(Debug, Error)]
pub enum Skipped {
    /// Its file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No table can be made from its file.
    #[error("no unwind table for {path}: {reason}")]
    Table {
        /// Of the file, in the process's mount namespace.
        path: String,
        /// Why not.
        reason: TableError,
    },
    /// It is in none of its file's executable segments.
    #[error("no unwind table for {path} at {start:#x}: file offset {offset:#x} is not in its code")]
    Elsewhere {
        /// Of the file, in the process's mount namespace.
        path: String,
        /// Where it is mapped.
        start: u64,
        /// Which part of the file.
        offset: u64,
    },
    /// The vDSO cannot be read.
    #[error("cannot read the vDSO of process {pid}: {source}")]
    Vdso {
        /// Whose.
        pid: Pid,
        /// Why.
        source: io::Error,
    },
}

/// The segments of a process in the order of their addresses, and the code that is left out: its stacks end there.
pub fn segments(pid: Pid, mappings: &[Mapping], cache: &mut Cache) -> (Vec<Segment>, Vec<Skipped>) {
    let mut segments = Vec::new();
    let mut skipped = Vec::new();
    for object in mapped::objects(pid, mappings) {
        let path = || crate::object::printable::printable(object.path.as_os_str().as_encoded_bytes(), 200);
        let file = match object.open() {
            Ok((_, file)) => file,
            Err(error) => {
                skipped.push(Skipped::Open(error));
                continue;
            }
        };
        match cache.of_file(&file) {
            Ok(table) => {
                for mapping in &object.mappings {
                    match place(mapping, &table) {
                        Some(segment) => segments.push(segment),
                        None => skipped.push(Skipped::Elsewhere {
                            path: path(),
                            start: mapping.start,
                            offset: mapping.offset,
                        }),
                    }
                }
            }
            Err(reason) => skipped.push(Skipped::Table { path: path(), reason }),
        }
    }
    let is_vdso = |mapping: &&Mapping| mapping.executable && mapping.path.as_deref() == Some(Path::new(VDSO));
    for mapping in mappings.iter().filter(is_vdso) {
        match read_vdso(pid, mapping).map(|image| cache.of_image(&image)) {
            Ok(Ok(table)) => segments.extend(place(mapping, &table)),
            Ok(Err(reason)) => skipped.push(Skipped::Table { path: VDSO.to_owned(), reason }),
            Err(source) => skipped.push(Skipped::Vdso { pid, source }),
        }
    }
    segments.sort_by_key(|segment| segment.start);
    (segments, skipped)
}

fn read_vdso(pid: Pid, mapping: &Mapping) -> io::Result<Vec<u8>> {
    let bytes = (mapping.end - mapping.start).min(MAX_VDSO_BYTES);
    let mut image = vec![0; bytes as usize];
    File::open(pid.proc_path("mem"))?.read_exact_at(&mut image, mapping.start)?;
    Ok(image)
}

/// The segment of a mapping: the loader maps whole pages of the executable segment (PT_LOAD) that holds this part of
/// the file, whose address in memory is its address as linked plus the load bias.
pub fn place(mapping: &Mapping, table: &Arc<Table>) -> Option<Segment> {
    let load = table.loads.iter().filter(|load| load.executable).find(|load| {
        let first_page = load.file_offset & !(PAGE_BYTES - 1);
        (first_page..load.file_offset.saturating_add(load.file_bytes)).contains(&mapping.offset)
    })?;
    let linked = load.address.wrapping_add(mapping.offset).wrapping_sub(load.file_offset);
    let bias = mapping.start.wrapping_sub(linked);
    Some(Segment {
        start: mapping.start,
        end: mapping.end,
        base: bias.wrapping_add(table.base),
        table: Arc::clone(table),
    })
}

#[cfg(test)]
mod tests {
    use memtrace_common::unwind::Rule;

    use super::*;
    use crate::object::maps;

    #[test]
    fn our_own_code_is_covered_where_it_is_mapped() {
        let pid = Pid(std::process::id());
        let mut cache = Cache::new();
        let (segments, skipped) = segments(pid, &maps::read(pid).expect("our own maps"), &mut cache);
        assert!(skipped.is_empty(), "{skipped:?}");
        assert!(segments.is_sorted_by(|one, next| one.end <= next.start));
        let here = our_own_code_is_covered_where_it_is_mapped as *const () as u64;
        let there = libc::getpid as *const () as u64;
        // SAFETY: asks for a number.
        let vdso = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
        for address in [here, there] {
            let segment = segments.iter().find(|segment| (segment.start..segment.end).contains(&address));
            let segment = segment.expect("a segment");
            let rule = segment.table.rule(address.wrapping_sub(segment.base).wrapping_add(segment.table.base));
            assert!(matches!(rule, Some(Rule::Frame { .. })), "{address:#x}: {rule:?}");
        }
        assert!(segments.iter().any(|segment| segment.start == vdso), "the vDSO has a segment");
    }
}
