//! V8, the JavaScript engine of Node, Deno and others: its heap as a whole.
//!
//! V8 asks the system for pages of 256 KiB, and for objects larger than half of that by themselves. Which stack asks for a page is chance, and
//! often a thread of the collector: the stacks tell nobody who leaks. All pages together are the heap, and what is left of it after
//! collections is what JavaScript holds. V8 counts its collections of all of the heap, and what lived through the last one: both are read
//! from outside ([`Heaps`]).

mod heaps;
mod layout;

pub use self::heaps::{Heap, Heaps};
use crate::object::{mapped::MappedObject, symbols::ElfFile};

/// What reports call the heap that V8 manages.
pub const HEAP: &str = "JavaScript heap";

/// A constant that V8 exports for debuggers, in each version since Node 12.
const MARK: &str = "v8dbg_HeapObjectTag";

/// How the names of the functions begin by which V8 asks for pages of its heap.
const ALLOCATOR: &str = "v8::internal::MemoryAllocator::";

/// How the names of the functions begin that make memory which only collections free: what ArrayBuffers, and so Buffers, hold.
const COLLECTED: [&str; 7] = [
    "v8::ArrayBuffer::",
    "v8::SharedArrayBuffer::",
    "v8::BackingStore::",
    "v8::internal::BackingStore::",
    "v8::internal::JSArrayBuffer::",
    "node::NodeArrayBufferAllocator::",
    "node::Buffer::",
];

/// The file in which V8 is, of these.
pub fn find(objects: &[MappedObject]) -> Option<&MappedObject> {
    objects.iter().find(|object| {
        let file = object.open().ok().map(|(_, file)| file);
        let elf = file.and_then(|file| ElfFile::parse(file).ok());
        elf.is_some_and(|elf| elf.exports(MARK).unwrap_or(false))
    })
}

/// Whether this function makes memory that is freed when the object which holds it is collected.
pub fn makes_collected(function: &str) -> bool {
    COLLECTED.iter().any(|name| function.starts_with(name))
}

/// How the names of the functions begin by which V8 notes what it needs of its pages: which of their words lead to other pages, and what is
/// free in them.
const NOTES: [&str; 7] = [
    ALLOCATOR,
    "v8::internal::MemoryChunk::",
    "v8::internal::MutablePage",
    "v8::internal::Page::",
    "v8::internal::Heap::InsertIntoRememberedSet",
    "v8::internal::Heap_",
    "v8::internal::WriteBarrier::",
];

/// Whether this function is the part of V8 that notes what it needs of its pages.
pub fn notes_of_pages(function: &str) -> bool {
    NOTES.iter().any(|name| function.starts_with(name)) || function.contains("v8::internal::RememberedSet<")
}

/// Whether this function is the part of V8 that asks the system for pages.
pub fn asks_for_pages(function: &str) -> bool {
    function.starts_with(ALLOCATOR)
}
