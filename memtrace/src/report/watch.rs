//! The lines of `memtrace watch`: one type, as JSON or as text. The JSON is a contract of its own, `memtrace-watch/1`;
//! fields are only ever added.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use serde::{Deserialize, Serialize};

use super::{
    escape::escape,
    footprint::{self, growth_with_interval},
    memory::{Growth, Limit, ProcessMemory},
    number::{bytes, duration, of, rate},
    snapshot::Snapshot,
    text,
};
use crate::report::form::Format;

/// The name and version of the JSON form.
pub const SCHEMA: &str = "memtrace-watch/1";

/// One line of the output of `memtrace watch`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Line {
    /// The name and version of this form.
    pub schema: Cow<'static, str>,
    /// Whether this is the last one.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Wall-clock time, RFC 3339.
    pub at: String,
    /// Milliseconds since the watch began.
    pub elapsed_ms: u64,
    /// What happened.
    pub event: Event,
    /// The watched processes as they are now; empty for events that are not `sample` or `end`.
    pub processes: Vec<WatchedProcess>,
    /// The watched cgroup; `None` when there is none, and for other events.
    pub cgroup: Option<WatchedCgroup>,
    /// The alert that begins or is over.
    pub alert: Option<Alert>,
    /// The kills that were noticed.
    pub oom: Option<Oom>,
    /// The final report of the trace that an alert set off, of schema `memtrace/1`.
    pub trace: Option<Snapshot>,
    /// Alerts so far.
    pub alerts: u64,
}

/// What a line of `memtrace watch` tells.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// How things stand at an interval.
    Sample,
    /// An alert begins.
    Alert,
    /// An alert is over.
    Over,
    /// The kernel killed for want of memory.
    Oom,
    /// A trace that an alert set off has ended.
    Trace,
    /// The watch ends.
    End,
}

/// A process that is watched, as it is now.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WatchedProcess {
    /// Its process id.
    pub pid: u32,
    /// Its command line, control characters escaped.
    pub command: String,
    /// Whether it has ended.
    pub exited: bool,
    /// Whether an alert is on.
    pub alerting: bool,
    /// What it has; when it has ended, what it had.
    pub memory: ProcessMemory,
}

/// The cgroup that is watched, as it is now.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WatchedCgroup {
    /// Its path.
    pub path: String,
    /// Everything charged to it, page cache included.
    pub usage_bytes: u64,
    /// That without inactive file pages.
    pub working_set_bytes: u64,
    /// How fast the working set grows.
    pub growth: Option<Growth>,
    /// The limit that it is nearest to.
    pub limit: Option<Limit>,
    /// Its processes that the kernel killed for want of memory since the watch began.
    pub oom_kills: Option<u64>,
    /// Whether an alert is on.
    pub alerting: bool,
    /// How many processes are in it.
    pub process_count: u64,
    /// The largest of them.
    pub largest: Vec<Member>,
}

/// One of the largest processes of the watched cgroup.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Member {
    /// Its process id.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// Its resident bytes.
    pub rss_bytes: u64,
}

/// Why there is an alert: for growth or for size.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// `--alert-growth`.
    Growth,
    /// `--alert-size`.
    Size,
}

/// An alert that begins or is over.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Alert {
    /// The process; `None` when it is the cgroup.
    pub pid: Option<u32>,
    /// The process's command line, or the cgroup's path.
    pub name: String,
    /// Why.
    pub cause: Cause,
    /// What was set: bytes, or bytes an hour.
    pub threshold: f64,
    /// The size now.
    pub bytes: u64,
    /// The rate now.
    pub growth: Option<Growth>,
}

/// Kills for want of memory that were noticed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Oom {
    /// The watched process in whose cgroup it was; `None` when it is the watched cgroup.
    pub pid: Option<u32>,
    /// How many processes.
    pub kills: u64,
    /// Whether the watched process is one of them.
    pub target_killed: bool,
}

/// Writes one line; for text as many as it takes.
///
/// # Errors
/// The errors of writing to `out`.
pub fn render(format: Format, line: &Line, colour: bool, out: &mut dyn Write) -> io::Result<()> {
    if format == Format::Json {
        serde_json::to_writer(&mut *out, line)?;
        return out.write_all(b"\n");
    }
    let at = duration(line.elapsed_ms);
    let mut say = |text: &str, look: &str| {
        if colour && !look.is_empty() {
            writeln!(out, "{look}[{at}] {text}\x1b[0m")
        } else {
            writeln!(out, "[{at}] {text}")
        }
    };
    const RED: &str = "\x1b[1;31m";
    match line.event {
        Event::Sample | Event::End => {
            for process in &line.processes {
                say(&self::process(process), "")?;
            }
            if let Some(cgroup) = &line.cgroup {
                say(&self::cgroup(cgroup), "")?;
            }
            if line.event == Event::End {
                say(&format!("end of the watch, after {}", of(line.alerts, "alert", "alerts")), "")?;
            }
        }
        Event::Alert => line.alert.iter().try_for_each(|alert| say(&raised(alert), RED))?,
        Event::Over => line.alert.iter().try_for_each(|alert| say(&over(alert), ""))?,
        Event::Oom => line.oom.iter().try_for_each(|oom| say(&self::oom(oom), RED))?,
        Event::Trace => {
            if let Some(trace) = &line.trace {
                say("the stacks behind the alert:", "")?;
                text::render(trace, colour, out)?;
                writeln!(out)?;
            }
        }
    }
    Ok(())
}

fn process(process: &WatchedProcess) -> String {
    let memory = &process.memory;
    let mut text = format!("pid {}", process.pid);
    if process.exited {
        let how = if memory.killed_for_memory { ", killed for want of memory" } else { "" };
        return format!("{text}: ended{how}; rss was {}", bytes(memory.rss_bytes));
    }
    text += &format!(": rss {}", bytes(memory.rss_bytes));
    if memory.swap_bytes > 0 {
        text += &format!(", swap {}", bytes(memory.swap_bytes));
    }
    text + &trend(memory.growth.as_ref(), memory.limit.as_ref())
}

fn cgroup(cgroup: &WatchedCgroup) -> String {
    let largest: Vec<String> =
        cgroup.largest.iter().map(|member| format!("{} {}", member.pid, bytes(member.rss_bytes))).collect();
    let largest = if largest.is_empty() { String::new() } else { format!(" (largest: {})", largest.join(", ")) };
    format!(
        "cgroup {}: working set {} in {}{largest}{}",
        escape(&cgroup.path),
        bytes(cgroup.working_set_bytes),
        of(cgroup.process_count, "process", "processes"),
        trend(cgroup.growth.as_ref(), cgroup.limit.as_ref()),
    )
}

/// `, +35.0 MB/h (+30.1 MB/h to +40.2 MB/h), limit 1.00 GB reached in about 5h 00m (4h 10m to 6h 20m)`.
fn trend(growth: Option<&Growth>, limit: Option<&Limit>) -> String {
    let growth = growth.map(|growth| format!(", {}", growth_with_interval(growth))).unwrap_or_default();
    let limit = limit
        .and_then(|limit| Some(format!(", limit {} {}", bytes(limit.limit_bytes), footprint::time_left(&limit.left)?)));
    growth + &limit.unwrap_or_default()
}

fn whose(alert: &Alert) -> String {
    match alert.pid {
        Some(pid) => format!("pid {pid} ({})", escape(&alert.name)),
        None => format!("cgroup {}", escape(&alert.name)),
    }
}

fn raised(alert: &Alert) -> String {
    match (alert.cause, &alert.growth) {
        (Cause::Growth, Some(growth)) => {
            format!(
                "ALERT {} grows by {}, more than {}",
                whose(alert),
                growth_with_interval(growth),
                rate(alert.threshold)
            )
        }
        _ => format!("ALERT {} has {}, more than {}", whose(alert), bytes(alert.bytes), bytes(alert.threshold as u64)),
    }
}

fn over(alert: &Alert) -> String {
    let what = match alert.cause {
        Cause::Growth => "growth",
        Cause::Size => "size",
    };
    format!("{}: the alert for its {what} is over", whose(alert))
}

fn oom(oom: &Oom) -> String {
    match (oom.pid, oom.target_killed) {
        (Some(pid), true) => format!("OOM pid {pid} was ended by the kernel for want of memory"),
        (Some(pid), false) => format!("OOM near pid {pid}: {}", footprint::oom_kills(oom.kills)),
        (None, _) => format!("OOM {}", footprint::oom_kills(oom.kills)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::report::{
        memory::{LimitOf, TimeLeft, TimeLeftState},
        sample,
    };

    fn growth() -> Growth {
        Growth { bytes_per_hour: 35e6, low_bytes_per_hour: 30e6, high_bytes_per_hour: 40e6 }
    }

    fn line(event: Event) -> Line {
        let left = TimeLeft {
            state: TimeLeftState::Near,
            about_ms: Some(18_000_000),
            earliest_ms: Some(14_400_000),
            latest_ms: None,
        };
        let limit = Limit {
            of: LimitOf::Cgroup,
            path: "/app".to_owned(),
            limit_bytes: 1_000_000_000,
            used_bytes: 825_000_000,
            usage_bytes: 900_000_000,
            high_bytes: None,
            growth: Some(growth()),
            left,
        };
        let memory = ProcessMemory {
            rss_bytes: 812_000_000,
            growth: Some(growth()),
            limit: Some(limit.clone()),
            ..ProcessMemory::default()
        };
        let process = WatchedProcess { pid: 7, command: "a\x1bb".to_owned(), exited: false, alerting: true, memory };
        Line {
            schema: SCHEMA.into(),
            is_final: event == Event::End,
            at: "2025-01-02T03:04:05Z".to_owned(),
            elapsed_ms: 80_000,
            event,
            processes: vec![process],
            cgroup: Some(WatchedCgroup {
                path: "/app".to_owned(),
                usage_bytes: 900_000_000,
                working_set_bytes: 825_000_000,
                growth: None,
                limit: Some(Limit { left: TimeLeft { state: TimeLeftState::Unknown, ..left }, ..limit }),
                oom_kills: Some(0),
                alerting: false,
                process_count: 2,
                largest: vec![Member { pid: 7, command: "a".to_owned(), rss_bytes: 812_000_000 }],
            }),
            alert: Some(Alert {
                pid: Some(7),
                name: "a\x1bb".to_owned(),
                cause: Cause::Growth,
                threshold: 25e6,
                bytes: 812_000_000,
                growth: Some(growth()),
            }),
            oom: Some(Oom { pid: Some(7), kills: 1, target_killed: true }),
            trace: Some(sample::snapshot()),
            alerts: 1,
        }
    }

    fn text(event: Event) -> String {
        let mut out = Vec::new();
        render(Format::Text, &line(event), false, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_a_line_for_each_watched_thing() {
        assert_eq!(
            text(Event::Sample),
            "[1m 20s] pid 7: rss 812 MB, +35.0 MB/h (+30.0 MB/h to +40.0 MB/h), limit 1.00 GB reached in about 5h 00m \
             (4h 00m to more than 30 days)\n\
             [1m 20s] cgroup /app: working set 825 MB in 2 processes (largest: 7 812 MB)\n"
        );
        assert!(text(Event::End).ends_with("[1m 20s] end of the watch, after 1 alert\n"));
        assert_eq!(
            text(Event::Alert),
            "[1m 20s] ALERT pid 7 (a\\x1bb) grows by +35.0 MB/h (+30.0 MB/h to +40.0 MB/h), more than +25.0 MB/h\n"
        );
        assert_eq!(text(Event::Over), "[1m 20s] pid 7 (a\\x1bb): the alert for its growth is over\n");
        assert_eq!(text(Event::Oom), "[1m 20s] OOM pid 7 was ended by the kernel for want of memory\n");
        assert!(text(Event::Trace).contains("leak_here (server.c:42)"));
    }

    #[test]
    fn json_is_one_object_a_line_that_reads_back() {
        for event in [Event::Sample, Event::Alert, Event::Over, Event::Oom, Event::Trace, Event::End] {
            let mut out = Vec::new();
            render(Format::Json, &line(event), true, &mut out).unwrap();
            let written = String::from_utf8(out).unwrap();
            assert!(written.ends_with('\n') && written.lines().count() == 1);
            assert_eq!(serde_json::from_str::<Line>(&written).unwrap(), line(event));
            let object: Value = serde_json::from_str(&written).unwrap();
            assert_eq!((&object["schema"], &object["final"]), (&SCHEMA.into(), &(event == Event::End).into()));
            let memory = &object["processes"][0]["memory"];
            assert!(memory["growth"]["low_bytes_per_hour"].is_f64() && memory["limit"]["left"]["about_ms"].is_u64());
            assert_eq!(object["alert"]["cause"], "growth");
            assert!(object["cgroup"]["largest"][0]["rss_bytes"].is_u64() && object["trace"]["stacks"].is_array());
        }
    }
}
