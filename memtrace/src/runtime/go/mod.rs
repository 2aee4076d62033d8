//! Go 1.18 and later: its heap by where objects were allocated and as a whole, and its goroutines.
//!
//! A file with Go's table of functions is a Go program or library. The runtime keeps a sample of the heap for
//! `runtime/pprof`, and a list of all goroutines; both are read from outside, without a probe. Where they are is told by symbols, or in a
//! stripped program by the code that uses them; either way what is found there has to look like what it is taken for.

mod goroutines;
mod heap;
mod size;
mod variables;

use std::{cell::RefCell, collections::HashMap, fs::File, rc::Rc};

use self::{goroutines::Goroutines, heap::Heap, size::Size, variables::Variables};
use super::{
    CREDIT, LONGEST_TURN, Memory, PARTS,
    count::{Count, Counted},
};
use crate::{
    object::{
        Pid,
        go_table::{self, GoTable},
        mapped::{self, MappedObject},
        maps::Mapping,
        symbols::ElfFile,
    },
    turns::{Turns, thread_time},
};

/// A running Go program whose books can be read.
#[derive(Debug)]
pub struct Program {
    memory: Memory,
    code: Code,
    heap: Option<Heap>,
    size: Option<Size>,
    goroutines: Option<Goroutines>,
    /// What was counted the last time, and when the next look may be.
    last: Vec<Count>,
    turns: Turns,
}

/// What can be told of a Go program, and what not.
#[derive(Debug)]
pub enum Finding {
    /// It is not a Go program.
    Nothing,
    /// It is one of a version that is not known, as a sentence.
    Refused(String),
    /// It is one of whose books not all were found: it may have only begun, or keep them elsewhere. What was found, if anything was.
    Partly(Option<Box<Program>>),
    /// It is one that can be read.
    Found(Box<Program>),
}

/// Whether one of these files is a Go program or library of a version that is known.
pub fn is_in(objects: &[MappedObject]) -> bool {
    objects.iter().filter_map(open).any(|(file, elf)| GoTable::open(Rc::new(file), &elf).is_some())
}

/// The file, if it is of Go.
fn open(object: &MappedObject) -> Option<(File, ElfFile<File>)> {
    let (_, file) = object.open().ok()?;
    let elf = ElfFile::parse(file.try_clone().ok()?).ok()?;
    go_table::is_in(&elf).then_some((file, elf))
}

/// Whether this function is the part of the runtime that asks the system for pages.
pub fn asks_for_pages(function: &str) -> bool {
    ["runtime.sysMap", "runtime.sysAlloc", "runtime.sysReserve", "x_cgo_mmap"].contains(&function)
}

/// Looks for Go among the files that a process maps.
pub fn find(pid: Pid, mappings: &[Mapping]) -> Finding {
    let objects = mapped::objects(pid, mappings);
    let found = objects.iter().find_map(|object| Some((object, open(object)?)));
    let Some((object, (file, elf))) = found else { return Finding::Nothing };
    let Some(table) = GoTable::open(Rc::new(file), &elf) else {
        return Finding::Refused("This version of Go is not known: its heap and its goroutines are not read.".into());
    };
    match Program::open(pid, mappings, object, &elf, table).map(Box::new) {
        Some(program) if program.heap.is_some() && program.goroutines.is_some() => Finding::Found(program),
        partly => Finding::Partly(partly.filter(|program| program.heap.is_some() || program.goroutines.is_some())),
    }
}

impl Program {
    fn open(
        pid: Pid,
        mappings: &[Mapping],
        object: &MappedObject,
        elf: &ElfFile<File>,
        table: GoTable,
    ) -> Option<Program> {
        let mut memory = Memory::open(pid, (object.device, object.inode)).ok()?;
        memory.confine(mappings);
        let moved = object.moved(elf)?;
        let variables = Variables::of(elf, &table);
        let places = |variable| -> Vec<u64> {
            variables.places(variable).into_iter().map(|place| place.wrapping_add(moved)).collect()
        };
        let [buckets, rates, lists, reasons, controllers] =
            [variables::BUCKETS, variables::RATE, variables::GOROUTINES, variables::REASONS, variables::CONTROLLER]
                .map(places);
        let code = Code { table, moved, names: RefCell::default() };
        Some(Program {
            heap: heap::prove(&buckets, &rates, &memory),
            size: size::prove(&controllers, &memory),
            goroutines: goroutines::prove(&lists, &reasons, &memory, &code),
            code,
            memory,
            last: Vec::new(),
            turns: Turns::with_credit(CREDIT),
        })
    }

    /// Whether the list of its goroutines was found.
    pub fn has_goroutines(&self) -> bool {
        self.goroutines.is_some()
    }

    /// Why nothing is known of its heap, as half a sentence; `None` if it is.
    pub fn heap_is_unknown(&self) -> Option<&'static str> {
        match &self.heap {
            None => Some("The sample that this Go program keeps of its heap was not found"),
            Some(heap) if heap.rate(&self.memory) == Some(0) => Some(
                "This Go program keeps no sample of its heap, since nothing in it calls runtime/pprof or net/http/pprof",
            ),
            Some(_) => None,
        }
    }

    /// What the process maps from now on.
    pub fn confine(&mut self, mappings: &[Mapping]) {
        self.memory.confine(mappings);
    }

    /// What it holds now, or held when it was last looked at, where looking takes long. `now_ns` is by the monotonic clock.
    pub fn count(&mut self, now_ns: u64) -> &[Count] {
        if self.turns.may_begin() {
            let begun = thread_time();
            self.look(now_ns);
            self.turns.ended((thread_time() - begun).min(LONGEST_TURN), PARTS);
        }
        &self.last
    }

    fn look(&mut self, now_ns: u64) {
        let Self { memory, code, heap, size, goroutines, last, .. } = self;
        let mut objects = heap.as_mut().and_then(|heap| heap.count(memory));
        if let (Some(size), Some(objects)) = (size, &mut objects) {
            // What is counted needs no estimate from the sample. Where it cannot be read now, what was known stays.
            objects.retain(|count| count.counted != Counted::Heap);
            objects.extend(size.look(memory));
        }
        let goroutines = goroutines.as_mut().and_then(|goroutines| goroutines.count(memory, code, now_ns));
        // A process that ends while it is read keeps what it had.
        if objects.is_some() || goroutines.is_some() {
            *last = objects.into_iter().chain(goroutines).flatten().collect();
        }
    }
}

/// The code of a program, as its own table tells.
#[derive(Debug)]
pub struct Code {
    table: GoTable,
    /// How far the file lies from where it was linked.
    moved: u64,
    /// Whether functions are of the runtime, by their entries; `None` for what is no entry.
    names: RefCell<HashMap<u64, Option<bool>>>,
}

impl Code {
    /// The most functions that are kept in mind.
    const MOST: usize = 1 << 16;

    /// Whether an address is in a function.
    fn is_code(&self, address: u64) -> bool {
        self.table.function_at(address.wrapping_sub(self.moved)).is_some()
    }

    /// Whether a function begins at an address.
    fn is_entry(&self, address: u64) -> bool {
        self.look(address).is_some()
    }

    /// Whether the function at this entry is one that Go's runtime runs for itself.
    fn is_of_runtime(&self, address: u64) -> bool {
        self.look(address) == Some(true)
    }

    /// Whether the code in front of a return address is Go's runtime.
    fn is_in_runtime(&self, address: u64) -> bool {
        let found = self.table.function_at(address.wrapping_sub(self.moved).wrapping_sub(1));
        found.is_none_or(|(_, name)| name.starts_with("runtime."))
    }

    fn look(&self, address: u64) -> Option<bool> {
        let mut names = self.names.borrow_mut();
        if names.len() >= Self::MOST {
            names.clear();
        }
        *names.entry(address).or_insert_with(|| {
            let linked = address.wrapping_sub(self.moved);
            let (begin, name) = self.table.function_at(linked)?;
            (begin == linked).then(|| name.starts_with("runtime.") && name != "runtime.main")
        })
    }
}
