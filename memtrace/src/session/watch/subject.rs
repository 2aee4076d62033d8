//! What is watched: a process, or a cgroup with everything in it.

use std::{cmp::Reverse, os::fd::AsFd as _};

use crate::{
    report::watch::{Alert, Cause, Member, WatchedCgroup, WatchedProcess},
    session::footprint::{Bounds, Footprint, Kills, OomNotice, growth},
    target::{
        Held, Pid,
        cgroup::{self, MemoryCgroup},
        memory,
    },
    trend::{
        alert::{self, Alarms, Change, Thresholds},
        footprint::{Rate, Span, Track},
    },
};

/// How many of a cgroup's processes are named.
const NAMED: usize = 3;

/// How many of a cgroup's processes are traced on an alert, the largest.
const TRACED: usize = 16;

/// Alarms that change, with what is to be traced for them.
pub(super) type Changes = Vec<(Change, Alert, Vec<Pid>)>;

/// A watched process.
pub(super) struct Process {
    held: Held,
    footprint: Footprint,
    alarms: Alarms,
    exited: bool,
    /// Its end stood in a line.
    end_told: bool,
}

impl Process {
    pub(super) fn new(held: Held, window_ms: u64) -> Self {
        let footprint = Footprint::new(held.pid(), Span::Newest(window_ms));
        Self { held, footprint, alarms: Alarms::default(), exited: false, end_told: false }
    }

    pub(super) fn pid(&self) -> Pid {
        self.held.pid()
    }

    pub(super) fn observe(&mut self, elapsed_ms: u64, thresholds: Thresholds, changes: &mut Changes) {
        if self.check_exited() {
            return;
        }
        let pid = self.held.pid();
        self.footprint.sample(pid, self.held.as_fd(), elapsed_ms);
        let (bytes, rate) = (self.footprint.bytes(), self.footprint.settled_rate());
        for change in self.alarms.observe(thresholds, bytes, rate) {
            let name = self.held.command().to_owned();
            changes.push((change, alert(change, Some(pid), name, thresholds, bytes, rate), vec![pid]));
        }
    }

    pub(super) fn check_exited(&mut self) -> bool {
        self.exited = self.exited || self.held.exited();
        self.exited
    }

    pub(super) fn look_for_kills(&mut self) -> Option<OomNotice> {
        let exited = self.check_exited();
        self.footprint.look_for_kills(self.held.pid(), self.held.as_fd(), exited)
    }

    /// For the line of an interval; `None` when an earlier one told its end.
    pub(super) fn describe_once(&mut self) -> Option<WatchedProcess> {
        let told = std::mem::replace(&mut self.end_told, self.exited);
        (!told).then(|| self.describe())
    }

    pub(super) fn describe(&self) -> WatchedProcess {
        WatchedProcess {
            pid: self.held.pid().0,
            command: self.held.command().to_owned(),
            exited: self.exited,
            alerting: self.alarms.any() && !self.exited,
            memory: self.footprint.describe(None),
        }
    }
}

/// A watched cgroup.
pub(super) struct Group {
    cgroup: MemoryCgroup,
    bounds: Bounds,
    kills: Kills,
    alarms: Alarms,
    /// Its processes when last looked at, by size.
    members: Vec<(Pid, u64)>,
}

impl Group {
    pub(super) fn new(cgroup: MemoryCgroup, window_ms: u64) -> Self {
        Self {
            bounds: Bounds::new(Some(cgroup.clone()), Span::Newest(window_ms)),
            kills: Kills::new(Some(cgroup.clone()), cgroup::Kills::WithBelow),
            cgroup,
            alarms: Alarms::default(),
            members: Vec::new(),
        }
    }

    pub(super) fn path(&self) -> String {
        self.cgroup.path()
    }

    pub(super) fn exists(&self) -> bool {
        self.cgroup.exists()
    }

    pub(super) fn observe(&mut self, elapsed_ms: u64, thresholds: Thresholds, changes: &mut Changes) {
        self.bounds.sample(elapsed_ms);
        let processes = self.cgroup.processes().unwrap_or_default();
        self.members = processes.into_iter().filter_map(|pid| Some((pid, memory::rss_bytes(pid)?))).collect();
        self.members.sort_by_key(|&(_, bytes)| Reverse(bytes));
        let Some((level, track)) = self.bounds.own() else { return };
        let rate = track.and_then(Track::settled_rate);
        let bytes = level.working_set_bytes;
        for change in self.alarms.observe(thresholds, bytes, rate) {
            let pids = self.members.iter().map(|&(pid, _)| pid).take(TRACED).collect();
            changes.push((change, alert(change, None, self.cgroup.path(), thresholds, bytes, rate), pids));
        }
    }

    pub(super) fn look_for_kills(&mut self) -> u64 {
        self.kills.look(false)
    }

    /// `None` when nothing could be read of it.
    pub(super) fn describe(&self) -> Option<WatchedCgroup> {
        let (level, track) = self.bounds.own()?;
        let rate = track.and_then(Track::rate);
        let largest = self.members.iter().take(NAMED).filter_map(|&(pid, rss_bytes)| {
            let command = Held::open(pid).ok()?.command().to_owned();
            Some(Member { pid: pid.0, command, rss_bytes })
        });
        Some(WatchedCgroup {
            path: self.cgroup.path(),
            usage_bytes: level.usage_bytes,
            working_set_bytes: level.working_set_bytes,
            growth: rate.map(growth),
            limit: self.bounds.nearest(rate),
            oom_kills: self.kills.since_start(),
            alerting: self.alarms.any(),
            process_count: self.members.len() as u64,
            largest: largest.collect(),
        })
    }
}

fn alert(
    change: Change,
    pid: Option<Pid>,
    name: String,
    thresholds: Thresholds,
    bytes: u64,
    rate: Option<Rate>,
) -> Alert {
    let (Change::Raised(cause) | Change::Over(cause)) = change;
    let (cause, threshold) = match cause {
        alert::Cause::Growth => (Cause::Growth, thresholds.growth_bytes_per_hour.unwrap_or(0.0)),
        alert::Cause::Size => (Cause::Size, thresholds.size_bytes.unwrap_or(0) as f64),
    };
    Alert { pid: pid.map(|pid| pid.0), name, cause, threshold, bytes, growth: rate.map(growth) }
}
