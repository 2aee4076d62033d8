//! From flags to checked values.

use std::{ffi::OsString, time::Duration};

use memtrace_common::arch::PAGE_BYTES;

use super::{
    doctor,
    error::UsageError,
    flags::{Flags, Mode, SubcommandFlags, WrapperFlags},
    saved_runs, watch,
};
use crate::{
    allocator::wrapper::{Wrapper, wrappers},
    debuginfod,
    report::{
        form::FEW,
        saved_runs::{DiffConfig, ReportConfig},
    },
    session::{
        DoctorConfig, InternalConfig, LEAST_INTERVAL, Launch, MemoryConfig, NamesConfig, OutputConfig, ProbesConfig,
        SamplingConfig, TargetsConfig, Times, TraceConfig, WatchConfig,
    },
};

/// What the command line asks memtrace to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Trace processes.
    Trace(Box<TraceConfig>),
    /// Say whether it can be done and what would be attached.
    Doctor(DoctorConfig),
    /// Show a saved run again.
    Report(ReportConfig),
    /// Compare two saved runs.
    Diff(DiffConfig),
    /// Watch without probes.
    Watch(WatchConfig),
    /// Tell the memtrace of this process id to start a new measuring window.
    Mark(u32),
    /// Allocate and release, for doctor to time.
    AllocationLoop,
    /// Hold targets, and take breakpoints out of copies of their code.
    CodeGuard,
}

impl Command {
    /// Checks what a terminal may show, given whether standard output is one.
    ///
    /// # Errors
    ///
    /// A binary form on a terminal.
    pub fn allow_terminal(&self, stdout_is_terminal: bool) -> Result<(), UsageError> {
        let (format, output) = match self {
            Self::Trace(config) => (config.output.format, &config.output.file),
            Self::Report(config) => (config.format, &config.output),
            Self::Doctor(_)
            | Self::Diff(_)
            | Self::Watch(_)
            | Self::Mark(_)
            | Self::AllocationLoop
            | Self::CodeGuard => {
                return Ok(());
            }
        };
        if format.is_binary() && output.is_none() && stdout_is_terminal { Err(UsageError::Binary) } else { Ok(()) }
    }
}

/// Checks the flags. Beside them only what is said of debuginfod in the environment counts.
///
/// # Errors
///
/// The first thing that makes no sense.
pub fn resolve(flags: Flags) -> Result<Command, UsageError> {
    resolve_in(flags, &|name| std::env::var_os(name))
}

/// [`resolve`] with the variables of another environment.
fn resolve_in(flags: Flags, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Command, UsageError> {
    match flags.subcommand {
        Some(SubcommandFlags::Doctor(flags)) => return doctor::resolve(flags).map(Command::Doctor),
        Some(SubcommandFlags::AllocationLoop) => return Ok(Command::AllocationLoop),
        Some(SubcommandFlags::CodeGuard) => return Ok(Command::CodeGuard),
        Some(SubcommandFlags::Report(flags)) => return saved_runs::report(flags).map(Command::Report),
        Some(SubcommandFlags::Diff(flags)) => return saved_runs::diff(flags).map(Command::Diff),
        Some(SubcommandFlags::Watch(flags)) => return watch::resolve(flags).map(Command::Watch),
        Some(SubcommandFlags::Mark { pid }) => return Ok(Command::Mark(pid)),
        None => {}
    }
    let launch = launch(&flags)?;
    if flags.pids.is_empty() && flags.cgroups.is_empty() && flags.containers.is_empty() && launch.is_none() {
        return Err(UsageError::NoTarget);
    }
    let interval = flags.interval.unwrap_or_else(|| if flags.tui { "1s" } else { "5s" }.to_owned());
    let interval = match time("--interval", &interval)? {
        time if (LEAST_INTERVAL..=Duration::from_secs(3600)).contains(&time) => time,
        _ => return Err(UsageError::Interval { value: interval }),
    };
    let duration = flags.duration.as_deref().map(|text| time("--duration", text)).transpose()?;
    if duration == Some(Duration::ZERO) {
        return Err(UsageError::Duration);
    }
    let (format, metric, final_top) = saved_runs::look(flags.format, flags.metric, flags.output.as_ref(), flags.top)?;
    let min_size = flags.min_size.as_deref().map_or(Ok(0), |text| size("--min-size", text))?;
    let max_size = flags.max_size.as_deref().map_or(Ok(u64::MAX), |text| size("--max-size", text))?;
    if min_size > max_size {
        return Err(UsageError::EmptySizeRange);
    }
    let about_heap = flags.sample.as_ref().map(|_| "--sample");
    let about_heap = about_heap.or(flags.max_overhead.as_ref().map(|_| "--max-overhead"));
    if let Some(flag) = about_heap.filter(|_| flags.mode == Mode::Growth) {
        return Err(UsageError::NoProbes(flag));
    }
    if flags.ask && flags.mode == Mode::Growth {
        return Err(UsageError::AskGrowth);
    }
    let distance = flags.sample.as_deref().map(sample).transpose()?;
    let max_overhead = flags.max_overhead.as_deref().map(max_overhead).transpose()?;
    let growth = flags.mode == Mode::Growth;
    Ok(Command::Trace(Box::new(TraceConfig {
        targets: TargetsConfig {
            pids: distinct(flags.pids),
            cgroups: distinct(flags.cgroups),
            containers: distinct(flags.containers),
            follow: flags.follow,
            hold: !flags.no_hold,
            launch,
        },
        times: Times { interval, duration },
        probes: ProbesConfig {
            growth,
            syscalls: flags.syscalls || growth,
            no_return_probes: flags.no_return_probes,
            no_prediction: flags.no_prediction,
            ask: flags.ask,
            wrappers: resolve_wrappers(&flags.wrappers)?,
        },
        sampling: SamplingConfig { min_size, max_size, distance, max_overhead },
        focus: flags.focus.resolve()?,
        gate: flags.gate.resolve()?,
        names: NamesConfig {
            debuginfod: debuginfod::options(flags.debuginfod.as_ref().map(Option::as_deref), variable)?,
        },
        output: OutputConfig {
            format,
            metric,
            file: flags.output,
            tui: flags.tui,
            top: saved_runs::checked(flags.top, FEW)?,
            final_top,
        },
        memory: MemoryConfig {
            ring_bytes: ring_bytes(&flags.ring_size)?,
            unwind_bytes: unwind_bytes(&flags.unwind_memory)?,
        },
        internal: InternalConfig {
            verify_stacks: flags.verify_stacks,
            empty_programs: flags.empty_programs,
            ..InternalConfig::default()
        },
    })))
}

/// The command and how it is run.
fn launch(flags: &Flags) -> Result<Option<Launch>, UsageError> {
    let Some((program, arguments)) = flags.command.split_first() else {
        return match (&flags.user, flags.exit_code) {
            (Some(_), _) => Err(UsageError::NoCommand("--user")),
            (None, true) => Err(UsageError::NoCommand("--exit-code")),
            (None, false) => Ok(None),
        };
    };
    let (program, arguments) = (program.clone(), arguments.to_vec());
    Ok(Some(Launch { program, arguments, user: flags.user.clone(), exit_code: flags.exit_code }))
}

pub(super) fn resolve_wrappers(flags: &WrapperFlags) -> Result<Vec<Wrapper>, UsageError> {
    Ok(wrappers(&flags.alloc, &flags.realloc, &flags.free)?)
}

pub(super) fn distinct<T: PartialEq>(values: Vec<T>) -> Vec<T> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

pub(super) fn time(flag: &'static str, value: &str) -> Result<Duration, UsageError> {
    // A number alone is seconds.
    let with_unit = if value.parse::<u64>().is_ok() { &format!("{value}s") } else { value };
    humantime::parse_duration(with_unit).map_err(|_unreadable| UsageError::Time { flag, value: value.to_owned() })
}

pub(super) fn size(flag: &'static str, value: &str) -> Result<u64, UsageError> {
    parse_size::parse_size(value).map_err(|_unreadable| UsageError::Size { flag, value: value.to_owned() })
}

fn max_overhead(value: &str) -> Result<f64, UsageError> {
    let refused = || UsageError::MaxOverhead { value: value.to_owned() };
    let number = value.strip_suffix('%').unwrap_or(value);
    let percent: f64 = number.trim().parse().map_err(|_unreadable| refused())?;
    if (0.1..=100.0).contains(&percent) { Ok(percent / 100.0) } else { Err(refused()) }
}

fn sample(value: &str) -> Result<u64, UsageError> {
    let bytes = size("--sample", value)?;
    let allowed = (1 << 10..=1 << 30).contains(&bytes);
    if allowed { Ok(bytes) } else { Err(UsageError::Sample { value: value.to_owned() }) }
}

fn ring_bytes(value: &str) -> Result<u32, UsageError> {
    let refused = || UsageError::Ring { value: value.to_owned() };
    let bytes = size("--ring-size", value)?;
    let allowed = (1 << 20..=1 << 30).contains(&bytes) && bytes.is_power_of_two() && bytes.is_multiple_of(PAGE_BYTES);
    if !allowed {
        return Err(refused());
    }
    u32::try_from(bytes).map_err(|_too_large| refused())
}

fn unwind_bytes(value: &str) -> Result<u64, UsageError> {
    let bytes = size("--unwind-memory", value)?;
    if !(64 << 10..=256 << 20).contains(&bytes) {
        return Err(UsageError::UnwindMemory { value: value.to_owned() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::report::{diff::By, form::Format};

    fn parse(line: &str) -> Result<Command, UsageError> {
        resolve_in(Flags::try_parse_from(line.split_whitespace()).expect("flags that clap accepts"), &|_| None)
    }

    fn trace(line: &str) -> TraceConfig {
        match parse(line) {
            Ok(Command::Trace(config)) => *config,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_flags_are_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let config = trace("memtrace --pid 7 --pid 8 --pid 7");
        let targets = TargetsConfig { pids: vec![7, 8], ..TargetsConfig::default() };
        assert_eq!(config, TraceConfig { targets, ..TraceConfig::default() });
        assert_eq!(config.times, Times { interval: Duration::from_secs(5), duration: None });
        assert_eq!((config.output.top, config.output.final_top, config.output.format), (10, 10, Format::Text));
        assert_eq!(config.memory, MemoryConfig { ring_bytes: 64 << 20, unwind_bytes: 64 << 20 });
    }

    #[test]
    fn people_get_ten_stacks_and_programs_get_all_unless_top_says_so() {
        for (line, intervals, last) in [
            ("--format json", 10, 10),
            ("--output run.txt", 10, 10),
            ("--output run.json", 10, 100_000),
            ("--format folded", 10, 100_000),
            ("--format flamegraph", 10, 100_000),
            ("--format pprof", 10, 100_000),
            ("--format html", 10, 100_000),
            ("--output run.json --top 3", 3, 3),
            ("--format pprof --top 50", 50, 50),
        ] {
            let config = trace(&format!("memtrace --pid 7 {line}"));
            assert_eq!((config.output.top, config.output.final_top), (intervals, last), "{line}");
        }
    }

    #[test]
    fn the_form_is_what_was_asked_for_or_what_the_files_name_says() {
        for (line, format) in [
            ("--output a.svg", Format::Flamegraph),
            ("--output a.svg --format text", Format::Text),
            ("--output a", Format::Text),
            ("--output a.pb.gz --metric growth", Format::Pprof),
        ] {
            assert_eq!(trace(&format!("memtrace --pid 7 {line}")).output.format, format, "{line}");
        }
        let Ok(Command::Report(config)) = parse("memtrace report run.json --output page.html --top 7") else {
            panic!("a report is asked for")
        };
        assert_eq!((config.format, config.top), (Format::Html, 7));
        let Ok(Command::Diff(config)) = parse("memtrace diff a.json b.json --by function --format json") else {
            panic!("a comparison is asked for")
        };
        assert_eq!((config.by, config.top), (By::Function, 100_000));
    }

    #[test]
    fn only_a_terminal_is_spared_binary_reports() {
        for (line, refused) in [
            ("memtrace --pid 7 --format pprof", true),
            ("memtrace report run.json --format pprof", true),
            ("memtrace --pid 7 --output heap.pb.gz", false),
            ("memtrace --pid 7 --format html", false),
        ] {
            let command = parse(line).expect(line);
            assert_eq!(command.allow_terminal(true).is_err(), refused, "{line}");
            assert_eq!(command.allow_terminal(false), Ok(()), "{line}");
        }
    }

    #[test]
    fn who_watches_a_terminal_sees_a_sample_a_second() {
        assert_eq!(trace("memtrace --pid 7 --tui").times.interval, Duration::from_secs(1));
        assert_eq!(trace("memtrace --pid 7 --tui --interval 3s").times.interval, Duration::from_secs(3));
    }

    #[test]
    fn a_command_keeps_its_own_flags() {
        let config = trace("memtrace --user --exit-code --top 3 -- sqlite3 --pid 7 -- x");
        let launch = config.targets.launch.expect("a command");
        assert_eq!(launch.program, "sqlite3");
        assert_eq!(launch.arguments, ["--pid", "7", "--", "x"]);
        assert_eq!((launch.user, launch.exit_code, config.output.top), (Some(None), true, 3));
        assert!(config.targets.pids.is_empty());
    }

    #[test]
    fn units_are_understood() {
        let config = trace(
            "memtrace --pid 7 --interval 500ms --duration 2m --min-size 4KiB --max-size 1MB --ring-size 1MiB --unwind-memory 1MiB",
        );
        assert_eq!(
            config.times,
            Times { interval: Duration::from_millis(500), duration: Some(Duration::from_secs(120)) }
        );
        assert_eq!((config.sampling.min_size, config.sampling.max_size), (4096, 1_000_000));
        assert_eq!(config.memory.ring_bytes, 1 << 20);
    }

    #[test]
    fn nonsense_is_one_line_that_says_what_to_do() {
        for (line, said) in [
            ("memtrace", "nothing to trace: name a running process with --pid PID"),
            ("memtrace --pid 7 --interval soon", "--interval soon: not a time"),
            ("memtrace --pid 7 --interval 1ms", "--interval 1ms: use at least 100ms"),
            ("memtrace --pid 7 --duration 0s", "--duration must be longer than 0"),
            ("memtrace --pid 7 --min-size big", "--min-size big: not a size"),
            ("memtrace --pid 7 --min-size 2 --max-size 1", "--min-size is larger than --max-size"),
            ("memtrace --pid 7 --ring-size 3MiB", "--ring-size 3MiB: use a power of two"),
            ("memtrace --pid 7 --ring-size 8GiB", "--ring-size 8GiB: use a power of two"),
            ("memtrace --pid 7 --unwind-memory 1KiB", "--unwind-memory 1KiB: use"),
            ("memtrace --pid 7 --unwind-memory 1GiB", "--unwind-memory 1GiB: use"),
            ("memtrace --pid 7 --unwind-memory much", "--unwind-memory much: not a size"),
            ("memtrace --pid 7 --max-overhead 0", "--max-overhead 0: use a percentage"),
            ("memtrace --pid 7 --max-overhead 101%", "--max-overhead 101%: use a percentage"),
            ("memtrace --pid 7 --top 0", "--top must be from 1 to 100000"),
            ("memtrace --pid 7 --metric growth", "--metric"),
            ("memtrace report run.json --top 0", "--top must be from 1 to 100000"),
            ("memtrace report run.json --format json --metric growth", "--metric"),
            ("memtrace diff a.json b.json --top 100001", "--top must be from 1 to 100000"),
            ("memtrace --pid 7 --leak-threshold 1MB", "--leak-threshold 1MB: not a rate"),
            ("memtrace --pid 7 --suppressions /nowhere/at/all", "--suppressions /nowhere/at/all: "),
            ("memtrace --pid 7 --include modul:x", "\"modul\" is no type of rule"),
            ("memtrace --pid 7 --exclude ^$", "--exclude ^$: the pattern is empty"),
            ("memtrace --pid 7 --older yesterday", "--older yesterday: not a time"),
            ("memtrace --pid 7 --user=redis", "--user applies to a command"),
            ("memtrace --pid 7 --exit-code", "--exit-code applies to a command"),
            ("memtrace --pid 7 --debuginfod=gopher://a", "--debuginfod gopher://a: not the address of a server"),
            ("memtrace --pid 7 --alloc pool_take", "--alloc pool_take: it names no file"),
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(error.contains(said) && !error.contains('\n'), "{line}: {error}");
        }
    }

    #[test]
    fn a_number_alone_is_seconds_or_percent() {
        let config = trace("memtrace --pid 7 --interval 5 --duration 60 --max-overhead 5");
        let times = Times { interval: Duration::from_secs(5), duration: Some(Duration::from_secs(60)) };
        assert_eq!((config.times, config.sampling.max_overhead), (times, Some(0.05)));
    }
}
