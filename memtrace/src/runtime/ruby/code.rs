//! Code of Ruby in the memory of a process: names, files, and the lines of instructions.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::{
    layout::{self, ARRAY_KIND, CODE_KIND, STRING_KIND},
    places,
};
use crate::{
    object::maps::Mapping,
    runtime::{
        Code, Language, Memory,
        code::LineTable,
        lines::LinesByAddress,
        memory::{IMAGE_BEGIN, half_word_at, image, word_at},
    },
};

/// The most bytes of a name or path; longer ones are cut.
const MAX_TEXT_BYTES: u64 = 4096;

/// The most words of instructions in one piece of code, and the most entries of its table of lines.
const MAX_PLACES: u64 = 1 << 16;

/// Bytes from one place for an instruction to the next.
const WORD: u32 = 8;

/// Reads the code of one process.
#[derive(Debug)]
pub struct Reader {
    pub(super) memory: Memory,
}

impl Reader {
    /// What the process maps from now on.
    pub fn confine(&mut self, mappings: &[Mapping]) {
        self.memory.confine(mappings);
    }

    /// The code at this address now; `None` if there is none.
    pub fn read(&self, address: u64) -> Option<Code> {
        Source(|address, length, limit| self.memory.at_most(address, length, limit)).code(address)
    }

    /// Stands for the code at this address: other code there has another body, or other instructions.
    pub fn identity(&self, address: u64) -> Option<u64> {
        let body = self.memory.word(address.checked_add(layout::BODY)?)?;
        let instructions = self.memory.word(body.checked_add(layout::INSTRUCTIONS)?)?;
        let mut hasher = DefaultHasher::new();
        (body, instructions).hash(&mut hasher);
        Some(hasher.finish())
    }
}

/// Memory: so many bytes from an address on, if they are no more than the limit.
struct Source<R>(R);

impl<R: Fn(u64, u64, u64) -> Option<Vec<u8>>> Source<R> {
    fn word(&self, address: u64, at: u64) -> Option<u64> {
        word_at(&(self.0)(address.checked_add(at)?, 8, 8)?, 0)
    }

    /// The kind of the object at an address, if it is this one.
    fn kind(&self, address: u64, (mask, kind): (u64, u64)) -> Option<u64> {
        self.word(address, layout::KIND).filter(|word| word & mask == kind)
    }

    fn code(&self, address: u64) -> Option<Code> {
        self.kind(address, CODE_KIND)?;
        let body = self.word(address, layout::BODY)?;
        let body = (self.0)(body, layout::BODY_BYTES, layout::BODY_BYTES)?;
        let at = |offset: u64| word_at(&body, offset as usize);
        Some(Code {
            language: Language::Ruby,
            module: Language::Ruby.module(),
            name: self.string(at(layout::NAME)?)?,
            file: Some(self.file(at(layout::FILE)?)?),
            instruction_bytes: u64::MAX,
            lines: Some(LineTable::ByAddress(self.lines(&body)?)),
        })
    }

    /// A file: a string, or an array that has the one by which it was loaded first.
    fn file(&self, address: u64) -> Option<String> {
        let Some(kind) = self.kind(address, ARRAY_KIND) else { return self.string(address) };
        // Short arrays have the flag that says of strings that they lie elsewhere.
        match kind & layout::ELSEWHERE {
            0 => self.string(self.word(self.word(address, layout::ELEMENTS_ADDRESS)?, 0)?),
            _ => self.string(self.word(address, layout::ELEMENTS)?),
        }
    }

    fn string(&self, address: u64) -> Option<String> {
        let kind = self.kind(address, STRING_KIND)?;
        let (text, length) = match kind & layout::ELSEWHERE {
            0 => (address.checked_add(layout::LENGTH)?, kind >> layout::LENGTH_SHIFT & 0x1f),
            _ => (self.word(address, layout::ADDRESS)?, self.word(address, layout::LENGTH)?),
        };
        let bytes = (self.0)(text, length.min(MAX_TEXT_BYTES), MAX_TEXT_BYTES)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The lines of a body's instructions. A frame has the address of the one that is next: that before it is the one that it is at.
    fn lines(&self, body: &[u8]) -> Option<LinesByAddress> {
        let word = |at: u64| word_at(body, at as usize);
        let count = |at: u64| half_word_at(body, at as usize).map(u64::from).filter(|&count| count <= MAX_PLACES);
        let (places, entries) = (count(layout::INSTRUCTION_COUNT)?, count(layout::LINE_COUNT)?);
        let lines = (self.0)(word(layout::LINES)?, entries * layout::LINE_BYTES, MAX_PLACES * layout::LINE_BYTES)?;
        let lines: Vec<u32> =
            lines.chunks_exact(layout::LINE_BYTES as usize).filter_map(|entry| half_word_at(entry, 0)).collect();
        let table = match lines.len() {
            0 => return None,
            // There is no table where all is one line.
            1 => Vec::new(),
            _ => {
                let bytes = places::table_bytes(places as usize) as u64;
                (self.0)(word(layout::PLACES)?, bytes, 2 * MAX_PLACES)?
            }
        };
        let line = |next: u64| {
            let place = next.saturating_sub(1) as usize;
            let entry = if lines.len() == 1 { 1 } else { places::entries_up_to(&table, place)? };
            lines.get(entry.checked_sub(1)?).copied()
        };
        let lines = (0..=places).map(line).collect::<Option<_>>()?;
        Some(LinesByAddress { first: word(layout::INSTRUCTIONS)? as u32, unit: WORD, lines })
    }
}

/// Reads bytes as memory from the address 4096 on, with code at its beginning, for tests of hostile memory: the first four are the lowest half of
/// an instruction's address. The code's name, and the instruction's line.
pub fn read_any(data: &[u8]) -> Option<(String, Option<u32>)> {
    let (address, memory) = data.split_first_chunk::<4>()?;
    let code = Source(image(memory)).code(IMAGE_BEGIN)?;
    let line = code.line(u32::from_le_bytes(*address));
    Some((code.name, line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::seeds;

    /// The fuzzer's seeds: code of a real process, whole and damaged at each byte.
    #[test]
    fn the_fuzzers_seeds_are_read_whatever_becomes_of_them() {
        seeds::are_read("ruby", read_any, &[("block_3_1", "block in keep", Some(9)), ("main_3_1", "<main>", Some(14))]);
    }

    proptest::proptest! {
        #[test]
        fn any_memory_is_code_or_none(data in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let _ = read_any(&data);
        }
    }
}
