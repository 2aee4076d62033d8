//! Plans of a run's processes: many run the same files, and looking into these takes tens of milliseconds.
//!
//! Files are the same when device, inode, size and times are, as for unwind tables; and the same files under the same
//! paths have the same plan.

use std::{collections::HashMap, fs, os::unix::fs::MetadataExt as _, path::PathBuf};

use memtrace_common::prediction::Prediction;

use super::wrapper::Wrapper;
use super::{
    AllocatorError, Ends, Plan,
    plan::{executable, plan},
};
use crate::object::mapped::MappedObject;

/// The most plans that are remembered; when there are more all are forgotten.
const MAX_PLANS: usize = 256;

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct FileIdentity {
    path: PathBuf,
    device: u64,
    inode: u64,
    bytes: u64,
    /// Where in the file its first mapping begins.
    first_offset: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Key {
    files: Vec<FileIdentity>,
    executable: Option<usize>,
    ends: Ends,
}

/// A plan and, for each of its sites, which of the files it is in.
#[derive(Debug)]
struct Known {
    plan: Plan,
    files: Vec<usize>,
    /// Where the files lay in the process that it was made for.
    starts: Vec<u64>,
}

/// One of a process's files.
struct Opened {
    /// A path that opens it.
    path: PathBuf,
    /// Where its first mapping begins: all of them move together.
    start: u64,
}

/// The plans of a run, whose processes all have the same functions of the user's.
#[derive(Debug, Default)]
pub struct Plans {
    known: HashMap<Key, Result<Known, AllocatorError>>,
}

impl Plans {
    /// Plans the probes of a target, as [`plan`] does; `wrappers` must be the same ones in all calls.
    ///
    /// # Errors
    ///
    /// As for [`plan`].
    pub fn plan(&mut self, objects: &[MappedObject], wrappers: &[Wrapper], ends: Ends) -> Result<Plan, AllocatorError> {
        let files = objects.iter().map(identity).collect::<Option<Vec<_>>>();
        let Some(files) = files else { return plan(objects, wrappers, ends) };
        let (opened, files): (Vec<Opened>, Vec<FileIdentity>) = files.into_iter().unzip();
        let key = Key { files, executable: executable(objects), ends };
        if let Some(known) = self.known.get(&key) {
            return known.as_ref().map(|known| known.for_process(&opened)).map_err(AllocatorError::clone);
        }
        let made = plan(objects, wrappers, ends);
        let known = match &made {
            Ok(made) => Known::of(made, &opened).map(Ok),
            Err(error) => Some(Err(error.clone())),
        };
        if let Some(known) = known {
            if self.known.len() >= MAX_PLANS {
                self.known.clear();
            }
            self.known.insert(key, known);
        }
        made
    }
}

impl Known {
    /// `None` when a file was opened by another path meanwhile.
    fn of(plan: &Plan, opened: &[Opened]) -> Option<Self> {
        let place = |path: &PathBuf| opened.iter().position(|opened| opened.path == *path);
        let files = plan.sites.iter().map(|site| place(&site.open_path)).collect::<Option<_>>()?;
        Some(Self { plan: plan.clone(), files, starts: opened.iter().map(|opened| opened.start).collect() })
    }

    /// The plan with the paths by which another process's files are opened, and the addresses where they lie there.
    fn for_process(&self, opened: &[Opened]) -> Plan {
        let mut plan = self.plan.clone();
        for (site, &file) in plan.sites.iter_mut().zip(&self.files) {
            site.open_path.clone_from(&opened[file].path);
            let moved = opened[file].start.wrapping_sub(self.starts[file]);
            site.prediction = site.prediction.map(|prediction| moved_by(prediction, moved));
        }
        plan
    }
}

/// The same prediction where the file that it was made of lies so many bytes further on, modulo 2^64.
fn moved_by(prediction: Prediction, bytes: u64) -> Prediction {
    let moved = |address: u64| if address == 0 { 0 } else { address.wrapping_add(bytes) };
    Prediction {
        offset_address: moved(prediction.offset_address),
        telling_address: moved(prediction.telling_address),
        ..prediction
    }
}

/// A path that opens a mapped file, and what is there; `None` where the mapping's own link does not lead to it.
fn identity(object: &MappedObject) -> Option<(Opened, FileIdentity)> {
    let mapping = object.mappings.first()?;
    let path = object.pid.proc_path(&format!("map_files/{:x}-{:x}", mapping.start, mapping.end));
    let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
    let identity = FileIdentity {
        path: object.path.clone(),
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.size(),
        first_offset: mapping.offset,
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    };
    Some((Opened { path, start: mapping.start }, identity))
}

#[cfg(test)]
mod tests {
    use std::{path::Path, process::Command};

    use super::*;
    use crate::object::{Pid, mapped::objects, maps};

    #[test]
    fn a_plan_that_is_known_is_the_one_that_would_be_made_but_for_the_paths() {
        let mut children = [(); 2].map(|()| Command::new("sleep").arg("600.6").spawn().expect("a child"));
        let found = children.each_ref().map(|child| {
            let pid = Pid(child.id());
            // The loader has to map the C library first.
            loop {
                let found = objects(pid, &maps::read(pid).expect("its maps"));
                if found.iter().any(|object| object.path.ends_with("libc.so.6")) {
                    break found;
                }
                std::thread::yield_now();
            }
        });
        let mut plans = Plans::default();
        for objects in &found {
            let made = plan(objects, &[], Ends::Sessions).expect("a plan");
            assert_eq!(plans.plan(objects, &[], Ends::Sessions).expect("a plan"), made);
            let own = |path: &Path| path.starts_with(objects[0].pid.proc_path("map_files"));
            assert!(made.sites.iter().all(|site| own(&site.open_path)));
            // Where a thread's cache is stands at another address in each process.
            assert!(made.sites.iter().any(|site| site.prediction.is_some()));
        }
        assert_eq!(plans.known.len(), 1);
        for child in &mut children {
            child.kill().expect("killed");
            child.wait().expect("reaped");
        }
    }
}
