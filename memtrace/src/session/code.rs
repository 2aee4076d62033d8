//! Targets whose own executable is probed, and that may copy or replace their code while they run.
//!
//! Programs that move their code to huge pages leave the file behind: its probes are in nobody's way any more, and see
//! nothing. The report has to say so.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, Instant},
};

use super::notice;
use crate::{
    allocator::ProbeSite,
    object::maps::{self, Mapping},
    target::{Pid, guard::Guard},
    turns::Turns,
};

/// The share of the time that looking at a process's mappings gets, as one part in this many.
const LOOK_PARTS: u32 = 50;

/// What the longest look counts as, so that code that moves is noticed within five seconds.
const LONGEST_LOOK: Duration = Duration::from_millis(100);

/// Has a process held if some of `sites`, which are about to be probed, are in its own executable. One that cannot be held
/// is probed all the same: few programs copy their code. One that `looks_for_leaks` itself would fail, and is left alone.
pub(super) fn watch(guard: &mut Guard, pid: Pid, sites: &[ProbeSite], looks_for_leaks: bool) {
    if looks_for_leaks {
        return;
    }
    let places = sites.iter().map(|site| (site.open_path.as_path(), site.file_offset));
    match guard.watch(pid, places) {
        Ok(_) => {}
        // It has ended.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) || error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => notice::not_held(pid, &error),
    }
}

/// Those of `sites` that are in the executable of a process.
fn own(pid: Pid, sites: &[ProbeSite]) -> impl Iterator<Item = &ProbeSite> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let executable = identity(&pid.proc_path("exe"));
    sites.iter().filter(move |site| executable.is_some() && identity(&site.open_path) == executable)
}

/// The probes in a target's own executable.
#[derive(Default)]
pub(super) struct OwnCode {
    sites: Vec<ProbeSite>,
    /// Milliseconds from the start of recording to when some of the probed code was first found to be elsewhere.
    moved_ms: Option<u64>,
    looks: Turns,
}

impl OwnCode {
    /// Takes in those of `sites` that are in the executable of `pid`.
    pub(super) fn note(&mut self, pid: Pid, sites: &[ProbeSite]) {
        for site in own(pid, sites) {
            if !self.sites.contains(site) {
                self.sites.push(site.clone());
            }
        }
    }

    /// Whether there are any.
    pub(super) fn is_probed(&self) -> bool {
        !self.sites.is_empty()
    }

    /// The sites of the probes.
    pub(super) fn sites(&self) -> &[ProbeSite] {
        &self.sites
    }

    /// When probed code was found to have moved; `None` if it has not.
    pub(super) fn moved_ms(&self) -> Option<u64> {
        self.moved_ms
    }

    /// The process runs a copy of probed code from now on; whether that is news.
    pub(super) fn has_moved(&mut self, elapsed_ms: u64) -> bool {
        let is_news = self.moved_ms.is_none();
        self.moved_ms.get_or_insert(elapsed_ms);
        is_news
    }

    /// Looks whether the probed code is still where the process runs it; whether it has gone is returned once.
    pub(super) fn look(&mut self, pid: Pid, elapsed_ms: u64) -> bool {
        if self.sites.is_empty() || self.moved_ms.is_some() || !self.looks.may_begin() {
            return false;
        }
        let begun = Instant::now();
        let gone = maps::read(pid).is_ok_and(|mappings| is_gone(&self.sites, &mappings));
        self.looks.ended(begun.elapsed().min(LONGEST_LOOK), LOOK_PARTS);
        gone && self.has_moved(elapsed_ms)
    }
}

/// Whether some sites are in no executable mapping of their file. A process without mappings is about to end.
fn is_gone(sites: &[ProbeSite], mappings: &[Mapping]) -> bool {
    let is_there = |site: &ProbeSite| {
        mappings.iter().any(|mapping| mapping.code_address(&site.object_path, site.file_offset).is_some())
    };
    !mappings.is_empty() && !sites.iter().all(is_there)
}

#[cfg(test)]
mod tests {
    use memtrace_common::{call::Call, signature::Signature};

    use super::*;

    fn site(file_offset: u64) -> ProbeSite {
        ProbeSite {
            function: "malloc".into(),
            call: Call::Allocate,
            signature: Signature(0),
            object_path: "/bin/a b".into(),
            open_path: "/bin/a b".into(),
            file_offset,
            symbol_offset: 0,
            instruction: String::new(),
            emulated: true,
            reentered: false,
            prediction: None,
        }
    }

    #[test]
    fn code_is_gone_when_a_site_is_in_no_executable_mapping_of_its_file() {
        let sites = [site(0x1010), site(0x2ff0)];
        let is_gone = |text: &str| is_gone(&sites, &maps::parse(text.as_bytes()).expect("maps"));
        assert!(!is_gone("401000-403000 r-xp 00001000 fe:00 7 /bin/a b\n"));
        assert!(!is_gone("401000-402000 r-xp 1000 fe:00 7 /bin/a b\n402000-403000 r-xp 2000 fe:00 7 /bin/a b\n"));
        assert!(!is_gone(""));
        assert!(is_gone("401000-403000 r-xp 00000000 00:00 0 \n403000-404000 r--p 3000 fe:00 7 /bin/a b\n"));
        assert!(is_gone("401000-402000 r-xp 1000 fe:00 7 /bin/a b\n402000-403000 r-xp 0 00:00 0\n"));
        assert!(is_gone("401000-403000 r--p 00001000 fe:00 7 /bin/a b\n"));
        assert!(is_gone("401000-403000 r-xp 00001000 fe:00 7 /bin/other\n"));
    }

    #[test]
    fn that_code_has_moved_is_news_once() {
        let mut code = OwnCode::default();
        assert!(!code.look(Pid(std::process::id()), 1), "nothing of it is probed");
        code.sites = vec![site(0x1010)];
        assert!(code.look(Pid(std::process::id()), 7), "this file is none of ours");
        assert!(!code.look(Pid(std::process::id()), 8));
        assert_eq!(code.moved_ms(), Some(7));
    }
}
