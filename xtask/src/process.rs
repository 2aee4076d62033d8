//! Running programs: with their output shown or taken, as root where that is needed, and found on the path.

use std::env;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// The cargo that runs this program, or else the one on the path.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::tree::root());
    command
}

/// Runs the command with its output shown; an unsuccessful end is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("+ {shown}");
    let status = command.status().with_context(|| format!("cannot run `{shown}`"))?;
    ensure!(status.success(), "`{shown}` failed: {status}");
    Ok(())
}

/// Runs the command without a word; an unsuccessful end is an error.
pub fn run_quietly(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs the command like [`run`] and says how long it took.
pub fn run_timed(what: &str, command: &mut Command) -> Result<()> {
    let start = Instant::now();
    run(command)?;
    eprintln!("{what}: done in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Runs the command quietly and gives its standard output, trimmed.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{shown}`"))?;
    ensure!(
        output.status.success(),
        "`{shown}` failed: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The program of this name in a folder of the path.
pub fn find(program: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The program as root: itself where we are root, else through sudo with the environment kept.
///
/// # Errors
/// Neither root nor sudo: the message says so with `why`.
pub fn as_root(program: impl AsRef<OsStr>, why: &str) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    if find("sudo").is_none() {
        bail!("{why} needs root, and there is no sudo here: run this as root");
    }
    let mut command = Command::new("sudo");
    command.arg("-E").arg(program);
    Ok(command)
}

/// The memtrace that is asked for; without one it is built.
pub fn memtrace(asked: Option<&Path>) -> Result<PathBuf> {
    match asked {
        Some(path) => std::fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display())),
        None => build_memtrace(),
    }
}

/// Builds memtrace in release mode and gives the binary's path.
pub fn build_memtrace() -> Result<PathBuf> {
    run(cargo().args(["build", "--release", "--package", "memtrace"]))?;
    let binary = crate::tree::target().join("release/memtrace");
    ensure!(binary.is_file(), "the build left no {}", binary.display());
    Ok(binary)
}

/// The path as an argument of another program, which must be UTF-8 for cargo's flags.
pub fn utf8(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8, which the build's flags need", path.display()))
}

/// Waits until a started program ends, at most so long; it is ended then, and there is no status.
///
/// # Errors
/// When it cannot be waited for or ended.
pub fn end_within(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Has the kernel end the started program when this one ends, however that comes.
pub fn ends_with_us(command: &mut Command) {
    let ask = || Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?);
    // SAFETY: between fork and exec the closure makes one system call; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(ask) };
}

/// Leaves Ctrl-C to the program that runs at the moment, so that we stay to clean up after it. A handler, unlike
/// ignoring the signal, is not passed on to that program.
pub fn outlive_interrupts() {
    extern "C" fn on_interrupt(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = on_interrupt;
    // SAFETY: the handler has the signature that signal(2) calls, and does nothing, which is safe at any moment.
    unsafe { libc::signal(libc::SIGINT, handler as libc::sighandler_t) };
}

fn show(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
