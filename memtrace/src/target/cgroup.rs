//! The cgroup that accounts for a process's memory: its usage, its limit, its OOM kills, its processes.
//!
//! Both hierarchies are known, and machines that have both (hybrid): the memory controller is in exactly one of them.
//! Sources: Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst of the kernel, cgroups(7).

use std::{
    fs, io,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::Pid;
use crate::object::{bounds::read_small, printable::printable};

/// How many cgroups are looked at below or above one.
const MAX_GROUPS: usize = 1024;

/// The most processes of a cgroup that are listed.
const MAX_PROCESSES: usize = 16_384;

/// Version 1 writes this, rounded to pages, when there is no limit (PAGE_COUNTER_MAX in include/linux/page_counter.h).
const V1_UNLIMITED: u64 = (i64::MAX as u64) & !0xfff;

/// Why a cgroup cannot be looked at.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// Nothing is there.
    #[error("there is no cgroup {path}; give its directory, such as /sys/fs/cgroup/system.slice/redis.service")]
    Missing {
        /// As asked.
        path: String,
    },
    /// It does not account for memory.
    #[error(
        "{path} has no memory accounting: with cgroup version 2 give a cgroup below the root whose parent has memory in \
         cgroup.subtree_control, with version 1 its directory below /sys/fs/cgroup/memory"
    )]
    NoMemory {
        /// As asked.
        path: String,
    },
}

/// Which version of the cgroup interface a directory belongs to, and so which files it has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// A hierarchy of one or some controllers.
    V1,
    /// The unified hierarchy.
    V2,
}

/// Whether OOM kills are counted in a cgroup alone or in all below it as well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kills {
    /// Kills of processes in the cgroup itself.
    Own,
    /// Kills of processes in the cgroup and in all cgroups below it.
    WithBelow,
}

/// A cgroup with a memory controller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemoryCgroup {
    version: Version,
    /// Where the hierarchy is mounted, as far as it is visible here.
    mount: PathBuf,
    directory: PathBuf,
}

/// What a cgroup holds and may hold, in bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Level {
    /// Its path below the mount, safe to show.
    pub path: String,
    /// Everything that is charged to it, page cache included.
    pub usage_bytes: u64,
    /// That without the file pages that the kernel would give back first: `usage - inactive_file`, the working set of
    /// Kubernetes and cAdvisor.
    pub working_set_bytes: u64,
    /// Where the kernel kills; `None` when nothing is set.
    pub limit_bytes: Option<u64>,
    /// Where the kernel throttles (version 2).
    pub high_bytes: Option<u64>,
}

impl MemoryCgroup {
    /// The one that a process's memory is charged to; `None` when it cannot be seen from here.
    pub fn of(pid: Pid) -> Option<MemoryCgroup> {
        let membership = read_small(&pid.proc_path("cgroup")).ok()?;
        let mounts = fs::read("/proc/self/mountinfo").ok()?;
        let (version, mount, below) = locate(&membership, &mounts)?;
        let directory = mount.join(below);
        let found = MemoryCgroup { version, mount, directory };
        // On a hybrid machine the unified hierarchy has the process, and no controllers.
        found.usage_file().exists().then_some(found)
    }

    /// The one of a directory, or of a path in the hierarchy as `/proc/PID/cgroup` shows it.
    ///
    /// # Errors
    ///
    /// When it is not there or has no memory controller.
    pub fn at(path: &Path) -> Result<MemoryCgroup, CgroupError> {
        let mountinfo = fs::read("/proc/self/mountinfo").unwrap_or_default();
        let mounts = mounts(&mountinfo);
        let shown = || path.display().to_string();
        let mut any = false;
        for directory in candidates(path, &mounts) {
            any = true;
            let Some(mount) = mounts.iter().find(|mount| directory.starts_with(&mount.point)) else { continue };
            let found = MemoryCgroup { version: mount.version, mount: mount.point.clone(), directory };
            if found.usage_file().exists() {
                return Ok(found);
            }
        }
        Err(if any { CgroupError::NoMemory { path: shown() } } else { CgroupError::Missing { path: shown() } })
    }

    /// Its path below the mount, safe to show.
    pub fn path(&self) -> String {
        shown(&self.mount, &self.directory)
    }

    /// Whether the cgroup's directory is still there.
    pub fn exists(&self) -> bool {
        self.directory.is_dir()
    }

    /// It and the cgroups around it, itself first, as far as they are visible; empty when it is gone.
    pub fn levels(&self) -> Vec<Level> {
        let mut levels: Vec<Level> = self
            .directory
            .ancestors()
            .take_while(|directory| directory.starts_with(&self.mount))
            .take(MAX_GROUPS)
            .map_while(|directory| self.level(directory))
            .collect();
        // What bounds it from outside of what is visible here (a container that sees its own cgroup as the root).
        let outside = (self.version == Version::V1)
            .then(|| read_small(&self.directory.join("memory.stat")).ok())
            .flatten()
            .and_then(|stat| keyed(&stat, b"hierarchical_memory_limit"))
            .filter(|&limit| limit < V1_UNLIMITED);
        let tightest = levels.iter().filter_map(|level| level.limit_bytes).min();
        if let (Some(outside), Some(top)) = (outside, levels.last_mut())
            && tightest.is_none_or(|tightest| outside < tightest)
        {
            top.limit_bytes = Some(outside);
        }
        levels
    }

    fn level(&self, directory: &Path) -> Option<Level> {
        let number = |name: &str| read_small(&directory.join(name)).ok().and_then(|text| limit(&text));
        let (usage, max, high, inactive): (_, _, _, &[u8]) = match self.version {
            Version::V1 => ("memory.usage_in_bytes", "memory.limit_in_bytes", None, b"total_inactive_file"),
            Version::V2 => ("memory.current", "memory.max", Some("memory.high"), b"inactive_file"),
        };
        let usage_bytes = number(usage)?;
        let stat = read_small(&directory.join("memory.stat")).unwrap_or_default();
        Some(Level {
            path: shown(&self.mount, directory),
            usage_bytes,
            working_set_bytes: usage_bytes.saturating_sub(keyed(&stat, inactive).unwrap_or(0)),
            limit_bytes: number(max),
            high_bytes: high.and_then(number),
        })
    }

    /// How many of its processes the kernel has killed for want of memory since it was made; `None` when the kernel does
    /// not say.
    pub fn oom_kills(&self, of: Kills) -> Option<u64> {
        let count = |directory: &Path, file: &str| keyed(&read_small(&directory.join(file)).ok()?, b"oom_kill");
        match (self.version, of) {
            (Version::V2, Kills::Own) => count(&self.directory, "memory.events.local"),
            // Hierarchical, unless the mount says otherwise.
            (Version::V2, Kills::WithBelow) => count(&self.directory, "memory.events"),
            // Each counts its own only.
            (Version::V1, Kills::Own) => count(&self.directory, "memory.oom_control"),
            (Version::V1, Kills::WithBelow) => {
                let groups = groups(&self.directory);
                let own = count(&self.directory, "memory.oom_control")?;
                let below = groups.iter().skip(1).filter_map(|group| count(group, "memory.oom_control"));
                Some(below.fold(own, u64::saturating_add))
            }
        }
    }

    /// The processes in it and in the cgroups below it, by our pid namespace; those of other namespaces are left out.
    ///
    /// # Errors
    ///
    /// When the cgroup is gone or cannot be read.
    pub fn processes(&self) -> io::Result<Vec<Pid>> {
        processes(&self.directory)
    }

    fn usage_file(&self) -> PathBuf {
        self.directory.join(match self.version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        })
    }
}

fn shown(mount: &Path, directory: &Path) -> String {
    let below = directory.strip_prefix(mount).unwrap_or(directory);
    format!("/{}", printable(below.as_os_str().as_encoded_bytes(), 4096))
}

/// A mounted hierarchy with, or possibly with, a memory controller.
#[derive(Debug, Eq, PartialEq)]
struct Mount {
    version: Version,
    /// The cgroup that is visible at the mount point, as `/proc/self/cgroup` would name it.
    root: Vec<u8>,
    point: PathBuf,
}

/// The hierarchies of mountinfo (proc(5)) in which a memory controller may be; version 1 first.
fn mounts(mountinfo: &[u8]) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = mountinfo.split(|&byte| byte == b'\n').filter_map(mount).collect();
    mounts.sort_by_key(|mount| mount.version == Version::V2);
    mounts
}

/// `36 35 98:0 /root /point options [optional ...] - type source super-options`.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let (root, point) = (fields.nth(3)?, fields.next()?);
    let mut fields = fields.skip_while(|&field| field != b"-").skip(1);
    let (kind, options) = (fields.next()?, fields.nth(1).unwrap_or_default());
    let version = match kind {
        b"cgroup2" => Version::V2,
        b"cgroup" if options.split(|&byte| byte == b',').any(|option| option == b"memory") => Version::V1,
        _ => return None,
    };
    let point = PathBuf::from(std::ffi::OsString::from_vec(unescaped(point)));
    Some(Mount { version, root: unescaped(root), point })
}

/// Octal escapes, by which mountinfo writes spaces, tabs, newlines and backslashes.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        if let Some(digits) = digits {
            plain.push(digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
            rest = &after[3..];
        } else {
            plain.push(byte);
            rest = after;
        }
    }
    plain
}

/// Where the memory of a process with this `/proc/PID/cgroup` is accounted: version, mount point, path below it.
fn locate(membership: &[u8], mountinfo: &[u8]) -> Option<(Version, PathBuf, PathBuf)> {
    let mounts = mounts(mountinfo);
    let lines = || membership.split(|&byte| byte == b'\n');
    let legacy = lines().find_map(|line| {
        let mut fields = line.splitn(3, |&byte| byte == b':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers.split(|&byte| byte == b',').any(|name| name == b"memory").then_some(path)
    });
    // A controller that a version 1 hierarchy has is in no other.
    let (version, path) = match legacy {
        Some(path) => (Version::V1, path),
        None => (Version::V2, lines().find_map(|line| line.strip_prefix(b"0::"))?),
    };
    let found = mounts.into_iter().filter(|mount| mount.version == version);
    found.into_iter().find_map(|mount| {
        let below = below(&mount.root, path)?;
        Some((version, mount.point, below))
    })
}

/// `path` as seen from `root`; both as the kernel shows them to this cgroup namespace: what lies outside of it begins
/// with `/..`. `None` when it is not below.
fn below(root: &[u8], path: &[u8]) -> Option<PathBuf> {
    let parts = |path: &[u8]| -> Vec<Vec<u8>> {
        path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect()
    };
    let (root, path) = (parts(root), parts(path));
    let rest = path.strip_prefix(root.as_slice())?;
    // A name that we cannot see: `..` would lead out of the mount.
    if rest.iter().any(|part| part == b"..") {
        return None;
    }
    Some(rest.iter().map(|part| std::ffi::OsString::from_vec(part.clone())).collect())
}

/// A number of bytes; `None` for "max", for version 1's stand-in, and for anything else.
fn limit(text: &[u8]) -> Option<u64> {
    let number = std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()?;
    (number < V1_UNLIMITED).then_some(number)
}

/// The number after a word in a file of `word number` lines.
fn keyed(text: &[u8], key: &[u8]) -> Option<u64> {
    text.split(|&byte| byte == b'\n').find_map(|line| {
        let number = line.strip_prefix(key)?.strip_prefix(b" ")?;
        std::str::from_utf8(number.trim_ascii()).ok()?.parse().ok()
    })
}

/// The directories that a path may mean: itself, or the one in a hierarchy.
fn candidates(path: &Path, mounts: &[Mount]) -> Vec<PathBuf> {
    let below = path.strip_prefix("/").unwrap_or(path);
    let is_plain = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let in_hierarchies = mounts.iter().filter(|_| is_plain).map(|mount| mount.point.join(below));
    path.canonicalize().into_iter().chain(in_hierarchies).filter(|directory| directory.is_dir()).collect()
}

/// The directory of a cgroup, whichever controllers it has, from its path or its path in a hierarchy.
///
/// # Errors
///
/// When there is no such cgroup.
pub(super) fn directory(path: &Path) -> Result<PathBuf, CgroupError> {
    let mountinfo = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut found = candidates(path, &mounts(&mountinfo)).into_iter();
    let is_cgroup = |directory: &PathBuf| directory.join("cgroup.procs").exists();
    found.find(is_cgroup).ok_or_else(|| CgroupError::Missing { path: path.display().to_string() })
}

/// Where the hierarchies are mounted in which a memory controller may be.
pub(super) fn mount_points() -> Vec<PathBuf> {
    let mountinfo = fs::read("/proc/self/mountinfo").unwrap_or_default();
    mounts(&mountinfo).into_iter().map(|mount| mount.point).collect()
}

/// The processes in the cgroup of this directory and in those below it, by our pid namespace.
///
/// # Errors
///
/// When the cgroup is gone or cannot be read.
pub(super) fn processes(directory: &Path) -> io::Result<Vec<Pid>> {
    let mut pids = Vec::new();
    for (index, group) in groups(directory).iter().enumerate() {
        // Listed by the kernel in pieces of up to a page; a group that is gone by now has none.
        let text = match fs::read(group.join("cgroup.procs")) {
            Err(error) if index == 0 => return Err(error),
            text => text.unwrap_or_default(),
        };
        pids.extend(process_ids(&text));
    }
    pids.sort_unstable();
    pids.dedup();
    pids.truncate(MAX_PROCESSES);
    Ok(pids)
}

/// A cgroup's directory and those below it, itself first.
fn groups(directory: &Path) -> Vec<PathBuf> {
    let mut groups = vec![directory.to_owned()];
    let mut next = 0;
    while next < groups.len() && groups.len() < MAX_GROUPS {
        let entries = fs::read_dir(&groups[next]).into_iter().flatten().flatten();
        groups.extend(
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
        );
        next += 1;
    }
    groups
}

/// 0 stands for a process of a namespace that we do not see.
fn process_ids(text: &[u8]) -> impl Iterator<Item = Pid> {
    let lines = text.split(|&byte| byte == b'\n');
    lines.filter_map(|line| std::str::from_utf8(line).ok()?.parse().ok()).filter(|&pid| pid != 0).map(Pid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V2: &[u8] = b"25 30 0:23 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &[u8] = b"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
        37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer\n";

    fn found(membership: &[u8], mountinfo: &[u8]) -> Option<(Version, String)> {
        let (version, mount, below) = locate(membership, mountinfo)?;
        Some((version, mount.join(below).display().to_string()))
    }

    #[test]
    fn the_unified_hierarchy() {
        let service = found(b"0::/system.slice/redis.service\n", V2);
        assert_eq!(service, Some((Version::V2, "/sys/fs/cgroup/system.slice/redis.service".to_owned())));
        assert_eq!(found(b"0::/\n", V2), Some((Version::V2, "/sys/fs/cgroup/".to_owned())));
    }

    #[test]
    fn a_hybrid_machine_has_the_controller_in_version_1() {
        let both = b"9:name=systemd:/\n4:memory:/jobs/84e5\n3:cpuset:/\n0::/user\n";
        assert_eq!(found(both, HYBRID), Some((Version::V1, "/sys/fs/cgroup/memory/jobs/84e5".to_owned())));
        // Controllers that share a hierarchy, and a colon in the name.
        let shared = b"4:hugetlb,memory:/a:b\n";
        assert_eq!(found(shared, HYBRID), Some((Version::V1, "/sys/fs/cgroup/memory/a:b".to_owned())));
    }

    #[test]
    fn a_container_without_a_cgroup_namespace_sees_a_part() {
        let docker = b"35 31 0:32 /docker/4f /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        assert_eq!(
            found(b"4:memory:/docker/4f/x\n", docker),
            Some((Version::V1, "/sys/fs/cgroup/memory/x".to_owned()))
        );
        assert_eq!(found(b"4:memory:/docker/4f0\n", docker), None, "a name that only begins alike");
        assert_eq!(found(b"4:memory:/\n", docker), None);
    }

    #[test]
    fn paths_of_other_namespaces_are_matched_or_refused() {
        // Ours is nested; the process is elsewhere on the host.
        assert_eq!(found(b"0::/../../system.slice/a.service\n", V2), None);
        // The host's hierarchy is mounted here from its root, two levels above ours.
        let host = b"25 30 0:23 /../.. /host/cg rw - cgroup2 cgroup2 rw\n";
        let outside = found(b"0::/../../system.slice/a.service\n", host);
        assert_eq!(outside, Some((Version::V2, "/host/cg/system.slice/a.service".to_owned())));
        // Three levels above is outside of that mount; our own cgroup's names are not known from here.
        assert_eq!(found(b"0::/../../../b\n", host), None);
        assert_eq!(found(b"0::/own\n", host), None);
    }

    #[test]
    fn mount_points_with_spaces_are_unescaped() {
        let spaced = b"25 30 0:23 / /mnt/c\\040g\\134x rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found(b"0::/a\n", spaced).map(|(_, path)| path).as_deref(), Some("/mnt/c g\\x/a"));
    }

    #[test]
    fn limits_counts_and_ids_are_read_from_the_kernels_text() {
        assert_eq!(limit(b"52428800\n"), Some(52_428_800));
        assert_eq!(limit(b"max\n"), None);
        assert_eq!(limit(b"9223372036854771712\n"), None);
        let control = b"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed(control, b"oom_kill"), Some(3));
        let events = b"low 0\nhigh 0\nmax 20\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(keyed(events, b"oom_kill"), Some(1));
        assert_eq!(keyed(b"inactive_file 10\ntotal_inactive_file 20\n", b"inactive_file"), Some(10));
        assert_eq!(process_ids(b"12\n0\n7\n").collect::<Vec<_>>(), [Pid(12), Pid(7)]);
    }

    /// A hierarchy of ordinary files.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("made");
            fs::write(path, text).expect("written");
        }
        root
    }

    #[test]
    fn nested_limits_of_version_2_and_kills_of_those_below() {
        let root = tree(&[
            ("a/memory.current", "900\n"),
            ("a/memory.max", "1000\n"),
            ("a/memory.high", "max\n"),
            ("a/memory.stat", "anon 5\ninactive_file 100\n"),
            ("a/b/memory.current", "500\n"),
            ("a/b/memory.max", "max\n"),
            ("a/b/memory.high", "700\n"),
            ("a/b/memory.events", "oom 1\noom_kill 2\n"),
            ("a/b/memory.events.local", "oom 1\noom_kill 1\n"),
            ("a/b/cgroup.procs", "5\n3\n"),
            ("a/b/c/cgroup.procs", "4\n"),
        ]);
        let group =
            MemoryCgroup { version: Version::V2, mount: root.path().to_path_buf(), directory: root.path().join("a/b") };
        let levels = group.levels();
        assert_eq!(levels.iter().map(|level| level.path.as_str()).collect::<Vec<_>>(), ["/a/b", "/a"]);
        assert_eq!((levels[0].limit_bytes, levels[0].high_bytes), (None, Some(700)));
        assert_eq!((levels[1].limit_bytes, levels[1].working_set_bytes), (Some(1000), 800));
        assert_eq!((group.oom_kills(Kills::Own), group.oom_kills(Kills::WithBelow)), (Some(1), Some(2)));
        assert_eq!(group.processes().expect("listed"), [Pid(3), Pid(4), Pid(5)]);
    }

    #[test]
    fn version_1_sums_the_kills_and_knows_limits_from_outside() {
        let root = tree(&[
            ("memory.usage_in_bytes", "900\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.stat", "inactive_file 1\nhierarchical_memory_limit 4096\ntotal_inactive_file 300\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
            ("x/memory.oom_control", "oom_kill 4\n"),
        ]);
        let group = MemoryCgroup {
            version: Version::V1,
            mount: root.path().to_path_buf(),
            directory: root.path().to_path_buf(),
        };
        let levels = group.levels();
        assert_eq!((levels.len(), levels[0].limit_bytes, levels[0].working_set_bytes), (1, Some(4096), 600));
        assert_eq!((group.oom_kills(Kills::Own), group.oom_kills(Kills::WithBelow)), (Some(1), Some(5)));
    }

    #[test]
    fn a_directory_that_is_none_is_refused_by_name() {
        assert!(matches!(MemoryCgroup::at(Path::new("/no/such/group")), Err(CgroupError::Missing { .. })));
        assert!(matches!(MemoryCgroup::at(Path::new("/proc")), Err(CgroupError::NoMemory { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(a in prop::collection::vec(any::<u8>(), 0..200), b in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = locate(&a, &b);
            let _ = (limit(&a), keyed(&a, b"x"), process_ids(&b).count());
        }

        #[test]
        fn nothing_leads_out_of_the_mount(root in "(/[a.]{1,3}){0,3}", path in "(/[a.]{1,3}){0,5}") {
            if let Some(below) = below(root.as_bytes(), path.as_bytes()) {
                prop_assert!(below.components().all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir)));
            }
        }
    }
}
