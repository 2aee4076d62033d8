//! The thread's cache from any bytes that pass for the code of `malloc`: none, or one whose counts end before its bins.

#![no_main]

use libfuzzer_sys::fuzz_target;
use memtrace::allocator::thread_cache::find;

const ADDRESS: u64 = 0x1000;

fuzz_target!(|code: &[u8]| {
    let Some(cache) = find(code, ADDRESS, None) else { return };
    assert!(cache.bins >= 64 && cache.bins % 8 == 0);
    assert_eq!(find(code, ADDRESS, Some(code.len() as u64)), Some(cache));
});
