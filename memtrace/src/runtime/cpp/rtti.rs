//! From the table of a class's virtual functions to the name of the class, by the Itanium C++ ABI that GCC and Clang follow
//! (<https://itanium-cxx-abi.github.io/cxx-abi/abi.html#vtable> and `#rtti`).
//!
//! ```text
//! object -> table of functions         class's description              table of the description's own class
//!           -16 offset to the object   0  table of its own class  ->    -8  description of that
//!            -8 class's description    8  name
//!             0 functions
//! ```
//!
//! A class is described by an object of one of three classes of the C++ library (`__cxxabiv1::__class_type_info` and two derived ones),
//! whose own descriptions have names that never change. So it does not matter which library that is, where it is, and whether anything has
//! symbols.

use std::collections::HashMap;

/// The names of the classes that describe classes.
const KINDS: [&[u8]; 3] = [
    b"N10__cxxabiv117__class_type_infoE",
    b"N10__cxxabiv120__si_class_type_infoE",
    b"N10__cxxabiv121__vmi_class_type_infoE",
];

/// Where a table has what is read of it, in bytes in front of its first function.
const OFFSET_TO_OBJECT: u64 = 16;
const DESCRIPTION: u64 = 8;

/// Where a description has its name.
const NAME: u64 = 8;

/// The most of them that are kept in mind: they are three for each C++ library.
const MAX_KINDS: usize = 1 << 10;

/// The memory of a process, as far as RTTI can be in it.
pub trait Image {
    /// Whether a file with code is mapped at an address: tables, descriptions and names are in such.
    fn is_file(&self, address: u64) -> bool;
    /// The 8-byte word at an address; `None` if there is none.
    fn word(&mut self, address: u64) -> Option<u64>;
    /// The text from an address to the next byte 0, without that; `None` if there is none, and where it is too long to be a name.
    fn text(&mut self, address: u64) -> Option<Vec<u8>>;
}

/// The mangled name of the class whose objects begin with this word; `None` if it is not that of any. What describes classes is kept in
/// `kinds`, by address.
pub fn class_name(image: &mut impl Image, kinds: &mut HashMap<u64, bool>, table: u64) -> Option<String> {
    let before = |bytes| table.checked_sub(bytes).filter(|at| at.is_multiple_of(8));
    let (offset, description) = (before(OFFSET_TO_OBJECT)?, before(DESCRIPTION)?);
    // A block begins with its object: nothing of that is in front of the pointer.
    if !image.is_file(offset) || image.word(offset)? != 0 {
        return None;
    }
    let description = image.word(description)?;
    let kind = file_word(image, description)?;
    let is_kind = match kinds.get(&kind) {
        Some(known) => *known,
        None => {
            let is_kind = describes_classes(image, kind).is_some();
            if kinds.len() < MAX_KINDS {
                kinds.insert(kind, is_kind);
            }
            is_kind
        }
    };
    is_kind.then(|| name(image, description)).flatten()
}

/// Whether this is the table of a class that describes classes. A program that is linked to one place has a copy of it beside its own
/// variables, which may be in no file.
fn describes_classes(image: &mut impl Image, table: u64) -> Option<()> {
    let description = table.checked_sub(DESCRIPTION).filter(|at| at.is_multiple_of(8))?;
    let description = image.word(description)?;
    file_word(image, description)?;
    let name = name(image, description)?;
    KINDS.contains(&name.as_bytes()).then_some(())
}

/// The name that a description has.
fn name(image: &mut impl Image, description: u64) -> Option<String> {
    let at = file_word(image, description.checked_add(NAME)?).filter(|&at| image.is_file(at))?;
    let text = image.text(at)?;
    // A star says that names of two descriptions that are alike are not of one class.
    let name = text.strip_prefix(b"*").unwrap_or(&text);
    let is_name = !name.is_empty() && name.iter().all(|byte| !byte.is_ascii_control() && *byte != b' ');
    is_name.then(|| String::from_utf8(name.to_vec()).ok()).flatten()
}

fn file_word(image: &mut impl Image, address: u64) -> Option<u64> {
    (address.is_multiple_of(8) && image.is_file(address)).then(|| image.word(address)).flatten()
}

/// Reads bytes as the memory of a process, from the address 4096 on, and returns the name of the class whose table the first two of them
/// say, as an address: for tests of hostile memory.
pub fn read_any(data: &[u8]) -> Option<String> {
    let (table, bytes) = data.split_first_chunk::<2>()?;
    class_name(&mut Bytes(bytes), &mut HashMap::new(), u16::from_le_bytes(*table).into())
}

/// Memory from [`Bytes::START`] on.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    const START: u64 = 4096;

    fn from(&self, address: u64) -> Option<&[u8]> {
        self.0.get(usize::try_from(address.checked_sub(Self::START)?).ok()?..)
    }
}

impl Image for Bytes<'_> {
    fn is_file(&self, address: u64) -> bool {
        self.from(address).is_some()
    }

    fn word(&mut self, address: u64) -> Option<u64> {
        self.from(address)?.first_chunk().copied().map(u64::from_le_bytes)
    }

    fn text(&mut self, address: u64) -> Option<Vec<u8>> {
        let bytes = self.from(address)?;
        let end = bytes.iter().position(|&byte| byte == 0)?;
        Some(bytes[..end].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::prelude::*;

    use super::*;

    /// Memory with a class of this name, described by a class of that one, and the address of its table.
    fn memory(class: &[u8], kind: &[u8], offset: u64) -> Vec<u8> {
        let start = Bytes::START;
        // The class's table, its description, the table of that, and its description.
        let (table, description, of_kind, kind_description) = (start + 16, start + 32, start + 56, start + 64);
        let (name, kind_name) = (start + 80, start + 81 + class.len() as u64);
        let words = [offset, description, 0, start, of_kind, name, kind_description, 0, of_kind, kind_name];
        let mut bytes = (table as u16).to_le_bytes().to_vec();
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend([class, b"\0", kind, b"\0"].concat());
        bytes
    }

    #[test]
    fn a_class_is_known_by_what_describes_it() {
        for kind in KINDS {
            assert_eq!(read_any(&memory(b"N3app7SessionE", kind, 0)).as_deref(), Some("N3app7SessionE"));
        }
        assert_eq!(read_any(&memory(b"*Z4mainE3Job", KINDS[0], 0)).as_deref(), Some("Z4mainE3Job"));
        assert_eq!(read_any(&memory(b"N3app7SessionE", b"N10__cxxabiv123__fundamental_type_infoE", 0)), None);
        assert_eq!(read_any(&memory(b"N3app7SessionE", KINDS[1], 8)), None, "a part of an object");
        for odd in [&b""[..], b"*", b"two words", b"\x1b[31m", b"\xff\xfe"] {
            assert_eq!(read_any(&memory(odd, KINDS[1], 0)), None, "{odd:?}");
        }
    }

    /// The fuzzer's seeds, whole and damaged at each byte.
    #[test]
    fn the_fuzzers_seeds_are_read_whatever_becomes_of_them() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/cpp");
        let mut seeds = 0;
        for seed in fs::read_dir(folder).expect("the seeds") {
            let bytes = fs::read(seed.expect("a seed").path()).expect("a seed");
            assert!(read_any(&bytes).is_some());
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0xff;
                let _ = (read_any(&damaged), read_any(&bytes[..at]));
            }
            seeds += 1;
        }
        assert!(seeds >= 3, "{seeds} seeds");
    }

    proptest! {
        #[test]
        fn any_memory_is_read_to_an_end(data in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read_any(&data);
        }

        /// Words that lead to one another.
        #[test]
        fn memory_that_leads_to_itself_is_read_to_an_end(
            table in 4096u16..4400,
            words in prop::collection::vec(4090u64..4400, 0..40),
        ) {
            let data: Vec<u8> =
                table.to_le_bytes().into_iter().chain(words.iter().flat_map(|word| word.to_le_bytes())).collect();
            let _ = read_any(&data);
        }
    }
}
