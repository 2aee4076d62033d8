//! The flags as typed.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{
    focus::FocusFlags,
    gate::GateFlags,
    saved_runs::{DiffFlags, ReportFlags},
};
use crate::{
    report::form::{Format, Metric},
    session::ALLOCATION_LOOP,
    target::guard::CODE_GUARD,
};

/// The headings of the help, beside those of the flags of [`FocusFlags`] and [`GateFlags`].
const TARGETS: &str = "What is traced";
const RECORDED: &str = "Which blocks are recorded, and at what cost";
const REPORT: &str = "The report";
const PROBES: &str = "How calls are probed";

/// What a run watches: blocks, or growth.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Mode {
    /// Every call that allocates or releases
    #[default]
    Allocations,
    /// brk, mappings and first writes to pages
    Growth,
}

/// Finds the call stacks of a running process whose memory keeps growing.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "memtrace",
    version,
    about,
    after_help = "Exit status: 0 done; 1 could not trace; 2 bad usage; 3 a stack or a group of stacks is growing (with \
                  --fail-on-leak) or there was an alert (watch --fail-on-alert); 4 an allocator in use cannot be seen (with \
                  --fail-on-leak). With --exit-code the command's own status, unless 3 or 4 applies.\n\
                  The report goes to standard output, everything else to standard error. Ctrl-C ends the run and prints \
                  the final report.",
    args_conflicts_with_subcommands = true
)]
pub struct Flags {
    /// What to do instead of tracing
    #[command(subcommand)]
    pub subcommand: Option<SubcommandFlags>,

    /// Trace this running process; may be given more than once
    #[arg(long = "pid", value_name = "PID", help_heading = TARGETS)]
    pub pids: Vec<u32>,

    /// Trace every process in this cgroup and below it, present and to come; may be given more than once
    #[arg(long = "cgroup", value_name = "DIR", help_heading = TARGETS)]
    pub cgroups: Vec<PathBuf>,

    /// Trace every process in this container, present and to come; may be given more than once
    #[arg(long = "container", value_name = "NAME", help_heading = TARGETS)]
    pub containers: Vec<String>,

    /// Trace the children of the targets, too, and theirs, present and to come
    #[arg(long, alias = "children", help_heading = TARGETS)]
    pub follow: bool,

    /// Do not hold a command and, with --follow, the children at their start: debuggers can attach to them, and what children
    /// and new programs do in their first tenth of a second is not seen
    #[arg(long, help_heading = TARGETS)]
    pub no_hold: bool,

    /// Run this command, and trace it from its first allocation to its end
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,

    /// Run the command as this user; without a name, as the one who called sudo
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, help_heading = TARGETS)]
    pub user: Option<Option<String>>,

    /// End with the exit status of the command, 128 and its signal's number if one ended it
    #[arg(long, help_heading = TARGETS)]
    pub exit_code: bool,

    /// How often to sample and report, such as 500ms; a number alone is seconds [default: 5s, with --tui 1s]
    #[arg(long, value_name = "TIME", help_heading = REPORT)]
    pub interval: Option<String>,

    /// End the run after this long, such as 60s or 10m
    #[arg(long, value_name = "TIME", help_heading = REPORT)]
    pub duration: Option<String>,

    /// How many stacks a report shows: by default 10 in text and in JSON on standard output, all in the other forms and at
    /// the end of a JSON file
    #[arg(long, value_name = "N", help_heading = REPORT)]
    pub top: Option<usize>,

    /// The report's form; by default what the name of --output asks for, or else text
    #[arg(long, value_name = "FORM", value_enum, help_heading = REPORT)]
    pub format: Option<Format>,

    /// What weighs a stack in folded, flamegraph, pprof and html; inuse_space by default
    #[arg(long, value_name = "METRIC", value_enum, help_heading = REPORT)]
    pub metric: Option<Metric>,

    /// Watch the stacks in this terminal while the run goes on; the report comes at its end
    #[arg(long, help_heading = REPORT)]
    pub tui: bool,

    /// Write the report to this file instead of standard output
    #[arg(long, value_name = "FILE", help_heading = REPORT)]
    pub output: Option<PathBuf>,

    /// Ask debuginfod servers for the debug files of programs and libraries without symbols; without addresses, those that
    /// DEBUGINFOD_URLS or else /etc/debuginfod names. Where DEBUGINFOD_URLS is set this happens without the flag, and '--debuginfod='
    /// turns it off. The servers learn the build ids of these files
    #[arg(long, value_name = "URLS", num_args = 0..=1, require_equals = true, help_heading = REPORT)]
    pub debuginfod: Option<Option<String>>,

    /// Leave out blocks smaller than this, such as 64 or 4KiB
    #[arg(long, value_name = "SIZE", help_heading = RECORDED)]
    pub min_size: Option<String>,

    /// Leave out blocks larger than this
    #[arg(long, value_name = "SIZE", help_heading = RECORDED)]
    pub max_size: Option<String>,

    /// What is watched: every block (allocations), or only what makes the process larger (growth). growth puts no probe into the
    /// target, and slows the system calls and page faults of every process on the machine a little; it shows who enlarged the
    /// process, not whose blocks stay
    #[arg(long, value_name = "MODE", value_enum, default_value_t, help_heading = RECORDED)]
    pub mode: Mode,

    /// Look at a sample of the heap blocks only: on the average one for every so many bytes that are allocated, such as
    /// 512KiB. Costs less, and sizes become estimates with their error
    #[arg(long, value_name = "SIZE", help_heading = RECORDED)]
    pub sample: Option<String>,

    /// Keep the slowdown near this percentage of the processor time that the targets use, such as 5%; the first seconds may exceed
    /// it. When tracing would cost more, fewer blocks are sampled, then recording pauses for allocations, then for releases too
    #[arg(long, value_name = "PERCENT", conflicts_with = "sample", help_heading = RECORDED)]
    pub max_overhead: Option<String>,

    /// Take mappings and brk from system-call tracepoints, for programs that call the kernel without libc; this slows the
    /// system calls of every process on the machine a little
    #[arg(long, help_heading = RECORDED)]
    pub syscalls: bool,

    /// Ask runtimes themselves what they hold, which changes the target: SIGUSR1 opens the inspector of a Node program that catches the signal
    /// (on loopback, port 9229: whoever on the machine connects to it can run code in the program; Node says so on its standard error). V8
    /// then samples the objects that are allocated, and before each report collects its whole heap and says which functions made those that
    /// live. At the end the sampling stops, and an inspector that memtrace opened is closed; if memtrace is killed it stays open until the program
    /// ends. A Java virtual machine (HotSpot) that catches SIGQUIT opens its attach socket, as for jcmd, and keeps it until it ends; before each
    /// report it collects its whole heap and says how many objects of each class live. With -XX:+DisableAttachMechanism it prints its threads instead
    #[arg(long, help_heading = RECORDED)]
    pub ask: bool,

    /// See the ends of calls by probes on every way out of a function, and use no return probe: for processes that a seccomp
    /// filter would kill at one. A call costs eight to nine times as much as usual; no other tracer may run at the time
    #[arg(long, help_heading = PROBES)]
    pub no_return_probes: bool,

    /// Always probe the returns of allocating functions, also where the block can be told at the entry, as with glibc's malloc
    /// and jemalloc; each call costs more
    #[arg(long, help_heading = PROBES)]
    pub no_prediction: bool,

    /// Functions to trace beside those of known allocators
    #[command(flatten)]
    pub wrappers: WrapperFlags,

    /// Size of the buffer between kernel and memtrace; a power of two
    #[arg(long, value_name = "SIZE", default_value = "64MiB", help_heading = PROBES)]
    pub ring_size: String,

    /// The most kernel memory for unwind tables; when it is full, the least recently used ones are removed
    #[arg(long, value_name = "SIZE", default_value = "64MiB", help_heading = PROBES)]
    pub unwind_memory: String,

    /// Walk every stack that a thread remembers all the same, and count where the two differ: a test of the tracer
    #[arg(long, hide = true)]
    pub verify_stacks: bool,

    /// Attach programs that do nothing: the floor that the benchmark compares with
    #[arg(long, hide = true)]
    pub empty_programs: bool,

    /// Which stacks and blocks the report is about
    #[command(flatten)]
    pub focus: FocusFlags,

    /// What makes the run fail
    #[command(flatten)]
    pub gate: GateFlags,
}

/// The subcommands with their flags, as typed.
#[derive(Clone, Debug, Subcommand)]
pub enum SubcommandFlags {
    /// Can memtrace run here, what would it attach to, and what would that cost?
    Doctor(super::doctor::DoctorFlags),
    /// Show a saved run again, in any form
    Report(ReportFlags),
    /// What grew, appeared, shrank and went between two saved runs
    Diff(DiffFlags),
    /// Watch memory as a whole, with no probes: growth, time left to the limit, alerts; for hours
    Watch(super::watch::WatchFlags),
    /// Start a new measuring window in a memtrace that runs: from now on verdicts are about what happens from now on
    Mark {
        /// The process id of the running memtrace
        #[arg(value_name = "PID")]
        pid: u32,
    },
    /// Allocates and releases for each line that it reads
    #[command(name = ALLOCATION_LOOP, hide = true)]
    AllocationLoop,
    /// Holds targets and takes breakpoints out of copies of their code
    #[command(name = CODE_GUARD, hide = true)]
    CodeGuard,
}

/// Functions of the program's own that allocate and release.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Allocators of the program's own")]
pub struct WrapperFlags {
    /// Trace this function as malloc is traced: 'FILE:FUNCTION(size=arg0)', with count=argN for a product and
    /// result=argN where the address is stored there; FILE may be 'exe', FUNCTION an address 0x...; name a C++ function that may
    /// throw by its mangled symbol, not by its address, or an exception ends the program; may be repeated
    #[arg(long, value_name = "FUNCTION")]
    pub alloc: Vec<String>,

    /// Trace this function as realloc is traced: 'FILE:FUNCTION(ptr=arg0,size=arg1)'
    #[arg(long, value_name = "FUNCTION")]
    pub realloc: Vec<String>,

    /// Trace this function as free is traced: 'FILE:FUNCTION(ptr=arg0)'
    #[arg(long, value_name = "FUNCTION")]
    pub free: Vec<String>,
}
