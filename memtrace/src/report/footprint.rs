//! The memory footprint in words: memory as a whole, what the stacks explain of its growth, and the time to the limit.

use super::{
    escape::escape,
    memory::{Growth, Limit, LimitOf, ProcessMemory, SinceAttach, TimeLeft, TimeLeftState},
    number::{bytes, duration, of, rate},
    snapshot::Process,
};

/// Shares of the growth below this are not worth a word.
const WORTH_SAYING: f64 = 0.01;

/// The sentences of one process, in the order of their weight; an interval's report has only those that warn.
pub fn sentences(process: &Process, is_final: bool) -> Vec<String> {
    let Some(memory) = &process.memory else { return Vec::new() };
    let mut sentences = Vec::new();
    if memory.killed_for_memory {
        sentences.push("It was ended by the kernel for want of memory (OOM kill).".to_owned());
    }
    if let Some(kills) = memory.oom_kills.filter(|&kills| kills > 0) {
        sentences.push(format!("{} since the attach.", oom_kills(kills)));
    }
    if is_final {
        sentences.push(whole(memory));
        sentences.extend(memory.since_attach.as_ref().map(since_attach));
    }
    if let Some(limit) = &memory.limit
        && (is_final || (limit.left.state == TimeLeftState::Near && !process.exited))
    {
        sentences.push(self::limit(limit, process.exited));
    }
    sentences
}

/// `The kernel killed 2 processes of this cgroup for want of memory`.
pub fn oom_kills(kills: u64) -> String {
    format!("The kernel killed {} of this cgroup for want of memory", of(kills, "process", "processes"))
}

/// `memory: anonymous 790 MB, files 22.0 MB; +35.0 MB/h (+30.1 MB/h to +40.2 MB/h)`. RSS stands above it.
fn whole(memory: &ProcessMemory) -> String {
    let mut parts =
        vec![format!("anonymous {}", bytes(memory.anon_bytes)), format!("files {}", bytes(memory.file_bytes))];
    let optional = [("shared", Some(memory.shmem_bytes)), ("swap", Some(memory.swap_bytes)), ("pss", memory.pss_bytes)];
    for (name, count) in optional {
        parts.extend(count.filter(|&count| count > 0).map(|count| format!("{name} {}", bytes(count))));
    }
    let growth = memory.growth.map(|growth| format!("; {}", growth_with_interval(&growth))).unwrap_or_default();
    format!("memory: {}{growth}", parts.join(", "))
}

/// `+35.0 MB/h (+30.1 MB/h to +40.2 MB/h)`, or `level` when the interval has 0 in it.
pub fn growth_with_interval(growth: &Growth) -> String {
    let (low, high) = (growth.low_bytes_per_hour, growth.high_bytes_per_hour);
    if low <= 0.0 && high >= 0.0 {
        return format!("not known to grow ({} to {})", rate(low), rate(high));
    }
    format!("{} ({} to {})", rate(growth.bytes_per_hour), rate(low), rate(high))
}

fn signed(change: i64) -> String {
    format!("{}{}", if change < 0 { '-' } else { '+' }, bytes(change.unsigned_abs()))
}

fn since_attach(since: &SinceAttach) -> String {
    let Some(explained) = since.explained else {
        return format!("{} of it since the attach", signed(since.growth_bytes));
    };
    let worth = |change: i64| change.unsigned_abs() as f64 >= WORTH_SAYING * since.growth_bytes as f64;
    let mut rest = Vec::new();
    if since.rest_bytes > 0 && worth(since.rest_bytes) {
        rest.push(format!("{} allocator overhead, fragmentation or memory not traced", signed(since.rest_bytes)));
    }
    for (change, name) in [(since.file_bytes, "mapped files"), (since.shmem_bytes, "shared memory")] {
        if worth(change) {
            rest.push(format!("{} {name}", signed(change)));
        }
    }
    let rest = if rest.is_empty() { String::new() } else { format!("; {}", rest.join("; ")) };
    let share = if since.rest_bytes < 0 && worth(since.rest_bytes) {
        // Blocks in memory that was there before count for nothing in RSS, and nobody knows which they are.
        let more = bytes(since.rest_bytes.unsigned_abs());
        format!("the stacks hold {more} more than anonymous memory grew (reused or not yet touched pages)")
    } else {
        // Never all of it by rounding.
        format!("the stacks explain {}%", (explained * 100.0).floor())
    };
    format!("{} since the attach, when it was {}: {share}{rest}", signed(since.growth_bytes), bytes(since.before_bytes),)
}

/// `limit 1.00 GB of cgroup /app, 830 MB used: reached in about 5h 00m (4h 10m to 6h 20m)`.
///
/// Of a process that has ended nothing is foretold.
pub fn limit(limit: &Limit, ended: bool) -> String {
    let whose = match limit.of {
        LimitOf::Cgroup => format!("of cgroup {}", escape(&short_ids(&limit.path))),
        LimitOf::Machine => "(the machine's memory; no cgroup limit)".to_owned(),
    };
    let high = limit.high_bytes.map(|high| format!(" (throttled from {} on)", bytes(high))).unwrap_or_default();
    let left = time_left(&limit.left).filter(|_| !ended).map(|left| format!(": {left}")).unwrap_or_default();
    format!("limit {} {whose}{high}, {} used{left}", bytes(limit.limit_bytes), bytes(limit.used_bytes))
}

/// `reached in about 3h 10m (2h 40m to 4h 00m)`; `None` when it is too early to say.
pub fn time_left(left: &TimeLeft) -> Option<String> {
    match (left.state, left.about_ms) {
        (TimeLeftState::Level, _) => Some("not being approached".to_owned()),
        (TimeLeftState::Far, Some(ms)) => Some(format!("reached in more than {} days", ms / 86_400_000)),
        (TimeLeftState::Near, Some(ms)) => {
            let earliest = left.earliest_ms.map(duration).unwrap_or_default();
            let latest = left.latest_ms.map_or_else(|| "more than 30 days".to_owned(), duration);
            Some(format!("reached in about {} ({earliest} to {latest})", duration(ms)))
        }
        _ => None,
    }
}

/// A path with the ids of containers, which are 64 hexadecimal digits, cut to the 12 that Docker and Podman show.
fn short_ids(path: &str) -> String {
    const WHOLE: usize = 64;
    const SHOWN: usize = 12;
    let mut short = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(start) = rest.find(|character: char| character.is_ascii_hexdigit()) {
        let digits = rest[start..].bytes().take_while(u8::is_ascii_hexdigit).count();
        let shown = if digits == WHOLE { SHOWN } else { digits };
        short.push_str(&rest[..start + shown]);
        rest = &rest[start + digits..];
    }
    short + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn growth(bytes_per_hour: f64) -> Option<Growth> {
        Some(Growth {
            bytes_per_hour,
            low_bytes_per_hour: bytes_per_hour * 0.8,
            high_bytes_per_hour: bytes_per_hour * 1.25,
        })
    }

    fn memory() -> ProcessMemory {
        ProcessMemory {
            rss_bytes: 812_000_000,
            anon_bytes: 790_000_000,
            file_bytes: 22_000_000,
            growth: growth(35e6),
            since_attach: Some(SinceAttach {
                before_bytes: 640_000_000,
                growth_bytes: 172_000_000,
                stacks_bytes: 167_000_000,
                explained: Some(0.9709),
                rest_bytes: 3_000_000,
                file_bytes: 2_000_000,
                shmem_bytes: 0,
            }),
            limit: Some(Limit {
                of: LimitOf::Cgroup,
                path: "/app\x1b[2J".to_owned(),
                limit_bytes: 1_000_000_000,
                used_bytes: 825_000_000,
                usage_bytes: 900_000_000,
                high_bytes: None,
                growth: growth(35e6),
                left: TimeLeft {
                    state: TimeLeftState::Near,
                    about_ms: Some(18_000_000),
                    earliest_ms: Some(14_400_000),
                    latest_ms: Some(22_500_000),
                },
            }),
            oom_kills: Some(0),
            ..ProcessMemory::default()
        }
    }

    fn said(memory: ProcessMemory, is_final: bool) -> Vec<String> {
        let mut process = sample::snapshot().processes.remove(0);
        process.memory = Some(memory);
        sentences(&process, is_final)
    }

    #[test]
    fn ids_of_containers_are_cut_and_nothing_else_is() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(
            short_ids(&format!("/system.slice/docker-{id}.scope/x")),
            "/system.slice/docker-0123456789ab.scope/x"
        );
        assert_eq!(short_ids("/user.slice/abc/é"), "/user.slice/abc/é");
        assert_eq!(short_ids(&format!("/{id}a")), format!("/{id}a"));
    }

    #[test]
    fn the_final_block() {
        assert_eq!(
            said(memory(), true),
            [
                "memory: anonymous 790 MB, files 22.0 MB; +35.0 MB/h (+28.0 MB/h to +43.8 MB/h)",
                "+172 MB since the attach, when it was 640 MB: the stacks explain 97%; +3.00 MB allocator overhead, \
                 fragmentation or memory not traced; +2.00 MB mapped files",
                "limit 1.00 GB of cgroup /app\\x1b[2J, 825 MB used: reached in about 5h 00m (4h 00m to 6h 15m)",
            ]
        );
    }

    #[test]
    fn an_interval_says_only_what_warns() {
        assert_eq!(said(memory(), false).len(), 1, "the limit that is near");
        let mut far = memory();
        far.limit.as_mut().expect("a limit").left.state = TimeLeftState::Far;
        assert!(said(far, false).is_empty());
        let mut ended = sample::snapshot().processes.remove(0);
        (ended.exited, ended.memory) = (true, Some(memory()));
        assert!(sentences(&ended, false).is_empty());
        assert!(sentences(&ended, true).iter().all(|sentence| !sentence.contains("reached")));
        let killed = ProcessMemory { oom_kills: Some(2), killed_for_memory: true, limit: None, ..memory() };
        assert_eq!(
            said(killed, false),
            [
                "It was ended by the kernel for want of memory (OOM kill).",
                "The kernel killed 2 processes of this cgroup for want of memory since the attach."
            ]
        );
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let level = ProcessMemory {
            growth: Some(Growth { bytes_per_hour: 5.0, low_bytes_per_hour: -1e6, high_bytes_per_hour: 2e6 }),
            since_attach: Some(SinceAttach { growth_bytes: -1000, ..SinceAttach::default() }),
            limit: None,
            ..memory()
        };
        let text = said(level, true).join("\n");
        assert!(
            text.contains("not known to grow (-1.00 MB/h to +2.00 MB/h)") && text.contains("-1.00 kB of it"),
            "{text}"
        );
        let mut reused = memory();
        let since = reused.since_attach.as_mut().expect("as above");
        (since.rest_bytes, since.explained) = (-40_000_000, Some(1.0));
        let text = said(reused, true).join("\n");
        assert!(text.contains("hold 40.0 MB more") && !text.contains('%'), "{text}");
        let unknown = TimeLeft { state: TimeLeftState::Unknown, about_ms: None, earliest_ms: None, latest_ms: None };
        assert_eq!(time_left(&unknown), None);
        let far = TimeLeft { state: TimeLeftState::Far, about_ms: Some(30 * 86_400_000), ..unknown };
        assert_eq!(time_left(&far).as_deref(), Some("reached in more than 30 days"));
    }
}
