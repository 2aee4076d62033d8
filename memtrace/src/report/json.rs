//! JSON: one object a line, so that a reader can follow a run as it goes.

use std::io::{self, BufWriter, Write};

use super::snapshot::Snapshot;

/// Bytes that are handed on at once.
const BUFFER: usize = 64 << 10;

/// Writes one line.
///
/// # Errors
/// The errors of writing to `out`.
pub fn render(snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    // Numbers and short strings one by one: a buffer whose type the serializer knows takes them without a call.
    let mut out = BufWriter::with_capacity(BUFFER, out);
    serde_json::to_writer(&mut out, snapshot)?;
    out.write_all(b"\n")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        report::form::Format,
        report::{
            Rendering, sample,
            snapshot::{Frame, Stack},
        },
    };

    fn line(snapshot: &Snapshot) -> String {
        let mut out = Vec::new();
        render(snapshot, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with('\n') && text.lines().count() == 1, "one object a line");
        text
    }

    fn parsed(snapshot: &Snapshot) -> Value {
        serde_json::from_str(&line(snapshot)).unwrap()
    }

    /// The contract: every field of the schema `memtrace/1` with its type. Fields may be added here, never taken away.
    const CONTRACT: &[(&str, &str)] = &[
        ("/schema", "string"),
        ("/final", "boolean"),
        ("/at", "string"),
        ("/elapsed_ms", "integer"),
        ("/processes", "array"),
        ("/processes/0/pid", "integer"),
        ("/processes/0/command", "string"),
        ("/processes/0/cgroup", "string"),
        ("/processes/0/exited", "boolean"),
        ("/processes/0/traced_ms", "null"),
        ("/processes/0/ended_by_signal", "null"),
        ("/processes/0/probably_ended_by_probes", "boolean"),
        ("/processes/0/rss_bytes", "integer"),
        ("/processes/0/totals/allocations", "integer"),
        ("/processes/0/totals/frees", "integer"),
        ("/processes/0/totals/allocated_bytes", "integer"),
        ("/processes/0/totals/freed_bytes", "integer"),
        ("/processes/0/totals/outstanding_bytes", "integer"),
        ("/processes/0/totals/outstanding_blocks", "integer"),
        ("/processes/0/totals/frees_unmatched", "integer"),
        ("/processes/0/totals/inherited_blocks", "integer"),
        ("/processes/0/totals/inherited_bytes", "integer"),
        ("/processes/0/totals/inherited_frees", "integer"),
        ("/processes/0/totals/failed_allocations", "integer"),
        ("/processes/0/totals/mapped_bytes", "integer"),
        ("/processes/0/totals/touched_bytes", "integer"),
        ("/processes/0/totals/reserved_bytes", "integer"),
        ("/loss/allocations_dropped", "integer"),
        ("/loss/releases_deferred", "integer"),
        ("/loss/releases_dropped", "integer"),
        ("/tracer/cpu_ms", "integer"),
        ("/tracer/rss_bytes", "integer"),
        ("/tracer/anon_bytes", "integer"),
        ("/retired/processes", "integer"),
        ("/retired/too_short", "integer"),
        ("/stacks/0/pids/0", "integer"),
        ("/tracer/stacks_remembered", "integer"),
        ("/tracer/stacks_walked", "integer"),
        ("/tracer/results_predicted", "integer"),
        ("/tracer/stacks_complete", "integer"),
        ("/tracer/stacks_short/no_table", "integer"),
        ("/tracer/unwind_rows", "integer"),
        ("/tracer/unwind_bytes", "integer"),
        ("/tracer/unwind_left_out", "integer"),
        ("/tracer/unwind_evicted", "integer"),
        ("/focus/include", "array"),
        ("/focus/exclude", "array"),
        ("/focus/older_than_ms", "null"),
        ("/focus/hidden_stacks", "integer"),
        ("/focus/hidden_bytes", "integer"),
        ("/marks", "array"),
        ("/gate/leak_threshold_bytes_per_hour", "null"),
        ("/gate/failing_stacks", "integer"),
        ("/gate/slow_stacks", "integer"),
        ("/gate/suppressed_stacks", "integer"),
        ("/gate/suppressed_bytes", "integer"),
        ("/stacks", "array"),
        ("/stacks/0/id", "string"),
        ("/stacks/0/pid", "integer"),
        ("/stacks/0/kind", "string"),
        ("/stacks/0/verdict", "string"),
        ("/stacks/0/confidence", "number"),
        ("/stacks/0/suppressed", "null"),
        ("/stacks/0/since_mark", "null"),
        ("/stacks/0/resident_bytes", "null"),
        ("/stacks/0/reserved_bytes", "integer"),
        ("/stacks/0/outstanding_bytes", "integer"),
        ("/stacks/0/outstanding_blocks", "integer"),
        ("/stacks/0/allocations", "integer"),
        ("/stacks/0/allocated_bytes", "integer"),
        ("/stacks/0/growth_bytes_per_hour", "number"),
        ("/stacks/0/growth_interval_bytes_per_hour/0", "number"),
        ("/stacks/0/growth_interval_bytes_per_hour/1", "number"),
        ("/stacks/0/survival/older_than_ms", "integer"),
        ("/stacks/0/survival/allocated_blocks", "integer"),
        ("/stacks/0/survival/living_share", "number"),
        ("/stacks/0/age_ms/p50", "integer"),
        ("/stacks/0/age_ms/p99", "integer"),
        ("/stacks/0/age_ms/max", "integer"),
        ("/stacks/0/enlarged_by", "array"),
        ("/stacks/0/frames/0/function", "string"),
        ("/stacks/0/frames/0/module", "string"),
        ("/stacks/0/frames/0/address", "string"),
        ("/stacks/0/frames/0/file", "string"),
        ("/stacks/0/frames/0/line", "integer"),
        ("/stacks/0/frames/0/inlined", "boolean"),
        ("/stacks/0/frames/0/language", "string"),
        ("/stacks/0/frames/0/user", "boolean"),
        ("/stacks/0/frames/0/offset", "string"),
        ("/stacks/0/truncated", "null"),
        ("/stacks/1/truncated", "string"),
        ("/stacks/0/series/0/0", "integer"),
        ("/stacks/0/series/0/1", "integer"),
        ("/modules/0/name", "string"),
        ("/modules/0/build_id", "string"),
    ];

    #[test]
    fn every_field_of_the_contract_is_there_with_its_type() {
        let object = parsed(&sample::snapshot());
        for &(path, kind) in CONTRACT {
            let value = object.pointer(path).unwrap_or_else(|| panic!("{path} is missing"));
            let matches = match kind {
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_u64(),
                "number" => value.is_f64(),
                "array" => value.is_array(),
                _ => value.is_null(),
            };
            assert!(matches, "{path} is {value}, not {kind}");
        }
        assert_eq!(object["schema"], "memtrace/1");
        assert_eq!(object["final"], true);
        assert_eq!(object["stacks"][0]["kind"], "heap");
    }

    #[test]
    fn a_line_reads_back_as_the_snapshot_that_was_written() {
        let read: Snapshot = serde_json::from_str(&line(&sample::snapshot())).unwrap();
        assert_eq!(read, sample::snapshot());
    }

    #[test]
    fn the_first_frame_is_the_callers_and_the_order_is_kept() {
        let object = parsed(&sample::snapshot());
        let names: Vec<&Value> =
            object["stacks"][0]["frames"].as_array().unwrap().iter().map(|frame| &frame["function"]).collect();
        assert_eq!(names, [&Value::from("leak_here"), &Value::from("handle"), &Value::from("main"), &Value::Null]);
        assert_eq!(object["stacks"][0]["frames"][1]["inlined"], true);
        assert_eq!(object["stacks"][0]["frames"][1]["language"], "native");
    }

    #[test]
    fn names_of_any_kind_come_back_as_they_were() {
        for name in ["a\x1b[31m\0b", "line\nbreak", "<b>\"&'</b>", "\u{202e}", &"std::pair<int, ".repeat(700)] {
            let mut snapshot = sample::snapshot();
            snapshot.stacks[0].frames = vec![Frame { function: Some(name.to_owned()), ..Frame::default() }];
            assert!(!line(&snapshot).trim_end().chars().any(|character| character.is_ascii_control()));
            assert_eq!(parsed(&snapshot)["stacks"][0]["frames"][0]["function"], name);
        }
    }

    #[test]
    fn an_empty_run_and_ten_thousand_stacks() {
        let mut snapshot = sample::snapshot();
        snapshot.stacks.clear();
        assert_eq!(parsed(&snapshot)["stacks"], Value::Array(Vec::new()));
        snapshot.stacks = vec![Stack { age_ms: None, ..sample::stack() }; 10_000];
        let object = parsed(&snapshot);
        assert_eq!(object["stacks"].as_array().unwrap().len(), 10_000);
        assert!(object["stacks"][9999]["age_ms"].is_null());
    }

    #[test]
    fn what_is_no_number_is_written_as_one_that_reads_back() {
        let mut snapshot = sample::snapshot();
        snapshot.stacks[0].growth_bytes_per_hour = f64::NAN;
        snapshot.stacks[0].confidence = f64::INFINITY;
        snapshot.stacks[0].growth_interval_bytes_per_hour = Some((f64::NEG_INFINITY, 7.0));
        let read: Snapshot = serde_json::from_str(&line(&snapshot)).unwrap();
        let stack = &read.stacks[0];
        assert_eq!((stack.growth_bytes_per_hour, stack.confidence), (0.0, 0.0));
        assert_eq!(stack.growth_interval_bytes_per_hour, None);
    }

    #[test]
    fn the_writers_error_is_passed_on() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for format in Format::ALL {
            let rendering = Rendering { format: *format, ..Rendering::default() };
            let error = crate::report::render(rendering, &sample::snapshot(), &mut Closed).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{format:?}");
        }
    }
}
