//! The JSON schemas in `docs/schema`: what scripts may rely on. They are made from the types that are written, and the files
//! are compared with them here. `MEMTRACE_WRITE_DOCS=1 cargo test -p memtrace --lib schema` writes them anew.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use super::{diff::Diff, doctor::Findings, sample, snapshot::Snapshot, watch::Line};

/// A file in `docs`.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(path)
}

/// Compares a file in `docs` with what is made from the sources, or writes it where `MEMTRACE_WRITE_DOCS` is set.
pub(crate) fn check_made(path: &str, made: &[u8]) {
    let file = file(path);
    if env::var_os("MEMTRACE_WRITE_DOCS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, made).unwrap();
    }
    let kept = fs::read(&file).unwrap_or_default();
    assert!(kept == made, "docs/{path} is not what the sources say; MEMTRACE_WRITE_DOCS=1 writes it anew");
}

fn check<T: JsonSchema>(name: &str) {
    let schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>();
    let made = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    check_made(&format!("schema/{name}"), made.as_bytes());
}

#[test]
fn the_schemas_are_those_of_what_is_written() {
    check::<Snapshot>("memtrace-1.json");
    check::<Line>("memtrace-watch-1.json");
    check::<Diff>("memtrace-diff-1.json");
    check::<Findings>("memtrace-doctor-1.json");
}

#[test]
fn a_report_is_what_its_schema_says_and_one_without_a_field_is_not() {
    let schema: Value = serde_json::from_str(&fs::read_to_string(file("schema/memtrace-1.json")).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut report = serde_json::to_value(sample::snapshot()).unwrap();
    assert!(validator.is_valid(&report));
    // What a later version adds is no error.
    report["later"] = 1.into();
    assert!(validator.is_valid(&report));
    report["stacks"][0].as_object_mut().unwrap().remove("verdict").unwrap();
    assert!(!validator.is_valid(&report));
}
