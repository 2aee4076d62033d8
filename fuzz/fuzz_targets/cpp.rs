//! What a target's memory can say of a C++ class. The first two bytes are where the table of its functions is; the rest is memory from the address 4096 on.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = memtrace::parts::runtime::cpp::read_any(data);
});
