//! The memory footprint of one process as a run goes on: samples its memory and its cgroup's, and notices OOM kills.

use std::{
    collections::HashMap,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use crate::{
    report::memory::{Growth, Limit, LimitOf, ProcessMemory, SinceAttach, TimeLeft, TimeLeftState},
    target::{
        Pid,
        cgroup::{self, Level, MemoryCgroup},
        exit,
        memory::{self, Machine, Resident},
    },
    trend::footprint::{self, Account, Parts, Rate, Span, Track},
    turns::Turns,
};

/// The share of the time that reading PSS gets, as one part in this many: it walks all pages of the process.
const PSS_PARTS: u32 = 100;

/// Nor is it read of a process that is larger: that takes about 40 ms, in which nothing else is done.
const PSS_MOST_RSS: u64 = 4 << 30;

/// How often the count of OOM kills is looked at between samples.
const OOM_EVERY: Duration = Duration::from_secs(1);

/// The most cgroups with limits that are followed, the process's own and those around it.
const MAX_LEVELS: usize = 16;

/// What the kernel accounts to a process.
pub(super) struct Footprint {
    at_attach: Option<Resident>,
    now: Resident,
    /// RSS and swap.
    size: Track,
    pss: PssReader,
    pub(super) bounds: Bounds,
    kills: Kills,
    killed: bool,
    end_seen: bool,
}

impl Footprint {
    /// Looks at a process for the first time.
    pub(super) fn new(pid: Pid, span: Span) -> Self {
        let cgroup = MemoryCgroup::of(pid);
        Self {
            at_attach: None,
            now: Resident::default(),
            size: Track::new(span),
            pss: PssReader::default(),
            kills: Kills::new(cgroup.clone(), cgroup::Kills::Own),
            bounds: Bounds::new(cgroup, span),
            killed: false,
            end_seen: false,
        }
    }

    /// Looks again. A process that has ended keeps what it had.
    pub(super) fn sample(&mut self, pid: Pid, pidfd: BorrowedFd<'_>, elapsed_ms: u64) {
        if let Some(resident) = Resident::read(pid, pidfd) {
            self.at_attach.get_or_insert(resident);
            self.now = resident;
            self.size.push(elapsed_ms, resident.total_bytes());
            if resident.rss_bytes() <= PSS_MOST_RSS {
                self.pss.read(pid, pidfd);
            } else {
                self.pss.bytes = None;
            }
            self.bounds.sample(elapsed_ms);
        }
    }

    /// The process runs another program: what it had is gone.
    pub(super) fn restart(&mut self, pid: Pid, pidfd: BorrowedFd<'_>) {
        self.at_attach = Resident::read(pid, pidfd);
    }

    /// OOM kills in the process's cgroup since the last look; looks at most once a second, and always at the end.
    pub(super) fn look_for_kills(&mut self, pid: Pid, pidfd: BorrowedFd<'_>, exited: bool) -> Option<OomNotice> {
        if self.end_seen {
            return None;
        }
        self.end_seen = exited;
        let since_sample = self.kills.look(exited);
        if exited && self.kills.recently() {
            // Unless another signal or none ended it.
            self.killed = exit::ending_signal(pid, pidfd).is_none_or(|signal| signal == libc::SIGKILL as u32);
        }
        (since_sample > 0 || self.killed).then_some(OomNotice { kills: since_sample, target_killed: self.killed })
    }

    /// Bytes now: RSS and swap.
    pub(super) fn bytes(&self) -> u64 {
        self.now.total_bytes()
    }

    /// How fast that grows, when enough of the span is known for an alarm.
    pub(super) fn settled_rate(&self) -> Option<Rate> {
        self.size.settled_rate()
    }

    /// How fast that grows.
    fn rate(&self) -> Option<Rate> {
        self.size.rate()
    }

    /// For the report; `held_bytes` is what the stacks hold, `None` where nothing is traced.
    pub(super) fn describe(&self, held_bytes: Option<u64>) -> ProcessMemory {
        let since_attach = held_bytes.zip(self.at_attach).map(|(held, before)| {
            since_attach(before.total_bytes(), footprint::account(parts(before), parts(self.now), held))
        });
        ProcessMemory {
            rss_bytes: self.now.rss_bytes(),
            anon_bytes: self.now.anon_bytes,
            file_bytes: self.now.file_bytes,
            shmem_bytes: self.now.shmem_bytes,
            swap_bytes: self.now.swap_bytes,
            pss_bytes: self.pss.bytes,
            growth: self.rate().map(growth),
            grows: self.rate().is_some_and(|rate| rate.low > 0.0) && self.size.goes_on(),
            since_attach,
            limit: self.bounds.nearest(self.rate()),
            oom_kills: self.kills.since_start(),
            killed_for_memory: self.killed,
        }
    }
}

/// What became of a process since it had so many bytes at the attach, for the report.
pub(super) fn since_attach(before_bytes: u64, account: Account) -> SinceAttach {
    SinceAttach {
        before_bytes,
        growth_bytes: account.growth_bytes,
        stacks_bytes: account.stacks_bytes,
        explained: account.explained,
        rest_bytes: account.rest_bytes,
        file_bytes: account.file_bytes,
        shmem_bytes: account.shmem_bytes,
    }
}

fn parts(resident: Resident) -> Parts {
    Parts {
        anon_bytes: resident.anon_bytes.saturating_add(resident.swap_bytes),
        file_bytes: resident.file_bytes,
        shmem_bytes: resident.shmem_bytes,
    }
}

/// As the report has it.
pub(super) fn growth(rate: Rate) -> Growth {
    Growth { bytes_per_hour: rate.estimate, low_bytes_per_hour: rate.low, high_bytes_per_hour: rate.high }
}

/// What to tell at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct OomNotice {
    /// Processes killed since the last notice.
    pub(super) kills: u64,
    /// Whether the target is one of them.
    pub(super) target_killed: bool,
}

/// Reads PSS no more often than it may cost.
#[derive(Default)]
struct PssReader {
    bytes: Option<u64>,
    turns: Turns,
}

impl PssReader {
    fn read(&mut self, pid: Pid, pidfd: BorrowedFd<'_>) {
        if !self.turns.may_begin() {
            return;
        }
        let begun = Instant::now();
        if let Some(bytes) = memory::pss_bytes(pid, pidfd) {
            self.bytes = Some(bytes);
        }
        self.turns.ended(begun.elapsed(), PSS_PARTS);
    }
}

/// OOM kills of one cgroup.
pub(super) struct Kills {
    cgroup: Option<MemoryCgroup>,
    of: cgroup::Kills,
    first: Option<u64>,
    last: Option<u64>,
    looked: Instant,
    /// When the count last rose.
    rose: Option<Instant>,
}

impl Kills {
    pub(super) fn new(cgroup: Option<MemoryCgroup>, of: cgroup::Kills) -> Self {
        let first = cgroup.as_ref().and_then(|cgroup| cgroup.oom_kills(of));
        Self { cgroup, of, first, last: first, looked: Instant::now(), rose: None }
    }

    /// How many there are since the last look; `now` looks even when the last look was a moment ago.
    pub(super) fn look(&mut self, now: bool) -> u64 {
        if !now && self.looked.elapsed() < OOM_EVERY {
            return 0;
        }
        self.looked = Instant::now();
        let Some(count) = self.cgroup.as_ref().and_then(|cgroup| cgroup.oom_kills(self.of)) else { return 0 };
        let risen = self.last.replace(count).map_or(0, |last| count.saturating_sub(last));
        if risen > 0 {
            self.rose = Some(self.looked);
        }
        risen
    }

    /// Whether the count rose in the last moments: a process's end may be noticed a little after the kill is.
    fn recently(&self) -> bool {
        self.rose.is_some_and(|rose| rose.elapsed() < 3 * OOM_EVERY)
    }

    /// Since the first look; `None` when it is not known.
    pub(super) fn since_start(&self) -> Option<u64> {
        Some(self.last?.saturating_sub(self.first?))
    }
}

/// The limits around a process or a cgroup.
pub(super) struct Bounds {
    cgroup: Option<MemoryCgroup>,
    span: Span,
    /// Used bytes of each cgroup with a limit, by its path.
    tracks: HashMap<String, Track>,
    levels: Vec<Level>,
    machine: Option<Machine>,
}

impl Bounds {
    pub(super) fn new(cgroup: Option<MemoryCgroup>, span: Span) -> Self {
        Self { cgroup, span, tracks: HashMap::new(), levels: Vec::new(), machine: None }
    }

    pub(super) fn sample(&mut self, elapsed_ms: u64) {
        let levels = self.cgroup.as_ref().map(MemoryCgroup::levels).unwrap_or_default();
        if levels.is_empty() && !self.levels.is_empty() {
            // The cgroup is gone, with its last process.
            return;
        }
        self.levels = levels;
        self.levels.truncate(MAX_LEVELS);
        for level in &self.levels {
            let track = self.tracks.entry(level.path.clone()).or_insert_with(|| Track::new(self.span));
            track.push(elapsed_ms, level.working_set_bytes);
        }
        self.machine = Machine::read().or(self.machine);
    }

    /// The cgroup's own usage, and how its working set went.
    pub(super) fn own(&self) -> Option<(&Level, Option<&Track>)> {
        let level = self.levels.first()?;
        Some((level, self.tracks.get(&level.path)))
    }

    /// The limit that is reached first; if none is approached, the one with the least room. A cgroup's limit that is no
    /// lower than the machine's memory is none; without any it is the machine's memory, at the watched one's own `rate`,
    /// as what other programs take and give back there is not its doing.
    pub(super) fn nearest(&self, rate: Option<Rate>) -> Option<Limit> {
        let total = self.machine.map_or(u64::MAX, |machine| machine.total_bytes);
        let limits = self.levels.iter().filter_map(|level| {
            let limit_bytes = level.limit_bytes.filter(|&limit| limit < total)?;
            let rate = self.tracks.get(&level.path).and_then(Track::rate);
            let room = limit_bytes.saturating_sub(level.working_set_bytes);
            Some(Limit {
                of: LimitOf::Cgroup,
                path: level.path.clone(),
                limit_bytes,
                used_bytes: level.working_set_bytes,
                usage_bytes: level.usage_bytes,
                high_bytes: level.high_bytes,
                growth: rate.map(growth),
                left: time_left(room, rate),
            })
        });
        let nearest = limits.min_by_key(|limit| {
            let soonest = (limit.left.state == TimeLeftState::Near).then_some(limit.left.about_ms).flatten();
            (soonest.unwrap_or(u64::MAX), limit.limit_bytes.saturating_sub(limit.used_bytes))
        });
        nearest.or_else(|| {
            let machine = self.machine?;
            Some(Limit {
                of: LimitOf::Machine,
                path: String::new(),
                limit_bytes: machine.total_bytes,
                used_bytes: machine.used_bytes(),
                usage_bytes: machine.used_bytes(),
                high_bytes: None,
                growth: rate.map(growth),
                left: time_left(machine.available_bytes, rate),
            })
        })
    }
}

pub(super) fn time_left(room_bytes: u64, rate: Option<Rate>) -> TimeLeft {
    let unknown = TimeLeft { state: TimeLeftState::Unknown, about_ms: None, earliest_ms: None, latest_ms: None };
    match footprint::time_left(room_bytes, rate) {
        footprint::TimeLeft::Unknown => unknown,
        footprint::TimeLeft::Level => TimeLeft { state: TimeLeftState::Level, ..unknown },
        footprint::TimeLeft::MoreThan(ms) => TimeLeft { state: TimeLeftState::Far, about_ms: Some(ms), ..unknown },
        footprint::TimeLeft::Within { about_ms, earliest_ms, latest_ms } => {
            TimeLeft { state: TimeLeftState::Near, about_ms: Some(about_ms), earliest_ms: Some(earliest_ms), latest_ms }
        }
    }
}
