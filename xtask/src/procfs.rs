//! What the kernel tells of a process: its time, its memory, its libraries, and which process it runs.

use std::fs;

use anyhow::{Context as _, Result};

/// What a running process took so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// In user and kernel mode, all threads.
    pub processor_seconds: f64,
    /// The most that it had resident.
    pub peak_bytes: u64,
}

impl Usage {
    /// Of this process.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let ticks = ticks(&read("stat")?).with_context(|| format!("/proc/{pid}/stat has no times"))?;
        let peak_bytes = peak_bytes(&read("status")?).with_context(|| format!("/proc/{pid}/status has no VmHWM"))?;
        let each = rustix::param::clock_ticks_per_second();
        Ok(Self { processor_seconds: ticks as f64 / each as f64, peak_bytes })
    }
}

/// `utime` and `stime`, fields 14 and 15 of proc(5)'s stat. The second field is a name in brackets that may hold any byte.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn peak_bytes(status: &str) -> Option<u64> {
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix("kB")?;
    Some(kib.trim().parse::<u64>().ok()? * 1024)
}

/// The path of the first file with this in its path that the process maps.
pub fn mapped(pid: u32, part: &str) -> Result<Option<String>> {
    let maps =
        fs::read_to_string(format!("/proc/{pid}/maps")).with_context(|| format!("cannot read the maps of {pid}"))?;
    let mut paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    Ok(paths.find(|path| path.contains(part)).map(str::to_owned))
}

/// The process of this name: the one given, or the one that it runs, as sudo does.
pub fn process_named(pid: u32, name: &str) -> Result<u32> {
    let mut at = pid;
    loop {
        let comm = fs::read_to_string(format!("/proc/{at}/comm")).with_context(|| format!("{name} has ended"))?;
        if comm.trim_end() == name {
            return Ok(at);
        }
        let children = fs::read_to_string(format!("/proc/{at}/task/{at}/children"))?;
        let child = children.split_whitespace().next().with_context(|| format!("no {name} below process {pid}"))?;
        at = child.parse().context("the kernel names a child that is no number")?;
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn times_are_read_behind_a_name_with_brackets_and_blanks() {
        let stat = "42 (a) S 1 2) S 1 42 42 0 -1 4194304 100 0 0 0 250 17 5 6 20 0 1 0 12345 8192 100";
        assert_eq!(ticks(stat), Some(267));
        assert_eq!(ticks("42 (a) S 1 42"), None);
    }

    #[test]
    fn memory_is_the_most_and_in_bytes() {
        assert_eq!(peak_bytes("VmPeak:\t  9000 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 7 kB\n"), Some(1234 * 1024));
        assert_eq!(peak_bytes("VmRSS:\t 7 kB\n"), None);
    }

    #[test]
    fn a_mapped_library_is_found_by_a_part_of_its_path() {
        let libc = mapped(std::process::id(), "/libc.so").unwrap().unwrap();
        assert!(std::path::Path::new(&libc).is_file());
        assert_eq!(mapped(std::process::id(), "/libnone.so").unwrap(), None);
    }

    #[test]
    fn a_process_is_found_below_the_one_that_started_it() {
        // cat ends when its input does.
        let mut shell = Command::new("sh").args(["-c", "cat; true"]).stdin(Stdio::piped()).spawn().unwrap();
        // Until the shell has started it.
        let found = (0..500).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            process_named(shell.id(), "cat").ok()
        });
        let own = process_named(shell.id(), "sh");
        let none = process_named(shell.id(), "memtrace");
        shell.wait().unwrap();
        assert_eq!(own.unwrap(), shell.id());
        assert!(found.is_some_and(|pid| pid != shell.id()));
        assert!(none.is_err());
    }
}
