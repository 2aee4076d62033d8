//! From a snapshot to the messages.

use std::collections::HashMap;

use jiff::Timestamp;

use super::proto::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use crate::{
    report::form::Metric,
    report::{
        escape::escape,
        loss::{is_loss, meaning},
        name::{holds, label},
        place,
        snapshot::{Frame, Snapshot, Stack, StackKind},
        tree::weight,
    },
};

/// Makes the messages of a profile from a snapshot.
pub fn profile(snapshot: &Snapshot, metric: Metric) -> Profile {
    let mut building = Building::new(snapshot);
    for metric in Metric::ALL {
        let value_type = building.value_type(metric);
        building.profile.sample_type.push(value_type);
    }
    for stack in snapshot.stacks.iter().filter(|stack| holds(stack) || stack.allocations > 0) {
        building.add(stack);
    }
    building.remarks(snapshot);
    let mut profile = building.profile;
    profile.duration_nanos = nanoseconds(snapshot.elapsed_ms);
    let end = snapshot.at.parse::<Timestamp>().ok().and_then(|at| i64::try_from(at.as_nanosecond()).ok());
    profile.time_nanos = end.unwrap_or(0).saturating_sub(profile.duration_nanos);
    // Every block is recorded.
    profile.period = 1;
    profile.period_type = profile.sample_type.first().copied();
    profile.default_sample_type =
        Metric::ALL.iter().zip(&profile.sample_type).find(|(one, _)| **one == metric).map_or(0, |(_, one)| one.r#type);
    profile
}

struct Building<'a> {
    profile: Profile,
    build_ids: HashMap<&'a str, &'a str>,
    strings: HashMap<String, i64>,
    mappings: HashMap<&'a str, u64>,
    functions: HashMap<(i64, i64), u64>,
    locations: HashMap<(u64, u64, Vec<Line>), u64>,
}

impl<'a> Building<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let build_ids = snapshot.modules.iter().map(|module| (module.name.as_str(), module.build_id.as_str()));
        let mut building = Self {
            profile: Profile::default(),
            build_ids: build_ids.collect(),
            strings: HashMap::new(),
            mappings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
        };
        // The format wants the empty string at 0.
        building.string("");
        // Readers take the first mapping for the program.
        if let Some(module) = place::executable(snapshot.stacks.iter().map(|stack| stack.frames.as_slice())) {
            building.mapping(module);
        }
        building
    }

    fn add(&mut self, stack: &'a Stack) {
        let mut location_id = Vec::with_capacity(stack.frames.len());
        let mut lines = Vec::new();
        for frame in &stack.frames {
            lines.push(self.line(frame));
            // Functions that were inlined share a place with the one that they were inlined into.
            if !frame.inlined {
                location_id.push(self.location(frame, std::mem::take(&mut lines)));
            }
        }
        if let (Some(frame), false) = (stack.frames.last(), lines.is_empty()) {
            location_id.push(self.location(frame, lines));
        }
        let label = [
            ("pid", stack.pid.to_string()),
            ("verdict", stack.verdict.as_str().to_owned()),
            (
                "kind",
                match stack.kind {
                    StackKind::Heap => "heap".to_owned(),
                    StackKind::Map => "map".to_owned(),
                    StackKind::Page => "page".to_owned(),
                    StackKind::Managed => "managed".to_owned(),
                    StackKind::Goroutine => "goroutine".to_owned(),
                    StackKind::Small => "small".to_owned(),
                    StackKind::Profiled => "profiled".to_owned(),
                },
            ),
        ]
        .map(|(key, text)| Label { key: self.string(key), str: self.string(&text) });
        let value = Metric::ALL.map(|metric| value(stack, metric)).into();
        self.profile.sample.push(Sample { location_id, value, label: label.into() });
    }

    fn line(&mut self, frame: &Frame) -> Line {
        let name = self.string(&label(frame));
        let file = self.string(&escape(frame.file.as_deref().unwrap_or_default()));
        let next = self.functions.len() as u64 + 1;
        let function_id = *self.functions.entry((name, file)).or_insert(next);
        if function_id == next {
            self.profile.function.push(Function { id: next, name, system_name: name, filename: file });
        }
        Line { function_id, line: frame.line.map_or(0, i64::from) }
    }

    fn location(&mut self, frame: &'a Frame, line: Vec<Line>) -> u64 {
        let mapping_id = frame.module.as_deref().map_or(0, |module| self.mapping(module));
        let digits = frame.address.strip_prefix("0x").unwrap_or_default();
        let address = u64::from_str_radix(digits, 16).unwrap_or(0);
        let next = self.locations.len() as u64 + 1;
        let id = *self.locations.entry((mapping_id, address, line.clone())).or_insert(next);
        if id == next {
            self.profile.location.push(Location { id, mapping_id, address, line });
        }
        id
    }

    fn mapping(&mut self, module: &'a str) -> u64 {
        let next = self.mappings.len() as u64 + 1;
        let id = *self.mappings.entry(module).or_insert(next);
        if id == next {
            let build_id = self.build_ids.get(module).copied().unwrap_or_default();
            let (filename, build_id) = (self.string(&escape(module)), self.string(&escape(build_id)));
            self.profile.mapping.push(Mapping {
                id,
                filename,
                build_id,
                has_functions: true,
                has_filenames: true,
                has_line_numbers: true,
                has_inline_frames: true,
                ..Mapping::default()
            });
        }
        id
    }

    fn value_type(&mut self, metric: Metric) -> ValueType {
        ValueType { r#type: self.string(metric.name()), unit: self.string(metric.unit()) }
    }

    /// What `go tool pprof -comments` shows.
    fn remarks(&mut self, snapshot: &Snapshot) {
        let mut remarks = vec![format!("memtrace {}: growth is in bytes per hour", env!("CARGO_PKG_VERSION"))];
        remarks.extend(
            snapshot.processes.iter().map(|process| format!("pid {}: {}", process.pid, escape(&process.command))),
        );
        for (name, &number) in snapshot.loss.iter().filter(|&(_, &number)| number > 0) {
            let (harm, meaning) = meaning(name);
            if is_loss(harm) {
                remarks.push(format!("{number} {}: {meaning}", escape(name)));
            }
        }
        for remark in remarks {
            let remark = self.string(&remark);
            self.profile.comment.push(remark);
        }
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(&known) = self.strings.get(text) {
            return known;
        }
        let next = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), next);
        next
    }
}

fn value(stack: &Stack, metric: Metric) -> i64 {
    match metric {
        // What shrinks is negative; a cast of what is no number gives 0.
        Metric::Growth => stack.growth_bytes_per_hour as i64,
        _ => i64::try_from(weight(stack, metric)).unwrap_or(i64::MAX),
    }
}

fn nanoseconds(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds.saturating_mul(1_000_000)).unwrap_or(i64::MAX)
}
