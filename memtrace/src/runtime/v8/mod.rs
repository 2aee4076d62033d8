//! V8, the JavaScript engine of Node, Deno and others: its heap as a whole.
//!
//! V8 asks the system for pages of 256 KiB, and for objects larger than half of that by themselves. Which stack asks for a page is chance, and
//! often a thread of the collector: the stacks tell nobody who leaks. All pages together are the heap, and what is left of it after
//! collections is what JavaScript holds.

use crate::object::{mapped::MappedObject, symbols::ElfFile};

/// What reports call the heap that V8 manages.
pub const HEAP: &str = "JavaScript heap";

/// A constant that V8 exports for debuggers, in each version since Node 12.
const MARK: &str = "v8dbg_HeapObjectTag";

/// How the names of the functions begin by which V8 asks for pages of its heap.
const ALLOCATOR: &str = "v8::internal::MemoryAllocator::";

/// Whether V8 is in one of these files.
pub fn is_in(objects: &[MappedObject]) -> bool {
    objects.iter().any(|object| {
        let file = object.open().ok().map(|(_, file)| file);
        let elf = file.and_then(|file| ElfFile::parse(file).ok());
        elf.is_some_and(|elf| elf.exports(MARK).unwrap_or(false))
    })
}

/// Whether this function is the part of V8 that asks the system for pages.
pub fn asks_for_pages(function: &str) -> bool {
    function.starts_with(ALLOCATOR)
}
