//! The page as text; `tests/e2e/formats.rs` opens it in a browser.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::report::{sample, snapshot::Frame};

fn page(snapshot: &Snapshot) -> String {
    let mut out = Vec::new();
    render(snapshot, Metric::InuseSpace, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_policy_names_the_style_and_the_script_that_are_there() {
    for (text, hash) in [(STYLE, STYLE_HASH), (SCRIPT, SCRIPT_HASH)] {
        assert_eq!(hash, BASE64_STANDARD.encode(Sha256::digest(text)));
        assert!(!text.contains("</"), "ends the element early");
    }
    let page = page(&sample::snapshot());
    assert!(page.contains("default-src 'none'") && !page.contains("unsafe"));
    assert!(!page.contains("style=\"") && !page.contains(" onload="), "refused by the policy");
}

#[test]
fn nothing_is_loaded_from_anywhere() {
    let page = page(&sample::snapshot());
    for forbidden in ["http://", "https://", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn the_answer_the_stacks_the_frames_and_the_losses_are_there_without_scripts() {
    let page = page(&sample::snapshot());
    let body = &page[page.find("<body>").unwrap()..page.find("<script>").unwrap()];
    for text in [
        "<h1>1 stack keeps growing: +36.2 MB/h in leak_here (server.c:42)</h1>",
        "./server --port 8080",
        "<span class=\"verdict growing\">growing 98%</span>",
        "+36.2 MB/h (35.9 to 36.5)",
        "603 kB in 1,200 blocks",
        "half older than 29 s",
        "<i>inlined</i> <code>handle</code> <small>/src/server/server.c:97 (server)</small>",
        "the stack ends here: no unwind table",
        "<polyline class=\"line c0 bold\"",
        "#2 cache_insert",
        "leak_here: 603 kB (4.7%), keeps growing",
        "12 allocations_dropped",
        "1 further stack holds nothing any more.",
    ] {
        assert!(body.contains(text), "{text} is missing in {body}");
    }
}

#[test]
fn names_stay_text() {
    let hostile = "</script><script>alert(1)</script>\"' onload='x' `\u{202e}\x1b[31m\u{ffff}&amp;";
    let mut snapshot = sample::snapshot();
    snapshot.at = hostile.to_owned();
    snapshot.processes[0].command = hostile.to_owned();
    snapshot.loss = [(hostile.to_owned().into(), 1)].into();
    for stack in &mut snapshot.stacks {
        stack.evidence = hostile.to_owned();
        stack.truncated = Some(hostile.to_owned());
        let name = || Some(hostile.to_owned());
        stack.frames = vec![Frame { function: name(), module: name(), file: name(), ..Frame::default() }];
    }
    let page = page(&snapshot);
    assert_eq!(page.matches("<script>").count(), 1, "ours");
    assert_eq!(page.matches("</script>").count(), 1);
    assert!(!page.contains("' onload='") && !page.chars().any(|c| c == '\u{202e}' || (c.is_control() && c != '\n')));
    assert!(page.contains("&lt;/script&gt;&lt;script&gt;alert(1)") && page.contains("&amp;amp;"));
}

#[test]
fn empty_and_endless_runs_are_pages() {
    let mut snapshot = sample::snapshot();
    snapshot.stacks = vec![sample::stack(); 10_000];
    let endless = page(&snapshot);
    assert_eq!(endless.matches("<tr class=\"stack\">").count(), 200);
    assert!(endless.contains("9,800 more stacks are in the flame graph only."));
    snapshot.stacks.clear();
    snapshot.processes.clear();
    snapshot.loss.clear();
    let empty = page(&snapshot);
    assert!(empty.contains("No stack holds anything.") && empty.contains("Nothing to draw."));
}

#[test]
fn lines_and_labels_stay_in_the_picture_whatever_the_series() {
    let mut snapshot = sample::snapshot();
    for (stack, series) in snapshot
        .stacks
        .iter_mut()
        .zip([vec![(0, u64::MAX), (u64::MAX, 0)], (0..100_000).map(|step| (step, step % 7)).collect::<Vec<_>>()])
    {
        stack.series = series;
    }
    let page = page(&snapshot);
    let coordinates = page.split("points=\"").skip(1).flat_map(|rest| {
        rest[..rest.find('"').unwrap()]
            .split([' ', ','])
            .map(|number| number.parse::<f64>().unwrap())
            .collect::<Vec<_>>()
    });
    let mut seen = 0;
    for number in coordinates {
        assert!((0.0..=1000.0).contains(&number), "{number}");
        seen += 1;
    }
    assert!(seen > 100 && seen < 4000, "{seen}");
}
