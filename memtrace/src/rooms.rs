//! A room depends on rooms to its left only, and only `cli` knows how a command line is read: both are tested here, on the
//! sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The rooms, from left to right. `unwind` and `kernel` come after `allocator`, since a probe site is what is attached.
const ROOMS: [&str; 16] = [
    "statistics",
    "turns",
    "event",
    "object",
    "debuginfod",
    "target",
    "runtime",
    "allocator",
    "unwind",
    "kernel",
    "ledger",
    "trend",
    "symbol",
    "report",
    "session",
    "cli",
];

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All sources below a folder, or the file itself.
fn below(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| below(&path)).filter(|path| path.extension().is_some_and(|ending| ending == "rs")).collect()
}

/// The sources of a room.
fn files(room: &str) -> Vec<(PathBuf, String)> {
    let roots = [sources().join(room), sources().join(room).with_extension("rs")];
    let files = roots.iter().filter(|path| path.exists()).flat_map(|path| below(path));
    files.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The first names of all paths that begin at the crate's root; of `crate::{a::b, c}` these are `a` and `c`.
fn names(source: &str) -> BTreeSet<String> {
    names_behind("crate::", source)
}

/// The first names of all paths behind `root`, such as `crate::`.
fn names_behind(root: &str, source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let code = source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
    for (at, start) in code.match_indices(root) {
        // `memtrace_crate::` is another word.
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let rest = &code[at + start.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let mut depth = 1;
        let mut part = String::new();
        for character in group.chars() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 || depth == 1 && character == ',' {
                found.insert(word(part.trim_start()));
                part.clear();
            } else {
                part.push(character);
            }
            if depth == 0 {
                break;
            }
        }
    }
    found.remove("");
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

#[test]
fn names_are_found_in_groups_and_paths() {
    let source = "use crate::{\n    a::{b, c}, // crate::x\n    d,\n};\nfn f() { crate::e::g(); other_crate::h() }";
    assert_eq!(names(source).into_iter().collect::<Vec<_>>(), ["a", "d", "e"]);
}

#[test]
fn a_room_depends_on_rooms_to_its_left_only() {
    let mut wrong = Vec::new();
    for (place, room) in ROOMS.iter().enumerate() {
        let files = files(room);
        assert!(!files.is_empty(), "{room} has no source");
        for (path, source) in files {
            let is_right = |name: &String| ROOMS.iter().position(|room| room == name).is_none_or(|other| other > place);
            wrong.extend(
                names(&source).into_iter().filter(is_right).map(|name| format!("{} -> {name}", path.display())),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The modules of `session` that each of its modules names outside of tests. A folder is one module.
fn session_arrows() -> BTreeMap<String, BTreeSet<String>> {
    let folder = sources().join("session");
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut modules = BTreeSet::new();
    for (path, source) in files("session") {
        let inside = path.strip_prefix(&folder).unwrap();
        let module = word(&inside.components().next().unwrap().as_os_str().to_string_lossy());
        // The room's own file only lists them.
        if module == "mod" {
            continue;
        }
        let source = source.split("#[cfg(test)]").next().unwrap_or_default();
        let depth = inside.components().count() - usize::from(inside.ends_with("mod.rs"));
        let up = "super::".repeat(depth);
        let named = arrows.entry(module.clone()).or_default();
        named.extend(names_behind("session::", source));
        named.extend(names_behind(&up, source));
        modules.insert(module);
    }
    for (module, named) in &mut arrows {
        named.retain(|name| name != module && modules.contains(name));
    }
    arrows
}

#[test]
fn no_arrow_inside_session_runs_in_a_circle() {
    let mut arrows = session_arrows();
    assert!(arrows["run"].contains("feed") && arrows["watch"].contains("run"), "{arrows:?}");
    // By a path in a group.
    assert!(arrows["doctor"].contains("run"), "{arrows:?}");
    // What depends on nothing that is left goes, until nothing is left, or a circle.
    while let Some(free) = arrows.iter().find(|(_, named)| named.is_empty()).map(|(module, _)| module.clone()) {
        arrows.remove(&free);
        for named in arrows.values_mut() {
            named.remove(&free);
        }
    }
    assert!(arrows.is_empty(), "in circles, or behind some: {arrows:#?}");
}

#[test]
fn only_the_command_line_knows_clap() {
    let others = ROOMS.iter().filter(|&&room| room != "cli").flat_map(|room| files(room));
    let knows = others.filter(|(_, source)| source.contains("clap::")).map(|(path, _)| path).collect::<Vec<_>>();
    assert!(knows.is_empty(), "{knows:?}");
}

#[test]
fn every_room_is_in_the_list() {
    let library = fs::read_to_string(sources().join("lib.rs")).unwrap();
    let rooms = library.lines().filter_map(|line| line.trim().strip_prefix("mod ")).map(word);
    // This file is no room.
    let rooms = rooms.filter(|name| name != "rooms");
    assert_eq!(rooms.collect::<BTreeSet<_>>(), ROOMS.iter().map(|&room| room.to_owned()).collect());
}

/// The doc comments of public items, each with its item's first line. Fields and variants are not among them: their names and
/// types may say all.
fn documented(source: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let mut found = Vec::new();
    let mut text = String::new();
    for line in lines {
        if let Some(words) = line.strip_prefix("///") {
            text.push_str(words);
        } else if !line.starts_with("#[") {
            if line.starts_with("pub ") && !text.is_empty() {
                found.push((std::mem::take(&mut text), line.to_owned()));
            }
            text.clear();
        }
    }
    found
}

#[test]
fn doc_comments_of_public_items_say_something() {
    let kinds = ["fn", "const", "struct", "enum", "trait", "type", "static", "mod", "unsafe"];
    let mut short = Vec::new();
    let others =
        ["../../memtrace-common/src", "../../memtrace-ebpf/src"].iter().flat_map(|name| below(&sources().join(name)));
    let others = others.map(|path| (path.clone(), fs::read_to_string(path).unwrap()));
    for (path, source) in ROOMS.iter().flat_map(|room| files(room)).chain(others) {
        for (text, item) in documented(&source) {
            let mut words = item.split_whitespace().skip(1);
            if !words.next().is_some_and(|word| kinds.contains(&word)) {
                continue;
            }
            // What these are is known from every collection.
            let is_usual = ["fn len(", "fn is_empty(", "fn new("].iter().any(|usual| item.contains(usual));
            if !is_usual && text.split_whitespace().count() < 6 {
                short.push(format!("{}: {text} {item}", path.display()));
            }
        }
    }
    assert!(short.is_empty(), "{short:#?}");
}

/// What only code for one processor architecture names.
const OF_ONE_PROCESSOR: [&str; 8] =
    ["iced_x86", "EM_X86_64", "Architecture::X86_64", "user_regs_struct", "pt_regs", "regs.r", "INT3", "X86_64::"];

#[test]
fn every_file_that_knows_the_processor_is_in_the_page_about_architectures() {
    let root = sources().join("../..").canonicalize().unwrap();
    let page = fs::read_to_string(root.join("docs/design/architectures.md")).unwrap();
    let table: String = page.lines().filter(|line| line.starts_with('|')).collect();
    let listed: BTreeSet<&str> = table.split('`').filter(|text| text.ends_with(".rs")).collect();
    let crates = ["memtrace/src", "memtrace-common/src", "memtrace-ebpf/src"];
    let mut unlisted = Vec::new();
    for path in crates.iter().flat_map(|name| below(&root.join(name))) {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let source = fs::read_to_string(&path).unwrap();
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        let code = code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
        let knows = OF_ONE_PROCESSOR.iter().any(|word| code.contains(word));
        if knows && !name.contains("tests") && !name.ends_with("rooms.rs") && !listed.contains(name.as_str()) {
            unlisted.push(name);
        }
    }
    assert!(unlisted.is_empty(), "these know the processor, and docs/design/architectures.md lacks them: {unlisted:?}");
    let gone: Vec<_> = listed.iter().filter(|name| !root.join(name).exists()).collect();
    assert!(gone.is_empty(), "{gone:?}");
}
