//! What must hold of every form, whatever a target or a saved file puts into a snapshot.

use std::io::Read as _;

use flate2::read::GzDecoder;
use proptest::prelude::*;

use super::{
    Rendering, render,
    runtime::Type,
    sample,
    snapshot::{Frame, Snapshot, Stack},
};
use crate::{
    report::diff,
    report::{
        diff::{By, DiffFormat},
        form::{Format, Metric},
    },
    runtime::Language,
    trend::Verdict,
};

/// Every form by every metric; what was compressed is unpacked.
fn all(snapshot: &Snapshot) -> Vec<(Format, String)> {
    let mut written = Vec::new();
    for &format in Format::ALL {
        for metric in Metric::ALL {
            let mut out = Vec::new();
            render(Rendering { format, metric, colour: false }, snapshot, &mut out).unwrap();
            if format.is_binary() {
                let mut plain = Vec::new();
                GzDecoder::new(out.as_slice()).read_to_end(&mut plain).unwrap();
                // Its texts may be read as text, its numbers not.
                written.push((format, String::from_utf8_lossy(&plain).into_owned()));
            } else {
                written.push((format, String::from_utf8(out).expect("text")));
            }
        }
    }
    written
}

/// No form gives way to what it was given.
#[track_caller]
fn assert_sound(snapshot: &Snapshot) {
    for (format, text) in all(snapshot) {
        if !format.is_binary() {
            let steers = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}');
            // JSON escapes control characters by its own rules; a terminal that shows raw JSON is the reader's choice.
            let found = text
                .chars()
                .find(|&c| if format == Format::Json { c.is_ascii_control() && c != '\n' } else { steers(c) });
            // inferno's own script has tabs.
            assert!(found.is_none_or(|c| c == '\t' && format == Format::Flamegraph), "{format:?}: {found:?}");
        }
        match format {
            Format::Folded => {
                for line in text.lines() {
                    let (stack, weight) = line.rsplit_once(' ').expect(line);
                    assert!(weight.parse::<u64>().is_ok_and(|weight| weight > 0) && !stack.is_empty(), "{line}");
                }
            }
            Format::Flamegraph => {
                let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
                let document = roxmltree::Document::parse_with_options(&text, options).expect("XML");
                assert!(document.descendants().filter(|node| node.tag_name().name() == "script").count() <= 1);
            }
            Format::Html => {
                assert_eq!((text.matches("<script").count(), text.matches("</script").count()), (1, 1));
                assert_eq!(text.matches("<title>memtrace").count(), 1);
            }
            Format::Json => {
                let read: Snapshot = serde_json::from_str(&text).expect("a snapshot");
                assert_eq!(read.stacks.len(), snapshot.stacks.len());
            }
            Format::Text | Format::Pprof => {}
        }
    }
    for by in [By::Stack, By::Function, By::Module] {
        for format in [DiffFormat::Text, DiffFormat::Json] {
            let mut out = Vec::new();
            diff::render(&diff::Diff::of(&sample::snapshot(), snapshot, by, 10), format, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(!text.chars().any(|c| c.is_ascii_control() && c != '\n'), "{text:?}");
        }
    }
}

fn named(name: &str) -> Snapshot {
    let mut snapshot = sample::snapshot();
    let mut other = snapshot.processes[0].clone();
    other.pid = 7;
    other.command = name.to_owned();
    snapshot.processes.push(other);
    snapshot.at = name.to_owned();
    snapshot.modules[0].name = name.to_owned();
    snapshot.modules[0].build_id = name.to_owned();
    snapshot.loss.insert(name.to_owned().into(), 3);
    let judged = Stack { evidence: name.to_owned(), pid: 7, ..snapshot.stacks[0].clone() };
    snapshot.types = vec![Type::of(name, Language::Native, judged)];
    let text = || Some(name.to_owned());
    for stack in &mut snapshot.stacks {
        stack.pid = 7;
        stack.evidence = name.to_owned();
        stack.id = name.to_owned();
        let all = Frame {
            function: text(),
            module: text(),
            file: text(),
            offset: text(),
            address: name.to_owned(),
            ..Frame::default()
        };
        let nameless = Frame { function: None, ..all.clone() };
        let homeless = Frame { module: None, inlined: true, ..nameless.clone() };
        stack.frames = vec![homeless, all.clone(), nameless, all];
    }
    snapshot.stacks[0].truncated = text();
    snapshot
}

#[test]
fn hostile_names_do_no_harm() {
    for name in [
        "",
        " ",
        ";",
        "-",
        "--",
        "# comment",
        "name_[k]",
        "12 34",
        "\x1b[2J\x1b]0;owned\x07",
        "line\r\nbreak\t\0",
        "</script><script>alert(1)</script><!--",
        "\" onmouseover=\"alert(1)",
        "]]>&lt;![CDATA[",
        "\u{202e}gnp.exe\u{2066}\u{2028}",
        "\u{fffe}\u{ffff}\u{10ffff}",
        "漢字 naïve 🦀",
        &format!("std::vector<{}>::push_back(int)", "std::pair<int, ".repeat(700)),
    ] {
        assert_sound(&named(name));
    }
}

#[test]
fn numbers_beyond_reason_are_shown() {
    for growth in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -1e300, -0.0] {
        for number in [0, 1, u64::MAX] {
            let mut snapshot = sample::snapshot();
            snapshot.elapsed_ms = number;
            for (stack, verdict) in
                snapshot.stacks.iter_mut().zip([Verdict::Growing, Verdict::Shrinking, Verdict::Sawtooth])
            {
                stack.verdict = verdict;
                stack.growth_bytes_per_hour = growth;
                stack.growth_interval_bytes_per_hour = Some((growth, -growth));
                stack.confidence = growth;
                stack.outstanding_bytes = number;
                stack.outstanding_blocks = number;
                stack.allocations = number;
                stack.allocated_bytes = number;
                stack.series = vec![(number, number), (0, 0), (number / 2, number)];
                if let (Some(age), Some(survival)) = (&mut stack.age_ms, &mut stack.survival) {
                    age.p50 = number;
                    (survival.older_than_ms, survival.allocated_blocks, survival.living_share) =
                        (number, number, growth);
                }
            }
            assert_sound(&snapshot);
        }
    }
}

#[test]
fn nothing_at_all_is_a_report() {
    let mut snapshot = sample::snapshot();
    snapshot.stacks.clear();
    assert_sound(&snapshot);
    snapshot.processes.clear();
    snapshot.loss.clear();
    snapshot.modules.clear();
    snapshot.at.clear();
    assert_sound(&snapshot);
}

#[test]
fn ten_thousand_different_stacks() {
    let mut snapshot = sample::snapshot();
    snapshot.stacks = (0..10_000u64)
        .map(|number| Stack {
            id: format!("{number:016x}"),
            outstanding_bytes: number,
            frames: (0..20).map(|depth| sample::frame(&format!("f{}", number >> depth), "server", None)).collect(),
            ..sample::stack()
        })
        .collect();
    assert_sound(&snapshot);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_name_does_no_harm(name in any::<String>()) {
        assert_sound(&named(&name));
    }

    #[test]
    fn any_numbers_are_shown(
        growth in any::<f64>(), bytes in any::<u64>(), blocks in any::<u64>(),
        series in prop::collection::vec(any::<(u64, u64)>(), 0..30),
    ) {
        let mut snapshot = sample::snapshot();
        for stack in &mut snapshot.stacks {
            stack.growth_bytes_per_hour = growth;
            stack.growth_interval_bytes_per_hour = Some((growth / 2.0, growth));
            (stack.outstanding_bytes, stack.outstanding_blocks) = (bytes, blocks);
            stack.series.clone_from(&series);
        }
        assert_sound(&snapshot);
    }
}
