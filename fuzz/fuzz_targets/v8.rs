//! What a target's memory can say of JavaScript: a table of source positions, and bytecode with the table of its baseline code. The first byte
//! says which form of table or which version of V8, the next four which instruction; the rest is the table, or the length of the
//! bytecode in two bytes, the bytecode and the table.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memtrace::parts::runtime::v8;

fuzz_target!(|data: &[u8]| v8::read_any(data));
