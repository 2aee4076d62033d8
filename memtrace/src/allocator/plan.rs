//! From the target's mapped files to the sites to probe.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use memtrace_common::call::Call;
use thiserror::Error;

use super::{
    catalogue::{self, FUNCTIONS, Family, Role},
    site,
    symbols::{ElfError, ElfFile, Symbol},
};
use crate::target::{object::MappedObject, printable::printable};

/// One function to probe, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProbeSite {
    /// The function's symbol.
    pub function: String,
    /// What the function does.
    pub call: Call,
    /// The file, as the target names it: for display.
    pub object_path: PathBuf,
    /// The file, as we open it.
    pub open_path: PathBuf,
    /// Where the breakpoint goes: bytes from the beginning of the file.
    pub file_offset: u64,
    /// Bytes from the function's entry to the breakpoint.
    pub symbol_offset: u64,
    /// The instruction there, in Intel syntax.
    pub instruction: String,
    /// Whether the kernel emulates it: a hit is one trap, otherwise two.
    pub emulated: bool,
    /// Whether the function branches back to its entry, so that one call may count more than once.
    pub reentered: bool,
}

/// An allocator that is not the C library's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForeignAllocator {
    /// Which.
    pub family: Family,
    /// The file it is in, as the target names it: for display.
    pub object_path: PathBuf,
}

/// A file or a function that should have been used and could not be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unusable {
    /// The function; `None` for the whole file.
    pub function: Option<&'static str>,
    /// The file, as the target names it: for display.
    pub object_path: PathBuf,
    /// Why, in half a sentence.
    pub reason: String,
}

/// What is probed in a target, and what is not.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// In the order of the files' mappings, then of the catalogue.
    pub sites: Vec<ProbeSite>,
    /// Allocators whose own functions are not probed.
    pub foreign: Vec<ForeignAllocator>,
    /// Functions of the catalogue that no C library in the target has under any name. Some are expected: glibc dropped
    /// `cfree` in 2.26, musl never had `pvalloc`.
    pub absent: Vec<String>,
    /// What should have been probed and cannot be.
    pub unusable: Vec<Unusable>,
}

/// Why there is nothing to probe.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum AllocatorError {
    /// No file of the target is a C library.
    #[error(
        "found no allocator to trace: none of {files} defines malloc and free together with a C library{foreign}{unusable}; \
         a statically linked program needs its symbol table (do not strip it), and a program that allocates without a \
         C library cannot be traced yet"
    )]
    NotFound {
        /// Where it was looked for.
        files: String,
        /// Other allocators that were found, as a part of the sentence.
        foreign: String,
        /// What could not be read, as a part of the sentence.
        unusable: String,
    },
}

/// Plans the probes of a target from the files whose code it has mapped.
///
/// Files that are not ELF (a JIT's, another system's libraries) are passed over. A foreign allocator does not stop the
/// C library's functions from being planned: its mappings go through them, and some of its calls may.
///
/// # Errors
///
/// When none of the files has a function to probe.
pub fn plan(objects: &[MappedObject]) -> Result<Plan, AllocatorError> {
    let mut plan = Plan::default();
    let mut named = HashSet::new();
    for object in objects {
        if let Err(reason) = plan_object(object, &mut plan, &mut named) {
            plan.unusable.push(Unusable { function: None, object_path: object.path.clone(), reason });
        }
    }
    if plan.sites.is_empty() {
        return Err(not_found(objects, &plan));
    }
    plan.absent =
        FUNCTIONS.iter().map(|function| function.name).filter(|name| !named.contains(name)).map(String::from).collect();
    Ok(plan)
}

/// Adds what one file has; `named` gathers the catalogue's names that libraries have. The error says why a file is
/// unusable.
fn plan_object(object: &MappedObject, plan: &mut Plan, named: &mut HashSet<&'static str>) -> Result<(), String> {
    let (open_path, file) = object.open().map_err(|error| error.source.to_string())?;
    let elf = match ElfFile::parse(file) {
        Err(ElfError::NotElf) => return Ok(()),
        other => other.map_err(|error| error.to_string())?,
    };
    let wanted: Vec<_> = catalogue::wanted_symbols().collect();
    let symbols = elf.symbols(&wanted).map_err(|error| error.to_string())?;
    let mut foreign = |family| plan.foreign.push(ForeignAllocator { family, object_path: object.path.clone() });
    let probed: fn(Call) -> bool = match catalogue::role(|name| symbols.contains_key(name)) {
        Role::Other => return Ok(()),
        Role::Foreign(family) => {
            foreign(family);
            return Ok(());
        }
        Role::LibcWithForeignHeap(family) => {
            foreign(family);
            Call::is_mapping
        }
        Role::Libc => |_| true,
    };
    let mut addresses = HashMap::new();
    for function in FUNCTIONS.iter().filter(|function| probed(function.call)) {
        let Some(symbol) = symbols.get(function.name) else { continue };
        named.insert(function.name);
        if addresses.insert(symbol.address, function.name).is_some() {
            continue;
        }
        match site_of(&elf, symbol, function.call) {
            Ok((site, file_offset)) => plan.sites.push(ProbeSite {
                function: function.name.to_owned(),
                call: function.call,
                object_path: object.path.clone(),
                open_path: open_path.clone(),
                file_offset,
                symbol_offset: site.displacement,
                instruction: site.instruction,
                emulated: site.emulated,
                reentered: site.reentered,
            }),
            Err(reason) => {
                plan.unusable.push(Unusable { function: Some(function.name), object_path: object.path.clone(), reason })
            }
        }
    }
    Ok(())
}

/// The site of one function and its offset in the file, or why there is none.
fn site_of(elf: &ElfFile<File>, symbol: &Symbol, call: Call) -> Result<(site::Site, u64), String> {
    if symbol.indirect {
        return Err("it is an indirect function, whose implementation is chosen when the program starts".into());
    }
    let code = elf.code(symbol).map_err(|error| error.to_string())?;
    let site = site::choose(code, symbol.address, symbol.size, call).map_err(|error| error.to_string())?;
    let entry = elf.file_offset(symbol.address).map_err(|error| error.to_string())?;
    let file_offset = entry.checked_add(site.displacement).ok_or("its offset is beyond the end of any file")?;
    Ok((site, file_offset))
}

fn not_found(objects: &[MappedObject], plan: &Plan) -> AllocatorError {
    const SHOWN: usize = 5;
    let show = |path: &PathBuf| printable(path.as_os_str().as_bytes(), 100);
    let mut paths: Vec<_> = objects.iter().take(SHOWN).map(|object| show(&object.path)).collect();
    if objects.len() > SHOWN {
        paths.push(format!("{} more", objects.len() - SHOWN));
    }
    let files = match objects.len() {
        0 => "the program's mapped files (it has none with code)".into(),
        _ => format!("the program's mapped files ({})", paths.join(", ")),
    };
    let part = |parts: Vec<String>| parts.iter().map(|part| format!("; {part}")).collect::<String>();
    AllocatorError::NotFound {
        files,
        foreign: part(
            plan.foreign
                .iter()
                .take(SHOWN)
                .map(|foreign| {
                    format!("{} has {}, which is not traced yet", show(&foreign.object_path), foreign.family)
                })
                .collect(),
        ),
        unusable: part(
            plan.unusable
                .iter()
                .take(SHOWN)
                .map(|unusable| match unusable.function {
                    Some(function) => format!("{function} in {}: {}", show(&unusable.object_path), unusable.reason),
                    None => format!("{} was not read: {}", show(&unusable.object_path), unusable.reason),
                })
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{Pid, maps, object::objects};

    fn own_objects() -> Vec<MappedObject> {
        let pid = Pid(std::process::id());
        objects(pid, &maps::read(pid).expect("our own maps"))
    }

    #[test]
    fn our_own_program_is_planned_from_its_libc_alone() {
        let plan = plan(&own_objects()).expect("a glibc program");
        assert!(plan.sites.iter().all(|site| site.object_path.ends_with("libc.so.6")), "{plan:#?}");
        for name in ["malloc", "calloc", "realloc", "free", "mmap", "munmap"] {
            assert_eq!(plan.sites.iter().filter(|site| site.function == name).count(), 1, "{name}");
        }
        assert_eq!((plan.foreign, plan.unusable), (vec![], vec![]));
        let offsets: HashSet<_> = plan.sites.iter().map(|site| site.file_offset).collect();
        assert_eq!(offsets.len(), plan.sites.len(), "two probes at one place");
    }

    #[test]
    fn without_a_c_library_the_error_says_where_it_was_looked_for() {
        let objects: Vec<_> = own_objects().into_iter().filter(|object| !object.path.ends_with("libc.so.6")).collect();
        let error = plan(&objects).expect_err("no libc").to_string();
        assert!(error.contains("/memtrace-"), "{error}");
        assert!(error.contains("strip") && !error.contains('\n'), "{error}");
        assert!(plan(&[]).expect_err("nothing").to_string().contains("none with code"));
    }
}
