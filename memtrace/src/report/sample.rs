//! Snapshots for the tests of this room and of those to its right.

use super::gate::Gate;
use super::snapshot::{
    Frame, Module, Process, Quantiles, Retired, SCHEMA, Snapshot, Stack, StackKind, Survival, Totals, Tracer,
};
use crate::{runtime::Language, symbol::FrameKind, trend::Verdict};

pub(crate) fn frame(function: &str, module: &str, file: Option<(&str, u32)>) -> Frame {
    Frame {
        function: Some(function.to_owned()),
        module: Some(module.to_owned()),
        address: "0x55d0c0de1234".to_owned(),
        file: file.map(|(file, _)| file.to_owned()),
        line: file.map(|(_, line)| line),
        inlined: false,
        offset: Some("0x1234".to_owned()),
        kind: FrameKind::Native,
        language: Language::Native,
        user: false,
    }
}

pub(crate) fn stack() -> Stack {
    Stack {
        id: "9f3c00d1e2a4b5c6".to_owned(),
        pid: 4242,
        pids: vec![4242],
        kind: StackKind::Heap,
        heap: None,
        verdict: Verdict::Growing,
        confidence: 0.984,
        evidence: "rose in 12 and fell in 0 of 12 intervals".to_owned(),
        suppressed: None,
        group: None,
        estimate: None,
        resident_bytes: None,
        reserved_bytes: 0,
        since_mark: None,
        outstanding_bytes: 603_340,
        outstanding_blocks: 1200,
        allocations: 1200,
        allocated_bytes: 603_340,
        growth_bytes_per_hour: 36_200_400.0,
        growth_interval_bytes_per_hour: Some((35_900_000.0, 36_500_000.0)),
        survival: Some(Survival { older_than_ms: 30_000, allocated_blocks: 600, living_share: 1.0 }),
        age_ms: Some(Quantiles { p50: 29_500, p99: 59_000, max: 59_900 }),
        size_bytes: Some(Quantiles { p50: 500, p99: 510, max: 512 }),
        enlarged_by: vec![],
        frames: vec![
            frame("leak_here", "server", Some(("/src/server/server.c", 42))),
            Frame { inlined: true, ..frame("handle", "server", Some(("/src/server/server.c", 97))) },
            frame("main", "server", Some(("/src/server/main.c", 12))),
            Frame { function: None, file: None, line: None, ..frame("", "libc.so.6", None) },
        ],
        truncated: None,
        series: (0..=12).map(|step| (step * 5000, step * 50_278)).collect(),
    }
}

pub(crate) fn snapshot() -> Snapshot {
    let cache = Stack {
        id: "00000000000000aa".to_owned(),
        verdict: Verdict::Plateau,
        confidence: 0.72,
        evidence: "rose earlier, level over the last 6 of 13 samples".to_owned(),
        outstanding_bytes: 12_300_000,
        outstanding_blocks: 3000,
        allocations: 3100,
        growth_bytes_per_hour: 0.0,
        growth_interval_bytes_per_hour: Some((-1000.0, 1000.0)),
        survival: Some(Survival { older_than_ms: 30_000, allocated_blocks: 600, living_share: 0.3 }),
        frames: vec![frame("cache_insert", "libcache.so.1", None)],
        truncated: Some("no unwind table for 0x7f0012345678".to_owned()),
        series: (0..=12).map(|step| (step * 5000, step.min(6) * 2_050_000)).collect(),
        ..stack()
    };
    let gone = Stack {
        id: "00000000000000bb".to_owned(),
        verdict: Verdict::Plateau,
        outstanding_bytes: 0,
        outstanding_blocks: 0,
        allocations: 500,
        growth_bytes_per_hour: 0.0,
        age_ms: None,
        size_bytes: None,
        ..stack()
    };
    Snapshot {
        schema: SCHEMA.into(),
        is_final: true,
        at: "2025-01-02T03:04:05Z".to_owned(),
        elapsed_ms: 60_000,
        headline: super::headline::Headline::default(),
        processes: vec![Process {
            pid: 4242,
            command: "./server --port 8080".to_owned(),
            cgroup: "/system.slice/server.service".to_owned(),
            exited: false,
            traced_ms: None,
            ended_by_signal: None,
            probably_ended_by_probes: false,
            rss_bytes: 48_000_000,
            code_moved_ms: None,
            unprobed_ms: None,
            asked: None,
            allocates_unseen: false,
            memory: None,
            totals: Totals {
                allocations: 4800,
                frees: 600,
                allocated_bytes: 13_500_000,
                freed_bytes: 596_660,
                outstanding_bytes: 12_903_340,
                outstanding_blocks: 4200,
                frees_unmatched: 37,
                inherited_blocks: 0,
                inherited_bytes: 0,
                inherited_frees: 0,
                ..Totals::default()
            },
        }],
        retired: Retired::default(),
        tracer: Tracer {
            cpu_ms: 450,
            rss_bytes: 160_000_000,
            anon_bytes: 20_000_000,
            stacks_complete: 4776,
            stacks_short: [("no_table".into(), 20), ("too_deep".into(), 4)].into(),
            ..Tracer::default()
        },
        sampling: None,
        budget: None,
        focus: super::focus::Focus::default(),
        marks: Vec::new(),
        gate: Gate { failing_stacks: 1, ..Gate::default() },
        loss: [("allocations_dropped".into(), 12), ("releases_dropped".into(), 0), ("releases_deferred".into(), 5)]
            .into(),
        groups: Vec::new(),
        stacks: vec![stack(), cache, gone],
        modules: vec![Module { name: "server".to_owned(), build_id: "0badc0de".to_owned() }],
        heaps: Vec::new(),
        goroutines: Vec::new(),
        types: Vec::new(),
    }
}
