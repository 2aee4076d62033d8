//! Code that has left its file: a program that moves its code to huge pages replaces the mapping of its file by memory
//! without a file, at the same addresses and with the same bytes.
//!
//! Such memory gets the file's place back here, for names and unwind tables. Where it belongs is known from what is left
//! of the file's mappings: all segments of an object are mapped with one load bias, so memory without a file between two
//! mappings of one file stands where a segment of it was. That is believed only when the bytes in memory are the file's.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use memtrace_common::arch::PAGE_BYTES;

use super::{Pid, layout::Layout, mapped::MappedObject, maps::Mapping};

/// How many pages of a mapping are compared with the file, evenly spread over it.
const PAGES_COMPARED: u64 = 64;

/// The instruction that a probe puts in place of another's first byte: a page may have some in memory that the file has
/// not.
const INT3: u8 = 0xcc;

/// More of them than this in one page are no probes.
const MAX_BREAKPOINTS: usize = 64;

/// What the kernel calls anonymous memory in huge pages that a program asked for by MAP_HUGETLB.
const HUGE: &str = "/anon_hugepage";

/// Gives code that has left its file the file's place in `mappings`, which are those of `pid` in the order of their
/// addresses. Returns how many mappings that concerns.
pub fn restore(pid: Pid, mappings: &mut [Mapping]) -> usize {
    let mut restored = Vec::new();
    for gap in gaps(mappings) {
        let Some((file, layout)) = open(pid, gap.file) else { continue };
        let Some(bias) = bias(gap.file, &layout) else { continue };
        for &index in &gap.code {
            let mapping = &mappings[index];
            let linked = mapping.start.wrapping_sub(bias);
            let Some((offset, bytes)) = layout.code_at(linked) else { continue };
            let bytes = bytes.min(mapping.end - mapping.start);
            if is_copy(pid, mapping.start, &file, offset, bytes).unwrap_or(false) {
                let Mapping { device, inode, path, deleted, .. } = gap.file.clone();
                restored.push((index, Mapping { device, inode, path, deleted, offset, ..mapping.clone() }));
            }
        }
    }
    let count = restored.len();
    for (index, mapping) in restored {
        mappings[index] = mapping;
    }
    count
}

/// Executable memory without a file between two mappings of one file.
struct Gap<'a> {
    /// The mapping before it.
    file: &'a Mapping,
    /// The indices of the executable mappings in it.
    code: Vec<usize>,
}

fn gaps(mappings: &[Mapping]) -> Vec<Gap<'_>> {
    let mut gaps = Vec::new();
    let mut before: Option<&Mapping> = None;
    let mut code = Vec::new();
    for (index, mapping) in mappings.iter().enumerate() {
        if is_moved_code(mapping) {
            code.push(index);
        } else if is_file(mapping) {
            let is_same = |file: &&Mapping| (file.device, file.inode) == (mapping.device, mapping.inode);
            if let Some(file) = before.filter(is_same).filter(|_| !code.is_empty()) {
                gaps.push(Gap { file, code: std::mem::take(&mut code) });
            }
            code.clear();
            before = Some(mapping);
        }
    }
    gaps
}

fn is_file(mapping: &Mapping) -> bool {
    mapping.inode != 0 && mapping.path.as_deref().is_some_and(|path| path.is_absolute() && !is_huge(path))
}

fn is_huge(path: &Path) -> bool {
    path == Path::new(HUGE)
}

fn is_moved_code(mapping: &Mapping) -> bool {
    mapping.executable && mapping.readable && mapping.path.as_deref().is_none_or(is_huge)
}

fn open(pid: Pid, mapping: &Mapping) -> Option<(File, Layout)> {
    let object = MappedObject {
        pid,
        path: mapping.path.clone()?,
        deleted: mapping.deleted,
        device: mapping.device,
        inode: mapping.inode,
        mappings: vec![mapping.clone()],
    };
    let (_, file) = object.open().ok()?;
    let layout = Layout::read(&file).ok()?;
    Some((file, layout))
}

/// What is added to an address as linked to have the one in memory, by a mapping that is left.
fn bias(mapping: &Mapping, layout: &Layout) -> Option<u64> {
    Some(mapping.start.wrapping_sub(layout.page_address(mapping.offset, mapping.executable)?))
}

/// Whether memory from `start` on is the file's from `offset` on, probes apart; whole pages of it are compared.
fn is_copy(pid: Pid, start: u64, file: &File, offset: u64, bytes: u64) -> io::Result<bool> {
    let memory = File::open(pid.proc_path("mem"))?;
    let pages = bytes / PAGE_BYTES;
    let step = pages.div_ceil(PAGES_COMPARED).max(1);
    let mut compared = 0;
    let (mut here, mut there) = ([0; PAGE_BYTES as usize], [0; PAGE_BYTES as usize]);
    for page in (0..pages).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
        memory.read_exact_at(&mut here, start + page * PAGE_BYTES)?;
        file.read_exact_at(&mut there, offset + page * PAGE_BYTES)?;
        let differing = || here.iter().zip(&there).filter(|(here, there)| here != there);
        let breakpoints = differing().filter(|&(&here, _)| here == INT3).count();
        if breakpoints > MAX_BREAKPOINTS || differing().count() > breakpoints {
            return Ok(false);
        }
        compared += 1;
    }
    Ok(compared > 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::object::maps;

    fn own() -> Pid {
        Pid(std::process::id())
    }

    /// Our own mappings as they would be had our executable's code moved, but with its bytes where they are.
    fn as_if_moved() -> (Vec<Mapping>, Vec<Mapping>) {
        let whole = maps::read(own()).expect("our own maps");
        let exe = std::fs::read_link("/proc/self/exe").expect("our own executable");
        let mut moved = whole.clone();
        for mapping in moved.iter_mut().filter(|mapping| mapping.executable && mapping.path.as_ref() == Some(&exe)) {
            *mapping = Mapping { path: None, inode: 0, device: (0, 0), offset: 0, ..mapping.clone() };
        }
        assert_ne!(whole, moved);
        (whole, moved)
    }

    #[test]
    fn code_with_the_files_bytes_gets_its_place_back() {
        let (whole, mut moved) = as_if_moved();
        assert_eq!(restore(own(), &mut moved), 1);
        assert_eq!(moved, whole);
        assert_eq!(restore(own(), &mut moved), 0);
    }

    #[test]
    fn a_part_of_the_code_gets_its_place_back() {
        let (_, mut moved) = as_if_moved();
        let index = moved.iter().position(is_moved_code).expect("the code");
        let whole = moved[index].clone();
        let middle = whole.start + 0x3000;
        moved[index].end = middle;
        moved.insert(index + 1, Mapping { start: middle, ..whole });
        assert_eq!(restore(own(), &mut moved), 2);
        assert_eq!(moved[index].path, moved[index + 1].path);
        assert_eq!(moved[index].offset + 0x3000, moved[index + 1].offset);
    }

    #[test]
    fn memory_with_other_bytes_or_elsewhere_stays_what_it_is() {
        let (_, moved) = as_if_moved();
        let index = moved.iter().position(is_moved_code).expect("the code");
        let mut shifted = moved.clone();
        shifted[index].start += PAGE_BYTES;
        // The address is another one's of the code, and the bytes are not those of that place.
        shifted[index - 1].start += PAGE_BYTES;
        assert_eq!(restore(own(), &mut shifted), 0);
        let mut alone = moved.clone();
        alone.truncate(index + 1);
        assert_eq!(restore(own(), &mut alone), 0, "nothing of the file follows");
        let mut unreadable = moved;
        unreadable[index].readable = false;
        assert_eq!(restore(own(), &mut unreadable), 0);
    }

    #[test]
    fn probes_in_memory_are_no_difference_and_anything_else_is() {
        let mut memory = vec![7_u8; 3 * PAGE_BYTES as usize];
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&memory).expect("written");
        let compare = |memory: &[u8]| is_copy(own(), memory.as_ptr() as u64, &file, 0, memory.len() as u64);
        assert!(compare(&memory).expect("compared"));
        memory[5000] = INT3;
        memory[5004] = INT3;
        assert!(compare(&memory).expect("compared"));
        memory[5008] = 8;
        assert!(!compare(&memory).expect("compared"));
        memory[5008] = 7;
        memory[..100].fill(INT3);
        assert!(!compare(&memory).expect("compared"), "so many are no probes");
        assert!(!compare(&memory[..100]).expect("compared"), "less than a page proves nothing");
    }
}
