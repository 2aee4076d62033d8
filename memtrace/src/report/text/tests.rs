//! The report as a person sees it.

use proptest::prelude::*;

use super::{
    page::WIDTH,
    sparkline::{SPARKLINE, sparkline},
    width::width,
    *,
};
use crate::{
    report::{focus, gate::Gate, runtime::Type, sample, sampling::Estimate, snapshot::Tracer},
    runtime::Language,
    trend::Verdict,
};

fn text(snapshot: &Snapshot) -> String {
    let mut out = Vec::new();
    render(snapshot, false, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn assert_fits(text: &str) {
    for line in text.lines() {
        assert!(width(line) <= WIDTH, "{} columns: {line}", width(line));
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

const FINAL: &str = "\
1 stack keeps growing: +36.2 MB/h in leak_here (server.c:42)

pid 4242  ./server --port 8080
  traced for 1m 00s, rss 48.0 MB, outstanding 12.9 MB in 4,200 blocks
  4,800 allocations of 13.5 MB, 600 frees of 597 kB

#1  growing 98%  +36.2 MB/h (35.9 to 36.5)  603 kB in 1,200 blocks
    ▁▂▃▃▄▄▅▆▆▇▇██  0 B to 603 kB
    half older than 29 s
    rose in 12 and fell in 0 of 12 intervals
      leak_here  /src/server/server.c:42  (server)
      inlined handle  /src/server/server.c:97  (server)
      main  /src/server/main.c:12  (server)
      0x55d0c0de1234  (libc.so.6)

#2  plateau 72%  0 B/h  12.3 MB in 3,000 blocks
    ▁▃▄▅▆▇███████  0 B to 12.3 MB
    half older than 29 s
    rose earlier, level over the last 6 of 13 samples
      cache_insert  (libcache.so.1)
      the stack ends here: no unwind table for 0x7f0012345678

1 further stack holds nothing any more, after 500 allocations.

Stacks: 99.5 % whole; 0.5 % cut: no unwind table 0.4 %, deeper than 127 frames
0.1 %

Not everything was seen, or not at once:
  12 allocations_dropped: these allocations are missing: growth may be larger
  than shown.
  5 releases_deferred: waited while the ring was full; nothing is lost.

pid 4242: 37 frees were of blocks not seen to appear: from before the attach,
filtered, or lost.

memtrace itself took 0.4 s of processor time and 20.0 MB of memory, besides 140
MB of files and of buffers shared with the kernel.
";

const INTERVAL: &str = "\
[1m 00s] 1 stack keeps growing: +36.2 MB/h in leak_here (server.c:42)
  pid 4242: rss 48.0 MB, outstanding 12.9 MB in 4,200 blocks
  #1  growing 98%  +36.2 MB/h  603 kB in 1,200 blocks
      leak_here < handle < main
  #2  plateau 72%  0 B/h  12.3 MB in 3,000 blocks
      cache_insert

Not everything was seen, or not at once:
  12 allocations_dropped: these allocations are missing: growth may be larger
  than shown.

";

#[test]
fn a_suppressed_stack_is_no_headline_and_the_focus_is_said() {
    let mut snapshot = sample::snapshot();
    snapshot.stacks[0].suppressed = Some("leak:\u{1b}[31mpool".to_owned());
    snapshot.stacks[0].since_mark = Some(focus::SinceMark { window_ms: 40_000, ..Default::default() });
    snapshot.marks = vec![focus::Mark { elapsed_ms: 20_000 }];
    snapshot.gate = Gate::of(&snapshot.stacks, &[], None);
    let text = text(&snapshot);
    assert_fits(&text);
    assert!(text.starts_with(
        "No stack keeps growing.\nVerdicts and rates are those since the mark 40 s ago.\n1 stack suppressed, 603 kB.\n"
    ));
    assert!(text.contains("    0 B in 0 blocks of it since the mark 40 s ago\n    suppressed by leak:\\x1b[31mpool\n"));
}

#[test]
fn the_final_report() {
    let text = text(&sample::snapshot());
    assert_fits(&text);
    assert_eq!(text, FINAL);
}

#[test]
fn types_that_grow_are_listed_and_no_others() {
    let mut snapshot = sample::snapshot();
    let growing = Type::of("Session", Language::Python, snapshot.stacks[0].clone());
    let level = Type::of("dict", Language::Python, Stack { verdict: Verdict::Plateau, ..snapshot.stacks[0].clone() });
    let of_another = Type { name: "list".to_owned(), pid: 7, ..growing.clone() };
    snapshot.types = vec![growing.clone(), level, of_another];
    let written = text(&snapshot);
    assert_fits(&written);
    let list = "\
  Objects of these types become more:
    1,200 Session of 603 kB, growing by +36.2 MB/h

#1";
    assert!(written.contains(list), "{written}");
    let native = Type { name: "app::Session".to_owned(), language: Language::Native, ..growing.clone() };
    snapshot.types = vec![native.clone(), Type { estimate: Some(Estimate::new(603_000, 1e6, 12)), ..native }];
    let written = text(&snapshot);
    assert_fits(&written);
    let list = "\
  Objects of these types become more:
    1,200 app::Session of 603 kB since the attach, growing by +36.2 MB/h
    about 1,200 app::Session of 603 kB since the attach, growing by +36.2 MB/h

#1";
    assert!(written.contains(list), "{written}");
    snapshot.types = (0..7).map(|number| Type { name: format!("Class{number}"), ..growing.clone() }).collect();
    let written = text(&snapshot);
    assert!(written.contains("Class4") && !written.contains("Class5"), "{written}");
    assert!(written.contains("\n    2 further types\n"), "{written}");
}

#[test]
fn an_interval_report_is_short() {
    let mut snapshot = sample::snapshot();
    snapshot.is_final = false;
    let text = text(&snapshot);
    assert_fits(&text);
    assert_eq!(text, INTERVAL);
}

#[test]
fn an_empty_run() {
    let mut snapshot = sample::snapshot();
    snapshot.stacks.clear();
    snapshot.processes.clear();
    snapshot.loss.clear();
    snapshot.tracer = Tracer::default();
    assert_eq!(text(&snapshot), "No stack keeps growing: nothing is held that was allocated since the attach.\n");
}

#[test]
fn colour_only_when_asked() {
    let mut out = Vec::new();
    render(&sample::snapshot(), true, &mut out).unwrap();
    let coloured = String::from_utf8(out).unwrap();
    assert!(coloured.contains("\x1b[1;31mgrowing 98%\x1b[0m") && coloured.contains("\x1b[32mplateau 72%\x1b[0m"));
    assert!(!text(&sample::snapshot()).contains('\x1b'));
    let plain = ["\x1b[1;31m", "\x1b[32m", "\x1b[2m", "\x1b[1m", "\x1b[0m"]
        .iter()
        .fold(coloured, |text, code| text.replace(code, ""));
    assert_eq!(plain, text(&sample::snapshot()));
}

#[test]
fn hostile_and_huge_names_stay_on_their_line() {
    let names = [
        "a\x1b[2J\x1b]0;owned\x07b".to_owned(),
        "line\nbreak\r\n#9  growing 99%".to_owned(),
        "<script>alert(1)</script>&amp;".to_owned(),
        format!("std::vector<{}>::push_back(int)", "std::pair<int, ".repeat(700)),
        "\u{202e}gnp.exe\u{2066}".to_owned(),
        "漢字".repeat(60),
        String::new(),
    ];
    for name in names {
        let mut snapshot = sample::snapshot();
        snapshot.processes[0].command = name.clone();
        snapshot.stacks[0].truncated = Some(name.clone());
        snapshot.stacks[0].evidence = name.clone();
        for frame in &mut snapshot.stacks[0].frames {
            frame.function = Some(name.clone());
            frame.module = Some(name.clone());
            frame.file = Some(name.clone());
        }
        for is_final in [true, false] {
            snapshot.is_final = is_final;
            let text = text(&snapshot);
            assert_fits(&text);
            assert_eq!(text.lines().filter(|line| line.starts_with('#')).count(), if is_final { 2 } else { 0 });
        }
    }
}

#[test]
fn ten_thousand_stacks() {
    let mut snapshot = sample::snapshot();
    snapshot.stacks = vec![sample::stack(); 10_000];
    let text = text(&snapshot);
    assert!(text.starts_with("10,000 stacks keep growing"));
    assert_eq!(text.lines().filter(|line| line.starts_with('#')).count(), 10_000);
}

#[test]
fn harmless_counts_are_not_in_interval_reports() {
    let mut snapshot = sample::snapshot();
    snapshot.is_final = false;
    snapshot.loss = [("releases_deferred".into(), 5)].into();
    assert!(!text(&snapshot).contains("Not everything"));
}

#[test]
fn sparklines_start_at_zero_and_end_with_the_newest() {
    assert_eq!(sparkline(&[], SPARKLINE), None);
    assert_eq!(sparkline(&[(0, 5)], SPARKLINE), None);
    assert_eq!(sparkline(&[(0, 0), (1, 0)], SPARKLINE), Some(("▁▁".to_owned(), 0, 0)));
    assert_eq!(sparkline(&[(0, 100), (1, 100), (2, 99)], SPARKLINE), Some(("███".to_owned(), 99, 100)));
    let (bars, _, _) = sparkline(&(0..1000).map(|step| (step, step)).collect::<Vec<_>>(), SPARKLINE).unwrap();
    assert_eq!(bars.chars().count(), SPARKLINE);
    assert!(bars.starts_with('▁') && bars.ends_with('█'));
}

proptest! {
    #[test]
    fn any_series_has_a_line(series in proptest::collection::vec(any::<(u64, u64)>(), 0..300)) {
        if let Some((bars, least, most)) = sparkline(&series, SPARKLINE) {
            prop_assert!(bars.chars().count() <= SPARKLINE && least <= most);
        }
    }

    #[test]
    fn any_name_fits(function in any::<String>(), module in any::<String>(), file in any::<String>()) {
        let mut snapshot = sample::snapshot();
        snapshot.stacks[0].frames = vec![sample::frame(&function, &module, Some((&file, 7)))];
        assert_fits(&text(&snapshot));
    }
}
