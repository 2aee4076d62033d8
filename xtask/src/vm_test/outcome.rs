//! Judges what a guest said. Its lines are `word rest`; `xtask/vm/test.sh` writes them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use serde_json::Value;

use super::kernel::Kernel;

/// The function of the service that leaks.
const LEAK: &str = "remember_session";

/// One run of memtrace in the guest.
#[derive(Default)]
struct Pass {
    arguments: String,
    programs: BTreeSet<String>,
    links: Vec<String>,
    status: String,
    report: Value,
}

/// The names of the object's programs: global functions outside of `.text`, where the ones that they call are.
pub fn programs_of(object: &Path) -> Result<Vec<String>> {
    let file = fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
    let file = object::File::parse(&*file).context("the BPF object is no ELF file")?;
    let text = file.section_by_name(".text").map(|section| section.index());
    let functions = file.symbols().filter(|symbol| symbol.kind() == object::SymbolKind::Text && symbol.is_global());
    let programs = functions.filter(|symbol| symbol.section_index() != text);
    let names: Vec<_> = programs.filter_map(|symbol| Some(symbol.name().ok()?.to_owned())).collect();
    ensure!(!names.is_empty(), "{} holds no programs", object.display());
    Ok(names)
}

/// What was found, in one line.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn judge(said: &str, kernel: &Kernel, programs: &[String]) -> Result<String> {
    let (release, passes) = parse(said)?;
    ensure!(release.starts_with(&format!("{}.", kernel.series)), "another kernel booted: {release}");
    let mut verdict = None;
    for pass in &passes {
        let found = judge_pass(pass, kernel).with_context(|| format!("memtrace {}", pass.arguments))?;
        verdict = verdict.or(found);
    }
    let loaded: BTreeSet<_> = passes.iter().flat_map(|pass| &pass.programs).map(String::as_str).collect();
    let (too_new, programs): (Vec<&str>, Vec<&str>) =
        programs.iter().map(String::as_str).partition(|name| kernel.without.contains(name));
    ensure!(too_new.len() == kernel.without.len(), "the object lacks one of {}", kernel.without.join(", "));
    let missing: Vec<_> = programs.iter().filter(|name| !loaded.contains(short(name))).copied().collect();
    ensure!(missing.is_empty(), "never loaded, by any of {} runs: {}", passes.len(), missing.join(", "));
    let verdict = verdict.context("no run traced")?;
    Ok(format!("{release}: {verdict}; {} programs loaded, {} links", programs.len(), kernel.link))
}

fn parse(said: &str) -> Result<(String, Vec<Pass>)> {
    let mut release = String::new();
    let mut passes: Vec<Pass> = Vec::new();
    for line in said.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, passes.last_mut()) {
            ("release", _) => release = rest.to_owned(),
            ("pass", _) => passes.push(Pass { arguments: rest.to_owned(), ..Pass::default() }),
            ("programs", Some(pass)) => pass.programs = names(rest)?,
            ("link", Some(pass)) => pass.links.push(rest.to_owned()),
            ("status", Some(pass)) => rest.clone_into(&mut pass.status),
            ("report", Some(pass)) => pass.report = serde_json::from_str(rest).unwrap_or(Value::Null),
            ("done", _) => return Ok((release, passes)),
            _ => bail!("the guest said something unexpected: {line}"),
        }
    }
    bail!("the test in the guest did not come to its end")
}

/// Names out of bpftool's list.
fn names(list: &str) -> Result<BTreeSet<String>> {
    let list: Vec<Value> = serde_json::from_str(list).context("bpftool printed no list of programs")?;
    Ok(list.iter().filter_map(|program| Some(short(program["name"].as_str()?).to_owned())).collect())
}

/// The kernel keeps 15 bytes of a program's name.
fn short(name: &str) -> &str {
    name.get(..15).unwrap_or(name)
}

/// The verdict of a run that traced; `None` for one with empty programs.
fn judge_pass(pass: &Pass, kernel: &Kernel) -> Result<Option<String>> {
    ensure!(pass.status == "0", "exit status {}", pass.status);
    let is_growth = pass.arguments.contains("--mode growth");
    let link = |link: &String| link == kernel.link;
    ensure!(is_growth || pass.links.iter().any(link), "no {} links, but {:?}", kernel.link, pass.links);
    ensure!(pass.report["final"] == true, "no final report");
    if pass.arguments.contains("--empty-programs") {
        return Ok(None);
    }
    let losses = pass.report["loss"].as_object().context("no `loss` in the report")?;
    let losses: Vec<_> = losses.iter().filter(|(_, count)| **count != 0).collect();
    ensure!(losses.is_empty(), "losses: {losses:?}");
    if pass.arguments.contains("--alloc") {
        let process = &pass.report["processes"][0];
        let failed = process["totals"]["failed_allocations"].as_u64().unwrap_or_default();
        ensure!(failed > 0, "no exception was seen");
        ensure!(process["exited"] == false, "the program ended: its exceptions find no handler");
        return Ok(None);
    }
    if pass.arguments.contains("--min-size") {
        let stacks = pass.report["stacks"].as_array().context("no `stacks` in the report")?;
        let lines = |stack: &Value| -> Vec<(String, u64)> {
            let frames = stack["frames"].as_array().into_iter().flatten();
            let interpreted = frames.filter(|frame| frame["kind"] == "interpreter");
            let line = |frame: &Value| Some((frame["function"].as_str()?.to_owned(), frame["line"].as_u64()?));
            interpreted.filter_map(line).collect()
        };
        let expected = [("keep", 9), ("handle", 13), ("<module>", 17)].map(|(name, line)| (name.to_owned(), line));
        let found: Vec<_> = stacks.iter().map(lines).collect();
        ensure!(found.iter().any(|lines| *lines == expected), "no stack has Python's lines {expected:?}: {found:?}");
        return Ok(None);
    }
    if is_growth {
        let touched = |stack: &Value| stack["kind"] == "page" && stack["outstanding_bytes"].as_u64() > Some(0);
        let stacks = pass.report["stacks"].as_array().context("no `stacks` in the report")?;
        ensure!(stacks.iter().any(touched), "no page was seen to be touched");
        return Ok(None);
    }
    let top = &pass.report["stacks"][0];
    let frames: Vec<_> = top["frames"].as_array().into_iter().flatten().map(|frame| &frame["function"]).collect();
    ensure!(
        top["verdict"] == "growing" && frames.iter().any(|function| *function == LEAK),
        "the first stack should be growing, with {LEAK}; it is {} in {frames:?}: {}",
        top["verdict"],
        top["evidence"]
    );
    let confidence = top["confidence"].as_f64().unwrap_or_default() * 100.0;
    Ok(Some(format!("growing {confidence:.0}% in {LEAK}, nothing lost")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: Kernel = Kernel { series: "6.1", link: "perf", without: &["too_new"] };
    const SAID: &str = r#"release 6.1.0-56-cloud-amd64
pass --duration 12s
programs [{"id":5,"name":"heap_entry"},{"id":6,"name":"a_name_that_is_too_long"},{"id":7}]
link perf
link raw_tracepoint
status 0
report {"final":true,"loss":{"releases_dropped":0},"stacks":[{"verdict":"growing","confidence":0.98,"frames":[{"function":"remember_session"},{"function":"main"}]}]}
pass --empty-programs
programs [{"id":5,"name":"empty_entry"}]
link perf
status 0
report {"final":true,"stacks":[]}
done
"#;

    fn judged(said: &str) -> Result<String> {
        let programs = ["heap_entry", "a_name_that_is_too_long", "empty_entry", "too_new"].map(str::to_owned);
        judge(said, &KERNEL, &programs)
    }

    #[test]
    fn a_good_run_is_told_in_a_line() {
        let line = "6.1.0-56-cloud-amd64: growing 98% in remember_session, nothing lost; 3 programs loaded, perf links";
        assert_eq!(judged(SAID).unwrap(), line);
    }

    #[test]
    fn whatever_is_wrong_fails() {
        for (from, to, why) in [
            ("release 6.1.", "release 6.12.", "another kernel"),
            ("done\n", "", "did not come to its end"),
            ("status 0", "status 1", "exit status 1"),
            ("\nlink perf", "", "no perf links"),
            ("dropped\":0", "dropped\":3", "losses"),
            ("growing", "undecided", "should be growing"),
            ("remember_session", "cache_lookup", "should be growing"),
            ("empty_entry", "other", "never loaded, by any of 2 runs: empty_entry"),
            ("{\"final\":true", "{\"final\":false", "no final report"),
            ("link perf", "panic", "something unexpected"),
        ] {
            let error = format!("{:#}", judged(&SAID.replace(from, to)).unwrap_err());
            assert!(error.contains(why), "{from} as {to}: {error}");
        }
    }

    #[test]
    fn the_programs_of_the_committed_object_are_found() {
        let names = programs_of(&crate::tree::ebpf_object()).unwrap();
        assert!(names.iter().any(|name| name == "heap_entry") && !names.iter().any(|name| name == "memset"));
    }
}
