//! Which tests run together, found from what cargo says of the workspace and from the end-to-end tests' own modules.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process;

/// The package of the end-to-end tests.
const END_TO_END: &str = "memtrace-tests";

/// Tests that run together.
pub struct Suite {
    pub name: String,
    package: String,
    /// By which cargo is told of it.
    pub arguments: Vec<String>,
}

impl Suite {
    fn new(name: &str, package: &str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { name: name.to_owned(), package: package.to_owned(), arguments }
    }

    /// Whether its tests trace, or run programs as other users.
    pub fn needs_root(&self) -> bool {
        self.package == END_TO_END
    }
}

/// All suites: the unit tests of every package together, the examples in their documentation, each test program by itself, and
/// each module of the end-to-end tests by itself, those that need root last.
pub fn all() -> Result<Vec<Suite>> {
    let mut ask = process::cargo();
    let output = ask.args(["metadata", "--no-deps", "--format-version", "1"]).output().context("cannot run cargo")?;
    let metadata = serde_json::from_slice(&output.stdout).context("cannot read what cargo metadata says")?;
    of_workspace(&metadata, modules)
}

/// The suites of the packages that `metadata` names; `modules` says which modules the source of a program lists.
fn of_workspace(metadata: &Value, modules: impl Fn(&Path) -> Result<Vec<String>>) -> Result<Vec<Suite>> {
    let mut suites = vec![
        Suite::new("unit tests", "", &["--lib", "--bins"]),
        Suite::new("examples in documentation", "", &["--doc"]),
    ];
    for package in list(metadata, "packages") {
        let owner = text(package, "name");
        for target in list(package, "targets").iter().filter(|target| target["kind"][0] == "test") {
            let program = Suite::new(text(target, "name"), owner, &["--test", text(target, "name")]);
            if program.needs_root() {
                suites.extend(of_modules(&program, &modules(Path::new(text(target, "src_path")))?));
            } else {
                suites.push(program);
            }
        }
    }
    suites.sort_by_key(Suite::needs_root);
    Ok(suites)
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// A suite for each module of a program.
fn of_modules(program: &Suite, modules: &[String]) -> Vec<Suite> {
    let suite = |module: &String| Suite {
        name: module.clone(),
        package: program.package.clone(),
        arguments: [program.arguments.clone(), only(module, modules)].concat(),
    };
    modules.iter().map(suite).collect()
}

/// What tells a test program to run the tests of one module. A filter is any part of a test's path: `stacks::` finds those of
/// `whole_stacks` as well, which are left out by name.
fn only(module: &str, modules: &[String]) -> Vec<String> {
    let others = modules.iter().filter(|other| *other != module && other.ends_with(module));
    let skipped = others.flat_map(|other| ["--skip".to_owned(), format!("{other}::")]);
    ["--".to_owned(), format!("{module}::")].into_iter().chain(skipped).collect()
}

/// The modules that the source of a test program lists, which must be all the files beside it.
fn modules(source: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(source).with_context(|| format!("cannot read {}", source.display()))?;
    let named: Vec<String> = text.lines().filter_map(module_of_line).collect();
    let folder = source.parent().context("a test program's source lies in a folder")?;
    let unnamed: Vec<String> = beside(source, folder)?.into_iter().filter(|file| !named.contains(file)).collect();
    if !unnamed.is_empty() {
        bail!(
            "{} has no `mod` for {}, so that the tests there would not run: name each there",
            source.display(),
            unnamed.join(", ")
        );
    }
    Ok(named)
}

fn module_of_line(line: &str) -> Option<String> {
    Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
}

/// The names of all sources in the folder of a test program, without its own.
fn beside(source: &Path, folder: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut names = BTreeSet::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        if path != source && path.extension().is_some_and(|ending| ending == "rs") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_that_need_root_come_last_and_none_is_left_out() {
        let test = |name: &str| serde_json::json!({ "name": name, "kind": ["test"], "src_path": "e2e/main.rs" });
        let metadata = serde_json::json!({ "packages": [
            { "name": END_TO_END, "targets": [test("e2e"), { "name": "harness", "kind": ["lib"] }] },
            { "name": "memtrace", "targets": [test("probe_sites")] },
        ]});
        let modules = |path: &Path| {
            assert_eq!(path, Path::new("e2e/main.rs"));
            Ok(vec!["leak".to_owned(), "stacks".to_owned(), "whole_stacks".to_owned()])
        };
        let found = of_workspace(&metadata, modules).unwrap();
        let shown: Vec<_> = found.iter().map(|suite| (suite.name.as_str(), suite.needs_root())).collect();
        let expected = [
            ("unit tests", false),
            ("examples in documentation", false),
            ("probe_sites", false),
            ("leak", true),
            ("stacks", true),
            ("whole_stacks", true),
        ];
        assert_eq!(shown, expected);
        assert_eq!(found[2].arguments, ["--test", "probe_sites"]);
        assert_eq!(found[3].arguments, ["--test", "e2e", "--", "leak::"]);
        assert_eq!(found[4].arguments, ["--test", "e2e", "--", "stacks::", "--skip", "whole_stacks::"]);
        assert_eq!(found[5].arguments, ["--test", "e2e", "--", "whole_stacks::"]);
    }

    #[test]
    fn every_file_of_the_end_to_end_tests_is_a_module_of_their_program() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/e2e/main.rs");
        assert!(modules(&source).unwrap().iter().any(|name| name == "whole_stacks"));
    }

    #[test]
    fn a_file_that_the_program_does_not_name_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("main.rs");
        fs::write(&source, "//! Tests.\n\nmod leak;\n").unwrap();
        fs::write(folder.path().join("leak.rs"), "").unwrap();
        assert_eq!(modules(&source).unwrap(), ["leak"]);
        fs::write(folder.path().join("forgotten.rs"), "").unwrap();
        let error = modules(&source).unwrap_err().to_string();
        assert!(error.contains("no `mod` for forgotten,"), "{error}");
    }
}
