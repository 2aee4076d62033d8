//! Can memtrace run here? What the kernel must offer and what the user must be allowed, each with what to do about it.

use std::{fs, path::Path};

use thiserror::Error;

use super::return_probes::{self, ReturnProbes};

/// Why memtrace cannot run on this kernel or as this user.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum FeatureError {
    /// The process lacks a capability.
    #[error(
        "no privilege: {capability} is missing ({purpose}); run with sudo, or grant it: setcap {grant}+ep <memtrace>"
    )]
    Capability {
        /// Its name.
        capability: &'static str,
        /// What it is needed for.
        purpose: &'static str,
        /// Its name as setcap(8) wants it.
        grant: &'static str,
    },
    /// The kernel is older than what the programs use.
    #[error("this kernel is {found}; memtrace needs Linux 5.17 or later (BPF loops and task storage)")]
    TooOld {
        /// The running kernel's release.
        found: String,
    },
    /// No type information.
    #[error("this kernel has no BTF ({BTF} is missing); use a kernel built with CONFIG_DEBUG_INFO_BTF=y")]
    NoBtf,
    /// No uprobes.
    #[error("this kernel has no uprobes ({UPROBE_PMU} is missing); use a kernel built with CONFIG_UPROBE_EVENTS=y")]
    NoUprobes,
    /// Lockdown forbids BPF to read memory.
    #[error(
        "the kernel is locked down (confidentiality), which forbids BPF to read memory; boot with lockdown=integrity or none"
    )]
    LockedDown,
    /// The tracing file system is not mounted.
    #[error(
        "--syscalls and --mode growth need tracefs, which is not mounted; run: mount -t tracefs tracefs /sys/kernel/tracing"
    )]
    NoTracefs,
    /// Return probes could kill a process.
    #[error(
        "on this kernel a seccomp filter may kill a process at a return probe, so processes with such a filter are refused; use Linux 6.14 or later"
    )]
    Confined,
    /// No probe says at the entry whether it is needed at the return.
    #[error(
        "this kernel has no uprobe sessions, so each malloc costs an extra trap at its return; use Linux 6.13 or later"
    )]
    NoSessions,
}

/// The kernel's type information.
pub(super) const BTF: &str = "/sys/kernel/btf/vmlinux";
const UPROBE_PMU: &str = "/sys/bus/event_source/devices/uprobe/type";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing/events/syscalls", "/sys/kernel/debug/tracing/events/syscalls"];
const MINIMUM: (u32, u32) = (5, 17);

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Check {
    /// What it is called in `memtrace doctor`.
    pub name: &'static str,
    /// What memtrace needs it for.
    pub purpose: &'static str,
    /// Whether it is there.
    pub result: Result<(), FeatureError>,
}

/// Looks at everything that a run needs; with `syscalls` also at what `--syscalls` needs.
pub fn checks(syscalls: bool) -> Vec<Check> {
    let capabilities = effective_capabilities();
    let capability = |name, number: u32, purpose, grant| {
        let held = capabilities & (1 << number) != 0 || capabilities & (1 << CAP_SYS_ADMIN) != 0;
        let result = if held { Ok(()) } else { Err(FeatureError::Capability { capability: name, purpose, grant }) };
        Check { name, purpose, result }
    };
    let file = |name, purpose, path: &str, error| Check {
        name,
        purpose,
        result: if Path::new(path).exists() { Ok(()) } else { Err(error) },
    };
    let mut checks = vec![
        Check { name: "kernel", purpose: "BPF loops and task storage", result: check_version() },
        capability("CAP_BPF", 39, "to load BPF programs", "cap_bpf"),
        capability("CAP_PERFMON", 38, "to attach uprobes", "cap_perfmon"),
        file("BTF", "to load programs that use task storage", BTF, FeatureError::NoBtf),
        file("uprobes", "to see calls in a running process", UPROBE_PMU, FeatureError::NoUprobes),
        Check { name: "lockdown", purpose: "BPF reads the target's stack", result: check_lockdown() },
    ];
    if syscalls {
        let found = TRACEFS.iter().any(|path| Path::new(path).exists());
        let result = if found { Ok(()) } else { Err(FeatureError::NoTracefs) };
        checks.push(Check { name: "tracefs", purpose: "tracepoints (--syscalls and --mode growth)", result });
    }
    checks
}

/// Whether processes with a seccomp filter can be traced; a run looks at it when it meets one.
pub fn confined() -> Check {
    let safe = return_probes::with_filter() == ReturnProbes::Safe;
    let result = if safe { Ok(()) } else { Err(FeatureError::Confined) };
    Check { name: "seccomp", purpose: "return probes in processes with seccomp filters", result }
}

/// Session uprobes ("bpf: Add support for uprobe multi session attach").
const SESSIONS: (u32, u32) = (6, 13);

/// Whether one program can stand at both ends of a call, and say at the entry whether it is needed at the return: without that
/// nothing is predicted.
pub fn has_sessions() -> bool {
    kernel_version().is_some_and(|version| version >= SESSIONS)
}

/// Whether the kernel has uprobe sessions, as one of the checks that `memtrace doctor` lists.
pub fn predicting() -> Check {
    let result = if has_sessions() { Ok(()) } else { Err(FeatureError::NoSessions) };
    Check { name: "sessions", purpose: "no trap at the return of malloc where its result is predicted", result }
}

/// Fails with the first thing that is missing.
///
/// # Errors
///
/// The [`FeatureError`], which says what to do.
pub fn require(syscalls: bool) -> Result<(), FeatureError> {
    checks(syscalls).into_iter().try_for_each(|check| check.result)
}

/// Whether processes can be held by ptrace(2) without a change to what they may do: a set-user-id program that is traced
/// keeps its rights only where its tracer has CAP_SYS_PTRACE (execve(2)).
pub fn may_hold() -> bool {
    const CAP_SYS_PTRACE: u32 = 19;
    effective_capabilities() & (1 << CAP_SYS_PTRACE) != 0
}

const CAP_SYS_ADMIN: u32 = 21;

/// The effective capability set of this process (capabilities(7)); 0 when it cannot be read.
fn effective_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

/// The running kernel's version, as far as its release string tells.
pub fn kernel_version() -> Option<(u32, u32)> {
    parse_release(&release())
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn check_version() -> Result<(), FeatureError> {
    match kernel_version() {
        Some(version) if version < MINIMUM => Err(FeatureError::TooOld { found: release() }),
        _ => Ok(()),
    }
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Lockdown is off or absent where the file is; the mode in force stands in brackets.
fn check_lockdown() -> Result<(), FeatureError> {
    let modes = fs::read_to_string(LOCKDOWN).unwrap_or_default();
    if modes.contains("[confidentiality]") { Err(FeatureError::LockedDown) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_understood() {
        assert_eq!(parse_release("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(parse_release("5.15.0-82-generic"), Some((5, 15)));
        assert_eq!(parse_release("6.1"), Some((6, 1)));
        assert_eq!(parse_release("strange"), None);
    }

    #[test]
    fn every_error_is_one_line_that_says_what_to_do() {
        let capability = FeatureError::Capability { capability: "CAP_BPF", purpose: "p", grant: "cap_bpf" };
        for error in [
            capability,
            FeatureError::NoBtf,
            FeatureError::NoUprobes,
            FeatureError::LockedDown,
            FeatureError::NoTracefs,
            FeatureError::Confined,
            FeatureError::NoSessions,
        ] {
            let text = error.to_string();
            assert!(!text.contains('\n') && text.contains(';'), "{text}");
        }
    }
}
