//! Node's heap: one heap, whichever stacks of V8 ask for its pages.

use std::process::Command;

use anyhow::{Result, ensure};
use memtrace_tests::{Memtrace, Report, Target};
use serde::Deserialize;

/// Keeps so many megabytes of objects for each line that it reads, and says how large V8 says its heap is.
const PROGRAM: &str = "
    const kept = [];
    const answer = () => console.log(JSON.stringify({ heap: process.memoryUsage().heapTotal }));
    require('readline').createInterface({ input: process.stdin }).on('line', line => {
        for (let i = 0; i < 10000 * Number(line); i++) kept.push({ id: i, name: 'user ' + i, roles: [i, i + 1] });
        answer();
    });
    answer();
";

#[derive(Debug, Deserialize)]
struct Said {
    heap: u64,
}

fn heap(report: &Report, pid: u32) -> Option<u64> {
    report.heaps.iter().find(|heap| heap.pid == pid && heap.name == "JavaScript heap").map(|heap| heap.bytes)
}

#[test]
fn pages_of_v8_are_one_heap_and_as_large_as_v8_says() -> Result<()> {
    let mut target = Target::spawn(Command::new("node").args(["-e", PROGRAM]))?;
    let before: Said = target.hear_json()?;
    let mut memtrace = Memtrace::attach(target.pid(), &[])?;
    for _ in 0..3 {
        target.tell("10")?;
        let now: Said = target.hear_json()?;
        let grown = now.heap.saturating_sub(before.heap);
        let report = memtrace.report_where("the heap's growth", |report| {
            // Pages of 256 KiB come and go while this is read.
            heap(report, target.pid()).is_some_and(|bytes| bytes.abs_diff(grown) <= grown / 8 + (1 << 20))
        })?;
        let pages = report.stacks.iter().filter(|stack| stack.kind == "map" && stack.mentions("MemoryAllocator"));
        ensure!(pages.count() == 0, "{:#?}", report.stacks);
        let whole = report.stacks.iter().filter(|stack| stack.kind == "managed");
        ensure!(whole.count() == 1, "{:#?}", report.stacks);
    }
    memtrace.interrupt()?;
    Ok(())
}
