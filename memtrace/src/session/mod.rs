//! The `session` room: one run from attach to final report. It wires the other rooms together, and owns the clock and
//! the shutdown.
//!
//! In: the checked configuration. Out: reports, and whether a stack is growing at the end. [`traced`] opens processes and
//! attaches; [`pump`] moves events from the kernel into ledger and symbols; [`snapshot`] says how things stand;
//! [`output`] writes it; [`doctor`] only looks.

mod doctor;
mod notice;
mod output;
mod pump;
mod snapshot;
mod traced;
mod unwinding;

use std::{
    io,
    time::{Duration, Instant},
};

pub use doctor::doctor;
use output::Output;
use pump::Pump;
use snapshot::Snapshots;
use thiserror::Error;
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval, sleep_until},
};
use traced::{Candidate, Traced};
use unwinding::Unwinding;

use crate::{
    allocator::AllocatorError,
    cli::TraceConfig,
    kernel::{
        KernelError, Loaded, Options, Tracer,
        features::{self, FeatureError},
        links::{Links, Programs},
    },
    target::{Pid, TargetError},
    unwind::Cache,
};

/// How a run ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Whether a stack was growing at the end.
    pub growing: bool,
}

/// Why there was no run, or why it broke off. Each is one line that says what to do.
#[derive(Debug, Error)]
pub enum SessionError {
    /// A process cannot be traced.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Nothing to attach to.
    #[error("process {pid}: {source}")]
    Allocator {
        /// The process.
        pid: Pid,
        /// What was looked for.
        source: AllocatorError,
    },
    /// This machine or user cannot.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A return probe might kill the target.
    #[error(
        "process {0} has a seccomp filter, and this kernel (6.11 to 6.13) may kill it at the first return probe; \
         use a kernel from 6.14 on"
    )]
    Seccomp(Pid),
    /// The report cannot be written.
    #[error("cannot write the report to {path}: {source}; name another file with --output")]
    Output {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Something that a run needs from the system.
    #[error("{action}: {source}")]
    System {
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// How often the ring is drained when nothing wakes us earlier.
const DRAIN_EVERY: Duration = Duration::from_millis(50);

/// Traces until a signal, the end of the duration or the end of the last target.
///
/// # Errors
///
/// When nothing can be attached, or the run cannot go on.
pub fn run(config: &TraceConfig) -> Result<Outcome, SessionError> {
    features::require(config.syscalls)?;
    let output = Output::open(config)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| SessionError::System { action: "starting the event loop", source })?;
    runtime.block_on(async { Run::start(config, output)?.until_end().await })
}

struct Run<'a> {
    config: &'a TraceConfig,
    tracer: Tracer,
    pump: Pump,
    traced: Vec<Traced>,
    /// Links that belong to no single process.
    links: Links,
    snapshots: Snapshots,
    output: Output,
    started: Instant,
    signals: Signals,
}

impl<'a> Run<'a> {
    /// Opens the targets, loads the programs, attaches, and starts recording.
    fn start(config: &'a TraceConfig, output: Output) -> Result<Run<'a>, SessionError> {
        let begun = Instant::now();
        // From here on a signal ends the run with a report; it waits until everything is in place.
        let signals = Signals::listen()?;
        // All targets are looked at before anything is loaded: most mistakes show here.
        let mut cache = Cache::new();
        let candidates = config.pids.iter().map(|&pid| Candidate::open(Pid(pid), config.syscalls, &mut cache));
        let candidates = candidates.collect::<Result<Vec<_>, _>>()?;
        let options = Options {
            ring_bytes: config.ring_bytes,
            min_size: config.min_size,
            max_size: config.max_size,
            unwind_rows: unwinding::capacity(cache.rows()),
            verify_stacks: config.verify_stacks,
        };
        let Loaded { mut tracer, ring, deferred, tables } = Tracer::load(options)?;
        let mut pump = Pump::new(ring, deferred, Unwinding::new(cache, tables))?;
        let mut links = tracer.attach_lifecycle()?;
        let programs = if config.empty_programs { Programs::Empty } else { Programs::Trace };
        let mut traced = Vec::new();
        for candidate in candidates {
            traced.push(candidate.attach(&mut tracer, &mut pump, programs)?);
        }
        if config.syscalls {
            links.extend(tracer.attach_syscalls()?);
        }
        for process in &traced {
            tracer.set_running(process.slot, true)?;
        }
        let started = Instant::now();
        for process in &traced {
            notice::attached(process, begun.elapsed(), config);
        }
        Ok(Run { config, tracer, pump, traced, links, snapshots: Snapshots::new(started), output, started, signals })
    }
}

impl Run<'_> {
    async fn until_end(mut self) -> Result<Outcome, SessionError> {
        let result = self.follow().await;
        // Whatever happened: record no more, let go of the targets, and tell what was seen.
        for process in &self.traced {
            self.tracer.set_running(process.slot, false)?;
        }
        let mut links = std::mem::take(&mut self.links);
        for process in &mut self.traced {
            links.extend(std::mem::take(&mut process.links));
        }
        let detached = tokio::task::spawn_blocking(move || links.detach());
        let reported = self.finish();
        if let Err(panicked) = detached.await {
            return Err(SessionError::System { action: "detaching", source: io::Error::other(panicked) });
        }
        result?;
        reported
    }

    /// The run's middle: drains, samples and reports until there is a reason to stop.
    async fn follow(&mut self) -> Result<(), SessionError> {
        let mut drain = interval(DRAIN_EVERY);
        drain.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut report = interval(self.config.interval);
        report.set_missed_tick_behavior(MissedTickBehavior::Skip);
        report.reset();
        let end = self.config.duration.map(|duration| tokio::time::Instant::from_std(self.started + duration));
        loop {
            tokio::select! {
                biased;
                () = self.signals.next() => return Ok(()),
                () = at(end) => return Ok(()),
                _ = report.tick() => {
                    self.pump()?;
                    self.pump.look_for_new_code()?;
                    if !self.report(false)? {
                        return Ok(());
                    }
                }
                _ = drain.tick() => {
                    self.pump()?;
                    if !self.any_runs() {
                        return Ok(());
                    }
                }
                filling = self.pump.ring.filling() => {
                    filling?;
                    self.pump()?;
                }
            }
        }
    }

    /// Looks at every target; false when the last one has ended.
    fn any_runs(&mut self) -> bool {
        let mut runs = false;
        for process in &mut self.traced {
            if process.check_exited() {
                self.pump.ended(process.slot);
            } else {
                runs = true;
            }
        }
        runs
    }

    fn pump(&mut self) -> Result<(), SessionError> {
        for exec in self.pump.run()? {
            if let Some(process) = self.traced.iter_mut().find(|process| process.slot == exec.slot) {
                process.follow_exec(exec.by_other_thread, &mut self.tracer, self.config.syscalls);
            }
        }
        Ok(())
    }

    /// The last events and the final report.
    fn finish(&mut self) -> Result<Outcome, SessionError> {
        // What was sent before recording stopped is in the ring; a program that was interrupted while it wrote needs a
        // moment to end.
        for _ in 0..20 {
            if self.pump.catch_up()? {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        for process in &mut self.traced {
            process.check_exited();
        }
        self.report(true)?;
        Ok(Outcome { growing: self.snapshots.growing() })
    }

    /// Samples and reports; false when nobody reads any more.
    fn report(&mut self, is_final: bool) -> Result<bool, SessionError> {
        let snapshot = self.snapshots.take(self.config, is_final, &self.tracer, &mut self.pump, &self.traced)?;
        if self.output.is_file() && !is_final {
            notice::progress(&snapshot);
        }
        if is_final {
            notice::unnamed(self.pump.symbols.problems());
        }
        self.output.write(&snapshot)
    }
}

/// The signals that end a run.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, SessionError> {
        let listen =
            |kind| signal(kind).map_err(|source| SessionError::System { action: "listening for signals", source });
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

async fn at(end: Option<tokio::time::Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}
