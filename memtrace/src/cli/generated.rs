//! The manual pages and completions in `docs/man` and `docs/completions`. They are made from the flags, and the files are compared
//! with them here. `MEMTRACE_WRITE_DOCS=1 cargo test -p memtrace --lib generated` writes them anew.

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::Flags;
use crate::report::schema::check_made;

fn check_page(command: &Command, name: &str) {
    // Names are static here.
    let name: &'static str = name.to_owned().leak();
    let command = command.clone().name(name).display_name(name).bin_name(name.replacen('-', " ", 1));
    let mut page = Vec::new();
    // Without a version in the page a release does not change it.
    clap_mangen::Man::new(command).title(name).source("memtrace").render(&mut page).unwrap();
    check_made(&format!("man/{name}.1"), &page);
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
        check_made(&format!("completions/{name}"), &made);
    }
}
