//! Comparisons of two runs.

use serde_json::Value;

use super::*;
use crate::report::{sample, text::width::width};

fn stack(names: &[&str], bytes: u64, blocks: u64) -> Stack {
    let frames = names.iter().map(|name| sample::frame(name, "server", Some(("a.c", 1)))).collect();
    Stack { frames, outstanding_bytes: bytes, outstanding_blocks: blocks, ..sample::stack() }
}

fn run(stacks: Vec<Stack>) -> Snapshot {
    let mut snapshot = Snapshot { stacks, ..sample::snapshot() };
    let totals = &mut snapshot.processes[0].totals;
    totals.outstanding_bytes = snapshot.stacks.iter().map(|stack| stack.outstanding_bytes).sum();
    totals.outstanding_blocks = snapshot.stacks.iter().map(|stack| stack.outstanding_blocks).sum();
    snapshot
}

fn two_runs() -> (Snapshot, Snapshot) {
    let before = run(vec![
        stack(&["leak", "main"], 1_000_000, 100),
        stack(&["gone", "main"], 500_000, 5),
        stack(&["level", "main"], 70, 7),
        stack(&["less", "main"], 9000, 9),
    ]);
    let mut after = run(vec![
        stack(&["leak", "main"], 3_500_000, 350),
        stack(&["level", "main"], 70, 7),
        stack(&["less", "main"], 8000, 8),
        stack(&["new", "main"], 200, 2),
        stack(&["gone", "main"], 0, 0),
    ]);
    // Another process at other addresses, of a build with other lines.
    for stack in &mut after.stacks {
        stack.pid = 9;
        stack.id = "ffff".to_owned();
        for frame in &mut stack.frames {
            frame.address = "0x7f0000001234".to_owned();
            frame.line = Some(99);
            frame.offset = Some("0x99".to_owned());
        }
    }
    (before, after)
}

fn told(diff: &Diff) -> Vec<(Fate, &str, i64, i64)> {
    diff.changes
        .iter()
        .map(|change| (change.change, change.function.as_deref().unwrap_or(""), change.bytes, change.blocks))
        .collect()
}

#[test]
fn stacks_are_the_same_by_their_functions_and_what_rose_comes_first() {
    let (before, after) = two_runs();
    let diff = Diff::of(&before, &after, By::Stack, 100);
    assert_eq!(
        told(&diff),
        [
            (Fate::Grew, "leak", 2_500_000, 250),
            (Fate::Appeared, "new", 200, 2),
            (Fate::Went, "gone", -500_000, -5),
            (Fate::Shrank, "less", -1000, -1),
        ]
    );
    assert_eq!(diff.counts, Counts { grew: 1, appeared: 1, shrank: 1, went: 1, level: 1 });
    assert_eq!(diff.changes[0].frames[0].line, Some(99), "as in the later run");
    assert_eq!(diff.bytes(), 3_508_270 - 1_509_070);
}

#[test]
fn top_keeps_the_largest_changes_of_either_sign() {
    let (before, after) = two_runs();
    let diff = Diff::of(&before, &after, By::Stack, 2);
    assert_eq!(told(&diff), [(Fate::Grew, "leak", 2_500_000, 250), (Fate::Went, "gone", -500_000, -5)]);
    assert_eq!(diff.counts.shrank, 1, "counted all the same");
}

#[test]
fn nameless_functions_are_the_same_by_their_position_in_the_module() {
    let nameless = |address: &str, offset: Option<&str>| {
        let mut stack = stack(&["x"], 10, 1);
        stack.frames[0].function = None;
        stack.frames[0].address = address.to_owned();
        stack.frames[0].offset = offset.map(str::to_owned);
        stack
    };
    let same = |a: Stack, b: Stack| Diff::of(&run(vec![a]), &run(vec![b]), By::Stack, 9).counts.level == 1;
    assert!(same(nameless("0x1000", Some("0x42")), nameless("0x9990", Some("0x42"))));
    assert!(!same(nameless("0x1000", Some("0x42")), nameless("0x1000", Some("0x43"))));
    assert!(same(nameless("0x7f0000001234", None), nameless("0x7f9999999234", None)), "as runs saved before had it");
    assert!(!same(nameless("0x7f0000001234", None), nameless("0x7f0000001235", None)));
}

#[test]
fn by_function_and_module_look_past_the_runtime_library() {
    let through = |caller: &str, bytes| {
        let mut stack = stack(&["operator new(unsigned long)", caller, "main"], bytes, 1);
        stack.frames[0].module = Some("libstdc++.so.6".to_owned());
        stack
    };
    let before = run(vec![through("a", 10), through("b", 10)]);
    let after = run(vec![through("a", 30), through("b", 15), through("c", 1)]);
    let by_function = Diff::of(&before, &after, By::Function, 9);
    assert_eq!(told(&by_function), [(Fate::Grew, "a", 20, 0), (Fate::Grew, "b", 5, 0), (Fate::Appeared, "c", 1, 1)]);
    let by_module = Diff::of(&before, &after, By::Module, 9);
    assert_eq!(told(&by_module), [(Fate::Grew, "", 26, 1)]);
    assert_eq!((by_module.changes[0].module.as_deref(), by_module.changes[0].stacks), (Some("server"), 3));
    assert!(by_module.changes[0].frames.is_empty());
}

fn text(diff: &Diff) -> String {
    let mut out = Vec::new();
    render(diff, DiffFormat::Text, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    for line in text.lines() {
        assert!(width(line) <= 80 && !line.chars().any(char::is_control), "{line:?}");
    }
    text
}

#[test]
fn the_text_is_for_80_columns() {
    let (before, mut after) = two_runs();
    after.elapsed_ms = 120_000;
    after.processes[0].totals.outstanding_bytes *= 2;
    let expected = "\
+5.51 MB outstanding in all. By stack: 1 grew, 1 appeared, 1 shrank, 1 went, 1
held the same.

before  2025-01-02 03:04:05 UTC, traced for 1m 00s: 1.51 MB in 121 blocks
after   2025-01-02 03:04:05 UTC, traced for 2m 00s: 7.02 MB in 367 blocks

#1  grew  +2.50 MB  +250 blocks  (1.00 MB to 3.50 MB)
    before: growing +36.2 MB/h, after: growing +36.2 MB/h
      leak  a.c:99  (server)
      main  a.c:99  (server)

#2  went  -500 kB  -5 blocks
    before: growing +36.2 MB/h
      gone  a.c:99  (server)
      main  a.c:99  (server)

2 smaller changes are not shown (--top).
The runs were not equally long: compare rates rather than bytes.
The later run was saved with 3.51 MB of its 7.02 MB: what seems new or gone may
have been left out of it.
";
    assert_eq!(text(&Diff::of(&before, &after, By::Stack, 2)), expected);
}

#[test]
fn equal_and_empty_runs_have_no_changes() {
    let (before, _) = two_runs();
    let diff = Diff::of(&before, &before, By::Stack, 9);
    assert_eq!((diff.changes.len(), diff.counts.level), (0, 4));
    let empty = Snapshot { processes: Vec::new(), stacks: Vec::new(), ..sample::snapshot() };
    let diff = Diff::of(&empty, &empty, By::Module, 9);
    assert!(text(&diff).starts_with("0 B outstanding in all. By module: nothing is held in either."));
}

#[test]
fn the_json_form_has_every_field_of_its_contract() {
    let (before, after) = two_runs();
    let mut out = Vec::new();
    render(&Diff::of(&before, &after, By::Stack, 9), DiffFormat::Json, &mut out).unwrap();
    let object: Value = serde_json::from_slice(&out).unwrap();
    for (path, value) in [
        ("/schema", Value::from("memtrace-diff/1")),
        ("/by", "stack".into()),
        ("/before/at", "2025-01-02T03:04:05Z".into()),
        ("/before/elapsed_ms", 60_000.into()),
        ("/before/outstanding_bytes", 1_509_070.into()),
        ("/after/outstanding_blocks", 367.into()),
        ("/after/listed_bytes", 3_508_270.into()),
        ("/counts/appeared", 1.into()),
        ("/changes/0/change", "grew".into()),
        ("/changes/0/kind", "heap".into()),
        ("/changes/0/bytes", 2_500_000.into()),
        ("/changes/0/blocks", 250.into()),
        ("/changes/0/before/bytes", 1_000_000.into()),
        ("/changes/0/before/verdict", "growing".into()),
        ("/changes/0/after/growth_bytes_per_hour", 36_200_400.0.into()),
        ("/changes/0/after/allocations", 1200.into()),
        ("/changes/0/module", "server".into()),
        ("/changes/0/function", "leak".into()),
        ("/changes/0/stacks", 1.into()),
        ("/changes/0/frames/1/function", "main".into()),
        ("/changes/1/before/verdict", Value::Null),
        ("/changes/2/bytes", (-500_000).into()),
    ] {
        assert_eq!(object.pointer(path), Some(&value), "{path}");
    }
}

#[test]
fn sums_and_differences_beyond_every_bound_are_clamped() {
    let huge = run_of_huge(u64::MAX);
    let none = run_of_huge(0);
    for by in [By::Stack, By::Function, By::Module] {
        let (up, down) = (Diff::of(&none, &huge, by, 9), Diff::of(&huge, &none, by, 9));
        assert_eq!((up.changes[0].bytes, down.changes[0].bytes), (i64::MAX, i64::MIN));
        assert!(text(&up).contains("+9.22 EB") && text(&down).contains("-9.22 EB"));
    }
}

fn run_of_huge(bytes: u64) -> Snapshot {
    let stack = Stack { growth_bytes_per_hour: f64::MAX, ..stack(&["f", "main"], bytes, 1) };
    let mut snapshot = Snapshot { stacks: vec![stack; 3], ..sample::snapshot() };
    snapshot.processes[0].totals.outstanding_bytes = bytes;
    snapshot
}

#[test]
fn the_total_has_mapped_ranges_as_well() {
    let mapped = |heap, mapped| {
        let stacks = vec![
            stack(&["small", "main"], heap, 1),
            Stack { kind: StackKind::Map, ..stack(&["arena", "main"], mapped, 1) },
        ];
        let mut run = run(stacks);
        let totals = &mut run.processes[0].totals;
        (totals.outstanding_bytes, totals.outstanding_blocks, totals.mapped_bytes) = (heap, 1, mapped);
        run
    };
    let diff = Diff::of(&mapped(1_000_000, 4_000_000), &mapped(1_500_000, 19_700_000), By::Stack, 100);
    assert_eq!(diff.bytes(), 16_200_000);
    let text = text(&diff);
    assert!(text.starts_with("+16.2 MB outstanding in all."), "{text}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("1.50 MB in 1 block, 19.7 MB mapped"), "{text}");
}
