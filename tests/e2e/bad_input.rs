//! Bad input and refusals: each is one line on standard error that says what is wrong and what to do, with exit 1 or 2.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{Build, Finished, Memtrace, Target, memtrace::program};
use tempfile::TempDir;

/// A target that is sound in every way.
fn sound_target() -> Result<Target> {
    Target::start(&Build::c("leaky_service.c"), &[])
}

/// Checks for one line that begins with the program's name and mentions, in any case, one of `names`.
fn refused(finished: &Finished, names: &[&str]) -> Result<()> {
    assert!(matches!(finished.code(), Some(1 | 2)), "{finished:?}");
    assert_eq!(finished.output, [""; 0], "nothing on standard output");
    assert_eq!(finished.errors.len(), 1, "one line: {:#?}", finished.errors);
    let line = finished.errors.first().context("a line")?;
    assert!(line.starts_with("memtrace: "), "{line}");
    let lower = line.to_lowercase();
    assert!(names.iter().any(|name| lower.contains(&name.to_lowercase())), "{line:?} mentions none of {names:?}");
    Ok(())
}

fn run(arguments: &[&str]) -> Result<Finished> {
    Memtrace::start(arguments)?.finish()
}

fn attach_to(pid: u32) -> Result<Finished> {
    run(&["--pid", &pid.to_string(), "--duration", "2s"])
}

/// Runs memtrace in mounts of its own that `mounts`, a piece of shell, has changed.
fn attach_in_mounts(mounts: &str, pid: u32, more: &[&str]) -> Result<Finished> {
    let script = format!("{mounts} && exec \"$0\" \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).arg(program()?);
    command.args(["--pid", &pid.to_string(), "--duration", "2s"]).args(more);
    Memtrace::spawn(&mut command)?.finish()
}

/// Runs memtrace as root without some capabilities.
fn attach_without(capabilities: &str, pid: u32) -> Result<Finished> {
    let mut command = Command::new("setpriv");
    command.arg(format!("--bounding-set={capabilities}")).arg(program()?);
    command.args(["--pid", &pid.to_string(), "--duration", "2s"]);
    Memtrace::spawn(&mut command)?.finish()
}

#[test]
fn no_such_process() -> Result<()> {
    let mut gone = Command::new("true").spawn()?;
    gone.wait()?;
    refused(&attach_to(gone.id())?, &["no such process", "no process", "not running"])
}

#[test]
fn a_pid_that_no_system_has() -> Result<()> {
    for pid in ["0", "-1", "4294967295", "99999999999", "1x", ""] {
        let finished = run(&["--pid", pid, "--duration", "2s"])?;
        assert!(matches!(finished.code(), Some(1 | 2)), "{pid:?}: {finished:?}");
        assert!(!finished.errors.is_empty() && finished.output.is_empty(), "{pid:?}: {finished:?}");
    }
    Ok(())
}

#[test]
fn a_flag_that_is_nearly_right_is_proposed() -> Result<()> {
    let finished = run(&["--pid", "1", "--duratoin", "2s"])?;
    refused(&finished, &["did you mean --duration?"])?;
    ensure!(finished.code() == Some(2), "{finished:?}");
    Ok(())
}

#[test]
fn a_kernel_thread() -> Result<()> {
    const PF_KTHREAD: u64 = 0x0020_0000; // include/linux/sched.h
    let is_kernel_thread = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, which may hold anything: state, ppid, pgrp, session, tty, tpgid, flags.
        let flags: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(6)?.parse().ok()?;
        (flags & PF_KTHREAD != 0).then_some(pid)
    };
    let thread = (1..1000).find_map(is_kernel_thread).context("this machine shows its kernel threads")?;
    refused(&attach_to(thread)?, &["kernel thread"])
}

#[test]
fn its_own_pid() -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" --pid $$ --duration 2s"]).arg(program()?);
    refused(&Memtrace::spawn(&mut command)?.finish()?, &["itself", "own"])
}

#[test]
fn a_32_bit_target() -> Result<()> {
    let target = Target::start(&Build::freestanding("static_pause.c").for_i386(), &[])?;
    refused(&attach_to(target.pid())?, &["32-bit", "i386"])
}

#[test]
fn a_static_binary_with_no_allocator() -> Result<()> {
    let target = Target::start(&Build::freestanding("static_pause.c"), &[])?;
    refused(&attach_to(target.pid())?, &["allocator"])
}

#[test]
fn no_privilege_at_all() -> Result<()> {
    let target = sound_target()?;
    // Where anyone may read and run it.
    let folder: TempDir = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let copy: PathBuf = folder.path().join("memtrace");
    fs::copy(program()?, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(copy);
    command.args(["--pid", &target.pid().to_string(), "--duration", "2s"]);
    refused(&Memtrace::spawn(&mut command)?.finish()?, &["CAP_BPF"])
}

#[test]
fn each_missing_capability_is_named() -> Result<()> {
    let target = sound_target()?;
    // CAP_SYS_ADMIN stands in for the narrower ones, so it goes too.
    refused(&attach_without("-bpf,-sys_admin", target.pid())?, &["CAP_BPF"])?;
    refused(&attach_without("-perfmon,-sys_admin", target.pid())?, &["CAP_PERFMON"])?;
    refused(&attach_without("-sys_ptrace,-sys_admin", target.pid())?, &["CAP_SYS_PTRACE"])
}

#[test]
fn a_kernel_without_type_information() -> Result<()> {
    let target = sound_target()?;
    refused(&attach_in_mounts("mount -t tmpfs none /sys/kernel/btf", target.pid(), &[])?, &["BTF"])
}

#[test]
fn no_tracefs_where_it_is_needed() -> Result<()> {
    let target = sound_target()?;
    // A folder without room for mounts: read-only, so that nothing can be put there in passing.
    let hide = "for at in /sys/kernel/tracing /sys/kernel/debug; do mount -t tmpfs -o ro none $at || exit 99; done";
    refused(&attach_in_mounts(hide, target.pid(), &["--syscalls"])?, &["tracefs"])
}

#[test]
fn a_locked_down_kernel() -> Result<()> {
    let target = sound_target()?;
    let lock = "mount -t tmpfs none /sys/kernel/security && \
                echo 'none integrity [confidentiality]' > /sys/kernel/security/lockdown";
    refused(&attach_in_mounts(lock, target.pid(), &[])?, &["lockdown", "locked down", "locked-down"])
}

#[test]
fn an_unwritable_output_file() -> Result<()> {
    let target = sound_target()?;
    let pid = target.pid().to_string();
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_string_lossy().into_owned();
    for output in [format!("{path}/missing/report.json"), path.clone(), "/proc/report.json".to_owned()] {
        let finished = run(&["--pid", &pid, "--duration", "2s", "--output", &output])?;
        refused(&finished, &[&output])?;
    }
    Ok(())
}

#[test]
fn a_read_only_output_folder() -> Result<()> {
    let target = sound_target()?;
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("report.json").to_string_lossy().into_owned();
    let mount = format!("mount -t tmpfs -o ro none '{}'", folder.path().display());
    refused(&attach_in_mounts(&mount, target.pid(), &["--output", &output])?, &[&output])
}

#[test]
fn a_full_disk_is_an_error_and_not_a_silence() -> Result<()> {
    let mut target = sound_target()?;
    target.tell("go")?;
    let pid = target.pid().to_string();
    let finished = run(&["--pid", &pid, "--interval", "1s", "--duration", "3s", "--output", "/dev/full"])?;
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    assert_eq!(finished.errors.iter().filter(|line| line.contains("/dev/full")).count(), 1, "{finished:?}");
    target.exit()
}

#[test]
fn a_closed_standard_output_is_no_error() -> Result<()> {
    memtrace_tests::memtrace::require_root()?;
    for format in ["json", "text"] {
        let mut target = sound_target()?;
        target.tell("go")?;
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let pid = target.pid().to_string();
        // `timeout` ends a memtrace that hangs, with a status of its own.
        let result = Command::new("timeout")
            .args(["--kill-after=1s", "60s"])
            .arg(program()?)
            .args(["--pid", &pid, "--interval", "1s", "--duration", "3s", "--format", format])
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()?;
        let errors = String::from_utf8_lossy(&result.stderr).to_lowercase();
        assert_eq!(result.status.code(), Some(0), "{format}: {errors}");
        assert!(!errors.contains("broken pipe") && !errors.contains("panicked"), "{format}: {errors}");
        target.exit()?;
    }
    Ok(())
}

#[test]
fn bad_usage_exits_with_2() -> Result<()> {
    let cases: &[&[&str]] = &[
        &[],
        &["--duration", "5s"],
        &["--no-such-flag", "--pid", "1"],
        &["--pid", "1", "--interval", "soon"],
        &["--pid", "1", "--interval", "0s"],
        &["--pid", "1", "--format", "xml"],
        &["--pid", "1", "--min-size", "9", "--max-size", "3"],
    ];
    for arguments in cases {
        let finished = run(arguments)?;
        assert_eq!(finished.code(), Some(2), "{arguments:?}: {finished:?}");
        assert!(!finished.errors.is_empty() && finished.output.is_empty(), "{arguments:?}: {finished:?}");
    }
    Ok(())
}

#[test]
fn control_characters_of_a_target_never_reach_the_terminal() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("evil\u{1b}[2Jname\u{7}");
    fs::copy(Build::c("leaky_service.c").compile()?, &file)?;
    let mut target = Target::start_file(&file, &["100", "1000"])?;
    target.tell("go")?;
    let pid = target.pid().to_string();
    let finished = run(&["--pid", &pid, "--interval", "1s", "--duration", "3s"])?;
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    let all = [finished.output, finished.errors].concat().join("");
    assert!(!all.contains(|c: char| c.is_control() && c != '\t'), "{all:?}");
    target.exit()
}
