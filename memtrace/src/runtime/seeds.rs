//! The seeds of fuzzers of functions that are read from memory, as plain tests.

use std::{collections::HashMap, fs, path::Path};

/// Reads each seed of a fuzzer, whole, damaged at each byte and cut there: whole it is a function with this name, and this line.
///
/// # Panics
/// When one is read otherwise, is not expected, or is missing.
pub fn are_read(
    fuzzer: &str,
    read: impl Fn(&[u8]) -> Option<(String, Option<u32>)>,
    expected: &[(&str, &str, Option<u32>)],
) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(fuzzer);
    let mut missing: HashMap<&str, (&str, Option<u32>)> =
        expected.iter().map(|&(seed, function, line)| (seed, (function, line))).collect();
    for seed in fs::read_dir(folder).expect("the seeds") {
        let seed = seed.expect("a seed").path();
        let name = seed.file_name().and_then(|name| name.to_str()).expect("a name");
        let expected = missing.remove(name).unwrap_or_else(|| panic!("{name} is not known"));
        let bytes = fs::read(&seed).expect("a seed");
        let (function, line) = read(&bytes).expect("a function");
        assert_eq!((function.as_str(), line), expected, "{seed:?}");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            let _ = read(&damaged);
            let _ = read(&bytes[..at]);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}
