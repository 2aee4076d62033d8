//! Developer commands: `cargo xtask COMMAND`. One file a command; what they share is below.
//!
//! `toolchain` finds or installs the compiler and linker of the BPF side, `compiler` tells compilers apart,
//! `debian` installs packages, `packages` lists them with their reasons, `process` runs programs, `procfs`
//! tells what running ones take, `tree` knows the folders.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for terminals")]

mod bench;
mod build_ebpf;
mod check_ebpf;
mod compiler;
mod debian;
mod demo;
mod markdown;
mod outcomes;
mod package;
mod packages;
mod process;
mod procfs;
mod run;
mod runtimes;
mod services;
mod survive;
mod test;
mod toolchain;
mod tree;
mod verdict;
mod vm_test;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Builds, runs, demonstrates and tests memtrace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Build the BPF object that memtrace embeds; installs the compiler and linker that it takes.
    BuildEbpf {
        /// Where the object goes [default: memtrace-ebpf/object/memtrace.o].
        #[arg(long, value_name = "PATH")]
        out: Option<PathBuf>,
    },
    /// Rebuild the BPF object and compare it with the committed one, byte for byte.
    CheckEbpf,
    /// Build memtrace in release mode and run it as root.
    Run {
        /// What memtrace gets as its arguments.
        #[arg(last = true, value_name = "ARGS")]
        arguments: Vec<OsString>,
    },
    /// Watch a small service with a leak, a cache and churn, and see the three told apart.
    Demo {
        /// How long to watch.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(3..))]
        seconds: u32,
    },
    /// Measure what tracing costs, next to no tracing, empty programs on the same sites, and other tools.
    Bench(bench::Options),
    /// Build memtrace as an archive and as a Debian package, for machines on which nothing is built.
    Package,
    /// Run every test; installs the programs and libraries that the tests trace.
    Test {
        /// Leave out the end-to-end tests, which need root and take most of the time.
        #[arg(long, alias = "fast")]
        quick: bool,
    },
    /// Run the tests of interpreters and runtimes on versions that this machine does not have, trace real services under load, and write
    /// docs/runtimes.md and docs/services.md.
    Runtimes(runtimes::Options),
    /// Let memtrace come and go while real programs work: they must live, and end as they do without it.
    Survive(survive::Options),
    /// Measure the verdict by the labelled corpus, part of it made afresh; fails below the bar.
    Verdict {
        /// What the measuring program gets as its arguments, such as `--seed 7 --details`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        arguments: Vec<OsString>,
    },
    /// Boot other kernels in emulated machines and trace a leaking service there.
    VmTest,
}

fn main() -> ExitCode {
    let command = Command::parse();
    process::outlive_interrupts();
    let outcome = match command {
        Command::BuildEbpf { out } => build_ebpf::run(out),
        Command::CheckEbpf => check_ebpf::run(),
        Command::Run { arguments } => run::run(&arguments),
        Command::Demo { seconds } => demo::run(seconds),
        Command::Bench(options) => bench::run(&options),
        Command::Package => package::run(),
        Command::Test { quick } => test::run(quick),
        Command::Runtimes(options) => runtimes::run(&options),
        Command::Survive(options) => survive::run(&options),
        Command::Verdict { arguments } => verdict::run(&arguments),
        Command::VmTest => vm_test::run(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
