//! What a target's memory and files can say of Python: a table of lines, and the code of a function that returns a thread's state. The
//! first byte says which form of table, the next four which instruction; the rest is table and code.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memtrace::parts::runtime::{Form, Lines, variable};

fuzz_target!(|data: &[u8]| {
    let [form, a, b, c, d, rest @ ..] = data else { return };
    let form = [Form::Pairs, Form::Ranges, Form::Locations][usize::from(*form) % 3];
    let offset = u32::from_le_bytes([*a, *b, *c, *d]);
    let lines = Lines { form, first: offset >> 3, table: rest.to_vec() };
    let _ = lines.line(offset);
    let _ = variable(rest, u64::from(offset) << 20);
});
