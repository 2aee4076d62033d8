//! Runs that are compared with Valgrind's.

use std::{
    env,
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

/// Gives a run of Valgrind its folder, its streams and its whole environment. Nothing is inherited but PATH: a variable
/// that Valgrind puts its own words into, such as the long LD_LIBRARY_PATH of `cargo test`, would differ between the runs.
pub fn in_folder(command: &mut Command, folder: &Path) {
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
pub fn in_folder_as_under_valgrind(command: &mut Command, folder: &Path) {
    in_folder(command, folder);
    command.envs(ADDED);
}
