//! What reports call the types of objects that live in V8's heaps.
//!
//! An object is called as what made it is, and one that `{...}` made by its properties too, since there are many such. What the language
//! has no name for stands in parentheses, as in the tools of browsers.

use super::{super::heap::Heap, kinds::Kind};
use crate::runtime::v8::heap::is_object;

/// In a type: what made its objects, or the type that it was made from.
const MAKER: u64 = 32;
/// In a type: the names of its objects' properties.
const DESCRIPTORS: u64 = 40;
/// In a type: how many properties its objects have, among other things.
const PROPERTIES: u64 = 16;
/// Where the number of properties is in that word.
const PROPERTIES_SHIFT: u32 = 10;
const PROPERTIES_MASK: u64 = 0x3ff;
/// Between two names of properties.
const DESCRIPTOR_BYTES: u64 = 24;
/// How long the ways are from a type to the first one it was made from.
const MAX_STEPS: usize = 256;
/// How many names of properties stand in the name of a type.
const MAX_PROPERTIES: u64 = 4;
/// The most characters of one of them.
const MAX_CHARACTERS: usize = 40;

/// The name of objects of a kind that has one for all.
pub fn of_kind(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Receiver(_) | Kind::ArrayBuffer | Kind::WeakCollection | Kind::WeakRef => None,
        Kind::String(_) => Some("(strings)"),
        Kind::Number => Some("(numbers)"),
        Kind::Function => Some("(functions)"),
        Kind::Elements | Kind::Numbers | Kind::Properties | Kind::WeakTable => {
            Some("(storage of objects, arrays and maps)")
        }
        Kind::Context => Some("(variables of functions)"),
        _ => Some("(code and types of V8)"),
    }
}

/// Reads the names of the types of one process.
#[derive(Debug)]
pub struct Names {
    /// The heap that is read.
    pub heap: Heap,
    /// Where the names of properties begin.
    pub descriptors_begin: u64,
    /// The number of the type of types.
    pub map_type: u16,
}

impl Names {
    /// What stands for the name of a type: it is another where the address is another type's.
    pub fn identity(&self, map: u64) -> Option<(u64, u64)> {
        Some((self.heap.word(map, MAKER)?, self.heap.word(map, DESCRIPTORS)?))
    }

    /// The name of objects of the language of this type.
    pub fn read(&self, map: u64) -> String {
        let maker = self.maker(map).unwrap_or_default();
        match maker.as_str() {
            "" | "Object" => self.properties(map),
            _ => maker,
        }
    }

    /// The name of the function that made the objects of a type.
    fn maker(&self, map: u64) -> Option<String> {
        let mut at = map;
        for _ in 0..MAX_STEPS {
            at = self.heap.word(at, MAKER)?;
            let kind = self.heap.type_of(at)?;
            if kind != self.map_type {
                break;
            }
        }
        let shared = self.heap.word(at, self.heap.layout.shared).filter(|&shared| is_object(shared))?;
        (self.heap.type_of(shared)? == self.heap.layout.shared_type).then_some(())?;
        self.heap.name(shared)
    }

    /// A name by the properties that objects of a type have.
    fn properties(&self, map: u64) -> String {
        let count = self.heap.word(map, PROPERTIES).map_or(0, |word| word >> PROPERTIES_SHIFT & PROPERTIES_MASK);
        let descriptors = self.heap.word(map, DESCRIPTORS).unwrap_or_default();
        let name = |index: u64| {
            let key = self.heap.word(descriptors, self.descriptors_begin + DESCRIPTOR_BYTES * index)?;
            let name = self.heap.string(key).filter(|name| !name.is_empty())?;
            Some(name.chars().take(MAX_CHARACTERS).collect::<String>())
        };
        let mut names: Vec<String> = (0..count.min(MAX_PROPERTIES)).map_while(name).collect();
        if names.is_empty() {
            return "Object".to_owned();
        }
        if count > names.len() as u64 {
            names.push("...".to_owned());
        }
        format!("Object {{{}}}", names.join(", "))
    }
}
