//! Node: the functions and lines of JavaScript that keep Buffers, and its heap, which is one whichever stacks of V8 ask for its pages. Both
//! are judged by what can be reached of them, and by what collections of all of the heap leave.

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{Frame, Heap, Memtrace, Report, Stack, Target, wait};
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
        let _: Said = target.hear_json()?;
        let report = wait::until("the heap's growth", || {
            let report = memtrace.next_report()?;
            // V8 ends a collection, and takes pages for what it keeps, also after it has answered: it is asked again each time.
            target.tell("0")?;
            let now: Said = target.hear_json()?;
            let grown = now.heap.saturating_sub(before.heap);
            // Pages of 256 KiB come and go while this is read.
            let is_equal = |bytes: u64| bytes.abs_diff(grown) <= grown / 8 + (1 << 20);
            Ok(heap(&report, target.pid()).is_some_and(is_equal).then_some(report))
        })?;
        let pages = report.stacks.iter().filter(|stack| stack.kind == "map" && stack.mentions("MemoryAllocator"));
        ensure!(pages.count() == 0, "{:#?}", report.stacks);
        let whole = report.stacks.iter().filter(|stack| stack.kind == "managed");
        ensure!(whole.count() == 1, "{:#?}", report.stacks);
    }
    memtrace.interrupt()?;
    Ok(())
}

/// How often each case runs: enough for V8's compilers.
const TIMES: &str = "3000";

/// More programs of Node's that are tested, separated by colons.
const MORE_NODES: &str = "MEMTRACE_TEST_NODES";

fn nodes() -> Vec<PathBuf> {
    let more = env::var_os(MORE_NODES).unwrap_or_default();
    [PathBuf::from("node")].into_iter().chain(env::split_paths(&more).filter(|path| path.is_absolute())).collect()
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/node_frames.js")
}

/// The innermost frame of JavaScript that is no part of Node's.
fn own(stack: &Stack) -> Option<&Frame> {
    let is_own = |frame: &&Frame| {
        let is_script = frame.module.as_deref() == Some("[javascript]");
        is_script && !frame.file.as_deref().is_some_and(|file| file.starts_with("node:"))
    };
    stack.frames.iter().find(is_own)
}

/// The function, file and line of each case, as the comments of the fixture say.
fn expected() -> Result<HashMap<String, (String, String, u32)>> {
    let path = fixture();
    let text = fs::read_to_string(&path)?;
    let marked = text.lines().enumerate().filter_map(|(index, line)| {
        let (case, function) = line.split_once("// case: ")?.1.split_once(" in ")?;
        let place = (function.to_owned(), path.display().to_string(), u32::try_from(index + 1).ok()?);
        Some((case.to_owned(), place))
    });
    let script = ("script".to_owned(), ("inScript".to_owned(), "/scripts/two_bytes.js".to_owned(), 13));
    Ok(marked.chain([script]).collect())
}

/// The stacks of the blocks of one size.
fn stacks_of(report: &Report, size: u64) -> impl Iterator<Item = &Stack> {
    report.stacks.iter().filter(move |stack| {
        stack.kind == "heap"
            && stack.outstanding_blocks > 0
            && stack.outstanding_bytes == stack.outstanding_blocks * size
    })
}

#[test]
fn buffers_have_the_function_and_the_line_that_made_them() -> Result<()> {
    let expected = expected()?;
    for node in nodes() {
        let folder = tempfile::tempdir()?;
        let seen = folder.path().join("seen");
        let mut target = Target::spawn(Command::new(&node).arg(fixture()).arg(&seen))?;
        ensure!(target.hear()? == "ready", "{node:?}");
        let mut memtrace = Memtrace::attach(target.pid(), &[])?;
        memtrace.report_where("a block of the top level", |report| {
            report
                .stacks
                .iter()
                .any(|stack| own(stack).is_some_and(|frame| frame.function.as_deref() == Some("(top level)")))
        })?;
        fs::write(&seen, "")?;
        target.tell(TIMES)?;
        let sizes: HashMap<String, u64> = target.hear_json()?;
        ensure!(sizes.len() == expected.len(), "{sizes:?} are not {expected:?}");
        let most = |report: &Report, size| stacks_of(report, size).map(|stack| stack.outstanding_blocks).sum::<u64>();
        let report = memtrace.report_where("the blocks of all cases", |report| {
            sizes.iter().all(|(case, &size)| most(report, size) >= if case == "timer" { 200 } else { 2 })
        })?;
        for (case, &size) in &sizes {
            let (function, file, line) = &expected[case];
            for stack in stacks_of(&report, size) {
                let frame = own(stack).with_context(|| format!("{node:?} {case}: no JavaScript in {stack:#?}"))?;
                let is_right = frame.function.as_ref() == Some(function)
                    && frame.file.as_ref() == Some(file)
                    && frame.line == Some(*line);
                ensure!(is_right, "{node:?} {case}: {frame:?} is not {function} at {file}:{line} in {stack:#?}");
            }
        }
        let finished = memtrace.interrupt()?;
        ensure!(finished.errors.iter().all(|line| !line.contains("not named")), "{:?}", finished.errors);
        let last = finished.final_report()?;
        ensure!(last.losses().is_empty(), "{:?}", last.losses());
    }
    Ok(())
}

/// Does what each line says, of its first letter and a number: keeps so many objects (`o`), objects of a class (`k`) or Buffers (`b`), lets all but
/// the newest so many Buffers go (`d`), makes so many objects of a class that it lets go at the next line, and values of a weak map whose keys
/// it lets go then (`t`), or collects the whole heap so many times (`c`). Says then what V8 says.
const ORDERS: &str = "
    const v8 = require('v8');
    class Kept { constructor(id) { this.id = id; this.name = 'user ' + id; } }
    class Dropped { constructor(id) { this.id = id; } }
    class Weakly { constructor(id) { this.id = id; } }
    const objects = [], buffers = [], kept = new Map(), weak = new WeakMap();
    let dropped = [];
    const answer = () => console.log(JSON.stringify({ used: v8.getHeapStatistics().used_heap_size }));
    require('readline').createInterface({ input: process.stdin }).on('line', line => {
        const number = Number(line.slice(1));
        if (line[0] === 'o') for (let i = 0; i < number; i++) objects.push({ id: i, name: 'user ' + i, roles: [i, i + 1] });
        dropped = [];
        if (line[0] === 'k') for (let i = 0; i < number; i++) kept.set(kept.size, new Kept(kept.size));
        if (line[0] === 't') for (let i = 0; i < number; i++) {
            const one = new Dropped(i);
            dropped.push(one);
            weak.set(one, new Weakly(i));
        }
        if (line[0] === 'b') for (let i = 0; i < number; i++) buffers.push(Buffer.alloc(16384, i & 255));
        if (line[0] === 'd') buffers.splice(0, Math.max(0, buffers.length - number));
        if (line[0] === 'c') for (let i = 0; i < number; i++) gc();
        answer();
    });
    answer();
";

#[derive(Debug, Deserialize)]
struct Used {
    used: u64,
}

fn obedient() -> Result<Target> {
    let mut target = Target::spawn(Command::new("node").args(["--expose-gc", "-e", ORDERS]))?;
    let _: Used = target.hear_json()?;
    Ok(target)
}

fn order(target: &mut Target, line: &str) -> Result<u64> {
    target.tell(line)?;
    Ok(target.hear_json::<Used>()?.used)
}

fn v8_heap(report: &Report) -> Option<&Heap> {
    report.heaps.iter().find(|heap| heap.name == "JavaScript heap")
}

fn grows(report: &Report) -> bool {
    report.stacks.iter().any(|stack| stack.verdict == "growing" && stack.outstanding_bytes > 1 << 20)
        || report.groups.iter().any(|group| group.verdict == "growing" && group.outstanding_bytes > 1 << 20)
}

#[test]
fn collections_of_v8_are_counted_and_what_they_leave_is_what_v8_uses() -> Result<()> {
    let mut target = obedient()?;
    order(&mut target, "c2")?;
    let mut memtrace = Memtrace::attach(target.pid(), &[])?;
    // So that there is a heap to speak of: what has grown since the attach.
    order(&mut target, "o100000")?;
    let count = |report: &Report| v8_heap(report).and_then(|heap| heap.collections);
    let mut before = count(&memtrace.report_where("a count", |report| count(report).is_some())?).unwrap_or(0);
    for times in [1, 3] {
        let used = order(&mut target, &format!("c{times}"))?;
        // V8 collects by itself as well, but seldom.
        let ordered = before + times..=before + times + 2;
        let report = memtrace.report_where("the collections", |report| {
            let left = v8_heap(report).and_then(|heap| heap.left_bytes).unwrap_or(0);
            // What is made after the collection to answer what was ordered is some 100 kB; the garbage of the objects is megabytes.
            left.abs_diff(used) < 512 << 10 && count(report).is_some_and(|count| ordered.contains(&count))
        })?;
        before = count(&report).unwrap_or(before);
    }
    memtrace.interrupt()?;
    Ok(())
}

/// Gives orders at each report until one of them is `wanted`, at most so many times.
fn until(
    memtrace: &mut Memtrace,
    target: &mut Target,
    times: usize,
    mut orders: impl FnMut(usize) -> Vec<&'static str>,
    wanted: impl Fn(&Report) -> bool,
) -> Result<Option<Report>> {
    for time in 0..times {
        for line in orders(time) {
            order(target, line)?;
        }
        let report = memtrace.next_report()?;
        if wanted(&report) {
            return Ok(Some(report));
        }
    }
    Ok(None)
}

#[test]
fn buffers_that_are_dropped_do_not_grow_and_those_that_are_kept_do_without_a_collection() -> Result<()> {
    // What is dropped is not collected before the end: V8 counts some megabytes as too little.
    let mut target = obedient()?;
    let mut memtrace = Memtrace::attach(target.pid(), &["--fail-on-leak"])?;
    let dropping = |time| if time == 11 { vec!["b40", "d20", "c1"] } else { vec!["b40", "d20"] };
    let told = until(&mut memtrace, &mut target, 20, dropping, grows)?;
    ensure!(told.is_none(), "{:#?}", told.map(|report| (report.groups, report.stacks)));
    let status = memtrace.interrupt()?;
    ensure!(status.code() == Some(0), "{status:?}");

    let mut target = obedient()?;
    let mut memtrace = Memtrace::attach(target.pid(), &["--fail-on-leak"])?;
    let told = until(&mut memtrace, &mut target, 30, |_| vec!["b40"], grows)?;
    ensure!(told.is_some(), "Buffers that are kept were not told");
    let status = memtrace.interrupt()?;
    ensure!(status.code() == Some(3), "{status:?}");
    Ok(())
}

fn heap_grows(report: &Report) -> bool {
    v8_heap(report).is_some_and(|heap| heap.verdict == "growing")
}

#[test]
fn a_heap_grows_if_more_can_be_reached_and_not_by_garbage_that_waits_for_a_collection() -> Result<()> {
    let mut target = obedient()?;
    let mut memtrace = Memtrace::attach(target.pid(), &[])?;
    let early = until(&mut memtrace, &mut target, 15, |_| vec!["t5000"], heap_grows)?;
    ensure!(early.is_none(), "{:#?}", early.map(|report| (report.heaps, report.types)));
    // Where a word is left over that refers to the last ones that were dropped, they count.
    let last = memtrace.next_report()?;
    let dropped = last.types.iter().find(|found| found.name == "Dropped").map_or(0, |found| found.count);
    ensure!(dropped < 15 * 5000 / 2, "{:#?}", last.types);
    memtrace.interrupt()?;

    let mut target = obedient()?;
    let mut memtrace = Memtrace::attach(target.pid(), &[])?;
    let kept_grows =
        |report: &Report| report.types.iter().any(|found| found.name == "Kept" && found.verdict == "growing");
    let is_told = |report: &Report| heap_grows(report) && kept_grows(report);
    let told = until(&mut memtrace, &mut target, 300, |_| vec!["k5000"], is_told)?;
    ensure!(told.is_some(), "a heap of which more and more can be reached was not told");
    memtrace.interrupt()?;
    Ok(())
}

#[test]
fn objects_that_can_be_reached_are_counted_by_type() -> Result<()> {
    let mut target = obedient()?;
    order(&mut target, "t10000")?;
    let used = order(&mut target, "k20000")?;
    let mut memtrace = Memtrace::attach(target.pid(), &[])?;
    // Pages that it takes, so that the heap is in the report.
    order(&mut target, "o50000")?;
    let count = |report: &Report, name: &str| {
        report.types.iter().find(|found| found.name == name).map_or(0, |found| found.count)
    };
    let report = memtrace.report_where("the objects", |report| {
        // The prototype counts, and the object that literals are copied from.
        count(report, "Kept") == 20_001 && count(report, "Object {id, name, roles}") == 50_001
    })?;
    let reachable = v8_heap(&report).and_then(|heap| heap.reachable_bytes).context("a number")?;
    ensure!(reachable > 20_000 * 40 + 50_000 * (48 + 32), "{reachable} of {used}");
    memtrace.interrupt()?;
    Ok(())
}
