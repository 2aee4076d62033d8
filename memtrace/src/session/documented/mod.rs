//! The samples of reports in the documents. They are reports of simulated runs of the demonstration's service and of the one in
//! docs/ci.md, judged and written by the code that judges and writes real ones, and the documents are compared with them here.
//! `MEMTRACE_WRITE_DOCS=1 cargo test -p memtrace --lib documented` writes them anew.
//!
//! `<!-- sample: NAME -->` stands before the indented block that is the sample of this name.

mod blocks;
mod service;
mod simulated;

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use crate::report::{
    self, Rendering,
    diff::{self, By, Diff, DiffFormat},
    focus::Focus,
    gate::Gate,
    snapshot::Snapshot,
};
use service::{demo, demo_since_mark, server, server_fixed};

/// Seconds of the demonstration.
const DEMO: u64 = 20;

fn text(snapshot: &Snapshot) -> String {
    let mut out = Vec::new();
    report::render(Rendering::default(), snapshot, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The lines from the one that begins with `first` up to an empty one.
fn part<'a>(text: &'a str, first: &str) -> Vec<&'a str> {
    let lines = text.lines().skip_while(|line| !line.starts_with(first));
    lines.take_while(|line| !line.is_empty()).collect()
}

/// What stands above the processes of a report, and then one of its stacks without the frames below the first.
fn excerpt(text: &str, stack: &str) -> String {
    let mut lines: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
    lines.push("  ...");
    let stack = part(text, stack);
    let frames = stack.iter().position(|line| line.starts_with("      ")).unwrap();
    lines.extend(&stack[..=frames]);
    lines.join("\n")
}

/// What a stack holds and what is said of it, without its frames.
fn sums(text: &str, stack: &str) -> String {
    let lines = part(text, stack);
    lines.into_iter().take_while(|line| !line.starts_with("      ")).collect::<Vec<_>>().join("\n")
}

/// The process's memory as a whole.
fn memory(text: &str) -> String {
    part(text, "  memory: ").join("\n")
}

/// The demonstration with `--include cache_lookup`.
fn demo_included() -> Snapshot {
    let mut snapshot = demo(DEMO);
    let hidden = snapshot.stacks.remove(0);
    snapshot.stacks.retain(|stack| stack.outstanding_blocks > 0);
    snapshot.focus = Focus {
        include: vec!["cache_lookup".to_owned()],
        hidden_stacks: 1,
        hidden_bytes: hidden.outstanding_bytes,
        ..Focus::default()
    };
    snapshot.gate = Gate::of(&snapshot.stacks, &[], None);
    snapshot
}

/// The demonstration with a suppression for its leak.
fn demo_suppressed() -> Snapshot {
    let mut snapshot = demo(DEMO);
    snapshot.stacks[0].suppressed = Some("function:^remember_session$".to_owned());
    report::rank::rank(&mut snapshot.stacks, usize::MAX);
    snapshot.gate = Gate::of(&snapshot.stacks, &[], None);
    snapshot
}

/// Two runs of the demonstration, one for longer than the other.
fn demo_diff() -> String {
    let before = Snapshot { at: "2026-11-23T08:10:32Z".to_owned(), ..demo(DEMO / 2) };
    let after = Snapshot { at: "2026-11-23T08:11:03Z".to_owned(), ..demo(DEMO) };
    let mut out = Vec::new();
    diff::render(&Diff::of(&before, &after, By::Stack, 10), DiffFormat::Text, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Every sample by its name.
fn samples() -> Vec<(&'static str, String)> {
    let whole = text(&demo(DEMO));
    vec![
        ("demo-stack", sums(&whole, "#1")),
        ("demo-memory", memory(&whole)),
        ("demo", whole),
        ("demo-mark", excerpt(&text(&demo_since_mark()), "#1")),
        ("demo-include", excerpt(&text(&demo_included()), "#1")),
        ("demo-suppressed", excerpt(&text(&demo_suppressed()), "#2")),
        ("demo-diff", demo_diff()),
        ("ci-leak", text(&server())),
        ("ci-fixed", text(&server_fixed())),
    ]
}

/// Every document that may have samples.
fn documents() -> Vec<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let entries = ["docs", "docs/guide"].map(|folder| fs::read_dir(root.join(folder)).unwrap());
    let paths = entries.into_iter().flatten().map(|entry| entry.unwrap().path());
    let pages = paths.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    pages.chain([root.join("README.md")]).collect()
}

#[test]
fn the_samples_in_the_documents_are_what_is_written() {
    let samples = samples();
    let mut shown = BTreeSet::new();
    for path in documents() {
        let page = fs::read_to_string(&path).unwrap();
        let made = blocks::replaced(&page, |name| {
            shown.insert(name.to_owned());
            samples.iter().find(|(known, _)| *known == name).map(|(_, text)| text.as_str())
        });
        let made = made.unwrap_or_else(|unknown| panic!("{}: no sample is called {unknown}", path.display()));
        if env::var_os("MEMTRACE_WRITE_DOCS").is_some() {
            fs::write(&path, &made).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap();
        assert!(
            kept == made,
            "a sample in {} is not what is written; MEMTRACE_WRITE_DOCS=1 writes it anew",
            path.display()
        );
    }
    let all: BTreeSet<String> = samples.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(shown, all, "every sample is shown in a document");
}
