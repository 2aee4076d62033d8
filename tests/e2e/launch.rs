//! A command that memtrace runs: traced from its first allocation, with a shell's manners.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{
    Build, Memtrace, Report,
    memtrace::{program, require_root},
    wait,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Runs memtrace to its end: exit status, standard output, standard error.
fn run(arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    require_root()?;
    let output = Command::new(program()?).args(arguments).stdin(Stdio::null()).output()?;
    Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

/// The report after what the command printed.
fn report(output: &str) -> Result<Report> {
    Report::parse(output.lines().rev().find(|line| line.starts_with('{')).context("a report")?)
}

#[test]
fn a_constructors_allocation_is_seen() -> Result<()> {
    for build in [Build::c("constructor.c"), Build::musl("constructor.c")] {
        let program = build.compile()?;
        let program = program.display().to_string();
        let (code, output, errors) = run(&["--format", "json", "--", &program, "77777"])?;
        ensure!(code == Some(0), "{errors}");
        let report = report(&output)?;
        for (bytes, function) in [(77_777, "before_main"), (77_778, "main")] {
            let stack = report.stacks.iter().find(|stack| stack.outstanding_bytes == bytes);
            let stack = stack.with_context(|| format!("{bytes} bytes in {:#?}", report.stacks))?;
            ensure!(stack.mentions(function), "{function} in {stack:#?}");
        }
        ensure!(report.processes.iter().all(|process| process.exited), "{:?}", report.processes);
    }
    Ok(())
}

#[test]
fn the_commands_end_is_told_and_passed_on_when_asked() -> Result<()> {
    let (code, _, errors) = run(&["--", "sh", "-c", "exit 9"])?;
    assert_eq!(code, Some(0));
    assert!(errors.contains("exit status: 9"), "{errors}");
    assert_eq!(run(&["--exit-code", "--", "sh", "-c", "exit 9"])?.0, Some(9));
    let (code, _, errors) = run(&["--exit-code", "--", "sh", "-c", "kill -9 $$"])?;
    assert_eq!(code, Some(128 + 9));
    assert!(errors.contains("signal: 9"), "{errors}");
    Ok(())
}

#[test]
fn what_cannot_run_is_said_in_one_line() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let text = folder.path().join("text");
    fs::write(&text, "no program")?;
    for program in ["/no/such/program", "/", &text.display().to_string()] {
        let (code, output, errors) = run(&["--", program])?;
        assert_eq!((code, output.as_str(), errors.lines().count()), (Some(1), "", 1), "{errors}");
        assert!(errors.contains("cannot run"), "{errors}");
    }
    let (code, _, errors) = run(&["--user=no-such-user", "--", "true"])?;
    assert_eq!(code, Some(1));
    assert!(errors.contains("no such user"), "{errors}");
    Ok(())
}

#[test]
fn arguments_environment_folder_and_user_are_those_of_a_shell() -> Result<()> {
    require_root()?;
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(program()?);
    command.args(["--output", "/dev/null", "--user=nobody", "--", "sh", "-c"]);
    command.args(["echo $0 $1 $WORD $HOME; pwd -P; id -un; cat", "a b", "--pid"]);
    let stdin = folder.path().join("input");
    fs::write(&stdin, "typed\n")?;
    command.env("WORD", "kept").current_dir("/usr").stdin(fs::File::open(&stdin)?);
    let output = command.output()?;
    let lines = String::from_utf8(output.stdout)?;
    let lines: Vec<&str> = lines.lines().collect();
    assert!(lines[0].starts_with("a b --pid kept /"), "{lines:?}");
    assert_eq!(lines[1..], ["/usr", "nobody", "typed"], "{}", String::from_utf8(output.stderr)?);
    Ok(())
}

#[test]
fn a_command_outlives_the_end_of_the_run_and_a_terminating_signal_is_passed_on() -> Result<()> {
    // A command that outlives the run must not hold the pipes that the test reads.
    let arguments = [
        "--format",
        "json",
        "--interval",
        "1s",
        "--duration",
        "1s",
        "--",
        "sh",
        "-c",
        "exec sleep 600.3 > /dev/null 2>&1",
    ];
    let finished = Memtrace::start(&arguments)?.finish()?;
    let pid = finished.final_report()?.processes[0].pid;
    let raw = Pid::from_raw(i32::try_from(pid)?).context("a pid")?;
    test_kill_process(raw).context("the command goes on")?;
    kill_process(raw, Signal::KILL)?;

    let mut memtrace = Memtrace::start(&[
        "--format",
        "json",
        "--interval",
        "1s",
        "--",
        "sh",
        "-c",
        "exec sleep 600.4 > /dev/null 2>&1",
    ])?;
    let pid = memtrace.next_report()?.processes[0].pid;
    memtrace.signal(Signal::TERM)?;
    memtrace.finish()?.final_report()?;
    // It may stay a zombie: nobody's child by now.
    let stat = format!("/proc/{pid}/stat");
    wait::until("the command's end", || {
        let runs = fs::read_to_string(&stat).is_ok_and(|stat| stat.contains("(sleep)") && !stat.contains(") Z "));
        Ok((!runs).then_some(()))
    })
}

#[test]
fn a_set_user_id_program_runs_as_it_would() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("id");
    fs::copy("/usr/bin/id", &program)?;
    let mut permissions = fs::metadata(&program)?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o4755);
    fs::set_permissions(&program, permissions)?;
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    ensure!(fs::metadata(&program)?.uid() == 0, "made by root");
    let path = program.display().to_string();
    let (code, output, errors) = run(&["--output", "/dev/null", "--user=nobody", "--exit-code", "--", &path, "-un"])?;
    assert_eq!((code, output.as_str()), (Some(0), "root\n"), "{errors}");
    Ok(())
}
