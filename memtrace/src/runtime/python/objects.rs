//! Python objects in the memory of a process: strings, and the code of functions.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::{
    layout::{self, Layout},
    lines::Lines,
};
use crate::{
    object::maps::Mapping,
    runtime::{
        Code, Language, Memory,
        chain::BEFORE,
        code::LineTable,
        memory::{half_word_at, word_at},
    },
};

/// The most characters of a name or path; longer ones are cut.
const MAX_CHARACTERS: u64 = 1024;
/// The longest table of lines: some 30,000 lines in one function.
const MAX_TABLE_BYTES: u64 = 64 << 10;

/// Reads the code objects of one process.
#[derive(Debug)]
pub struct Reader {
    pub(super) memory: Memory,
    pub(super) layout: &'static Layout,
    /// The address of the type of code objects.
    pub(super) code_type: u64,
}

impl Reader {
    /// What the process maps from now on.
    pub fn confine(&mut self, mappings: &[Mapping]) {
        self.memory.confine(mappings);
    }

    /// The code object at this address now; `None` if there is none.
    pub fn read(&self, address: u64) -> Option<Code> {
        let object = self.object(address)?;
        let at = |offset: u64| word_at(&object, offset as usize);
        let code = &self.layout.code;
        let first = half_word_at(&object, code.first_line as usize)?;
        let table = self.table(at(code.lines)?);
        Some(Code {
            language: Language::Python,
            module: Language::Python.module(),
            name: self.name(&object)?,
            file: self.string(at(code.file)?),
            instruction_bytes: self.instruction_bytes(&object)?,
            lines: table.map(|table| LineTable::Python(Lines { form: code.form, first, table })),
        })
    }

    /// Stands for the code object at this address: other code there has another name, file or table.
    pub fn identity(&self, address: u64) -> Option<u64> {
        let object = self.object(address)?;
        let code = &self.layout.code;
        let mut hasher = DefaultHasher::new();
        for offset in [code.name, code.file, code.lines] {
            word_at(&object, offset as usize)?.hash(&mut hasher);
        }
        half_word_at(&object, code.first_line as usize)?.hash(&mut hasher);
        Some(hasher.finish())
    }

    /// Whether the code object at this address has a name, and an instruction at this offset if the frame has come to one.
    pub fn is_code(&self, address: u64, offset: u32) -> bool {
        self.object(address).is_some_and(|object| {
            let has_it = self.instruction_bytes(&object).is_some_and(|bytes| u64::from(offset) < bytes);
            (has_it || offset == BEFORE) && self.name(&object).is_some()
        })
    }

    /// The name of the function whose code object this is.
    fn name(&self, object: &[u8]) -> Option<String> {
        self.string(word_at(object, self.layout.code.name as usize)?)
    }

    fn instruction_bytes(&self, object: &[u8]) -> Option<u64> {
        /// Bytes of a unit of code.
        const UNIT: u64 = 2;
        match self.layout.code.first_instruction {
            Some(_) => word_at(object, layout::SIZE as usize)?.checked_mul(UNIT),
            None => {
                let bytes = word_at(object, self.layout.code.instructions as usize)?;
                self.memory.word(bytes.checked_add(layout::SIZE)?)
            }
        }
    }

    /// The bytes of the code object at this address.
    fn object(&self, address: u64) -> Option<Vec<u8>> {
        let object = self.memory.at_most(address, self.layout.code.bytes(), 256)?;
        (word_at(&object, layout::TYPE as usize)? == self.code_type).then_some(object)
    }

    fn table(&self, address: u64) -> Option<Vec<u8>> {
        let bytes = self.memory.word(address.checked_add(layout::SIZE)?)?;
        self.memory.at_most(address.checked_add(layout::BYTES)?, bytes, MAX_TABLE_BYTES)
    }

    /// The text of the string at this address, cut where it is very long.
    fn string(&self, address: u64) -> Option<String> {
        let head = self.memory.bytes::<40>(address)?;
        let length = word_at(&head, layout::LENGTH as usize)?.min(MAX_CHARACTERS);
        let state = head[layout::STATE as usize];
        let (width, is_compact, is_ascii) = (state >> 2 & 7, state >> 5 & 1 != 0, state >> 6 & 1 != 0);
        if !is_compact || !matches!(width, 1 | 2 | 4) || is_ascii && width != 1 {
            return None;
        }
        let head = if is_ascii { self.layout.ascii_head } else { self.layout.compact_head };
        let bytes = self.memory.at_most(address.checked_add(head)?, length * u64::from(width), 4 * MAX_CHARACTERS)?;
        Some(text(&bytes, width))
    }
}

/// Characters of a string, each of so many bytes.
fn text(bytes: &[u8], width: u8) -> String {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u32, |number, &byte| number << 8 | u32::from(byte));
    bytes
        .chunks_exact(width.into())
        .map(|bytes| char::from_u32(number(bytes)).unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_have_one_two_or_four_bytes() {
        assert_eq!(text(b"caf\xe9", 1), "café");
        assert_eq!(text(&[0x42, 0, 0x16, 0x4e], 2), "B\u{4e16}");
        assert_eq!(text(&[0x00, 0xf6, 0x01, 0, 0xff, 0xff, 0xff, 0xff], 4), "\u{1f600}\u{fffd}");
    }
}
