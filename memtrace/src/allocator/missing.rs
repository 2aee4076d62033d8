//! What is said when there is nothing to probe: what was looked for, and where.

use std::{os::unix::ffi::OsStrExt, path::Path};

use super::{catalogue::Family, go, plan::Plan, separate::DEBUG_DIRECTORY};
use crate::object::{mapped::MappedObject, printable::printable, symbols::ElfFile};

/// The most files and functions that are named.
const SHOWN: usize = 5;

/// One line for the user.
pub(super) fn describe(objects: &[MappedObject], plan: &Plan) -> String {
    let mut paths: Vec<_> = objects.iter().take(SHOWN).map(|object| show(&object.path)).collect();
    if objects.len() > SHOWN {
        paths.push(format!("{} more", objects.len() - SHOWN));
    }
    let files = match objects.len() {
        0 => "the program's mapped files (it has none with code)".to_owned(),
        _ => format!("the program's mapped files ({})", paths.join(", ")),
    };
    let known = Family::ALL.into_iter().filter(|family| !family.marks().is_empty());
    let families = known.map(|family| family.to_string()).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "found no allocator to trace: looked for malloc and free, and for the functions of {families} and Rust, in {files}: \
         in their symbol tables, their .gnu_debugdata and their debug files below {DEBUG_DIRECTORY}"
    );
    for unusable in plan.unusable.iter().take(SHOWN) {
        let path = show(&unusable.object_path);
        text += &match &unusable.function {
            Some(function) => format!("; {function} in {path}: {}", unusable.reason),
            None => format!("; {path} was not read: {}", unusable.reason),
        };
    }
    for pending in plan.pending.iter().take(SHOWN) {
        text += &format!("; {pending}: no mapped file has this name");
    }
    if objects.first().is_some_and(is_go_program) {
        return text
            + "; it is a Go program of a version that memtrace does not know (it knows 1.18 to 1.27): see who makes it grow with --mode growth";
    }
    text += "; a statically linked program needs its symbol table (do not strip it) or its debug file, or name its \
             functions with --alloc and --free";
    text
}

/// Whether Go linked the program.
fn is_go_program(object: &MappedObject) -> bool {
    let file = object.open().ok().map(|(_, file)| file);
    file.and_then(|file| ElfFile::parse(file).ok()).is_some_and(|elf| go::is_linked_by_go(&elf))
}

fn show(path: &Path) -> String {
    printable(path.as_os_str().as_bytes(), 100)
}
