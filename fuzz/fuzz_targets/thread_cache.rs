//! The thread's cache from any bytes that pass for the code of `malloc`: none, or one whose bins begin behind
//! what stands before them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use memtrace::parts::allocator::thread_cache::{ThreadCache, find};

const ADDRESS: u64 = 0x1000;

fuzz_target!(|code: &[u8]| {
    let Some(cache) = find(code, ADDRESS, None) else { return };
    let (bins, least) = match cache {
        ThreadCache::Glibc { bins, .. } => (bins, 64),
        ThreadCache::Jemalloc { bins, .. } => (bins, 16),
    };
    assert!(bins >= least && bins % 8 == 0);
    assert_eq!(find(code, ADDRESS, Some(code.len() as u64)), Some(cache));
});
