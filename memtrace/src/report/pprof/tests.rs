//! The profile, read back.

use std::io::Read as _;

use flate2::read::GzDecoder;
use prost::Message as _;

use super::{
    proto::{Location, Profile, Sample},
    render,
};
use crate::{
    report::form::Metric,
    report::{
        sample,
        snapshot::{Frame, Snapshot, Stack},
    },
};

fn written(snapshot: &Snapshot, metric: Metric) -> Profile {
    let mut out = Vec::new();
    render(snapshot, metric, &mut out).unwrap();
    let mut plain = Vec::new();
    GzDecoder::new(out.as_slice()).read_to_end(&mut plain).unwrap();
    Profile::decode(plain.as_slice()).unwrap()
}

impl Profile {
    fn text(&self, index: i64) -> &str {
        &self.string_table[usize::try_from(index).unwrap()]
    }

    fn location(&self, id: u64) -> &Location {
        self.location.iter().find(|location| location.id == id).unwrap()
    }

    /// The functions of a sample: a list for each location.
    fn names(&self, sample: &Sample) -> Vec<Vec<&str>> {
        let function = |id| self.function.iter().find(|function| function.id == id).unwrap();
        let lines = |id| self.location(id).line.iter().map(|line| self.text(function(line.function_id).name)).collect();
        sample.location_id.iter().map(|&id| lines(id)).collect()
    }
}

#[test]
fn values_types_and_labels_are_those_of_the_stack() {
    let profile = written(&sample::snapshot(), Metric::InuseSpace);
    let types: Vec<_> =
        profile.sample_type.iter().map(|one| (profile.text(one.r#type), profile.text(one.unit))).collect();
    assert_eq!(
        types,
        [
            ("inuse_space", "bytes"),
            ("inuse_objects", "count"),
            ("alloc_space", "bytes"),
            ("alloc_objects", "count"),
            ("growth", "bytes")
        ]
    );
    assert_eq!(profile.text(profile.default_sample_type), "inuse_space");
    assert_eq!(profile.sample[0].value, [603_340, 1200, 603_340, 1200, 36_200_400]);
    let labels: Vec<_> =
        profile.sample[0].label.iter().map(|label| (profile.text(label.key), profile.text(label.str))).collect();
    assert_eq!(labels, [("pid", "4242"), ("verdict", "growing"), ("kind", "heap")]);
    assert_eq!((profile.duration_nanos, profile.period), (60_000_000_000, 1));
    // 2025-01-02T03:04:05Z less a minute.
    assert_eq!(profile.time_nanos, 1_735_787_045_000_000_000 - 60_000_000_000);
    let growth = written(&sample::snapshot(), Metric::Growth);
    assert_eq!(growth.text(growth.default_sample_type), "growth");
}

#[test]
fn inlined_functions_share_a_location_with_the_one_around_them() {
    let profile = written(&sample::snapshot(), Metric::InuseSpace);
    let names = profile.names(&profile.sample[0]);
    assert_eq!(names, [vec!["leak_here"], vec!["handle", "main"], vec!["libc.so.6+0x1234"]]);
    let mapping = &profile.mapping[0];
    assert_eq!((profile.text(mapping.filename), profile.text(mapping.build_id)), ("server", "0badc0de"));
    assert_eq!(profile.text(profile.mapping[1].build_id), "", "libc's is not known");
    let location = profile.location(profile.sample[0].location_id[0]);
    assert_eq!((location.address, location.line[0].line, location.mapping_id), (0x55d0_c0de_1234, 42, 1));
}

#[test]
fn equal_places_and_strings_are_there_once() {
    let mut snapshot = sample::snapshot();
    snapshot.stacks = vec![sample::stack(); 10_000];
    let profile = written(&snapshot, Metric::InuseSpace);
    assert_eq!((profile.sample.len(), profile.location.len(), profile.function.len()), (10_000, 3, 4));
    let mut strings = profile.string_table.clone();
    assert_eq!(strings[0], "");
    strings.sort_unstable();
    strings.dedup();
    assert_eq!(strings.len(), profile.string_table.len());
}

#[test]
fn numbers_out_of_range_are_clamped_and_addresses_that_are_none_are_0() {
    let mut snapshot = sample::snapshot();
    snapshot.at = "yesterday".to_owned();
    snapshot.elapsed_ms = u64::MAX;
    snapshot.stacks = [f64::NAN, f64::INFINITY, -7.9]
        .map(|growth| Stack {
            growth_bytes_per_hour: growth,
            outstanding_bytes: u64::MAX,
            frames: vec![Frame { address: "nowhere".to_owned(), inlined: true, ..Frame::default() }],
            ..sample::stack()
        })
        .into();
    let profile = written(&snapshot, Metric::InuseSpace);
    let growth: Vec<i64> = profile.sample.iter().map(|sample| sample.value[4]).collect();
    assert_eq!(growth, [0, i64::MAX, -7]);
    assert_eq!(profile.sample[0].value[0], i64::MAX);
    assert_eq!(profile.location(profile.sample[0].location_id[0]).address, 0);
}

#[test]
fn an_empty_run_is_a_profile_too() {
    let mut snapshot = sample::snapshot();
    snapshot.stacks.clear();
    snapshot.processes.clear();
    let profile = written(&snapshot, Metric::InuseSpace);
    assert_eq!((profile.sample_type.len(), profile.sample.len()), (5, 0));
}

#[test]
fn the_programs_mapping_is_the_first() {
    let mut snapshot = sample::snapshot();
    let stack = Stack {
        frames: vec![
            sample::frame("PyMem_RawMalloc", "libpython3.12.so.1.0", None),
            sample::frame("_start", "python3", None),
        ],
        ..sample::stack()
    };
    snapshot.stacks = vec![stack];
    let profile = written(&snapshot, Metric::InuseSpace);
    assert_eq!(profile.text(profile.mapping[0].filename), "python3");
    assert_eq!(profile.mapping.len(), 2);
}
