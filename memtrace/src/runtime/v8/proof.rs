//! The proof that V8's heap is laid out as memtrace expects: the types are found by their own structure, and then functions by their type.
//!
//! Whether JavaScript runs at the moment does not matter, so that an idle server is proved as well.

use std::collections::HashMap;

use super::{
    heap::{Heap, is_object, small},
    layout::{self, FIRST_NO_STRING},
    positions::{Form, entries},
};
use crate::object::maps::Mapping;

/// The most bytes of a mapping that holds what never changes.
const MAX_READ_ONLY_BYTES: u64 = 4 << 20;
/// The most such mappings.
const MAX_READ_ONLY: usize = 64;
/// Bytes of the heap that are read at once, and at most.
const PIECE: u64 = 256 << 10;
const MAX_SCANNED_BYTES: u64 = 256 << 20;
/// Functions that are looked at, and how many of them there have to be at least.
const LOOKED_AT: usize = 1024;
const ENOUGH: usize = 8;
/// What share of them has to be as expected, as one part in this many: memory that was freed may still hold some that are not whole.
const SHARE: usize = 2;

/// The types that the kernel's side and the readers look for: pointers to maps.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Types {
    /// Of what describes functions.
    pub shared: u64,
    /// Of bytecode.
    pub bytecode: u64,
    /// Of the instructions of compiled code.
    pub stream: u64,
}

/// What a look at the heap has shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proof {
    /// The heap is as expected, and its tables of positions have this form.
    Proved(Types, Form),
    /// There is no heap yet.
    Waiting,
    /// What was found is not as expected.
    Failed,
}

/// Looks at the heap of a process that maps these, and takes over what only the heap says: the type of scripts.
pub fn prove(heap: &mut Heap, mappings: &[Mapping]) -> Proof {
    let Some(types) = types(heap, mappings) else { return Proof::Waiting };
    let functions = functions(heap, mappings, types.shared);
    if functions.len() < ENOUGH {
        return Proof::Waiting;
    }
    heap.layout.script_type = most_common(functions.iter().filter_map(|&function| {
        let script = heap.word(function, heap.layout.script)?;
        let source = heap.word(script, heap.layout.source)?;
        heap.type_of(source).filter(|&kind| kind < FIRST_NO_STRING)?;
        heap.type_of(script).filter(|&kind| kind >= FIRST_NO_STRING)
    }));
    let heap = &*heap;
    let mut tables = Vec::new();
    let mut proved = 0;
    for &function in &functions {
        proved += usize::from(is_function(heap, function));
        if let Some(bytecode) = heap.bytecode(function)
            && let Some(length) = heap.word(bytecode, layout::SIZE).and_then(small)
            && let Some(table) = heap.positions(bytecode)
        {
            tables.push((i64::from(length), table));
        }
    }
    // Most functions have no bytecode until they are called.
    if tables.len() < ENOUGH {
        return Proof::Waiting;
    }
    let fits = |form| {
        let fits = |(length, table): &&(i64, Vec<u8>)| entries(table, form).all(|(offset, _)| offset < *length);
        tables.iter().filter(fits).count()
    };
    let (form, fitting) = [Form::Tagged, Form::Signed]
        .map(|form| (form, fits(form)))
        .into_iter()
        .max_by_key(|form| form.1)
        .unwrap_or_default();
    let is_most = |part: usize, of: usize| part >= ENOUGH && part > of / SHARE;
    match is_most(proved, functions.len()) && is_most(fitting, tables.len()) {
        true => Proof::Proved(types, form),
        false => Proof::Failed,
    }
}

/// Whether what describes a function has a name or a scope, and a script with a name or none of these yet.
fn is_function(heap: &Heap, function: u64) -> bool {
    let Some(name) = heap.word(function, heap.layout.name) else { return false };
    let is_named = small(name).is_some()
        || heap.type_of(name).is_some_and(|kind| kind < FIRST_NO_STRING || kind == heap.layout.scope_type);
    // Functions that are built in have a constant of the language in place of a script.
    let has_script = heap.word(function, heap.layout.script).is_some_and(is_object);
    is_named && has_script
}

/// The number that comes most often; 0 for none.
fn most_common(numbers: impl Iterator<Item = u16>) -> u16 {
    let mut counts: HashMap<u16, usize> = HashMap::new();
    numbers.for_each(|number| *counts.entry(number).or_default() += 1);
    counts.into_iter().max_by_key(|&(_, count)| count).map_or(0, |(number, _)| number)
}

/// The types, which are in memory that cannot be written, each of the type of types, which is its own type.
fn types(heap: &Heap, mappings: &[Mapping]) -> Option<Types> {
    let is_constant = |mapping: &&Mapping| {
        mapping.inode == 0 && mapping.path.is_none() && mapping.readable && !mapping.writable && !mapping.executable
    };
    let read = |mapping: &Mapping| {
        let bytes = heap.memory.at_most(mapping.start, mapping.end - mapping.start, MAX_READ_ONLY_BYTES)?;
        Some((mapping.start, bytes))
    };
    let pieces: Vec<(u64, Vec<u8>)> =
        mappings.iter().filter(is_constant).take(MAX_READ_ONLY).filter_map(read).collect();
    let word = |bytes: &[u8], index: usize| crate::runtime::memory::word_at(bytes, 8 * index).unwrap_or(0);
    let objects = || {
        pieces.iter().flat_map(|(start, bytes)| {
            (0..bytes.len() / 8).map(move |index| (start + 8 * index as u64 + 1, word(bytes, index)))
        })
    };
    let meta = objects().find(|&(object, map)| object == map)?.0;
    let of_type = |wanted: u16| {
        let mut found = objects().filter(|&(object, map)| map == meta && instance_type(heap, object) == Some(wanted));
        // There is one, or it is not known which is meant.
        found.next().map(|(object, _)| object).filter(|_| found.next().is_none())
    };
    Some(Types {
        shared: of_type(heap.layout.shared_type)?,
        bytecode: of_type(heap.layout.bytecode_type)?,
        stream: of_type(heap.layout.stream_type)?,
    })
}

/// The number of the type that this map is.
fn instance_type(heap: &Heap, map: u64) -> Option<u16> {
    let bytes = heap.memory.bytes::<2>((map - 1).checked_add(heap.layout.instance_type)?)?;
    Some(u16::from_ne_bytes(bytes))
}

/// Some of the objects of the heap that describe functions.
fn functions(heap: &Heap, mappings: &[Mapping], shared: u64) -> Vec<u64> {
    let mut found = Vec::new();
    let mut scanned = 0;
    let is_heap =
        |mapping: &&Mapping| mapping.inode == 0 && mapping.path.is_none() && mapping.readable && mapping.writable;
    for mapping in mappings.iter().filter(is_heap) {
        let mut at = mapping.start;
        while at < mapping.end && scanned < MAX_SCANNED_BYTES {
            let bytes = PIECE.min(mapping.end - at);
            scanned += bytes;
            let piece = heap.memory.at_most(at, bytes, PIECE).unwrap_or_default();
            let is_shared =
                |(index, word): (usize, &[u8])| (word == shared.to_ne_bytes()).then_some(at + 8 * index as u64 + 1);
            // Where the type stands by chance, what follows is no function.
            let candidates = piece.chunks_exact(8).enumerate().filter_map(is_shared);
            found.extend(candidates.filter(|&object| heap.word(object, layout::DATA).is_some_and(is_object)));
            if found.len() >= LOOKED_AT {
                return found;
            }
            at += bytes;
        }
    }
    found
}
