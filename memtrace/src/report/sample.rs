//! Snapshots for the tests of this room.

use super::snapshot::{Frame, Process, Quantiles, SCHEMA, Snapshot, Stack, StackKind, Totals};

pub(super) fn frame(function: &str, module: &str, file: Option<(&str, u32)>) -> Frame {
    Frame {
        function: Some(function.to_owned()),
        module: Some(module.to_owned()),
        address: "0x55d0c0de1234".to_owned(),
        file: file.map(|(file, _)| file.to_owned()),
        line: file.map(|(_, line)| line),
        inlined: false,
    }
}

pub(super) fn stack() -> Stack {
    Stack {
        id: "9f3c00d1e2a4b5c6".to_owned(),
        pid: 4242,
        kind: StackKind::Heap,
        verdict: "growing",
        confidence: 0.984,
        evidence: "rose in 12 and fell in 0 of 12 intervals".to_owned(),
        outstanding_bytes: 603_340,
        outstanding_blocks: 1200,
        allocations: 1200,
        growth_bytes_per_hour: 36_200_400.0,
        age_ms: Some(Quantiles { p50: 29_500, p99: 59_000, max: 59_900 }),
        size_bytes: Some(Quantiles { p50: 500, p99: 510, max: 512 }),
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

pub(super) fn snapshot() -> Snapshot {
    let cache = Stack {
        id: "00000000000000aa".to_owned(),
        verdict: "plateau",
        confidence: 0.72,
        evidence: "rose earlier, level over the last 6 of 13 samples".to_owned(),
        outstanding_bytes: 12_300_000,
        outstanding_blocks: 3000,
        allocations: 3100,
        growth_bytes_per_hour: 0.0,
        frames: vec![frame("cache_insert", "libcache.so.1", None)],
        truncated: Some("no unwind table for 0x7f0012345678".to_owned()),
        series: (0..=12).map(|step| (step * 5000, step.min(6) * 2_050_000)).collect(),
        ..stack()
    };
    let gone = Stack {
        id: "00000000000000bb".to_owned(),
        verdict: "plateau",
        outstanding_bytes: 0,
        outstanding_blocks: 0,
        allocations: 500,
        growth_bytes_per_hour: 0.0,
        age_ms: None,
        size_bytes: None,
        ..stack()
    };
    Snapshot {
        schema: SCHEMA,
        is_final: true,
        at: "2025-01-02T03:04:05Z".to_owned(),
        elapsed_ms: 60_000,
        processes: vec![Process {
            pid: 4242,
            command: "./server --port 8080".to_owned(),
            cgroup: "/system.slice/server.service".to_owned(),
            exited: false,
            rss_bytes: 48_000_000,
            totals: Totals {
                allocations: 4800,
                frees: 600,
                allocated_bytes: 13_500_000,
                freed_bytes: 596_660,
                outstanding_bytes: 12_903_340,
                outstanding_blocks: 4200,
                frees_unmatched: 37,
                ..Totals::default()
            },
        }],
        tracer: super::snapshot::Tracer::default(),
        loss: [("allocations_dropped", 12), ("releases_dropped", 0), ("releases_deferred", 5)].into(),
        stacks: vec![stack(), cache, gone],
    }
}
