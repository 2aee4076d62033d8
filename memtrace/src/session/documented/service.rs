//! The two services of the documents, `xtask/demo/service.c` and `docs/ci/service.c`, as they are traced for a while.

use super::simulated::{Behaviour, INTERVAL_MS, run};
use crate::{
    report::{
        focus::Mark,
        gate::Gate,
        memory::{Limit, LimitOf, ProcessMemory},
        rank, sample,
        snapshot::{Frame, Process, Snapshot, Stack, Totals, Tracer},
    },
    session::footprint::{growth, since_attach, time_left},
    trend::footprint::{Parts, Span, Track, account},
};

/// Blocks of a rendered page, none of which outlives its request.
const PARTS_OF_A_PAGE: u64 = 8;

/// Bytes of the demonstration's service before the attach, beside the pages of files.
const BEFORE_BYTES: u64 = 710_000;

/// Bytes of files that a service has mapped.
const FILE_BYTES: u64 = 1_460_000;

/// The limit of the cgroup that the demonstration runs in.
const LIMIT_BYTES: u64 = 268_435_456;

/// Requests in a second of the demonstration.
fn requests(second: u64) -> u64 {
    172 + second * 37 % 41
}

/// Pages that were not in the demonstration's cache: until it is full nearly all, then three of four.
fn misses(second: u64) -> u64 {
    if second == 1 { 170 } else { 131 + second * 17 % 23 }
}

/// Blocks that a rendered page needs in a second of the demonstration.
fn parts(second: u64) -> u64 {
    PARTS_OF_A_PAGE * requests(second)
}

/// Requests in a second that the service of docs/ci.md answers.
fn answers(second: u64) -> u64 {
    362 + second * 37 % 41
}

/// The C library's frames below `main`.
fn start(program: &str) -> [Frame; 3] {
    [
        sample::frame("__libc_start_call_main", "libc.so.6", Some(("libc_start_call_main.h", 58))),
        sample::frame("__libc_start_main_impl", "libc.so.6", Some(("libc-start.c", 360))),
        sample::frame("_start", program, None),
    ]
}

/// A stack of the demonstration: a function that a request calls, and where.
fn requested(function: &str, line: u32, from: u32) -> Vec<Frame> {
    let frame = |name: &str, line| sample::frame(name, "service", Some(("xtask/demo/service.c", line)));
    let own = [frame(function, line), frame("handle_request", from), frame("main", 102)];
    own.into_iter().chain(start("service")).collect()
}

fn demo_behaviours() -> [Behaviour; 3] {
    [
        Behaviour { frames: requested("remember_session", 48, 91), size: 1024, births: requests, keeps: usize::MAX },
        Behaviour { frames: requested("cache_lookup", 67, 90), size: 8192, births: misses, keeps: 256 },
        Behaviour { frames: requested("render_page", 80, 92), size: 672, births: parts, keeps: 0 },
    ]
}

/// The demonstration at the end of so many seconds.
pub(super) fn demo(seconds: u64) -> Snapshot {
    let mut snapshot = ended("target/demo/service", run(&demo_behaviours(), seconds, None), seconds);
    snapshot.processes[0].totals.frees_unmatched = 62;
    let memory = demo_memory(seconds, snapshot.processes[0].totals.outstanding_bytes);
    snapshot.processes[0].rss_bytes = memory.rss_bytes;
    snapshot.processes[0].memory = Some(memory);
    snapshot
}

/// The demonstration at the end of 24 seconds, in the midst of which `memtrace mark` was called.
pub(super) fn demo_since_mark() -> Snapshot {
    let (seconds, mark) = (24, 12);
    let mut snapshot = ended("target/demo/service", run(&demo_behaviours(), seconds, Some(mark)), seconds);
    snapshot.marks = vec![Mark { elapsed_ms: mark * INTERVAL_MS }];
    snapshot
}

/// The service of docs/ci.md after 15 seconds under load.
pub(super) fn server() -> Snapshot {
    let frame = |name: &str, line| sample::frame(name, "service", Some(("docs/ci/service.c", line)));
    let own = [Frame { inlined: true, ..frame("remember", 17) }, frame("answer", 34), frame("main", 58)];
    let frames = own.into_iter().chain(start("service")).collect();
    let leak = Behaviour { frames, size: 264, births: answers, keeps: usize::MAX };
    ended("./service 8080", run(&[leak], 15, None), 15)
}

/// The service of docs/ci.md, built without its leak.
pub(super) fn server_fixed() -> Snapshot {
    let frames = server().stacks.remove(0).frames;
    let fixed = Behaviour { frames, size: 264, births: answers, keeps: 0 };
    ended("./service 8080", run(&[fixed], 15, None), 15)
}

/// The last report of a run.
fn ended(command: &str, mut stacks: Vec<Stack>, seconds: u64) -> Snapshot {
    rank::rank(&mut stacks, usize::MAX);
    let totals = totals(&stacks);
    let whole = sample::snapshot();
    let process = Process {
        command: command.to_owned(),
        rss_bytes: FILE_BYTES + totals.outstanding_bytes + 720_000,
        totals,
        ..whole.processes[0].clone()
    };
    Snapshot {
        elapsed_ms: seconds * INTERVAL_MS,
        gate: Gate::of(&stacks, &[], None),
        processes: vec![process],
        stacks,
        loss: [].into(),
        tracer: Tracer { cpu_ms: 510, rss_bytes: 141_500_000, anon_bytes: 22_500_000, ..Tracer::default() },
        ..whole
    }
}

fn totals(stacks: &[Stack]) -> Totals {
    let sum = |of: fn(&Stack) -> u64| stacks.iter().map(of).sum::<u64>();
    let (allocations, allocated_bytes) = (sum(|stack| stack.allocations), sum(|stack| stack.allocated_bytes));
    let (blocks, bytes) = (sum(|stack| stack.outstanding_blocks), sum(|stack| stack.outstanding_bytes));
    Totals {
        allocations,
        allocated_bytes,
        outstanding_blocks: blocks,
        outstanding_bytes: bytes,
        frees: allocations - blocks,
        freed_bytes: allocated_bytes - bytes,
        ..Totals::default()
    }
}

/// The memory of the demonstration's service: what its stacks hold, a bit more for the allocator, and what was there before.
fn demo_memory(seconds: u64, held_bytes: u64) -> ProcessMemory {
    let anon = |held_bytes: u64| BEFORE_BYTES + held_bytes * 26 / 25;
    let mut track = Track::new(Span::Run);
    for second in 0..=seconds {
        let stacks = if second == 0 { Vec::new() } else { run(&demo_behaviours(), second, None) };
        track.push(second * INTERVAL_MS, FILE_BYTES + anon(totals(&stacks).outstanding_bytes));
    }
    let parts = |anon_bytes| Parts { anon_bytes, file_bytes: FILE_BYTES, shmem_bytes: 0 };
    let (before, now) = (parts(anon(0)), parts(anon(held_bytes)));
    let rate = track.rate();
    let used_bytes = now.anon_bytes + 420_000;
    ProcessMemory {
        rss_bytes: now.anon_bytes + now.file_bytes,
        anon_bytes: now.anon_bytes,
        file_bytes: now.file_bytes,
        pss_bytes: Some(now.anon_bytes + 120_000),
        growth: rate.map(growth),
        grows: track.goes_on(),
        since_attach: Some(since_attach(before.anon_bytes + before.file_bytes, account(before, now, held_bytes))),
        limit: Some(Limit {
            of: LimitOf::Cgroup,
            path: "/demo".to_owned(),
            limit_bytes: LIMIT_BYTES,
            used_bytes,
            usage_bytes: used_bytes,
            high_bytes: None,
            growth: rate.map(growth),
            left: time_left(LIMIT_BYTES - used_bytes, rate),
        }),
        ..ProcessMemory::default()
    }
}
