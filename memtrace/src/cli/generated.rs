//! The manual pages and completions in `docs/man` and `docs/completions`. They are made from the flags, and the files are compared
//! with them here. `MEMTRACE_WRITE_DOCS=1 cargo test -p memtrace --lib generated` writes them anew.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::Flags;

fn check(path: &Path, made: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(path);
    if env::var_os("MEMTRACE_WRITE_DOCS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, made).unwrap();
    }
    let kept = fs::read(&path).unwrap_or_default();
    assert!(kept == made, "{} is not what the flags say; see the head of {}", path.display(), file!());
}

fn check_page(command: &Command, name: &str) {
    // Names are static here.
    let name: &'static str = name.to_owned().leak();
    let command = command.clone().name(name).display_name(name).bin_name(name.replacen('-', " ", 1));
    let mut page = Vec::new();
    // Without a version in the page a release does not change it.
    clap_mangen::Man::new(command).title(name).source("memtrace").render(&mut page).unwrap();
    check(&PathBuf::from(format!("man/{name}.1")), &page);
}

#[test]
fn the_manual_pages_are_those_of_the_flags() {
    let mut command = Flags::command().disable_help_subcommand(true);
    command.build();
    check_page(&command, "memtrace");
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        check_page(subcommand, &format!("memtrace-{}", subcommand.get_name()));
    }
}

#[test]
fn the_completions_are_those_of_the_flags() {
    for (shell, name) in [(Shell::Bash, "memtrace.bash"), (Shell::Zsh, "_memtrace"), (Shell::Fish, "memtrace.fish")] {
        let mut made = Vec::new();
        clap_complete::generate(shell, &mut Flags::command(), "memtrace", &mut made);
        check(&Path::new("completions").join(name), &made);
    }
}
