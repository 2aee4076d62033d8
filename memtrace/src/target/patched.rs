//! Whether what a process runs at some place of a file differs from the file, as it does where a probe stands.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{Pid, maps::Mapping};

/// How many places are looked at: probes that are taken away at one place of a file are taken away at one moment, not all at once.
const PLACES: usize = 4;

/// Whether at some of `places`, each a file and an offset in it, no probe stands any more: the memory there is what the file has.
/// Places that are not mapped say nothing.
///
/// # Errors
/// When the process's memory or one of the files cannot be read.
pub fn is_bare<'a>(pid: Pid, mappings: &[Mapping], places: impl Iterator<Item = (&'a Path, u64)>) -> io::Result<bool> {
    let memory = File::open(pid.proc_path("mem"))?;
    let mapped = places.filter_map(|(path, offset)| {
        let holds = |mapping: &&Mapping| {
            mapping.executable
                && mapping.path.as_deref() == Some(path)
                && offset
                    .checked_sub(mapping.offset)
                    .is_some_and(|into| into < mapping.end.saturating_sub(mapping.start))
        };
        mappings.iter().find(holds).map(|mapping| (mapping, offset))
    });
    for (mapping, offset) in mapped.take(PLACES) {
        let file: PathBuf = pid.proc_path(&format!("map_files/{:x}-{:x}", mapping.start, mapping.end));
        let (mut running, mut original) = ([0], [0]);
        memory.read_exact_at(&mut running, mapping.start + (offset - mapping.offset))?;
        File::open(file)?.read_exact_at(&mut original, offset)?;
        if running == original {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::maps;

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
