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
const COLLECTED: [&str; 10] = [
    "v8::ArrayBuffer::",
    "v8::SharedArrayBuffer::",
    "v8::BackingStore::",
    "v8::internal::BackingStore::",
    "v8::internal::JSArrayBuffer::",
    "node::NodeArrayBufferAllocator::",
    "v8::internal::Builtin_ArrayBuffer",
    "v8::internal::Builtin_SharedArrayBuffer",
    "node::Buffer::",
    "node::BaseObject::",
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

/// How the names of the functions begin that are V8's inside: what they allocate is V8's own.
const INSIDE: [&str; 5] = ["v8::internal::", "v8::base::", "v8::platform::", "cppgc::internal::", "heap::base::"];

/// How the names of the functions begin by which V8 asks for memory, and those of the libraries that it is built with.
const LIBRARIES: [&str; 10] = [
    "operator new",
    "v8::internal::Malloced::operator new",
    "v8::base::Malloc",
    "v8::base::Calloc",
    "std::",
    "absl::",
    "__gnu_cxx::",
    "__GI_",
    "malloc",
    "strdup",
];

/// Whether this function is none of V8's, or only gives memory: whoever calls it asks for that.
pub fn is_library(function: &str) -> bool {
    let name = function.strip_prefix("void ").unwrap_or(function);
    LIBRARIES.iter().any(|library| name.starts_with(library))
}

/// Whether this function is of V8's inside. What it allocates V8 notes of its pages, of compiled code and of its threads, and goes as these do.
pub fn is_inside(function: &str) -> bool {
    // A template begins with what it returns.
    let name = function.strip_prefix("void ").unwrap_or(function);
    INSIDE.iter().any(|inside| name.starts_with(inside))
}

/// Whether this function is the part of V8 that asks the system for pages.
pub fn asks_for_pages(function: &str) -> bool {
    function.starts_with(ALLOCATOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_memory_it_is_is_told_by_who_asks_for_it() {
        let asks = |functions: &[&'static str]| functions.iter().copied().find(|function| !is_library(function));
        let note = [
            "operator new(unsigned long)",
            "void std::vector<v8::internal::Page*>::push_back()",
            "v8::internal::Sweeper::Run()",
        ];
        assert!(asks(&note).is_some_and(is_inside));
        let addon = ["operator new(unsigned long)", "leak()", "v8::internal::FunctionCallbackArguments::Call()"];
        assert!(!asks(&addon).is_some_and(is_inside));
        assert!(makes_collected("v8::ArrayBuffer::New(v8::Isolate*, unsigned long)"));
        assert!(
            !makes_collected("v8::internal::Sweeper::Run()") && !makes_collected("node::http_parser::Parser::New()")
        );
    }
}
