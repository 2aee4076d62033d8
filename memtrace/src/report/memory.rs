//! How much memory a process or a cgroup uses as a whole: the memory footprint of what the stacks hold. Part of the JSON
//! contract; fields are only ever added.

use serde::{Deserialize, Serialize};

/// A process's memory as the kernel accounts for it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProcessMemory {
    /// Resident bytes: the sum of the next three.
    pub rss_bytes: u64,
    /// Resident anonymous memory.
    pub anon_bytes: u64,
    /// Resident pages of files.
    pub file_bytes: u64,
    /// Resident shared memory.
    pub shmem_bytes: u64,
    /// Anonymous memory in swap.
    pub swap_bytes: u64,
    /// Proportional share of the pages it maps, when last read; `None` when it may not be read.
    pub pss_bytes: Option<u64>,
    /// How fast RSS and swap grow; `None` before six samples.
    pub growth: Option<Growth>,
    /// Whether it is known to grow, and has gone on to lately.
    #[serde(default)]
    pub grows: bool,
    /// What the growth since the attach consists of; `None` where nothing is traced.
    pub since_attach: Option<SinceAttach>,
    /// The limit that it is nearest to; `None` when not even the machine's memory is known.
    pub limit: Option<Limit>,
    /// Processes of its cgroup that the kernel killed for want of memory since the attach; `None` when that is not known.
    pub oom_kills: Option<u64>,
    /// Whether it was itself ended that way: it ended by SIGKILL while the kernel counted such a kill in its cgroup.
    pub killed_for_memory: bool,
}

/// A growth rate and its 95 % interval, in bytes an hour.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Growth {
    /// The robust slope.
    pub bytes_per_hour: f64,
    /// The lower end.
    pub low_bytes_per_hour: f64,
    /// The upper end.
    pub high_bytes_per_hour: f64,
}

/// What the growth of RSS and swap since the attach consists of.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SinceAttach {
    /// What was there at the attach: memory whose stacks are not known.
    pub before_bytes: u64,
    /// All growth; negative when it shrank.
    pub growth_bytes: i64,
    /// What the stacks account for.
    pub stacks_bytes: u64,
    /// That as a share of the growth, 0 to 1; `None` when it hardly grew.
    pub explained: Option<f64>,
    /// Anonymous growth less what the stacks hold: the allocator's overhead, fragmentation, and memory that is not traced;
    /// negative when the stacks' blocks lie in memory that was there before or was never touched.
    pub rest_bytes: i64,
    /// Growth of mapped files.
    pub file_bytes: i64,
    /// Growth of shared memory.
    pub shmem_bytes: i64,
}

/// A limit and how far it is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Limit {
    /// Whose it is.
    pub of: LimitOf,
    /// The cgroup's path; empty for the machine.
    pub path: String,
    /// The limit.
    pub limit_bytes: u64,
    /// What counts towards it: a cgroup's working set (its usage without inactive file pages), or what of the machine's
    /// memory is not available.
    pub used_bytes: u64,
    /// A cgroup's whole usage, page cache included.
    pub usage_bytes: u64,
    /// Where the kernel begins to throttle the cgroup (memory.high of version 2).
    pub high_bytes: Option<u64>,
    /// How fast the used bytes grow; for the machine, how fast the process (or the watched cgroup) does.
    pub growth: Option<Growth>,
    /// When it is reached.
    pub left: TimeLeft,
}

/// Whether a memory limit is a cgroup's or the machine's.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LimitOf {
    /// A cgroup's, the process's own or one around it.
    Cgroup,
    /// The machine's memory.
    Machine,
}

/// When a memory limit will be reached at the present rate.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TimeLeft {
    /// What is known.
    pub state: TimeLeftState,
    /// At the estimated rate; for `far` the least it can be.
    pub about_ms: Option<u64>,
    /// At the upper end of the rate's interval.
    pub earliest_ms: Option<u64>,
    /// At its lower end; `None` also when that is more than 30 days.
    pub latest_ms: Option<u64>,
}

/// What is known of the time left.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TimeLeftState {
    /// Too few samples.
    Unknown,
    /// Not known to grow.
    Level,
    /// It grows, and will take more than `about_ms`.
    Far,
    /// It grows; the times say when.
    Near,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_fields_of_the_contract_are_there_by_these_names() {
        let growth = Growth { bytes_per_hour: 2.0, low_bytes_per_hour: 1.0, high_bytes_per_hour: 3.0 };
        let memory = ProcessMemory {
            growth: Some(growth),
            since_attach: Some(SinceAttach { growth_bytes: -1, ..SinceAttach::default() }),
            limit: Some(Limit {
                of: LimitOf::Cgroup,
                path: "/a".to_owned(),
                limit_bytes: 9,
                used_bytes: 5,
                usage_bytes: 6,
                high_bytes: None,
                growth: None,
                left: TimeLeft { state: TimeLeftState::Near, about_ms: Some(4), earliest_ms: Some(3), latest_ms: None },
            }),
            ..ProcessMemory::default()
        };
        let expected = json!({
            "rss_bytes": 0, "anon_bytes": 0, "file_bytes": 0, "shmem_bytes": 0, "swap_bytes": 0, "pss_bytes": null,
            "growth": { "bytes_per_hour": 2.0, "low_bytes_per_hour": 1.0, "high_bytes_per_hour": 3.0 }, "grows": false,
            "since_attach": {
                "before_bytes": 0, "growth_bytes": -1, "stacks_bytes": 0, "explained": null, "rest_bytes": 0,
                "file_bytes": 0, "shmem_bytes": 0,
            },
            "limit": {
                "of": "cgroup", "path": "/a", "limit_bytes": 9, "used_bytes": 5, "usage_bytes": 6, "high_bytes": null,
                "growth": null,
                "left": { "state": "near", "about_ms": 4, "earliest_ms": 3, "latest_ms": null },
            },
            "oom_kills": null, "killed_for_memory": false,
        });
        let written: Value = serde_json::to_value(&memory).unwrap();
        assert_eq!(written, expected);
        assert_eq!(serde_json::from_value::<ProcessMemory>(written).unwrap(), memory);
    }
}
