//! Live objects of Python by type: for every interpreter on this machine, what memtrace counts from outside is what the interpreter
//! itself says.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{Memtrace, Report, Target, python::interpreters};

type Counts = BTreeMap<String, u64>;

/// What is kept of each type before the attach: much of one, little of others, and blocks of many sizes.
const KEPT: [(&str, u64); 12] = [
    ("Session", 5000),
    ("Slotted", 4000),
    ("Named", 700),
    ("Made", 600),
    ("dict", 3000),
    ("list", 10_000),
    ("tuple", 2000),
    ("set", 1500),
    ("function", 900),
    ("OrderedDict", 400),
    ("float", 20_000),
    ("bytes", 6000),
];

fn start(python: &Path) -> Result<Target> {
    start_by(&mut Command::new(python))
}

fn start_by(python: &mut Command) -> Result<Target> {
    let fixture: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/python_objects.py");
    let mut target = Target::spawn(python.arg(fixture))?;
    ensure!(target.hear()?.starts_with("ready "), "{python:?}");
    Ok(target)
}

fn attach(target: &Target) -> Result<Memtrace> {
    let pid = target.pid().to_string();
    let mut memtrace = Memtrace::start(&["--pid", &pid, "--interval", "300ms", "--format", "json"])?;
    memtrace.attached()?;
    Ok(memtrace)
}

fn order(target: &mut Target, line: &str) -> Result<()> {
    target.tell(line)?;
    target.hear()?;
    Ok(())
}

fn counted(report: &Report, name: &str) -> u64 {
    report.types.iter().filter(|of| of.name.rsplit('.').next() == Some(name)).map(|of| of.count).sum()
}

fn said(target: &mut Target) -> Result<Counts> {
    target.tell("count")?;
    target.hear_json()
}

/// Types of which an interpreter keeps objects that the fixture does not know of.
const KEPT_ELSEWHERE: [&str; 3] = ["tuple", "float", "bytes"];

/// How many are kept of a type before the attach.
fn counted_before(name: &str) -> u64 {
    KEPT.iter().filter(|(known, _)| *known == name).map(|(_, count)| count).sum()
}

/// Which types differ by more than 1 % and 20 objects, with what is counted. Those of which there are few may not be among the types of a
/// report. `first` is what was counted before anything was kept.
fn differences(report: &Report, first: &Report, said: &Counts) -> Counts {
    let counted = |name: &str| {
        let before = if KEPT_ELSEWHERE.contains(&name) { counted(first, name) } else { 0 };
        counted(report, name).saturating_sub(before)
    };
    let allowed = |name: &str, said: u64| said / 100 + if KEPT_ELSEWHERE.contains(&name) { 200 } else { 20 };
    let differs = |(name, said): &(&String, &u64)| {
        let (counted, said, allowed) = (counted(name), **said, allowed(name, **said));
        counted > said + allowed || said >= 200 && counted + allowed < said
    };
    said.iter().filter(differs).map(|(name, _)| (name.clone(), counted(name))).collect()
}

#[test]
fn counts_are_those_that_every_interpreter_itself_says() -> Result<()> {
    let keep: Vec<String> = KEPT.iter().map(|(name, count)| format!("keep {name} {count}")).collect();
    let keep: Vec<&str> = keep.iter().map(String::as_str).collect();
    for (python, _) in interpreters()? {
        let mut target = start(&python)?;
        let mut memtrace = attach(&target)?;
        let first = memtrace.report_where("types", |report| counted(report, "tuple") > 0)?;
        for orders in
            [&keep[..], &["keep Session 2500", "keep tuple 3000"], &["drop list", "drop float", "drop Slotted"]]
        {
            for line in orders {
                order(&mut target, line)?;
            }
            let said = said(&mut target)?;
            let last = RefCell::default();
            let agrees = |report: &Report| {
                last.replace(differences(report, &first, &said));
                last.borrow().is_empty()
            };
            let found = memtrace.report_where("counts that agree", agrees);
            found.with_context(|| format!("{}: {said:?} is not {:?}", python.display(), last.borrow()))?;
        }
        ensure!(said(&mut target)?["Slotted"] == 0, "what is dropped is gone");
        memtrace.interrupt()?;
        ensure!(target.runs()?, "{python:?}");
    }
    Ok(())
}

#[test]
fn objects_that_are_too_large_for_pools_are_counted_since_the_attach() -> Result<()> {
    for (python, _) in interpreters()? {
        let mut target = start(&python)?;
        let mut memtrace = attach(&target)?;
        let first = memtrace.report_where("types", |report| counted(report, "tuple") > 0)?;
        order(&mut target, "keep large_bytes 1500")?;
        order(&mut target, "keep bytes 500")?;
        let bytes = |report: &Report| {
            let of = |report: &Report| -> u64 {
                report.types.iter().filter(|of| of.name == "bytes").map(|of| of.bytes).sum()
            };
            of(report).saturating_sub(of(&first))
        };
        let last = RefCell::default();
        let agrees = |report: &Report| {
            let found = (counted(report, "bytes").saturating_sub(counted(&first, "bytes")), bytes(report));
            last.replace(found);
            // A block has the object's head as well, and room for a byte 0.
            found.0.abs_diff(2000) <= 20 && found.1.abs_diff(1500 * 2033 + 500 * 112) <= 40_000
        };
        let found = memtrace.report_where("counts that agree", agrees);
        found.with_context(|| format!("{}: {:?}", python.display(), last.borrow()))?;
        order(&mut target, "drop large_bytes")?;
        let is_gone = |report: &Report| counted(report, "bytes").abs_diff(counted(&first, "bytes") + 500) <= 20;
        memtrace.report_where("no more of them", is_gone).with_context(|| format!("{}", python.display()))?;
        memtrace.interrupt()?;
        ensure!(target.runs()?, "{python:?}");
    }
    Ok(())
}

#[test]
fn without_pools_objects_are_counted_since_the_attach() -> Result<()> {
    for (python, _) in interpreters()? {
        let mut target = start_by(Command::new(&python).env("PYTHONMALLOC", "malloc"))?;
        let before = said(&mut target)?;
        let mut memtrace = attach(&target)?;
        for (name, count) in KEPT {
            order(&mut target, &format!("keep {name} {count}"))?;
        }
        order(&mut target, "drop OrderedDict")?;
        let now = said(&mut target)?;
        let made = |name: &str| now[name].saturating_sub(before[name]);
        let last = RefCell::default();
        let agrees = |report: &Report| {
            let differs = |(name, _): &&(&str, u64)| {
                // What few there are may not be among the types of a report.
                counted(report, name).abs_diff(made(name)) > made(name) / 100 + 20
            };
            let counts: Counts =
                KEPT.iter().filter(differs).map(|(name, _)| ((*name).to_owned(), counted(report, name))).collect();
            last.replace(counts);
            last.borrow().is_empty()
        };
        let found = memtrace.report_where("counts that agree", agrees);
        found.with_context(|| format!("{}: {now:?} less {before:?} is not {:?}", python.display(), last.borrow()))?;
        memtrace.interrupt()?;
        ensure!(target.runs()?, "{python:?}");
    }
    Ok(())
}

#[test]
fn types_that_leak_grow_and_others_do_not() -> Result<()> {
    for (python, version) in interpreters()? {
        // It takes long, and these count as their neighbours do.
        if [309, 310, 312].contains(&version) {
            continue;
        }
        let mut target = start(&python)?;
        for (name, count) in KEPT {
            order(&mut target, &format!("keep {name} {count}"))?;
        }
        let mut memtrace = attach(&target)?;
        let is_leaking =
            |report: &Report, name: &str| report.types.iter().any(|of| of.name == name && of.verdict == "growing");
        let mut found = None;
        let mut kept = counted_before("Session");
        for _ in 0..30 {
            order(&mut target, "keep Session 400")?;
            order(&mut target, "keep set 50")?;
            // These come and go.
            order(&mut target, "drop tuple")?;
            order(&mut target, "keep tuple 2000")?;
            // A census rests longer than a report takes. What it counts may be off by a few.
            kept += 400;
            let report = memtrace.report_where("a census", |report| counted(report, "Session") + 20 >= kept)?;
            let is_found = is_leaking(&report, "Session") && is_leaking(&report, "set");
            found = Some(report);
            if is_found {
                break;
            }
        }
        let report = found.context("reports")?;
        let verdicts: Vec<_> = report.types.iter().map(|of| (&of.name, of.count, &of.verdict)).collect();
        for (name, leaks) in [("Session", true), ("set", true), ("Slotted", false), ("tuple", false), ("bytes", false)]
        {
            ensure!(is_leaking(&report, name) == leaks, "{}: {name} in {verdicts:?}", python.display());
        }
        memtrace.interrupt()?;
    }
    Ok(())
}
