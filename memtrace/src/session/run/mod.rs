//! One run from the attach to the last report: the loop that drains, samples and reports, and lets targets come and go.
//!
//! [`targets`] admits and retires them, [`beginnings`] meets those that are held at their begin, [`budget_steps`] does what the account of the
//! cost decides.

mod beginnings;
mod budget_steps;
mod targets;

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::SignalKind,
    time::{MissedTickBehavior, interval, sleep_until},
};

use self::targets::Detacher;
use super::{
    SessionError,
    budget::{self, Budget},
    candidate::Candidate,
    code,
    config::TraceConfig,
    facts::Facts,
    feed::Feed,
    gate::Artifacts,
    members::Members,
    notice,
    output::Output,
    runtimes::Runtimes,
    signals::{Signals, Told},
    snapshot::{Scope, Snapshots},
    traced::Traced,
    tree::Tree,
    tui::{self, View},
    unwinding::{self, Unwinding},
};
use crate::{
    allocator::Plans,
    debuginfod::Debuginfod,
    kernel::{Loaded, Options, Preparation, Tracer, features, links::Links},
    report::loss,
    target::{
        Pid, TargetError,
        guard::{Copied, Guard},
        launch::Launched,
    },
    unwind::Cache,
};

/// How a run ended, for the exit status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Whether a stack was growing at the end that makes the run fail: neither suppressed nor below the threshold.
    pub growing: bool,
    /// Whether a target allocates in a way that memtrace does not see, so that nothing growing proves nothing.
    pub blind: bool,
    /// How the command that was run ended; `None` when there was none or it runs on.
    pub command: Option<ExitStatus>,
}

/// How often the ring is drained when nothing wakes us earlier.
const DRAIN_EVERY: Duration = Duration::from_millis(50);

/// The loop that a run goes on in.
pub(super) fn event_loop() -> Result<Runtime, SessionError> {
    let started = Builder::new_current_thread().enable_all().build();
    started.map_err(|source| SessionError::System { action: "starting the event loop", source })
}

/// One run, inside an event loop; the report goes to `output` if there is one, else where the configuration says.
pub(super) async fn trace(
    config: &TraceConfig,
    output: Option<Output>,
    budget: Option<Budget>,
) -> Result<Outcome, SessionError> {
    // From here on no signal ends the program by itself; they wait until everything is in place.
    let signals = Signals::listen()?;
    features::require(config.probes.syscalls)?;
    let output = output.map_or_else(|| Output::open(config), Ok)?;
    let artifacts = Artifacts::open(&config.gate)?;
    Run::start(config, output, artifacts, signals, budget)?.until_end().await
}

struct Run<'a> {
    config: &'a TraceConfig,
    tracer: Tracer,
    feed: Feed,
    traced: Vec<Traced>,
    launched: Option<Launched>,
    members: Members,
    detacher: Detacher,
    /// Links that belong to no single process.
    links: Links,
    snapshots: Snapshots,
    output: Output,
    artifacts: Artifacts,
    started: Instant,
    signals: Signals,
    /// Who watches, with `--tui`, until the end.
    view: Option<View>,
    /// What tracing may cost, with `--max-overhead`.
    budget: Option<Budget>,
    /// Holds targets that may copy their probed code, and the processes of a tree.
    guard: Guard,
    tree: Tree,
    /// What is probed in processes that run the same files.
    plans: Plans,
}

impl<'a> Run<'a> {
    /// Opens the targets, loads the programs, attaches, and starts recording.
    fn start(
        config: &'a TraceConfig,
        output: Output,
        artifacts: Artifacts,
        signals: Signals,
        mut budget: Option<Budget>,
    ) -> Result<Run<'a>, SessionError> {
        let begun = Instant::now();
        // All targets are looked at before anything is loaded: most mistakes show here.
        let mut cache = Cache::new();
        let mut guard = Guard::default();
        let mut tree = Tree::new(config);
        let mut plans = Plans::default();
        let mut launched = config.targets.launch.as_ref().map(|launch| tree.launch(launch, &mut guard)).transpose()?;
        // Behind the launch, which forks, and is simplest to be right about while there is one thread.
        let preparation = Preparation::begin();
        let pids = config.targets.pids.iter().map(|&pid| Pid(pid)).chain(launched.as_ref().map(Launched::pid));
        let named: Vec<Pid> = pids.collect();
        let candidates = named.iter().map(|&pid| Candidate::open(pid, config, &mut plans, Some(&mut cache)));
        let mut candidates = candidates.collect::<Result<Vec<_>, _>>()?;
        let mut members = Members::new(config)?;
        named.iter().for_each(|&pid| members.settle(pid));
        for pid in members.present(&named) {
            members.settle(pid);
            match Candidate::open(pid, config, &mut plans, Some(&mut cache)) {
                Ok(candidate) => candidates.push(candidate),
                Err(error) => notice::not_joined(pid, &error),
            }
        }
        let expected = if members.is_empty() { cache.rows() } else { cache.rows() + unwinding::ROWS_TO_COME };
        let options = Options {
            ring_bytes: config.memory.ring_bytes,
            min_size: config.sampling.min_size,
            max_size: config.sampling.max_size,
            unwind_rows: unwinding::capacity(expected, config.memory.unwind_bytes),
            verify_stacks: config.internal.verify_stacks,
            samples: config.sampling.distance.is_some() || config.sampling.max_overhead.is_some(),
            predicts: !config.probes.no_prediction,
        };
        let Loaded { mut tracer, ring, deferred, tables, interpreters, sampler } = Tracer::load(options, preparation)?;
        let mut feed = Feed::new(ring, deferred, Unwinding::new(cache, tables), Runtimes::new(interpreters))?;
        if config.probes.growth {
            feed.state.counts.leave_out_heaps();
        }
        if config.probes.ask {
            feed.state.asks.begin(config.times.interval);
        }
        if let Some(options) = &config.names.debuginfod {
            feed.state.symbols.ask_servers(Debuginfod::new(options.clone(), Arc::new(notice::debug_files)));
        }
        match (sampler, config.sampling.distance) {
            (Some(sampler), Some(distance)) => feed.sample(sampler, distance)?,
            (Some(sampler), None) => feed.may_sample(sampler, budget::FIRST_DISTANCE)?,
            // Of a sample the child's releases of what it inherited are not known.
            (None, _) if !members.is_empty() => feed.state.ledger.follow_forks(),
            (None, _) => {}
        }
        let mut links = tracer.attach_lifecycle()?;
        let mut traced = Vec::new();
        for candidate in candidates {
            let pid = candidate.pid();
            // One that we hold ourselves can be handed over to the guard only when it is let go.
            let is_ours =
                launched.as_ref().is_some_and(|launched| launched.pid() == pid && !launched.is_held_by_helper());
            let guard = (!is_ours).then_some(&mut guard);
            let process = match candidate.attach_through_execs(&mut tracer, &mut feed, &mut plans, guard, config) {
                Ok(process) => process,
                Err(error) if named.contains(&pid) => return Err(error),
                // A member of a cgroup comes and goes as it likes.
                Err(error) if error.is_ended_target() => {
                    members.too_short += 1;
                    continue;
                }
                Err(error) => {
                    notice::not_joined(pid, &error);
                    continue;
                }
            };
            if named.contains(&process.target.pid()) && process.target.exited() {
                return Err(TargetError::Exited { pid: process.target.pid() }.into());
            }
            traced.push(process);
        }
        if config.probes.syscalls {
            links.extend(tracer.attach_syscalls()?);
        }
        if config.probes.growth {
            links.extend(tracer.attach_growth()?);
        }
        for process in &traced {
            tree.follow(process.target.pid(), process.looks_for_leaks, &mut guard);
            tracer.set_running(process.slot, true)?;
            feed.state.pages.collections.begin(process.slot);
        }
        let started = Instant::now();
        if let Some(budget) = &mut budget {
            budget.start(&traced);
        }
        if let Some(launched) = launched.as_mut().filter(|launched| launched.is_held_by_helper()) {
            launched.is_let_go();
            let pid = launched.pid();
            let looks_for_leaks = traced.iter().any(|process| process.target.pid() == pid && process.looks_for_leaks);
            tree.go(pid, looks_for_leaks, &mut guard);
        } else if let Some(launched) = &mut launched {
            match traced.iter().find(|process| process.target.pid() == launched.pid() && process.code.is_probed()) {
                Some(process) => {
                    launched.release_stopped()?;
                    code::watch(&mut guard, launched.pid(), process.code.sites(), process.looks_for_leaks);
                    launched.signal(SignalKind::from_raw(libc::SIGCONT).as_raw_value());
                }
                None => launched.release()?,
            }
        }
        if !config.internal.quiet {
            let shown: Vec<_> = traced.iter().map(Traced::shown).collect();
            notice::attached(&shown, begun.elapsed(), config);
        }
        if config.focus.mark {
            notice::how_to_mark();
        }
        let view = config.output.tui.then(|| View::open(config.times.interval)).transpose()?;
        let mut snapshots = Snapshots::new(started, config);
        snapshots.begin(&mut feed.state);
        let detacher = Detacher::start();
        Ok(Run {
            config,
            tracer,
            feed,
            traced,
            launched,
            members,
            detacher,
            links,
            snapshots,
            output,
            artifacts,
            started,
            signals,
            view,
            budget,
            guard,
            tree,
            plans,
        })
    }
}

impl Run<'_> {
    async fn until_end(mut self) -> Result<Outcome, SessionError> {
        let result = self.follow().await;
        let closed = self.view.take().map_or(Ok(()), View::close);
        // Whatever happened: record no more, let go of the targets, and tell what was seen.
        self.feed.state.asks.end();
        self.guard.free();
        for process in &self.traced {
            self.tracer.set_running(process.slot, false)?;
        }
        let mut links = std::mem::take(&mut self.links);
        links.extend(self.tracer.take_stand_ins());
        for process in &mut self.traced {
            links.extend(process.take_links());
        }
        let detached = tokio::task::spawn_blocking(move || links.detach());
        self.feed.state.asks.wait();
        let reported = self.finish();
        let detached = detached.await;
        self.guard.end();
        if let Err(panicked) = detached {
            return Err(SessionError::System { action: "detaching", source: io::Error::other(panicked) });
        }
        result.and(closed)?;
        reported
    }

    /// The run's middle: drains, samples and reports until there is a reason to stop.
    async fn follow(&mut self) -> Result<(), SessionError> {
        let mut drain = interval(DRAIN_EVERY);
        drain.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut report = interval(self.config.times.interval);
        report.set_missed_tick_behavior(MissedTickBehavior::Skip);
        report.reset();
        let mut look = interval(budget::LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = self.config.times.duration.map(|duration| tokio::time::Instant::from_std(self.started + duration));
        loop {
            tokio::select! {
                biased;
                told = self.signals.next() => match told {
                    Told::End(signal) => {
                        // A terminal's Ctrl-C has reached the command already; what ends a job is passed on, as a shell
                        // does.
                        if let Some(launched) = self.launched.as_mut().filter(|_| signal != SignalKind::interrupt()) {
                            launched.signal(signal.as_raw_value());
                        }
                        return Ok(());
                    }
                    Told::Mark => {
                        self.drain()?;
                        notice::marked(self.snapshots.mark(&mut self.feed.state));
                    }
                },
                () = tui::ended(&mut self.view) => return Ok(()),
                () = at(end) => return Ok(()),
                _ = report.tick() => {
                    self.drain()?;
                    self.feed.look_for_new_code()?;
                    self.follow_new_files();
                    if !self.report(false)? {
                        return Ok(());
                    }
                }
                _ = look.tick(), if self.budget.is_some() => {
                    self.drain()?;
                    self.snapshots.sample(&mut self.feed.state);
                    self.keep_budget()?;
                }
                _ = drain.tick() => {
                    self.drain()?;
                    for process in &mut self.traced {
                        process.settle_exec(&mut self.tracer, &mut self.guard, &mut self.plans, self.config);
                    }
                    self.look_for_copies();
                    self.meet_beginnings()?;
                    self.admit_new()?;
                    if !self.any_runs()? && !self.members.may_come() {
                        return Ok(());
                    }
                    self.retire_ended()?;
                }
                () = self.guard.told() => self.meet_beginnings()?,
                filling = self.feed.ring.filling() => {
                    filling?;
                    self.drain()?;
                }
            }
        }
    }

    /// Looks at every target; false when the last one has ended.
    fn any_runs(&mut self) -> Result<bool, SessionError> {
        let elapsed_ms = self.snapshots.elapsed_ms();
        let mut runs = false;
        for process in &mut self.traced {
            let ended = process.check_exited();
            if let Some(kills) = process.look_for_kills() {
                notice::oom_kills(process.target.pid(), kills);
            }
            if ended {
                self.feed.ended(process.slot)?;
            } else {
                process.follow_thread(elapsed_ms, &mut self.tracer, &mut self.guard, &mut self.plans, self.config);
                runs = true;
            }
        }
        Ok(runs)
    }

    fn drain(&mut self) -> Result<(), SessionError> {
        for exec in self.feed.run()? {
            let Some(process) = self.traced.iter_mut().find(|process| process.slot == exec.slot && !process.exited)
            else {
                continue;
            };
            if self.tree.holds(process.target.pid()) {
                process.await_begin(exec.by_other_thread);
            } else {
                process.follow_exec(
                    exec.by_other_thread,
                    &mut self.tracer,
                    &mut self.guard,
                    &mut self.plans,
                    self.config,
                );
            }
        }
        self.follow_new_files();
        Ok(())
    }

    /// Probes allocators in files that targets have loaded since the attach.
    fn follow_new_files(&mut self) {
        for slot in self.feed.take_new_files() {
            if let Some(process) = self.traced.iter_mut().find(|process| process.slot == slot && !process.exited) {
                process.follow_new_files(&mut self.tracer, &mut self.guard, &mut self.plans, self.config);
            }
        }
    }

    /// The last events and the final report.
    fn finish(&mut self) -> Result<Outcome, SessionError> {
        // What was sent before recording stopped is in the ring; a program that was interrupted while it wrote needs a
        // moment to end.
        for _ in 0..20 {
            if self.feed.catch_up()? {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.any_runs()?;
        self.look_for_copies();
        self.report(true)?;
        let command = self.launched.as_mut().and_then(Launched::ended);
        if let Some(launched) = &self.launched {
            notice::command_ended(launched.pid(), command);
        }
        Ok(Outcome { growing: self.snapshots.growing(), blind: self.snapshots.is_blind(), command })
    }

    /// Looks for targets that run copies of their probed code.
    fn look_for_copies(&mut self) {
        let elapsed_ms = self.snapshots.elapsed_ms();
        for Copied { pid, breakpoints } in self.guard.take_copied() {
            let process = self.traced.iter_mut().find(|process| process.target.pid() == pid);
            if process.is_none_or(|process| process.code.has_moved(elapsed_ms)) {
                notice::copied(pid, breakpoints);
            }
        }
        for process in self.traced.iter_mut().filter(|process| !process.exited) {
            if process.code.look(process.target.pid(), elapsed_ms) {
                notice::moved(process.target.pid());
            }
        }
    }

    /// Samples and reports; false when nobody reads any more.
    fn report(&mut self, is_final: bool) -> Result<bool, SessionError> {
        let elapsed_ms = self.snapshots.elapsed_ms();
        for process in &mut self.traced {
            process.sample_memory(elapsed_ms);
        }
        let scope = if self.view.is_some() {
            Scope::All
        } else {
            Scope::Top(if is_final { self.config.output.final_top } else { self.config.output.top })
        };
        let facts = Facts {
            processes: self.traced.iter().map(|process| process.facts(&self.tracer)).collect::<Result<_, _>>()?,
            remembered: self.tracer.remembered()?,
            tables: self.feed.unwinding.fill(),
        };
        let mut snapshot = self.snapshots.take(scope, is_final, &facts, &mut self.feed.state);
        snapshot.retired.too_short = self.members.too_short;
        snapshot.loss.insert(loss::STARTS_UNSEEN.into(), self.tree.late());
        snapshot.budget = self.budget.as_ref().map(Budget::shown);
        if let Some(view) = &mut self.view {
            view.show(snapshot);
            return Ok(true);
        }
        if self.output.is_file() && !is_final {
            notice::progress(&snapshot);
        }
        if is_final {
            notice::unnamed(self.feed.state.symbols.problems());
            notice::unused(self.snapshots.gatekeeper.unused());
        }
        // A file that cannot be written must not cost the report.
        let filed = if is_final { self.artifacts.write(&snapshot) } else { Ok(()) };
        snapshot.stacks.truncate(self.config.output.final_top);
        let is_read = self.output.write(&snapshot)?;
        filed?;
        if is_final && self.output.is_the_last() {
            // With 100,000 stacks these are millions of strings, and the process ends.
            std::mem::forget(snapshot);
        }
        Ok(is_read)
    }
}

/// The exit status that a shell would show: the command's, or 128 and the number of the signal that ended it.
pub fn shell_status(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

pub(super) async fn at(end: Option<tokio::time::Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}
