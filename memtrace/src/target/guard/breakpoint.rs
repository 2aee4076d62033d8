//! Breakpoints of ours in copies of code: what a copy looks like, and what stood there.
//!
//! Whoever copies code that is being probed copies the breakpoints. In the copy no probe answers for them. A breakpoint in
//! memory is one of ours when what stands around it is what the file has around one of the probe sites.

use std::{fs::File, io, os::unix::fs::FileExt as _};

/// The instruction that probes put in place of a site's first byte: `int3`.
pub const INT3: u8 = 0xcc;

/// How many bytes before and behind a breakpoint are compared.
pub const AROUND: usize = 16;

/// Of these this many must be what the file has; the others may be breakpoints as well.
const LEAST_EQUAL: usize = 16;

/// A probe site: the byte that a breakpoint replaces, and what the file has around it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Breakpoint([u8; 2 * AROUND + 1]);

impl Breakpoint {
    /// The probe site at an offset of a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read there, or ends too soon.
    pub fn read(file: &File, offset: u64) -> io::Result<Self> {
        let mut bytes = [0; 2 * AROUND + 1];
        let start = offset.checked_sub(AROUND as u64).ok_or(io::ErrorKind::InvalidInput)?;
        file.read_exact_at(&mut bytes, start)?;
        Ok(Self(bytes))
    }

    /// The byte that stands there without a breakpoint.
    pub fn original(&self) -> u8 {
        self.0[AROUND]
    }

    /// Writes the breakpoint as one word of a message: hexadecimal digits.
    pub fn encode(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// From hexadecimal digits; `None` for anything else.
    pub fn decode(text: &str) -> Option<Self> {
        let mut bytes = [0; 2 * AROUND + 1];
        if text.len() != 2 * bytes.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Whether this site is at `index` of `memory`, whatever stands in its own byte. What `memory` does not reach is not
    /// compared.
    fn is_at(&self, memory: &[u8], index: usize) -> bool {
        let mut equal = 0;
        for (at, &byte) in self.0.iter().enumerate().filter(|&(at, _)| at != AROUND) {
            let found = (index + at).checked_sub(AROUND).and_then(|place| memory.get(place));
            match found {
                Some(&found) if found == byte => equal += 1,
                Some(&found) if found != INT3 => return false,
                _ => {}
            }
        }
        equal >= LEAST_EQUAL
    }
}

/// The site that is at `index` of `memory`.
pub fn at<'a>(sites: &'a [Breakpoint], memory: &[u8], index: usize) -> Option<&'a Breakpoint> {
    sites.iter().find(|site| site.is_at(memory, index))
}

/// The breakpoints of these sites in `memory`: their indices, and what belongs there.
pub fn find(sites: &[Breakpoint], memory: &[u8]) -> Vec<(usize, u8)> {
    let breakpoints = memory.iter().enumerate().filter(|&(_, &byte)| byte == INT3);
    breakpoints.filter_map(|(index, _)| Some((index, at(sites, memory, index)?.original()))).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    /// Bytes without breakpoints that hardly repeat.
    fn code(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|index| ((index * index * 7 + index / 3) % 200) as u8).collect()
    }

    fn site(code: &[u8], offset: usize) -> Breakpoint {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(code).expect("written");
        Breakpoint::read(&file, offset as u64).expect("inside the file")
    }

    #[test]
    fn breakpoints_in_a_copy_are_found_wherever_it_lies_and_near_each_other() {
        let code = code(400);
        let offsets = [40, 45, 300];
        let sites = offsets.map(|offset| site(&code, offset));
        let mut memory = vec![0x90; 123];
        memory.extend(&code);
        for offset in offsets {
            memory[123 + offset] = INT3;
        }
        // A breakpoint of somebody else's.
        memory[123 + 200] = INT3;
        let found = find(&sites, &memory);
        assert_eq!(found, offsets.map(|offset| (123 + offset, code[offset])));
        for (index, original) in found {
            memory[index] = original;
        }
        assert_eq!(find(&sites, &memory), []);
        assert_eq!(at(&sites, &memory, 123 + 45), Some(&sites[1]));
    }

    #[test]
    fn at_the_edge_of_what_can_be_read_half_of_the_context_is_enough() {
        let code = code(400);
        let sites = [site(&code, 40)];
        let mut memory = code[40..].to_vec();
        memory[0] = INT3;
        assert_eq!(find(&sites, &memory), [(0, code[40])]);
        assert_eq!(find(&sites, &memory[..10]), []);
        assert_eq!(find(&sites, &[INT3; 100]), []);
    }

    #[test]
    fn sites_too_near_a_files_ends_are_refused() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&[1; 64]).expect("written");
        assert!(Breakpoint::read(&file, 15).is_err() && Breakpoint::read(&file, 48).is_err());
        assert!(Breakpoint::read(&file, 16).is_ok() && Breakpoint::read(&file, 47).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes in prop::array::uniform32(any::<u8>()), last in any::<u8>()) {
            let mut all = [last; 33];
            all[..32].copy_from_slice(&bytes);
            prop_assert_eq!(Breakpoint::decode(&Breakpoint(all).encode()), Some(Breakpoint(all)));
        }

        #[test]
        fn other_text_is_none(text in "[0-9a-g+ ]{0,70}") {
            prop_assert!(Breakpoint::decode(&text).is_none() || text.len() == 66);
        }

        #[test]
        fn any_memory_is_searched(memory in prop::collection::vec(prop_oneof![Just(INT3), any::<u8>()], 0..200)) {
            let sites = [site(&code(100), 50)];
            prop_assert!(find(&sites, &memory).iter().all(|&(index, _)| memory[index] == INT3));
        }
    }
}
