//! SARIF 2.1.0 (OASIS), as code-scanning services read it: a result for each growing stack at the line to blame: the innermost
//! one in the checkout, else the one that [`place::blamed`] chooses, and for code without lines the module.
//!
//! Paths below `root`, the checkout, are relative to it (`%SRCROOT%`), so that a service finds the line in its repository.
//! A stack below the threshold is a note; one that is suppressed says so in `suppressions`, and services hide it.

use std::{
    io::{self, Write},
    path::Path,
};

use serde_json::{Map, Value, json};

use super::{
    fingerprint,
    gate::{self, Ruling},
    place,
    snapshot::{Frame, Snapshot, Stack},
};

const RULE: &str = "growing-stack";

/// The fingerprint's name has a version, raised when the same stack would get another value.
const FINGERPRINT: &str = "memtraceStack/v2";

/// By this GitHub tells alerts apart. Where it is missing the uploader makes it of the source line, and leaks that share one
/// would be one alert.
const ALERT: &str = "primaryLocationLineHash";

/// Writes the result of a run.
///
/// # Errors
/// The errors of writing to `out`.
pub fn render(snapshot: &Snapshot, root: Option<&Path>, out: &mut dyn Write) -> io::Result<()> {
    let growing: Vec<(&Stack, Ruling)> = gate::growing(snapshot).collect();
    let keys = fingerprint::unique(&growing.iter().map(|(stack, _)| *stack).collect::<Vec<_>>());
    let results: Vec<Value> =
        growing.iter().zip(&keys).map(|(&(stack, ruling), key)| result(snapshot, stack, ruling, key, root)).collect();
    let mut run = json!({
        "tool": { "driver": {
            "name": "memtrace",
            "semanticVersion": env!("CARGO_PKG_VERSION"),
            "rules": [{
                "id": RULE,
                "name": "GrowingStack",
                "shortDescription": { "text": "Memory allocated by this call stack keeps growing" },
                "fullDescription": { "text": "While memtrace watched the process, the bytes that this call stack allocated \
                                              and nobody freed rose more steadily than chance explains." },
                "help": { "text": "Free what this stack allocates, bound what holds it, or suppress a known leak with a \
                                   line such as leak:function_name in a file for memtrace --suppressions." },
                "defaultConfiguration": { "level": "error" },
            }],
        } },
        "invocations": [{ "executionSuccessful": true, "endTimeUtc": snapshot.at }],
        "columnKind": "utf16CodeUnits",
        "results": results,
    });
    if let (Some(root), Some(run)) = (root.and_then(Path::to_str), run.as_object_mut()) {
        let uri = format!("{}/", file_uri(root).trim_end_matches('/'));
        run.insert("originalUriBaseIds".to_owned(), json!({ "%SRCROOT%": { "uri": uri } }));
    }
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    });
    serde_json::to_writer_pretty(&mut *out, &log)?;
    out.write_all(b"\n")
}

fn result(snapshot: &Snapshot, stack: &Stack, ruling: Ruling, key: &str, root: Option<&Path>) -> Value {
    let here = match root {
        Some(root) => place::blamed_below(&stack.frames, root, Path::is_file),
        None => place::blamed(&stack.frames),
    };
    let here = stack.frames.get(here);
    let command = snapshot.processes.iter().find(|process| process.pid == stack.pid);
    let mut result = json!({
        "ruleId": RULE,
        "ruleIndex": 0,
        "level": if ruling == Ruling::Slow { "note" } else { "error" },
        "message": { "text": format!("{}. {}", gate::sentence(stack), gate::clean(&stack.evidence)) },
        "locations": here.map(|frame| vec![location(frame, root)]).unwrap_or_default(),
        "partialFingerprints": { FINGERPRINT: fingerprint::fingerprint(stack), ALERT: key },
        "stacks": [{
            "message": { "text": "allocated here" },
            "frames": stack.frames.iter().map(|frame| stack_frame(frame, root)).collect::<Vec<_>>(),
        }],
        "properties": {
            "pid": stack.pid,
            "command": command.map(|process| gate::clean(&process.command)),
            "confidence": stack.confidence,
            "growthBytesPerHour": stack.growth_bytes_per_hour,
            "outstandingBytes": stack.outstanding_bytes,
            "outstandingBlocks": stack.outstanding_blocks,
        },
    });
    if let (Some(rule), Some(result)) = (&stack.suppressed, result.as_object_mut()) {
        let justification = format!("--suppressions: {}", gate::clean(rule));
        result.insert("suppressions".to_owned(), json!([{ "kind": "external", "justification": justification }]));
    }
    result
}

fn stack_frame(frame: &Frame, root: Option<&Path>) -> Value {
    let mut object = Map::from_iter([("location".to_owned(), location(frame, root))]);
    if let Some(module) = &frame.module {
        object.insert("module".to_owned(), gate::clean(module).into());
    }
    Value::Object(object)
}

/// By the source line; without one by the object's name.
fn location(frame: &Frame, root: Option<&Path>) -> Value {
    let mut physical = Map::new();
    match (place::source(frame), &frame.module) {
        (Some((file, line)), _) => {
            physical.insert("artifactLocation".to_owned(), artifact(&file, root));
            if let Some(line) = line {
                physical.insert("region".to_owned(), json!({ "startLine": line }));
            }
        }
        (None, module) => {
            let name = module.as_deref().unwrap_or("unknown");
            physical.insert("artifactLocation".to_owned(), json!({ "uri": percent_encoded(name) }));
        }
    }
    let logical =
        frame.function.as_deref().map(|name| json!([{ "fullyQualifiedName": gate::clean(name), "kind": "function" }]));
    let mut location = Map::from_iter([("physicalLocation".to_owned(), Value::Object(physical))]);
    if let Some(logical) = logical {
        location.insert("logicalLocations".to_owned(), logical);
    }
    location.insert("message".to_owned(), json!({ "text": gate::name(frame) }));
    Value::Object(location)
}

fn artifact(file: &str, root: Option<&Path>) -> Value {
    // A relative path is one below the checkout only if the file is there: compilers record paths relative to anything.
    let is_below = |below: &Path, root: &Path| file.starts_with('/') || root.join(below).is_file();
    if let Some(root) = root
        && let Some(below) = place::below(file, root).filter(|below| is_below(below, root))
        && let Some(below) = below.to_str()
    {
        return json!({ "uri": percent_encoded(below), "uriBaseId": "%SRCROOT%" });
    }
    if file.starts_with('/') { json!({ "uri": file_uri(file) }) } else { json!({ "uri": percent_encoded(file) }) }
}

fn file_uri(path: &str) -> String {
    format!("file://{}", percent_encoded(path))
}

/// A path as RFC 3986 has it; what is neither unreserved nor a slash is written in hexadecimal.
fn percent_encoded(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_sarif::sarif::Sarif;

    use super::*;
    use crate::report::{gate::Gate, sample};

    /// As written, and as the types that were made from the schema understand it.
    fn log(snapshot: &Snapshot, root: Option<&Path>) -> (Value, Sarif) {
        let mut out = Vec::new();
        render(snapshot, root, &mut out).unwrap();
        (serde_json::from_slice(&out).unwrap(), serde_json::from_slice(&out).unwrap())
    }

    fn with(stacks: Vec<Stack>) -> Snapshot {
        let gate = Gate::of(&stacks, &[], Some(1e6));
        Snapshot { stacks, gate, ..sample::snapshot() }
    }

    #[test]
    fn a_leak_is_an_error_at_its_line() {
        let (value, typed) = log(&with(vec![sample::stack()]), Some(Path::new("/src/server")));
        // What the types do not know would be gone.
        assert_eq!(serde_json::to_value(&typed).unwrap(), value);
        assert_eq!(value["version"], "2.1.0");
        let result = &value["runs"][0]["results"][0];
        assert_eq!(
            (&result["level"], &result["ruleId"]),
            (&json!("error"), &value["runs"][0]["tool"]["driver"]["rules"][0]["id"])
        );
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"], json!({ "uri": "server.c", "uriBaseId": "%SRCROOT%" }));
        assert_eq!(place["region"]["startLine"], 42);
        assert_eq!(value["runs"][0]["originalUriBaseIds"]["%SRCROOT%"]["uri"], "file:///src/server/");
        assert_eq!(result["stacks"][0]["frames"].as_array().unwrap().len(), 4);
        assert_eq!(result["partialFingerprints"][FINGERPRINT], fingerprint::fingerprint(&sample::stack()));
        assert!(result.get("suppressions").is_none());
    }

    #[test]
    fn what_is_let_pass_is_a_note_or_suppressed() {
        let suppressed = Stack { suppressed: Some("leak:pool".to_owned()), ..sample::stack() };
        let slow = Stack { growth_bytes_per_hour: 10.0, ..sample::stack() };
        let (value, typed) = log(&with(vec![slow, suppressed]), None);
        assert_eq!(serde_json::to_value(&typed).unwrap(), value);
        let results = &value["runs"][0]["results"];
        assert_eq!(results[0]["level"], "note");
        assert_eq!(results[1]["suppressions"][0]["justification"], "--suppressions: leak:pool");
        let elsewhere = &results[0]["locations"][0]["physicalLocation"]["artifactLocation"];
        assert_eq!(*elsewhere, json!({ "uri": "file:///src/server/server.c" }));
    }

    #[test]
    fn a_stack_without_lines_is_placed_in_its_module() {
        let frames = vec![sample::frame("leak", "a b.so", None)];
        let (value, _) = log(&with(vec![Stack { frames, ..sample::stack() }]), None);
        let place = &value["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
        assert_eq!(*place, json!({ "artifactLocation": { "uri": "a%20b.so" } }));
    }

    #[test]
    fn two_leaks_of_a_stripped_program_are_two_alerts_in_its_module() {
        let leak = |offset: &str| {
            let unnamed = |offset: &str| Frame {
                function: None,
                offset: Some(offset.to_owned()),
                ..sample::frame("", "lk", None)
            };
            let start = sample::frame(
                "__libc_start_call_main",
                "libc.so.6",
                Some(("./csu/../sysdeps/nptl/libc_start_call_main.h", 58)),
            );
            Stack { frames: vec![unnamed(offset), unnamed("0x1100"), start], ..sample::stack() }
        };
        let (value, _) = log(&with(vec![leak("0x1169"), leak("0x1190")]), None);
        let results = &value["runs"][0]["results"];
        let place = &results[0]["locations"][0];
        assert_eq!(place["physicalLocation"]["artifactLocation"]["uri"], "lk");
        assert_eq!(place["message"]["text"], "lk+0x1169");
        let alerts = [0, 1].map(|index| results[index]["partialFingerprints"][ALERT].as_str().unwrap());
        assert_ne!(alerts[0], alerts[1]);
    }

    #[test]
    fn two_leaks_through_one_wrapper_stand_at_its_callers() {
        let leak = |caller, line| {
            let wrapper = sample::frame("xmalloc", "server", Some(("/src/server/alloc.c", 5)));
            Stack {
                frames: vec![wrapper, sample::frame(caller, "server", Some(("/src/server/a.c", line)))],
                ..sample::stack()
            }
        };
        // Two calls in one function are two alerts as well.
        let (value, _) = log(&with(vec![leak("one", 7), leak("two", 19), leak("two", 21)]), None);
        let results = value["runs"][0]["results"].as_array().unwrap();
        let lines: Vec<&Value> =
            results.iter().map(|one| &one["locations"][0]["physicalLocation"]["region"]["startLine"]).collect();
        assert_eq!(lines, [7, 19, 21]);
        let mut alerts: Vec<&str> =
            results.iter().map(|one| one["partialFingerprints"][ALERT].as_str().unwrap()).collect();
        alerts.sort_unstable();
        alerts.dedup();
        assert_eq!(alerts.len(), 3);
    }

    #[test]
    fn a_file_of_the_checkout_wins_over_a_librarys() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("app.js"), "").unwrap();
        let script = format!("JS:*remember {}:3:18", root.path().join("app.js").display());
        let frames = vec![
            sample::frame("uv__read", "node", Some(("../deps/uv/src/unix/stream.c", 1000))),
            sample::frame(&script, "perf-7.map", None),
        ];
        let (value, _) = log(&with(vec![Stack { frames, ..sample::stack() }]), Some(root.path()));
        let place = &value["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"], json!({ "uri": "app.js", "uriBaseId": "%SRCROOT%" }));
        assert_eq!(place["region"]["startLine"], 3);
    }

    #[test]
    fn a_run_without_a_leak_has_an_empty_list() {
        let (value, _) = log(&with(Vec::new()), None);
        assert_eq!(value["runs"][0]["results"], json!([]));
    }

    proptest! {
        #[test]
        fn names_of_any_kind_give_a_log_of_the_schema(name in any::<String>(), line in any::<u32>()) {
            let frame = Frame {
                function: Some(name.clone()), module: Some(name.clone()), file: Some(name.clone()), line: Some(line),
                ..Frame::default()
            };
            let stack = Stack { frames: vec![frame], suppressed: Some(name.clone()), evidence: name, ..sample::stack() };
            let (value, _) = log(&with(vec![stack]), Some(Path::new("/")));
            let uri = &value["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
            prop_assert!(uri.as_str().unwrap().bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}
