//! What a program of the trial is.
//!
//! `start` prints `ready` and the ids of the processes to trace, works until the file that `STOP` names is there, checks its own
//! work all along, prints a result that is the same in each run, and ends with status 7.

use std::path::Path;
use std::process::Command;

use crate::tree;

/// One program.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// What it is called on the command line and in the table.
    pub name: &'static str,
    /// The Debian packages that it takes, besides a C compiler and Python.
    pub packages: &'static [&'static str],
    /// Shell: prints its version.
    pub version: &'static str,
    /// Shell: makes in `$BUILD` what `start` runs; empty where there is nothing to make.
    pub build: &'static str,
    /// Shell: starts it; `$SOURCE` is the folder of the sources, `$FOLDER` an empty one of its own.
    pub start: &'static str,
    /// memtrace's flags besides the ids; rounds take them in turn.
    pub flags: &'static [&'static [&'static str]],
    /// What it does, in a few words.
    pub what: &'static str,
    /// Whether `cargo xtask test` runs it.
    pub is_quick: bool,
}

/// No flags.
pub const PLAIN: &[&[&str]] = &[&[]];

/// The program and the children that it starts.
pub const WITH_CHILDREN: &[&[&str]] = &[&["--follow"], &[]];

/// What Go's own heap is seen by.
pub const GROWTH: &[&[&str]] = &[&["--mode", "growth"]];

impl Program {
    /// A program that is written in some language: its `start` does it all.
    pub const fn new(name: &'static str, what: &'static str, version: &'static str, start: &'static str) -> Self {
        Self { name, packages: &[], version, build: "", start, flags: PLAIN, what, is_quick: false }
    }

    /// With packages.
    pub const fn of(self, packages: &'static [&'static str]) -> Self {
        Self { packages, ..self }
    }

    /// With something to make first.
    pub const fn built(self, build: &'static str) -> Self {
        Self { build, ..self }
    }

    /// With memtrace's flags.
    pub const fn with(self, flags: &'static [&'static [&'static str]]) -> Self {
        Self { flags, ..self }
    }

    /// In `cargo xtask test`, too.
    pub const fn quick(self) -> Self {
        Self { is_quick: true, ..self }
    }

    /// A shell that runs one of the program's pieces.
    pub fn shell(script: &str, built: &Path) -> Command {
        let source = tree::root().join("xtask/survive");
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("BUILD", built).env("PYTHONPATH", &source).env("SOURCE", source);
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("LC_ALL", "C.UTF-8");
        command
    }
}
