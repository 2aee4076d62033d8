//! Whether what a process runs at some place of a file differs from the file, as it does where a probe stands.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use super::{Pid, maps::Mapping};

/// Whether at one of `places`, each a file and an offset in it, no probe stands any more: the memory there is what the file has.
/// Places that are not mapped say nothing.
///
/// # Errors
/// When the process's memory or one of the files cannot be read.
pub fn is_bare<'a>(pid: Pid, mappings: &[Mapping], places: impl Iterator<Item = (&'a Path, u64)>) -> io::Result<bool> {
    let memory = File::open(pid.proc_path("mem"))?;
    for (path, offset) in places {
        let here = |mapping: &Mapping| Some((mapping.start..mapping.end, mapping.code_address(path, offset)?));
        let Some((range, address)) = mappings.iter().find_map(here) else { continue };
        let file = File::open(pid.proc_path(&format!("map_files/{:x}-{:x}", range.start, range.end)))?;
        let (mut running, mut original) = ([0], [0]);
        memory.read_exact_at(&mut running, address)?;
        file.read_exact_at(&mut original, offset)?;
        if running == original {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::maps;

    #[test]
    fn code_that_nobody_has_patched_is_bare_and_what_is_not_mapped_says_nothing() {
        let pid = Pid(std::process::id());
        let mappings = maps::read(pid).expect("one's own mappings");
        let own = mappings.iter().find(|mapping| mapping.executable && mapping.inode != 0).expect("some code");
        let path = own.path.as_deref().expect("a file");
        let bare = |path, offset| is_bare(pid, &mappings, [(path, offset)].into_iter()).expect("one's own memory");
        assert!(bare(path, own.offset + 7));
        assert!(!bare(Path::new("/no/such/file"), 7));
        assert!(!bare(path, u64::MAX));
    }
}
