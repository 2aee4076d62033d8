//! Runs that are compared with Valgrind's.

use std::{
    env,
    ffi::OsStr,
    path::Path,
    process::{Command, Stdio},
};

/// What Valgrind adds to a program's environment: some programs copy theirs block by block, so both runs have the same.
/// Not preloaded here: the name of that one is another.
const ADDED: [(&str, &str); 4] = [
    ("GLIBCPP_FORCE_NEW", "1"),
    ("GLIBCXX_FORCE_NEW", "1"),
    ("LD_LIBRARY_PATH", "/usr/lib/debug"),
    (
        "XD_PRELOAD",
        "/usr/libexec/valgrind/vgpreload_core-amd64-linux.so:/usr/libexec/valgrind/vgpreload_memcheck-amd64-linux.so",
    ),
];

/// A run of Valgrind's memcheck in a folder, with its messages in `log`.
pub fn under_valgrind(flags: &[&str], log: &Path, words: &[impl AsRef<OsStr>], folder: &Path) -> Command {
    let mut command = Command::new("valgrind");
    // Else it has the C library free its own blocks at the end, which no program does by itself.
    command.args(["--run-libc-freeres=no", "--run-cxx-freeres=no"]).args(flags);
    command.arg(format!("--log-file={}", log.display())).args(words);
    in_folder(&mut command, folder);
    command
}

/// Gives a run its folder, its streams and its whole environment. Nothing is inherited but PATH: a variable
/// that Valgrind puts its own words into, such as the long LD_LIBRARY_PATH of `cargo test`, would differ between the runs.
fn in_folder(command: &mut Command, folder: &Path) {
    let path = env::var_os("PATH").unwrap_or_default();
    // The streams go to the same place in both runs: a stream to a pipe has another buffer.
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", folder)
        .env("PWD", folder)
        .env("PERL_HASH_SEED", "0")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
}

/// Gives a run without Valgrind the folder, streams and environment that a program has under Valgrind.
pub fn as_under_valgrind(command: &mut Command, folder: &Path) {
    in_folder(command, folder);
    command.envs(ADDED);
}
