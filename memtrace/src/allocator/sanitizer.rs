//! Programs that look for leaks themselves: at their end LeakSanitizer stops their threads by ptrace(2), and fails, with an
//! exit status of its own, where another process holds them by it.

use std::{collections::HashSet, fs::File, path::Path};

use super::{ProbeSite, symbols::ElfFile};

/// What LeakSanitizer defines wherever it is linked in, AddressSanitizer's runtime included (sanitizer/lsan_interface.h).
const MARK: &str = "__lsan_do_leak_check";

/// Whether one of the probed files has LeakSanitizer in it.
pub fn has_leak_sanitizer(sites: &[ProbeSite]) -> bool {
    let files: HashSet<&Path> = sites.iter().map(|site| site.open_path.as_path()).collect();
    files.into_iter().any(|path| {
        let elf = File::open(path).ok().and_then(|file| ElfFile::parse(file).ok());
        elf.is_some_and(|elf| elf.symbols(&[MARK]).is_ok_and(|found| !found.is_empty()))
    })
}
