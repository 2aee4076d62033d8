//! `check-ebpf`: rebuilds the BPF object and compares it, byte for byte, with the committed one.

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use object::{Object as _, ObjectSection as _};

use crate::{build_ebpf, toolchain, tree};

/// Success when both are equal; else says which sections differ, and what to do.
pub fn run() -> Result<ExitCode> {
    let place = tree::ebpf_object();
    let committed = fs::read(&place).with_context(|| {
        format!("cannot read {}: `cargo xtask build-ebpf` makes it, and it is to be committed", place.display())
    })?;
    let recorded = build_ebpf::recorded();
    let toolchain = toolchain::ready(recorded.as_ref())?;
    let recorded = recorded.unwrap_or_default();
    let differences = recorded.differences(&toolchain.identity);
    differences.iter().for_each(|line| eprintln!("not what built the committed object: {line}"));

    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let object = build_ebpf::build(&toolchain, folder.path())?;
    let rebuilt = fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    if rebuilt == committed {
        println!("{} is what its sources build to: {} bytes", place.display(), committed.len());
        return Ok(ExitCode::SUCCESS);
    }

    println!("{} is not what its sources build to", place.display());
    println!("  whole file: committed {} bytes, rebuilt {} bytes", committed.len(), rebuilt.len());
    section_differences(&committed, &rebuilt).iter().for_each(|line| println!("  {line}"));
    if differences.is_empty() {
        println!(
            "The tools are the recorded ones, so the sources changed: `cargo xtask build-ebpf`, and commit the object."
        );
    } else {
        println!(
            "The tools differ from those recorded in {}, which may be all there is to it.",
            tree::ebpf_record().display()
        );
        println!("Compare with the recorded tools, or `cargo xtask build-ebpf` with these, and commit both files.");
    }
    Ok(ExitCode::FAILURE)
}

/// A line for each section that only one object has, or that differs.
fn section_differences(committed: &[u8], rebuilt: &[u8]) -> Vec<String> {
    let (before, after) = match (sections(committed), sections(rebuilt)) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(error), _) => return vec![format!("the committed file cannot be read as ELF: {error}")],
        (_, Err(error)) => return vec![format!("the rebuilt file cannot be read as ELF: {error}")],
    };
    let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let compare = |name: &String| match (before.get(name), after.get(name)) {
        (Some(old), Some(new)) if old == new => None,
        (Some(old), Some(new)) => {
            let same = old.iter().zip(*new).take_while(|(a, b)| a == b).count();
            Some(format!(
                "section {name}: committed {} bytes, rebuilt {}, first difference at {same}",
                old.len(),
                new.len()
            ))
        }
        (Some(_), None) => Some(format!("section {name}: only in the committed object")),
        (None, _) => Some(format!("section {name}: only in the rebuilt object")),
    };
    names.into_iter().filter_map(compare).collect()
}

/// Contents by name; of sections that share a name, the later ones carry a number.
fn sections(file: &[u8]) -> object::Result<BTreeMap<String, &[u8]>> {
    let mut contents = BTreeMap::new();
    for section in object::File::parse(file)?.sections() {
        let name = section.name()?;
        let free = (1..).map(|n| if n == 1 { name.to_owned() } else { format!("{name} #{n}") });
        let free = free.into_iter().find(|name| !contents.contains_key(name)).unwrap_or_default();
        contents.insert(free, section.data()?);
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The running test program, an ELF file that is always at hand.
    fn program() -> Vec<u8> {
        fs::read("/proc/self/exe").unwrap()
    }

    #[test]
    fn equal_objects_have_no_differences() {
        assert_eq!(section_differences(&program(), &program()), Vec::<String>::new());
    }

    #[test]
    fn a_changed_byte_is_found_in_its_section() {
        let before = program();
        let mut after = before.clone();
        let file = object::File::parse(&*before).unwrap();
        let (offset, _) = file.section_by_name(".rodata").unwrap().file_range().unwrap();
        after[usize::try_from(offset).unwrap() + 5] ^= 1;
        let lines = section_differences(&before, &after);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("section .rodata: ") && lines[0].ends_with("first difference at 5"), "{lines:?}");
    }

    #[test]
    fn a_file_that_is_no_object_is_said_to_be_none() {
        assert!(section_differences(b"text", &program())[0].contains("committed file cannot be read"));
    }
}
