//! What a target's memory can say of code of Ruby. The first four bytes are the lowest half of an instruction's address; the rest is memory from the
//! address 4096 on, with the code at its beginning.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = memtrace::parts::runtime::ruby::read_any(data);
});
