//! The flags as typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// What a report looks like.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// For people, 80 columns
    #[default]
    Text,
    /// One object a line, for scripts
    Json,
}

/// Finds the call stacks of a running process whose memory keeps growing.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "memtrace",
    version,
    about,
    after_help = "Exit status: 0 done; 1 could not trace; 2 bad usage; 3 a stack is growing (with --fail-on-leak).\n\
                  The report goes to standard output, everything else to standard error. Ctrl-C ends the run and prints \
                  the final report.",
    args_conflicts_with_subcommands = true
)]
pub struct Flags {
    /// What to do instead of tracing
    #[command(subcommand)]
    pub subcommand: Option<SubcommandFlags>,

    /// Trace this running process; may be given more than once
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,

    /// How often to sample and report, such as 5s or 500ms
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub interval: String,

    /// End the run after this long, such as 60s or 10m
    #[arg(long, value_name = "TIME")]
    pub duration: Option<String>,

    /// How many stacks a report shows
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,

    /// The report's form
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Write the report to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Leave out blocks smaller than this, such as 64 or 4KiB
    #[arg(long, value_name = "SIZE")]
    pub min_size: Option<String>,

    /// Leave out blocks larger than this
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<String>,

    /// Exit with status 3 when a stack is growing at the end
    #[arg(long)]
    pub fail_on_leak: bool,

    /// Take mappings and brk from system-call tracepoints, for programs that call the kernel without libc; this slows the
    /// system calls of every process on the machine a little
    #[arg(long)]
    pub syscalls: bool,

    /// Size of the buffer between kernel and memtrace; a power of two
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub ring_size: String,

    /// Walk every stack that a thread remembers all the same, and count where the two differ: a test of the tracer
    #[arg(long, hide = true)]
    pub verify_stacks: bool,

    /// Attach programs that do nothing: the floor that the benchmark compares with
    #[arg(long, hide = true)]
    pub empty_programs: bool,
}

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum SubcommandFlags {
    /// Can memtrace run here, and what would it attach to?
    Doctor {
        /// Show the probe sites of this running process; may be given more than once
        #[arg(long = "pid", value_name = "PID")]
        pids: Vec<u32>,
    },
}
