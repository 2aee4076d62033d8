//! Beside other tracers that have probes in the same places: what they keep to themselves is seen in another way, and both
//! programs live.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{Build, Memtrace, Target, memtrace::require_root};
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};
use serde_json::Value;

const TRACEFS: &str = "/sys/kernel/tracing";

/// Uprobes with a reference counter, as USDT probes and tools built on bcc have them; removed when dropped.
struct CountedProbes {
    names: Vec<String>,
}

impl CountedProbes {
    /// Puts probes on functions of a library. The counter is where the library is never writable, so that none is counted.
    fn attach(library: &Path, functions: &[&str]) -> Result<Self> {
        let mut probes = Self { names: Vec::new() };
        for function in functions {
            let name = format!("memtrace_test_{}_{function}", std::process::id());
            let line = format!("p:uprobes/{name} {}:{:#x}(0x40)\n", library.display(), offset(library, function)?);
            append("uprobe_events", &line)?;
            probes.names.push(name);
        }
        for name in &probes.names {
            fs::write(format!("{TRACEFS}/events/uprobes/{name}/enable"), "1")?;
        }
        Ok(probes)
    }
}

impl Drop for CountedProbes {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = fs::write(format!("{TRACEFS}/events/uprobes/{name}/enable"), "0");
            let _ = append("uprobe_events", &format!("-:uprobes/{name}\n"));
        }
    }
}

fn append(file: &str, line: &str) -> Result<()> {
    let path = format!("{TRACEFS}/{file}");
    let mut file = fs::OpenOptions::new().append(true).open(&path).with_context(|| path.clone())?;
    file.write_all(line.as_bytes()).with_context(|| format!("{line:?} to {path}"))
}

/// Where in a library's file a function begins.
fn offset(library: &Path, function: &str) -> Result<u64> {
    let bytes = fs::read(library)?;
    let object = object::File::parse(&*bytes)?;
    let symbol = object.dynamic_symbols().find(|symbol| symbol.name() == Ok(function)).context("a symbol")?;
    let address = symbol.address();
    let segment =
        object.segments().find(|segment| (segment.address()..segment.address() + segment.size()).contains(&address));
    let segment = segment.context("a segment")?;
    Ok(address - segment.address() + segment.file_range().0)
}

/// A C library of our own, so that nobody else's programs meet the probes.
fn own_libc(folder: &Path) -> Result<PathBuf> {
    let list = Command::new("ldd").arg(Build::c("reserved.c").compile()?).output()?;
    let list = String::from_utf8(list.stdout)?;
    let theirs =
        list.split_whitespace().find(|word| word.starts_with('/') && word.contains("libc.so")).context(list.clone())?;
    let own = folder.join("libc.so.6");
    fs::copy(theirs, &own)?;
    Ok(own)
}

#[test]
fn mapping_functions_that_another_tracer_keeps_to_itself_are_traced_by_their_system_calls() -> Result<()> {
    require_root()?;
    let folder = tempfile::tempdir()?;
    let libc = own_libc(folder.path())?;
    let folder = folder.path().display().to_string();
    let mut target = Target::start_with(&Build::c("reserved.c"), &[], "LD_LIBRARY_PATH", &folder)?;
    let probes = CountedProbes::attach(&libc, &["mmap", "munmap", "mremap"])?;
    let memtrace = Memtrace::attach(target.pid(), &[])?;
    target.tell("go")?;
    let counted: Value = target.hear_json()?;
    let finished = memtrace.interrupt()?;
    drop(probes);
    target.exit()?;
    let told: Vec<_> = finished.errors.iter().filter(|line| line.contains("another tracer holds probes")).collect();
    ensure!(told.len() == 1 && told[0].contains("mmap"), "{:?}", finished.errors);
    let report: Value = serde_json::from_str(finished.output.last().context("a report")?)?;
    let totals = &report["processes"][0]["totals"];
    ensure!(
        (&totals["mapped_bytes"], &totals["reserved_bytes"]) == (&counted["mapped"], &counted["reserved"]),
        "{totals} {counted}"
    );
    ensure!(report["loss"].as_object().is_some_and(|loss| loss.values().all(|count| count == 0)), "{}", report["loss"]);
    Ok(())
}
