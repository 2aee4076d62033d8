//! Rules from any bytes that pass for code: rows within the code or at the byte before it, and the same each time.

#![no_main]

use libfuzzer_sys::fuzz_target;
use memtrace::parts::unwind::decode::{Stretch, decode};

const ADDRESS: u64 = 0x1000;

fuzz_target!(|code: &[u8]| {
    let stretches = [Stretch { start: ADDRESS, bytes: code.to_vec() }];
    // Without a known start, and with one at each seventh byte.
    let starts: Vec<u64> = (0..code.len() as u64).step_by(7).map(|offset| ADDRESS + offset).collect();
    for starts in [&[][..], &starts] {
        let decoded = decode(&stretches, starts);
        let end = ADDRESS + code.len() as u64;
        assert!(decoded.rows.keys().all(|address| (ADDRESS - 1..=end).contains(address)));
        assert_eq!(decoded, decode(&stretches, starts));
    }
});
