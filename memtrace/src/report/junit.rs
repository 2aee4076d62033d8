//! JUnit XML, as CI systems read it: a test case for each growing stack, and one that says whether there is any.
//!
//! A stack that makes the run fail is a failure with the stack in it; one that is suppressed or below the threshold is a
//! skipped test with the reason. The class of a case is the module of the frame to blame, its name that frame with its callers and
//! [`fingerprint::unique`], the same from run to run.

use std::{
    io::{self, Write},
    time::Duration,
};

use chrono::{DateTime, Utc};
use jiff::Timestamp;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{
    fingerprint,
    gate::{self, Ruling},
    number, place,
    snapshot::{Snapshot, Stack},
};

/// How many callers name a test case.
const NAMED_FRAMES: usize = 3;

/// Writes the result of a run.
///
/// # Errors
/// The errors of writing to `out`.
pub fn render(snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    let growing: Vec<(&Stack, Ruling)> = gate::growing(snapshot).collect();
    let keys = fingerprint::unique(&growing.iter().map(|(stack, _)| *stack).collect::<Vec<_>>());
    let mut suite = TestSuite::new("memtrace");
    // The run took its time once, not once for each stack: one case has it all.
    let time = Duration::from_millis(snapshot.elapsed_ms);
    suite.set_time(time);
    if let Some(began) = began(snapshot) {
        suite.set_timestamp(began);
    }
    suite.add_test_case(overall(snapshot));
    for ((stack, ruling), key) in growing.into_iter().zip(keys) {
        let mut case = TestCase::new(case_name(stack, &key), status(snapshot, stack, ruling));
        case.set_classname(class_name(stack)).set_time(Duration::ZERO);
        suite.add_test_case(case);
    }
    let mut report = Report::new("memtrace");
    report.add_test_suite(suite);
    report.serialize(out).map_err(io::Error::other)
}

/// When the run began; `None` when the report does not say when it was made.
fn began(snapshot: &Snapshot) -> Option<DateTime<Utc>> {
    let ended = snapshot.at.parse::<Timestamp>().ok()?.as_millisecond();
    DateTime::from_timestamp_millis(ended.checked_sub_unsigned(snapshot.elapsed_ms)?)
}

/// The case that is there in every run.
fn overall(snapshot: &Snapshot) -> TestCase {
    let failing = snapshot.gate.failing_stacks + snapshot.gate.failing_groups;
    let status = if !snapshot.gate.fails() {
        TestCaseStatus::success()
    } else {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status.set_type("leak").set_message(number::of(failing, "stack keeps growing", "stacks keep growing"));
        status
    };
    let mut case = TestCase::new("no leak", status);
    case.set_classname("memtrace").set_time(Duration::from_millis(snapshot.elapsed_ms));
    let mut said = format!("traced for {}\n", number::duration(snapshot.elapsed_ms));
    for process in &snapshot.processes {
        let held = number::bytes(process.totals.outstanding_bytes);
        said.push_str(&format!("pid {}: {held} outstanding: {}\n", process.pid, gate::clean(&process.command)));
    }
    for note in snapshot.gate.notes() {
        said.push_str(&note);
        said.push('\n');
    }
    case.set_system_out(said);
    case
}

fn status(snapshot: &Snapshot, stack: &Stack, ruling: Ruling) -> TestCaseStatus {
    let mut status = match ruling {
        Ruling::Fails => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Ruling::Slow | Ruling::Suppressed => TestCaseStatus::skipped(),
    };
    let sentence = gate::sentence(stack);
    match ruling {
        Ruling::Fails => status.set_type("leak").set_message(&sentence),
        Ruling::Slow => {
            let threshold = snapshot.gate.leak_threshold_bytes_per_hour.unwrap_or(0.0);
            status.set_message(format!("{sentence}; below --leak-threshold, {}", number::rate(threshold)))
        }
        Ruling::Suppressed => {
            let rule = gate::clean(stack.suppressed.as_deref().unwrap_or_default());
            status.set_message(format!("{sentence}; suppressed by {rule}"))
        }
    };
    status.set_description(format!("{sentence}\n{}\n{}", gate::clean(&stack.evidence), gate::stack_text(stack)));
    status
}

/// The frame to blame with its callers, and the key that no other case has.
fn case_name(stack: &Stack, key: &str) -> String {
    let callers = stack.frames.iter().skip(place::blamed(&stack.frames)).take(NAMED_FRAMES);
    format!("{} [{key}]", callers.map(gate::name).collect::<Vec<_>>().join(" < "))
}

/// The module to blame.
fn class_name(stack: &Stack) -> String {
    let module = gate::blamed(stack).and_then(|frame| frame.module.as_deref());
    module.filter(|module| !module.is_empty()).map_or_else(|| "memtrace".to_owned(), gate::clean)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use roxmltree::{Document, Node};

    use super::*;
    use crate::report::{gate::Gate, sample, snapshot::Frame};

    fn xml(snapshot: &Snapshot) -> String {
        let mut out = Vec::new();
        render(snapshot, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn with(stacks: Vec<Stack>) -> Snapshot {
        let gate = Gate::of(&stacks, &[], Some(1e6));
        Snapshot { stacks, gate, ..sample::snapshot() }
    }

    fn cases<'a>(document: &'a Document<'a>) -> Vec<Node<'a, 'a>> {
        document.descendants().filter(|node| node.has_tag_name("testcase")).collect()
    }

    #[test]
    fn a_leak_is_a_failure_with_its_stack() {
        let text = xml(&with(vec![sample::stack()]));
        let document = Document::parse(&text).unwrap();
        let root = document.root_element();
        assert_eq!((root.attribute("tests"), root.attribute("failures")), (Some("2"), Some("2")));
        let cases = cases(&document);
        assert_eq!(cases[0].attribute("name"), Some("no leak"));
        assert!(cases[1].attribute("name").unwrap().starts_with("leak_here < handle < main ["));
        assert_eq!(cases[1].attribute("classname"), Some("server"));
        let suite = document.descendants().find(|node| node.has_tag_name("testsuite")).unwrap();
        assert_eq!((suite.attribute("time"), cases[0].attribute("time")), (Some("60.000"), Some("60.000")));
        let began = DateTime::parse_from_rfc3339(suite.attribute("timestamp").unwrap()).unwrap();
        assert_eq!(began, DateTime::parse_from_rfc3339("2025-01-02T03:03:05Z").unwrap());
        let failure = cases[1].children().find(|node| node.has_tag_name("failure")).unwrap();
        assert!(failure.text().unwrap().contains("#0 leak_here /src/server/server.c:42 (server)\n"), "{text}");
        assert!(failure.attribute("message").unwrap().contains("keeps growing: +36.2 MB/h"), "{text}");
    }

    #[test]
    fn what_is_let_pass_is_skipped_with_the_reason() {
        let suppressed = Stack { suppressed: Some("leak:<pool>".to_owned()), ..sample::stack() };
        let slow = Stack { growth_bytes_per_hour: 10.0, ..sample::stack() };
        let text = xml(&with(vec![slow, suppressed]));
        let document = Document::parse(&text).unwrap();
        assert_eq!(document.root_element().attribute("failures"), Some("0"));
        let skipped: Vec<_> = document.descendants().filter(|node| node.has_tag_name("skipped")).collect();
        assert!(skipped[0].attribute("message").unwrap().contains("below --leak-threshold, +1.00 MB/h"), "{text}");
        assert!(skipped[1].attribute("message").unwrap().contains("suppressed by leak:<pool>"), "{text}");
        let names: Vec<_> = cases(&document).iter().map(|case| case.attribute("name").unwrap().to_owned()).collect();
        assert!(names[2].ends_with(":2]") && names[1] != names[2], "{names:?}");
        assert!(document.descendants().any(|node| node.text().is_some_and(|text| text.contains("1 stack suppressed"))));
    }

    #[test]
    fn a_run_without_a_leak_passes() {
        let text = xml(&with(Vec::new()));
        let document = Document::parse(&text).unwrap();
        let root = document.root_element();
        assert_eq!((root.attribute("tests"), root.attribute("failures")), (Some("1"), Some("0")));
    }

    proptest! {
        #[test]
        fn names_of_any_kind_give_xml_that_parses(name in any::<String>(), extra in "[<>&'\"\u{0}-\u{1f}\u{80}-\u{9f}\u{fffe}\u{ffff}\\]]{0,12}") {
            let name = format!("{name}{extra}");
            let frame = Frame {
                function: Some(name.clone()), module: Some(name.clone()), file: Some(name.clone()), ..Frame::default()
            };
            let stack = Stack { frames: vec![frame], suppressed: Some(name.clone()), evidence: name.clone(), ..sample::stack() };
            let mut snapshot = with(vec![stack.clone(), Stack { suppressed: None, ..stack }]);
            snapshot.processes[0].command = name;
            let text = xml(&snapshot);
            let document = Document::parse(&text);
            prop_assert!(document.is_ok(), "{:?}: {}", document, text);
            prop_assert_eq!(cases(&document.unwrap()).len(), 3);
        }
    }
}
