//! What a target's memory can say of a function of PHP. The first byte says of which version, the next four the lowest half of an instruction's
//! address; the rest is memory from the address 4096 on, with the function at its beginning.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = memtrace::parts::runtime::php::read_any(data);
});
