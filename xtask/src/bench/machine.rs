//! Where and with what a run was made: what decides the numbers, and nothing that names the machine or its owner.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{packages, process, tree};

/// What a reader has to know, as names and values.
pub fn facts() -> Result<Vec<(&'static str, String)>> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let meminfo = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let memory = memory_gib(&meminfo).context("/proc/meminfo names no size")?;
    let uname = rustix::system::uname();
    Ok(vec![
        ("processor", processor(&cpuinfo).unwrap_or("unknown").to_owned()),
        ("processors", std::thread::available_parallelism()?.to_string()),
        ("memory", format!("{memory} GiB")),
        ("virtual machine", virtual_machine(&cpuinfo)),
        ("kernel", format!("Linux {}, {}", uname.release().to_string_lossy(), uname.machine().to_string_lossy())),
        ("packages", versions()),
        ("memtrace", commit()),
        ("date", process::output(Command::new("date").args(["-u", "+%F"]))?),
    ])
}

fn processor(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start().strip_prefix(':')?.trim())
}

/// Rounded: the kernel keeps some for itself.
fn memory_gib(meminfo: &str) -> Option<u64> {
    let kib: u64 =
        meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some((kib + (1 << 19)) >> 20)
}

/// systemd knows which hypervisor it is; without it the processor tells that there is one.
fn virtual_machine(cpuinfo: &str) -> String {
    // Exits unsuccessfully where it finds none.
    let said = Command::new("systemd-detect-virt").arg("--vm").output().ok();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    match said.as_deref() {
        Some("none") => "no".to_owned(),
        Some(name) if !name.is_empty() => format!("yes ({name})"),
        _ if has_hypervisor(cpuinfo) => "yes".to_owned(),
        _ => "no".to_owned(),
    }
}

fn has_hypervisor(cpuinfo: &str) -> bool {
    let mut flags = cpuinfo.lines().filter_map(|line| line.strip_prefix("flags"));
    flags.any(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
}

/// Of what was installed for the benchmark.
fn versions() -> String {
    let mut command = Command::new("dpkg-query");
    command.args(["--show", "--showformat=${Package} ${Version}, "]);
    command.args(packages::BENCH.iter().map(|package| package.name));
    let known = process::output(&mut command).unwrap_or_default();
    if known.is_empty() { "unknown".to_owned() } else { known.trim_end_matches(',').to_owned() }
}

/// The checkout's commit. Documentation does not count: the last run's results are in it.
fn commit() -> String {
    let git = |arguments: &[&str]| process::output(Command::new("git").args(arguments).current_dir(tree::root()));
    let Ok(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown commit".to_owned() };
    let changed = git(&["status", "--porcelain", "--", ".", ":!docs"]).is_ok_and(|files| !files.is_empty());
    format!("commit {commit}{}", if changed { ", with changes" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPUINFO: &str =
        "processor\t: 0\nmodel name\t: AMD EPYC 9R14\nflags\t\t: fpu hypervisor lahf_lm\n\nprocessor\t: 1\n";

    #[test]
    fn the_processors_model_is_read() {
        assert_eq!(processor(CPUINFO), Some("AMD EPYC 9R14"));
        assert_eq!(processor("processor\t: 0\n"), None);
    }

    #[test]
    fn a_hypervisor_is_a_flag_of_its_own() {
        assert!(has_hypervisor(CPUINFO));
        assert!(!has_hypervisor("model name\t: hypervisor\nflags\t\t: fpu nohypervisor\n"));
    }

    #[test]
    fn memory_is_rounded() {
        assert_eq!(memory_gib("MemTotal:       24683884 kB\nMemFree: 1 kB\n"), Some(24));
        assert_eq!(memory_gib("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn nothing_in_it_is_a_path_or_the_machines_name() {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        for (name, value) in facts().unwrap() {
            assert!(!value.is_empty() && !value.contains('/'), "{name}: {value}");
            assert!(value.split([' ', ',']).all(|word| word != host), "{name}: {value}");
        }
    }
}
