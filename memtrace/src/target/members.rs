//! Processes that belong together: the members of a cgroup and of the ones below it, and the children of a process.
//!
//! Both are read from files of the kernel whenever they are asked for; nobody tells of a change.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Pid,
    cgroup::{self, CgroupError},
};

/// A cgroup, of either version and whatever its controllers, with all that are below it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// The cgroup of a directory, or of a path in the hierarchy.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn open(path: &Path) -> Result<Self, CgroupError> {
        cgroup::directory(path).map(Self)
    }

    /// Whether the cgroup that the processes are taken from is still there.
    pub fn exists(&self) -> bool {
        self.0.join("cgroup.procs").exists()
    }

    /// The processes in it and below it now, as our pid namespace numbers them; those of other namespaces are left out.
    /// None when it is gone.
    pub fn processes(&self) -> Vec<Pid> {
        cgroup::processes(&self.0).unwrap_or_default()
    }
}

/// The running children of a process, without theirs (`/proc/PID/task/TID/children`, proc_pid_task_children(5)).
///
/// # Errors
///
/// When the kernel does not list them; `NotFound` too when the process has ended.
pub fn children(pid: Pid) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for task in fs::read_dir(pid.proc_path("task"))?.flatten() {
        match fs::read_to_string(task.path().join("children")) {
            Ok(text) => found.extend(pids(&text)),
            // A thread that has ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !task.path().exists() => {}
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// 0 stands for a process that our pid namespace does not number.
fn pids(text: &str) -> impl Iterator<Item = Pid> {
    text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).filter(|&pid| pid != 0).map(Pid)
}

/// Whether two processes share one memory: between vfork and exec, as posix_spawn does, the child runs in its parent's.
pub fn share_memory(one: Pid, other: Pid) -> bool {
    const KCMP_VM: libc::c_int = 1;
    // SAFETY: kcmp(2) with numbers only.
    let result = unsafe { libc::syscall(libc::SYS_kcmp, one.0, other.0, KCMP_VM, 0, 0) };
    result == 0
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn children_are_listed_while_they_run() {
        let child = Running(Command::new("sleep").arg("600.2").spawn().expect("a child"));
        let own = Pid(std::process::id());
        assert!(children(own).expect("our children").contains(&Pid(child.0.id())));
        assert!(!share_memory(own, Pid(child.0.id())) && share_memory(own, own));
        drop(child);
        assert!(children(Pid(u32::MAX)).is_err());
    }

    #[test]
    fn a_tree_of_cgroups_is_read_whole_and_each_process_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let below = folder.path().join("a/b");
        fs::create_dir_all(&below).expect("folders");
        fs::write(folder.path().join("cgroup.procs"), "3\n0\n1\n").expect("a list");
        fs::write(below.join("cgroup.procs"), "2\n3\n").expect("a list");
        let cgroup = Cgroup::open(folder.path()).expect("a cgroup");
        assert_eq!(cgroup.processes(), [Pid(1), Pid(2), Pid(3)]);
        assert!(cgroup.exists());
        assert!(matches!(Cgroup::open(&folder.path().join("a")), Err(CgroupError::Missing { .. })));
    }
}
