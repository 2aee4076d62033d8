//! What a run is asked to do: values that have been checked, whoever asks.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use crate::{
    allocator::wrapper::Wrapper,
    debuginfod,
    report::{
        form::{FEW, Format, Metric},
        rules::{Rule, Suppression},
    },
};

/// What a run is asked to do, with nothing left to be checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceConfig {
    /// What is traced.
    pub targets: TargetsConfig,
    /// When it is looked, and until when.
    pub times: Times,
    /// What is probed, and how.
    pub probes: ProbesConfig,
    /// Which blocks are recorded, and what tracing may cost.
    pub sampling: SamplingConfig,
    /// Which stacks and blocks the report is about.
    pub focus: FocusConfig,
    /// What makes the run fail.
    pub gate: GateConfig,
    /// Where names come from besides the files of this machine.
    pub names: NamesConfig,
    /// What the report looks like and where it goes.
    pub output: OutputConfig,
    /// What the tracer may take.
    pub memory: MemoryConfig,
    /// What nobody asks for in earnest: for tests, benchmarks and runs within runs.
    pub internal: InternalConfig,
}

impl TraceConfig {
    /// A short trace that memtrace does by itself, for an alert or to count: of a dozen intervals, which is enough for a verdict.
    /// `None` when there is no process.
    pub fn brief(pids: &[u32], duration: Duration) -> Option<Self> {
        let interval = (duration / 12).max(LEAST_INTERVAL);
        (!pids.is_empty()).then(|| Self {
            targets: TargetsConfig { pids: pids.to_vec(), ..TargetsConfig::default() },
            times: Times { interval, duration: Some(duration) },
            ..Self::default()
        })
    }
}

/// The shortest time between two samples.
pub const LEAST_INTERVAL: Duration = Duration::from_millis(100);

/// What is traced; there is something unless the run is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TargetsConfig {
    /// Running processes, none twice; at least one when there is neither a cgroup nor a command.
    pub pids: Vec<u32>,
    /// Folders of cgroups whose processes are traced.
    pub cgroups: Vec<PathBuf>,
    /// Names or ids of containers whose processes are traced.
    pub containers: Vec<String>,
    /// Whether children are traced.
    pub follow: bool,
    /// Whether the processes of a tree are held at their begin.
    pub hold: bool,
    /// What is run and traced from its beginning.
    pub launch: Option<Launch>,
}

impl Default for TargetsConfig {
    fn default() -> Self {
        Self { pids: vec![], cgroups: vec![], containers: vec![], follow: false, hold: true, launch: None }
    }
}

/// A command that is run and traced.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Launch {
    /// A path, or a name that is looked for in `PATH`.
    pub program: OsString,
    /// What it is called with.
    pub arguments: Vec<OsString>,
    /// Who it runs as: a name or number; `Some(None)` is the user who called sudo.
    pub user: Option<Option<String>>,
    /// Whether its exit status becomes memtrace's.
    pub exit_code: bool,
}

/// When a run samples, and when it ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Times {
    /// Time between samples.
    pub interval: Duration,
    /// When to end by itself.
    pub duration: Option<Duration>,
}

impl Default for Times {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), duration: None }
    }
}

/// What is probed in a target, and how.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProbesConfig {
    /// Whether only what makes the targets larger is watched, without probes.
    pub growth: bool,
    /// Whether mappings come from system-call tracepoints.
    pub syscalls: bool,
    /// Whether the ends of calls are seen at every way out, without return probes.
    pub no_return_probes: bool,
    /// Whether every call is followed to its return, also where its result can be told at the entry.
    pub no_prediction: bool,
    /// Whether runtimes are asked themselves what they hold.
    pub ask: bool,
    /// Functions of the program's own that allocate and release.
    pub wrappers: Vec<Wrapper>,
}

/// Which blocks are recorded, and what tracing may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingConfig {
    /// Smallest block recorded, in bytes.
    pub min_size: u64,
    /// Largest block recorded, in bytes.
    pub max_size: u64,
    /// Bytes from one sampled block to the next, on the average; `None` where every block is looked at.
    pub distance: Option<u64>,
    /// The share of the targets' own processor time that tracing may add.
    pub max_overhead: Option<f64>,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self { min_size: 0, max_size: u64::MAX, distance: None, max_overhead: None }
    }
}

/// Which stacks and blocks a report is about.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FocusConfig {
    /// A stack needs one of these, if there are any.
    pub include: Vec<Rule>,
    /// A stack with one of these is hidden.
    pub exclude: Vec<Rule>,
    /// The least age of the blocks that count.
    pub older: Option<Duration>,
    /// Whether it is said how a window is started.
    pub mark: bool,
}

/// What makes a run fail, and where it is written besides the report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GateConfig {
    /// Whether a growing stack makes the exit status 3.
    pub fail_on_leak: bool,
    /// Growing stacks below this pass.
    pub threshold_bytes_per_hour: Option<f64>,
    /// Known leaks, in the order of the files.
    pub suppressions: Vec<Suppression>,
    /// Where JUnit XML goes.
    pub junit: Option<PathBuf>,
    /// Where SARIF goes.
    pub sarif: Option<PathBuf>,
}

/// Where names come from besides the files of this machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NamesConfig {
    /// The servers that are asked for debug files; `None` where nothing is asked.
    pub debuginfod: Option<debuginfod::Options>,
}

/// What the report looks like and where it goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutputConfig {
    /// The report's form.
    pub format: Format,
    /// What weighs a stack where a form has one weight.
    pub metric: Metric,
    /// Where the report goes instead of standard output.
    pub file: Option<PathBuf>,
    /// Whether the run is watched in a terminal.
    pub tui: bool,
    /// Stacks that an interval's report shows; at least one.
    pub top: usize,
    /// Stacks that the last report shows; at least one.
    pub final_top: usize,
}

impl Default for OutputConfig {
    fn default() -> Self {
        Self { format: Format::default(), metric: Metric::default(), file: None, tui: false, top: FEW, final_top: FEW }
    }
}

/// How much memory the tracer may take in the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MemoryConfig {
    /// Size of the ring in bytes: a power of two, whole pages.
    pub ring_bytes: u32,
    /// The most kernel memory for the rows of unwind tables, in bytes.
    pub unwind_bytes: u64,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { ring_bytes: 64 << 20, unwind_bytes: 64 << 20 }
    }
}

/// What nobody asks for in earnest.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct InternalConfig {
    /// Whether allocations are not probed at all: a run that measures what releases cost.
    pub releases_only: bool,
    /// Whether remembered stacks are walked all the same and compared, for tests.
    pub verify_stacks: bool,
    /// Whether programs that do nothing are attached, for the benchmark.
    pub empty_programs: bool,
    /// Whether nothing is said about attaching: a run that nobody asked for.
    pub quiet: bool,
}

/// What `memtrace doctor` is to look at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DoctorConfig {
    /// Processes whose probe sites are shown.
    pub pids: Vec<u32>,
    /// Cgroups whose processes are looked at.
    pub cgroups: Vec<PathBuf>,
    /// Containers whose processes are looked at.
    pub containers: Vec<String>,
    /// How long to count calls; `None` to look only.
    pub measure: Option<Duration>,
    /// Text or JSON.
    pub format: Format,
    /// Functions of the program's own that allocate and release.
    pub wrappers: Vec<Wrapper>,
}

/// What `memtrace watch` is to watch, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchConfig {
    /// Processes, none twice; may be empty when there is a cgroup.
    pub pids: Vec<u32>,
    /// A cgroup.
    pub cgroup: Option<PathBuf>,
    /// A container, whose cgroup is watched.
    pub container: Option<String>,
    /// Time between looks.
    pub interval: Duration,
    /// How far back rates look.
    pub window: Duration,
    /// In bytes an hour.
    pub alert_growth: Option<f64>,
    /// In bytes.
    pub alert_size: Option<u64>,
    /// How long an alert is traced.
    pub escalate: Option<Duration>,
    /// When to end by itself.
    pub duration: Option<Duration>,
    /// The form of the lines.
    pub format: Format,
    /// Where they go instead of standard output.
    pub output: Option<PathBuf>,
    /// Whether an alert makes the exit status 3.
    pub fail_on_alert: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brief_trace_is_an_ordinary_one() {
        let minute = Duration::from_secs(60);
        let config = TraceConfig::brief(&[7, 8], minute).expect("two processes");
        assert_eq!(config.targets.pids, [7, 8]);
        assert_eq!(config.times, Times { interval: Duration::from_secs(5), duration: Some(minute) });
        let second = TraceConfig::brief(&[7], Duration::from_secs(1)).expect("a process");
        assert_eq!(second.times.interval, LEAST_INTERVAL);
        assert_eq!(TraceConfig::brief(&[], minute), None);
    }
}
