//! `memtrace watch`: the memory footprint alone, with no probe in place, for as long as one likes; and on an alert, when asked,
//! an ordinary trace of bounded length.
//!
//! [`subject`] is what is watched, [`escalation`] the trace.

mod escalation;
mod subject;

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use subject::{Group, Process};
use tokio::time::{MissedTickBehavior, interval};

use self::escalation::Escalation;
use super::{
    SessionError,
    footprint::OomNotice,
    notice,
    output::Output,
    run::{at, event_loop},
    signals::{Signals, Told},
};
use crate::{
    report::watch::{self, Alert, Event, Line, Oom, SCHEMA},
    session::WatchConfig,
    target::{Held, Pid, cgroup::MemoryCgroup, container},
    trend::alert::{Change, Thresholds},
};

/// How a watch ended, for the exit status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Watched {
    /// Whether there was an alert.
    pub alerted: bool,
}

/// How often ends and OOM kills are looked for between samples.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// After a trace a process is left alone for this many times as long, however often alerts come and go; so a process and
/// its cgroup, whose alerts come together, are one trace, too.
const REST: u32 = 10;

/// The most traces that wait for the one that runs.
const MAX_WAITING: usize = 16;

/// Watches until a signal, the end of the duration, or the end of the last process (of the cgroup, when one is watched).
///
/// # Errors
///
/// When what is to be watched is not there, or the lines cannot be written.
pub fn watch(config: &WatchConfig) -> Result<Watched, SessionError> {
    let (processes, cgroup) = resolve(config)?;
    let output = Output::to(config.output.as_deref(), config.format)?;
    event_loop()?.block_on(async { Watch::new(config, processes, cgroup, output)?.until_end().await })
}

/// What the flags name; whatever names processes or a cgroup in another way ends here, too.
fn resolve(config: &WatchConfig) -> Result<(Vec<Held>, Option<MemoryCgroup>), SessionError> {
    let processes = config.pids.iter().map(|&pid| Held::open(Pid(pid))).collect::<Result<Vec<_>, _>>()?;
    let container = config.container.as_deref().map(container::cgroup_of).transpose()?;
    let cgroup = config.cgroup.as_deref().or(container.as_deref()).map(MemoryCgroup::at).transpose()?;
    Ok((processes, cgroup))
}

struct Watch<'a> {
    config: &'a WatchConfig,
    thresholds: Thresholds,
    processes: Vec<Process>,
    group: Option<Group>,
    output: Output,
    signals: Signals,
    started: Instant,
    alerts: u64,
    running: Option<Escalation>,
    waiting: VecDeque<Vec<Pid>>,
    /// Until when processes are not traced again.
    rested: HashMap<Pid, Instant>,
}

impl<'a> Watch<'a> {
    fn new(
        config: &'a WatchConfig,
        processes: Vec<Held>,
        cgroup: Option<MemoryCgroup>,
        output: Output,
    ) -> Result<Watch<'a>, SessionError> {
        let signals = Signals::listen()?;
        let thresholds = Thresholds { growth_bytes_per_hour: config.alert_growth, size_bytes: config.alert_size };
        let window_ms = u64::try_from(config.window.as_millis()).unwrap_or(u64::MAX);
        let mut watch = Watch {
            config,
            thresholds,
            processes: processes.into_iter().map(|held| Process::new(held, window_ms)).collect(),
            group: cgroup.map(|cgroup| Group::new(cgroup, window_ms)),
            output,
            signals,
            started: Instant::now(),
            alerts: 0,
            running: None,
            waiting: VecDeque::new(),
            rested: HashMap::new(),
        };
        watch.observe()?;
        notice::watching(watch.processes.len(), watch.group.as_ref().map(Group::path), config);
        Ok(watch)
    }

    async fn until_end(mut self) -> Result<Watched, SessionError> {
        let mut sample = interval(self.config.interval);
        sample.set_missed_tick_behavior(MissedTickBehavior::Skip);
        sample.reset();
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = self.config.duration.map(|duration| tokio::time::Instant::from_std(self.started + duration));
        loop {
            tokio::select! {
                biased;
                // A mark is for a trace, which hears of it by itself.
                told = self.signals.next() => if told != Told::Mark {
                    break;
                },
                () = at(end) => break,
                result = escalation::finished(&mut self.running) => {
                    self.running = None;
                    if !self.traced(result)? {
                        break;
                    }
                    self.escalate_next();
                }
                _ = sample.tick() => {
                    if !(self.observe()? && self.sample_line(Event::Sample)?) {
                        break;
                    }
                }
                _ = look.tick() => {
                    if !self.any_left()? {
                        break;
                    }
                }
            }
        }
        // A trace that still runs ends by what ended us, or with its targets, or by its own time: it is never cut off, so
        // that nothing stays in the targets.
        if self.running.is_some() {
            let result = escalation::finished(&mut self.running).await;
            self.traced(result)?;
        }
        self.look_for_kills()?;
        self.sample_line(Event::End)?;
        Ok(Watched { alerted: self.alerts > 0 })
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Samples everything and raises alarms; false when nobody reads any more.
    fn observe(&mut self) -> Result<bool, SessionError> {
        let elapsed_ms = self.elapsed_ms();
        let mut changes: Vec<(Change, Alert, Vec<Pid>)> = Vec::new();
        for process in &mut self.processes {
            process.observe(elapsed_ms, self.thresholds, &mut changes);
        }
        if let Some(group) = &mut self.group {
            group.observe(elapsed_ms, self.thresholds, &mut changes);
        }
        let mut read = true;
        for (change, alert, pids) in changes {
            let event = if matches!(change, Change::Raised(_)) { Event::Alert } else { Event::Over };
            if event == Event::Alert {
                self.alerts += 1;
                if self.config.escalate.is_some() && self.waiting.len() < MAX_WAITING {
                    self.waiting.push_back(pids);
                }
            }
            read &= self.line(Line { alert: Some(alert), ..self.blank(event) })?;
        }
        self.escalate_next();
        Ok(read)
    }

    /// Starts a trace when one waits and none runs.
    fn escalate_next(&mut self) {
        if self.running.is_some() {
            return;
        }
        let left = self.config.duration.map(|duration| duration.saturating_sub(self.started.elapsed()));
        while let (Some(time), Some(mut pids)) = (self.config.escalate, self.waiting.pop_front()) {
            let now = Instant::now();
            self.rested.retain(|_, until| *until > now);
            pids.retain(|pid| !self.rested.contains_key(pid));
            self.rested.extend(pids.iter().map(|&pid| (pid, now + time * (1 + REST))));
            // One second is the least that gives a report.
            let time = left.map_or(time, |left| time.min(left.max(Duration::from_secs(1))));
            self.running = escalation::start(&pids, time);
            if self.running.is_some() {
                return;
            }
        }
    }

    fn traced(&mut self, result: escalation::Traced) -> Result<bool, SessionError> {
        match result {
            Ok(Some(trace)) => self.line(Line { trace: Some(trace), ..self.blank(Event::Trace) }),
            Ok(None) => Ok(true),
            // The watch goes on: it needs none of what a trace needs.
            Err(error) => {
                notice::not_escalated(&error);
                Ok(true)
            }
        }
    }

    /// Looks for ends and kills; false when nothing is left to watch.
    fn any_left(&mut self) -> Result<bool, SessionError> {
        self.look_for_kills()?;
        let any_runs = self.processes.iter_mut().any(|process| !process.check_exited());
        Ok(any_runs || self.group.as_ref().is_some_and(Group::exists))
    }

    fn look_for_kills(&mut self) -> Result<(), SessionError> {
        let mut seen = Vec::new();
        for process in &mut self.processes {
            seen.extend(process.look_for_kills().map(|notice| (Some(process.pid()), notice)));
        }
        if let Some(group) = &mut self.group {
            let kills = group.look_for_kills();
            seen.extend((kills > 0).then_some((None, OomNotice { kills, target_killed: false })));
        }
        for (pid, kills) in seen {
            match pid {
                Some(pid) => notice::oom_kills(pid, kills),
                None => notice::group_oom_kills(kills.kills),
            }
            let oom = Oom { pid: pid.map(|pid| pid.0), kills: kills.kills, target_killed: kills.target_killed };
            self.line(Line { oom: Some(oom), ..self.blank(Event::Oom) })?;
        }
        Ok(())
    }

    fn sample_line(&mut self, event: Event) -> Result<bool, SessionError> {
        let is_final = event == Event::End;
        let processes = if is_final {
            self.processes.iter().map(Process::describe).collect()
        } else {
            self.processes.iter_mut().filter_map(Process::describe_once).collect()
        };
        let line =
            Line { is_final, processes, cgroup: self.group.as_ref().and_then(Group::describe), ..self.blank(event) };
        let read = self.line(line)?;
        Ok(read)
    }

    fn blank(&self, event: Event) -> Line {
        Line {
            schema: SCHEMA.into(),
            is_final: false,
            at: Timestamp::now().to_string(),
            elapsed_ms: self.elapsed_ms(),
            event,
            processes: Vec::new(),
            cgroup: None,
            alert: None,
            oom: None,
            trace: None,
            alerts: self.alerts,
        }
    }

    fn line(&mut self, line: Line) -> Result<bool, SessionError> {
        self.output.write_with(|format, colour, out| watch::render(format, &line, colour, out))
    }
}
