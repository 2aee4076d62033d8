//! Trees of processes: none starts unseen, whichever way it is started, and whoever is killed meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{
    Build, Memtrace, Report,
    memtrace::{program, require_root},
    valgrind::{as_under_valgrind, under_valgrind},
    wait,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn storm() -> Result<String> {
    Ok(Build::c("storm.c").compile()?.display().to_string())
}

/// How often a storm starts processes, in eight ways by turns.
const ROUNDS: u64 = 400;

/// Memtrace that runs a command with its children and leaves its reports in a file of the folder.
fn following(words: &[&str], folder: &Path) -> Result<(Command, PathBuf)> {
    let file = folder.join("report.json");
    let mut command = Command::new(program()?);
    command.args(["--follow", "--format", "json", "--exit-code", "--output", &file.display().to_string(), "--"]);
    command.args(words);
    Ok((command, file))
}

fn last_report(file: &Path) -> Result<Report> {
    Report::parse(fs::read_to_string(file)?.lines().last().context("a report")?)
}

/// Runs a command under memtrace with its children: what the command printed, and the last report.
fn trace(words: &[&str]) -> Result<(String, Report)> {
    require_root()?;
    let folder = tempfile::tempdir()?;
    let (mut command, file) = following(words, folder.path())?;
    let output = command.stdin(Stdio::null()).output()?;
    let errors = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{}: {errors}", output.status);
    Ok((String::from_utf8(output.stdout)?, last_report(&file)?))
}

/// Allocations and frees of all processes.
fn sums(report: &Report) -> (u64, u64) {
    let totals = || report.processes.iter().map(|process| process.totals);
    let retired = report.retired;
    (
        retired.allocations + totals().map(|totals| totals.allocations).sum::<u64>(),
        retired.frees + totals().map(|totals| totals.frees).sum::<u64>(),
    )
}

#[test]
fn every_block_of_a_storm_of_processes_is_seen() -> Result<()> {
    let (printed, report) = trace(&[&storm()?, &ROUNDS.to_string(), "200"])?;
    let counted: Value = serde_json::from_str(&printed)?;
    println!("{counted}, {} processes, {:?}", report.processes.len(), report.retired);
    ensure!(report.losses().is_empty(), "{:?}", report.loss);
    // Those that the storm kills at their birth.
    ensure!(report.retired.too_short <= ROUNDS / 8, "{:?}", report.retired);
    let (allocations, frees) = sums(&report);
    ensure!((Some(allocations), Some(frees)) == (counted["allocations"].as_u64(), counted["frees"].as_u64()));
    Ok(())
}

/// The processes that were started by `parent`, and theirs, as far as they run.
fn descendants(parent: u32) -> Vec<u32> {
    let mut found = vec![parent];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
    }
    found.split_off(1)
}

fn is_called(pid: u32, name: &str) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.windows(name.len()).any(|at| at == name.as_bytes()))
}

fn kill(pid: u32) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("a pid")?;
    // It may have ended.
    let _ = kill_process(pid, Signal::KILL);
    Ok(())
}

/// A storm that was started without memtrace, and what it prints at its end.
struct Storm(Child);

impl Storm {
    fn start(rounds: u64) -> Result<Self> {
        let mut command = Command::new(storm()?);
        let storm =
            Self(command.args([&rounds.to_string(), "200"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
        // Its libraries are mapped when it has started others.
        wait::until("the storm's beginning", || Ok((!descendants(storm.0.id()).is_empty()).then_some(())))?;
        Ok(storm)
    }

    /// Whether it has come to its end, with all its processes as they should be.
    fn has_ended_well(&mut self) -> Result<bool> {
        let status = wait::until("the storm's end", || Ok(self.0.try_wait()?))?;
        Ok(status.success())
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        for pid in descendants(self.0.id()) {
            let _ = kill(pid);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn whoever_is_killed_at_whatever_moment_the_tree_runs_on() -> Result<()> {
    for turn in 0..4 {
        let mut storm = Storm::start(ROUNDS)?;
        let pid = storm.0.id().to_string();
        let mut memtrace = Memtrace::start(&["--follow", "--pid", &pid, "--format", "json"])?;
        memtrace.attached()?;
        let helper = wait::until("the helper process", || {
            Ok(descendants(memtrace.pid()).into_iter().find(|&pid| is_called(pid, "code-guard")))
        })?;
        sleep(Duration::from_millis(130 + 37 * turn));
        // The helper first, memtrace first, or one of them alone.
        let victims: &[u32] = match turn {
            0 => &[memtrace.pid()],
            1 => &[helper],
            2 => &[helper, memtrace.pid()],
            _ => &[memtrace.pid(), helper],
        };
        victims.iter().try_for_each(|&pid| kill(pid))?;
        ensure!(storm.has_ended_well()?, "turn {turn}");
        drop(memtrace);
    }
    Ok(())
}

#[test]
fn a_program_behind_execs_is_seen_from_its_first_allocation_with_whole_stacks() -> Result<()> {
    let program = Build::c("constructor.c").compile()?.display().to_string();
    let script = format!("exec env A=b nice -n 1 {program} 77777");
    let (_, report) = trace(&["sh", "-c", &script])?;
    for (bytes, function) in [(77_777, "before_main"), (77_778, "main")] {
        let stack = report.stacks.iter().find(|stack| stack.outstanding_bytes == bytes);
        let stack = stack.with_context(|| format!("{bytes} bytes in {:#?}", report.stacks))?;
        ensure!(stack.mentions(function) && stack.truncated.is_none(), "{function} in {stack:#?}");
    }
    ensure!(report.losses().is_empty(), "{:?}", report.loss);
    Ok(())
}

/// By program, the allocations and frees of each process that ran it, in their order.
type Counts = BTreeMap<String, Vec<(u64, u64)>>;

fn add(counts: &mut Counts, command: &str, allocations: u64, frees: u64) {
    let program = command.split_whitespace().next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    let processes = counts.entry(program.to_owned()).or_default();
    processes.push((allocations, frees));
    processes.sort_unstable();
}

fn by_valgrind(words: &[&str], folder: &Path) -> Result<Counts> {
    let logs = folder.join("logs");
    fs::create_dir(&logs)?;
    let status = under_valgrind(&["--trace-children=yes"], &logs.join("%p"), words, folder).status()?;
    ensure!(status.success(), "{status}");
    let mut counts = Counts::new();
    for log in fs::read_dir(&logs)? {
        let text = fs::read_to_string(log?.path())?.replace(',', "");
        let Some(usage) = text.lines().find_map(|line| line.split_once("total heap usage:")) else { continue };
        let numbers: Vec<u64> = usage.1.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let command = text.lines().find_map(|line| line.split_once("Command: ")).context("a command")?.1;
        add(&mut counts, command, numbers[0], numbers[1]);
    }
    Ok(counts)
}

fn by_memtrace(words: &[&str], folder: &Path) -> Result<Counts> {
    let (mut command, file) = following(words, folder)?;
    as_under_valgrind(&mut command, folder);
    let status = command.status()?;
    ensure!(status.success(), "{status}");
    let report = last_report(&file)?;
    ensure!(report.losses().is_empty(), "{:?}", report.loss);
    ensure!(report.retired.processes == 0, "{:?}", report.retired);
    let mut counts = Counts::new();
    for process in &report.processes {
        add(&mut counts, &process.command, process.totals.allocations, process.totals.frees);
    }
    Ok(counts)
}

/// Compares every process: they may be one in a thousand apart, and one block, as Valgrind's own counts are from run to run.
fn agree(words: &[&str], prepare: impl Fn(&Path) -> Result<()>) -> Result<()> {
    require_root()?;
    let runs = [tempfile::tempdir()?, tempfile::tempdir()?];
    runs.iter().try_for_each(|folder| prepare(folder.path()))?;
    let (ours, theirs) = (by_memtrace(words, runs[0].path())?, by_valgrind(words, runs[1].path())?);
    let mut apart = Vec::new();
    for program in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
        let (ours, theirs) = (ours.get(program).cloned(), theirs.get(program).cloned());
        let (ours, theirs) = (ours.unwrap_or_default(), theirs.unwrap_or_default());
        let near = |one: u64, other: u64| one.abs_diff(other) <= other / 1000 + 1;
        let equal = ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(|(one, other)| near(one.0, other.0) && near(one.1, other.1));
        if !equal {
            apart.push(format!("{program}: {ours:?}, by Valgrind {theirs:?}"));
        }
    }
    ensure!(ours.values().map(Vec::len).sum::<usize>() > 4 && apart.is_empty(), "{}", apart.join("\n"));
    Ok(())
}

#[test]
fn every_process_of_a_build_allocates_what_valgrind_counts() -> Result<()> {
    agree(&["make", "-s", "-j2"], |folder| {
        fs::write(folder.join("one.c"), "int two(void); int main(void) { return two(); }\n")?;
        fs::write(folder.join("two.c"), "int two(void) { return 0; }\n")?;
        let rules = "all: one.o two.o\n\tgcc -o all one.o two.o\n%.o: %.c\n\tgcc -c $<\n";
        Ok(fs::write(folder.join("Makefile"), rules)?)
    })
}

#[test]
fn every_process_of_a_runner_of_tests_allocates_what_valgrind_counts() -> Result<()> {
    let python = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output()?;
    let python = String::from_utf8(python.stdout)?;
    let script = "
import os, sys
for number in range(4):
    words = [sys.executable, '-S', '-c', f'd = {{i: str(i) for i in range({2000 * (number + 1)})}}']
    pid = os.posix_spawn(words[0], words, os.environ)
    assert os.waitpid(pid, 0)[1] == 0
";
    agree(&[python.trim(), "-S", "runner.py"], |folder| Ok(fs::write(folder.join("runner.py"), script)?))
}
