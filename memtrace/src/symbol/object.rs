//! Modules: what an executable mapping holds. A file is one object however many processes map it.

use std::{cell::OnceCell, fs::File, os::unix::ffi::OsStrExt, path::Path, rc::Rc};

use super::file::{ModuleMapping, Permit, Root};
use crate::{object::demangle::cut, runtime::Code};

/// File names are 255 bytes at most.
const MAX_MODULE_BYTES: usize = 255;

/// What a report calls memory that is neither a file nor of the kernel's making: code made at run time lives there.
const ANONYMOUS: &str = "[anonymous]";

/// What a report calls it where a perf map names the code.
const RUNTIME_CODE: &str = "[jit]";

/// What a report calls interpreted code of which nothing could be read.
const INTERPRETED: &str = "[interpreted]";

/// How `maps` names memory that can be mapped twice, to write code by one mapping and run it by the other.
const MEMORY_FILE: &str = "/memfd:";

/// The kernel's own names for mappings without a file (proc(5)).
const PSEUDO: [&str; 5] = ["[vdso]", "[vsyscall]", "[uprobes]", "[heap]", "[stack]"];

/// The first id of an [`Object`]; those below are for what is no file.
pub const FIRST_OBJECT_ID: u64 = 16;

/// A file that holds code, mapped by one process or more.
#[derive(Debug)]
pub struct Object {
    /// Different for each object of a run; [`FIRST_OBJECT_ID`] and above.
    pub id: u64,
    /// Its file name.
    pub name: String,
    /// The process that mapped it first, and how.
    pub pid: u32,
    pub mapping: ModuleMapping,
    /// The root of that process, where it is not ours.
    pub root: Option<Rc<Root>>,
    /// Its file, since it could be opened.
    pub file: OnceCell<(File, Permit)>,
}

impl Object {
    pub fn new(id: u64, pid: u32, mapping: &ModuleMapping, root: Option<Rc<Root>>) -> Self {
        let path = mapping.path.as_deref().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let name = cut(&name, MAX_MODULE_BYTES);
        Self { id, name, pid, mapping: mapping.clone(), root, file: OnceCell::new() }
    }

    /// Its path, as the process that mapped it first saw it.
    pub fn path(&self) -> &Path {
        self.mapping.path.as_deref().unwrap_or(Path::new(""))
    }
}

/// What a code address of a target lies in.
#[derive(Clone, Debug)]
pub enum Module {
    /// No mapping that we know of.
    Unknown,
    /// Memory that is no file, by the name that a report shows.
    Pseudo(&'static str),
    /// Code made at run time that a perf map names; names of one process have different numbers.
    Code { number: u32, name: Rc<str> },
    /// Code that an interpreter runs; pieces of code of one process have different numbers. `None` where it could not be read.
    Interpreted { number: u32, code: Option<Rc<Code>> },
    /// A file.
    File(Rc<Object>),
}

impl Module {
    /// The module of a mapping without a file.
    pub fn without_file(path: Option<&Path>) -> Module {
        let path = path.and_then(Path::to_str).unwrap_or_default();
        Module::Pseudo(PSEUDO.into_iter().find(|&name| name == path).unwrap_or(ANONYMOUS))
    }

    /// Whether code made at run time may lie here: in memory that is no file, or that we do not know yet.
    pub fn may_hold_runtime_code(&self) -> bool {
        match self {
            Module::Unknown => true,
            Module::Pseudo(name) => [ANONYMOUS, "[heap]"].contains(name),
            Module::Code { .. } | Module::Interpreted { .. } => false,
            Module::File(object) => object.path().as_os_str().as_bytes().starts_with(MEMORY_FILE.as_bytes()),
        }
    }

    /// Tells modules of one process apart.
    pub fn id(&self) -> u64 {
        match self {
            Module::Unknown => 0,
            Module::Code { number, .. } => 1 << 63 | u64::from(*number),
            Module::Interpreted { number, .. } => 1 << 62 | u64::from(*number),
            Module::Pseudo(name) => 1 + PSEUDO.iter().take_while(|other| *other != name).count() as u64,
            Module::File(object) => object.id,
        }
    }

    /// What a report calls the module; `None` where nothing is known of it.
    pub fn name(&self) -> Option<&str> {
        match self {
            Module::Unknown => None,
            Module::Pseudo(name) => Some(name),
            Module::Code { .. } => Some(RUNTIME_CODE),
            Module::Interpreted { code, .. } => Some(code.as_ref().map_or(INTERPRETED, |code| code.module)),
            Module::File(object) => Some(&object.name),
        }
    }
}
