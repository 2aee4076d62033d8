//! Live objects of C++ by class: what memtrace counts from outside, by what compilers write for classes with virtual functions, is exactly
//! what the program keeps.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{Build, Memtrace, Report, Target};

type Counts = BTreeMap<String, (u64, u64)>;

/// What is kept, as orders for the program.
const KEEP: [&str; 10] = [
    "keep Session 5000",
    "keep Both 400",
    "keep Virtual 300",
    "keep Store 200",
    "keep Hidden 100",
    "keep Shared 700",
    "keep SharedPlain 150",
    // Of these nothing is told: they have no virtual functions, or their blocks begin with something else.
    "keep Plain 100",
    "keep Holder 100",
    "keep Array 50",
];

const STORE: &str = "app::Store<std::vector<int, std::allocator<int> > >";

/// Its classes, their objects and the bytes of their blocks. `make_shared` puts 16 bytes in front of an object.
const KEPT: [(&str, u64, u64); 6] = [
    ("app::Session", 5700, 5000 * 216 + 700 * 232),
    ("app::Both", 400, 400 * 40),
    ("app::Virtual", 300, 300 * 32),
    (STORE, 200, 200 * 40),
    ("(anonymous namespace)::Hidden", 100, 100 * 16),
    ("app::Plain", 150, 150 * 328),
];

fn program() -> Build {
    Build::cpp("cpp_objects.cpp")
}

fn plugin(class: &'static str) -> Result<String> {
    let build = Build::cpp("cpp_plugin.cpp").flag("-shared").flag("-fPIC").flag("-s").flag(class);
    build.compile().map(|path: PathBuf| path.display().to_string())
}

fn order(target: &mut Target, line: &str) -> Result<()> {
    target.tell(line)?;
    ensure!(target.hear()? == "done", "{line}");
    Ok(())
}

fn attach(target: &Target, more: &[&str]) -> Result<Memtrace> {
    let pid = target.pid().to_string();
    let mut memtrace = Memtrace::start(&[&["--pid", &pid, "--interval", "300ms", "--format", "json"], more].concat())?;
    memtrace.attached()?;
    Ok(memtrace)
}

fn counted(report: &Report) -> Counts {
    let native = report.types.iter().filter(|of| of.language == "native");
    native.map(|of| (of.name.clone(), (of.count, of.bytes))).collect()
}

/// Waits until these are all that is counted.
fn await_counts(memtrace: &mut Memtrace, expected: &Counts) -> Result<()> {
    let last = RefCell::default();
    let agrees = |report: &Report| {
        last.replace(counted(report));
        *last.borrow() == *expected
    };
    let found = memtrace.report_where("counts that agree", agrees);
    found.map(drop).with_context(|| format!("{:?} and not {expected:?}", last.borrow()))
}

fn kept() -> Counts {
    KEPT.iter().map(|&(name, count, bytes)| (name.to_owned(), (count, bytes))).collect()
}

#[test]
fn objects_are_those_that_the_program_keeps_however_it_is_linked() -> Result<()> {
    let builds = [
        program(),
        program().flag("-s"),
        program().flag("-s").flag("-static-libstdc++").flag("-static-libgcc"),
        program().flag("-s").flag("-no-pie").flag("-fno-pie"),
        program().flag("-s").flag("-Wl,-z,norelro"),
    ];
    for build in builds {
        let mut target = Target::start(&build, &[])?;
        // What is there before the attach is not known.
        order(&mut target, "keep Session 33")?;
        let mut memtrace = attach(&target, &[])?;
        for line in KEEP {
            order(&mut target, line)?;
        }
        let mut expected = kept();
        await_counts(&mut memtrace, &expected).with_context(|| format!("{build:?}"))?;
        // The older half: 33 of them are none of those.
        order(&mut target, "drop Session")?;
        order(&mut target, "drop Shared")?;
        let left = 5033 / 2 + 350;
        expected.insert("app::Session".to_owned(), (left, 5033 / 2 * 216 + 350 * 232));
        await_counts(&mut memtrace, &expected).with_context(|| format!("{build:?}"))?;
        memtrace.interrupt()?;
        ensure!(target.runs()?, "{build:?}");
    }
    Ok(())
}

#[test]
fn a_class_of_a_library_is_forgotten_with_it() -> Result<()> {
    let (first, second) = (plugin("-DCLASS=First")?, plugin("-DCLASS=Second")?);
    let mut target = Target::start(&program().flag("-s"), &[])?;
    let mut memtrace = attach(&target, &[])?;
    let mut expected = Counts::new();
    // The second one comes to lie where the first one was.
    for (library, class) in [(&first, "plugin::First"), (&second, "plugin::Second"), (&first, "plugin::First")] {
        order(&mut target, &format!("load {library}"))?;
        order(&mut target, "keep Loaded 60")?;
        expected.insert(class.to_owned(), (60, 60 * 16));
        await_counts(&mut memtrace, &expected)?;
        (0..6).try_for_each(|_| order(&mut target, "drop Loaded"))?;
        order(&mut target, "unload")?;
        expected.clear();
    }
    await_counts(&mut memtrace, &expected)?;
    memtrace.interrupt()?;
    Ok(())
}

#[test]
fn a_class_that_leaks_grows_and_others_do_not() -> Result<()> {
    let mut target = Target::start(&program().flag("-s"), &[])?;
    let mut memtrace = attach(&target, &[])?;
    for line in ["keep Both 2000", "keep Store 2000", "keep Virtual 4000"] {
        order(&mut target, line)?;
    }
    let growing = |report: &Report, name: &str| {
        report.types.iter().any(|of| of.language == "native" && of.name == name && of.verdict == "growing")
    };
    let mut report = None;
    let mut kept = 0;
    for _ in 0..40 {
        order(&mut target, "keep Session 100")?;
        kept += 100;
        // These come and go.
        order(&mut target, "drop Virtual")?;
        order(&mut target, "keep Virtual 2000")?;
        let seen = memtrace.report_where("a look", |report| {
            counted(report).get("app::Session").is_some_and(|&(count, _)| count == kept)
        })?;
        let is_found = growing(&seen, "app::Session");
        report = Some(seen);
        if is_found {
            break;
        }
    }
    let report = report.context("reports")?;
    let verdicts: Vec<_> = report.types.iter().map(|of| (&of.name, of.count, &of.verdict)).collect();
    for (name, leaks) in [("app::Session", true), ("app::Both", false), (STORE, false), ("app::Virtual", false)] {
        ensure!(growing(&report, name) == leaks, "{name} in {verdicts:?}");
    }
    memtrace.interrupt()?;
    Ok(())
}

#[test]
fn of_sampled_blocks_the_number_of_objects_is_an_estimate() -> Result<()> {
    let mut target = Target::start(&program(), &[])?;
    let mut memtrace = attach(&target, &["--sample", "4KiB"])?;
    order(&mut target, "keep Session 20000")?;
    order(&mut target, "keep Both 2000")?;
    let is_there = |report: &Report| counted(report).get("app::Session").is_some_and(|&(count, _)| count > 16_000);
    let report = memtrace.report_where("most of the objects", is_there)?;
    let session = report.types.iter().find(|of| of.name == "app::Session").context("the class")?;
    // Some 1,000 blocks are drawn: 3.2 % is a standard deviation.
    ensure!(session.count.abs_diff(20_000) < 20_000 / 6, "{session:?}");
    let known = |name: &str| session.estimate[name].clone();
    ensure!(known("blocks_seen").as_u64().is_some_and(|seen| (700..1400).contains(&seen)), "{session:?}");
    let (low, high) = (&known("outstanding_interval_bytes")[0], &known("outstanding_interval_bytes")[1]);
    let ends = low.as_u64().zip(high.as_u64()).context("an interval")?;
    ensure!(ends.0 < session.bytes && session.bytes < ends.1 && ends.1 - ends.0 < session.bytes / 4, "{session:?}");
    memtrace.interrupt()?;
    Ok(())
}

#[test]
fn a_program_without_such_classes_has_no_types() -> Result<()> {
    let service: &Path = &Build::c("leaky_service.c").compile()?;
    let mut target = Target::start_file(service, &["100", "1000", "700", "2000"])?;
    let mut memtrace = attach(&target, &[])?;
    target.tell("go")?;
    let report = memtrace.report_where("the leak", |report| report.elapsed_ms > 2000 && !report.stacks.is_empty())?;
    ensure!(report.types.is_empty(), "{:?}", report.types);
    memtrace.interrupt()?;
    target.exit()
}
