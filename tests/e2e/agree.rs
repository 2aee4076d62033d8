//! Programs that nobody here wrote, launched and traced to their end: the number and bytes of their allocations are
//! those that Valgrind counts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use memtrace_tests::{
    Report,
    fixture::sources,
    memtrace::{program, require_root},
    report::Totals,
    valgrind::{as_under_valgrind, under_valgrind},
};

/// Each does the same in every run: no clock, no random seed.
fn programs(folder: &Path) -> Result<Vec<Vec<String>>> {
    let script = folder.join("script.sql");
    fs::write(
        &script,
        "create table t(a, b);
         with recursive c(x) as (select 1 union all select x + 1 from c where x < 5000)
         insert into t select x, hex(x * 7919) from c;
         create index i on t(b); select count(*) from t where b like '%3%';",
    )?;
    let source = sources().join("churn.c");
    let text = folder.join("text");
    fs::write(&text, (0..5000).map(|n| format!("{} line {n}\n", n * 7919 % 5003)).collect::<String>())?;
    let (script, source, text) = (shown(&script), shown(&source), shown(&text));
    let compiler = String::from_utf8(output(Command::new("gcc").arg("-print-prog-name=cc1"))?)?;
    let headers = String::from_utf8(output(Command::new("gcc").arg("-print-multiarch"))?)?;
    let python = String::from_utf8(output(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]))?)?;
    let command = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<String>>();
    Ok(vec![
        command(&["sqlite3", ":memory:", &format!(".read {script}")]),
        command(&["perl", "-e", "my %h; $h{$_} = $_ x 3 for 1..5000; print scalar keys %h"]),
        command(&["jq", "-n", "[range(5000)] | map({a: ., b: tostring}) | length"]),
        command(&["mawk", "BEGIN { for (i = 0; i < 9000; i++) a[i] = i \"x\"; for (k in a) n++; print n }"]),
        command(&["xz", "-k", "-c", "-1", &text]),
        command(&["zstd", "-q", "-c", &text]),
        command(&["tar", "cf", "/dev/null", "/usr/include/linux"]),
        command(&["openssl", "dgst", "-sha256", &text]),
        command(&["git", "diff", "--no-index", "--word-diff", &text, &source]),
        command(&[compiler.trim(), "-quiet", "-imultiarch", headers.trim(), "-O2", "-o", "/dev/null", &source]),
        command(&["grep", "-c", "line.*7", &text]),
        command(&["find", "/usr/include/linux", "-name", "*.h"]),
        command(&["sort", &text]),
        command(&["bc", "-q", "-l", "/dev/null"]),
        command(&["curl", "-s", &format!("file://{text}")]),
        command(&["sed", "-n", "s/line/row/p", &text]),
        command(&[python.trim(), "-S", "-c", "d = {i: str(i) for i in range(30000)}; print(len(d))"]),
    ])
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {command:?}"))?;
    Ok(output.stdout)
}

fn counted_by_memtrace(words: &[String], folder: &Path) -> Result<Totals> {
    let file: PathBuf = folder.join("report.json");
    let mut command = Command::new(program()?);
    command.args(["--format", "json", "--output", &shown(&file), "--exit-code", "--"]).args(words);
    as_under_valgrind(&mut command, folder);
    // 1: `git diff` has found a difference.
    ensure!(matches!(command.status()?.code(), Some(0 | 1)), "{words:?} failed");
    let text = fs::read_to_string(&file)?;
    let report = Report::parse(text.lines().last().context("a report")?)?;
    ensure!(report.losses().is_empty(), "{:?}", report.loss);
    Ok(report.processes.first().context("a process")?.totals)
}

/// Allocations, frees and bytes, and what is in use at the end, as the summary of Valgrind's memcheck has them.
fn counted_by_valgrind(words: &[String], folder: &Path) -> Result<Totals> {
    let log = folder.join("valgrind.log");
    under_valgrind(&[], &log, words, folder).status()?;
    let text = fs::read_to_string(&log)?.replace(',', "");
    let numbers = |mark: &str| -> Result<Vec<u64>> {
        let line = text.lines().find_map(|line| line.split_once(mark)).with_context(|| format!("{mark} in {text}"))?.1;
        Ok(line.split_whitespace().filter_map(|word| word.parse().ok()).collect())
    };
    let (in_use, usage) = (numbers("in use at exit:")?, numbers("total heap usage:")?);
    ensure!(in_use.len() == 2 && usage.len() == 3, "{text}");
    Ok(Totals {
        allocations: usage[0],
        frees: usage[1],
        allocated_bytes: usage[2],
        freed_bytes: usage[2] - in_use[0],
        outstanding_bytes: in_use[0],
        outstanding_blocks: in_use[1],
        ..Totals::default()
    })
}

/// How far the counts may be apart: 1 in 1,000. The compiler's tables hash addresses, which differ from run to run and under
/// Valgrind's own allocator, where two of 32 KiB are enlarged that are not without it: so many bytes more for those.
fn allowed(program: &str, what: &str, theirs: u64) -> u64 {
    let tables = if program.ends_with("/cc1") && what.starts_with("bytes") { 4 } else { 0 };
    theirs / 1000 + tables * (32 << 10)
}

#[test]
fn launched_programs_allocate_what_valgrind_counts() -> Result<()> {
    require_root()?;
    let folder = tempfile::tempdir()?;
    let mut apart = Vec::new();
    for words in programs(folder.path())? {
        let (ours, theirs) = (counted_by_memtrace(&words, folder.path())?, counted_by_valgrind(&words, folder.path())?);
        let figures = [
            ("allocations", ours.allocations, theirs.allocations),
            ("frees", ours.frees, theirs.frees),
            ("bytes allocated", ours.allocated_bytes, theirs.allocated_bytes),
            ("bytes in use at exit", ours.outstanding_bytes, theirs.outstanding_bytes),
            ("blocks in use at exit", ours.outstanding_blocks, theirs.outstanding_blocks),
        ];
        println!("{}: {figures:?}", words[0]);
        ensure!(theirs.allocations > 0, "{words:?} allocates nothing");
        for (what, ours, theirs) in figures {
            if ours.abs_diff(theirs) > allowed(&words[0], what, theirs) {
                apart.push(format!("{}: {what}: {ours}, by Valgrind {theirs}", words[0]));
            }
        }
    }
    ensure!(apart.is_empty(), "{}", apart.join("\n"));
    Ok(())
}
