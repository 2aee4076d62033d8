//! Functions of PHP in the memory of a process: their names, files, and the lines of their instructions.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use memtrace_common::interpreter::{COPY, DETAILS};

use super::layout::{self, Layout};
use crate::{
    object::maps::Mapping,
    runtime::{
        Code, Language, Memory,
        code::LineTable,
        lines::LinesByAddress,
        memory::{IMAGE_BEGIN, half_word_at, image, word_at},
    },
};

/// What reports call the module of functions of PHP and its extensions that are written in C.
pub const BUILT_IN: &str = "[php built-in]";

/// The name of code outside of all functions, as PHP's own traces have it.
const MAIN: &str = "{main}";

/// The most bytes of a name or path; longer ones are cut.
const MAX_TEXT_BYTES: u64 = 4096;

/// The most instructions of a function: 2 MiB of them.
const MAX_INSTRUCTIONS: u64 = 1 << 16;

/// Reads the functions of one process.
#[derive(Debug)]
pub struct Reader {
    pub(super) memory: Memory,
    pub(super) layout: &'static Layout,
}

impl Reader {
    /// What the process maps from now on.
    pub fn confine(&mut self, mappings: &[Mapping]) {
        self.memory.confine(mappings);
    }

    /// The function at this address now; `None` if there is none.
    pub fn read(&self, address: u64) -> Option<Code> {
        Function {
            address,
            layout: self.layout,
            read: |address, length, limit| self.memory.at_most(address, length, limit),
        }
        .code()
    }

    /// The function of which a frame ran a copy, named by its details.
    pub fn copy(&self, &[name, class, file, line]: &[u64; DETAILS]) -> Option<Code> {
        let read = |address, length, limit| self.memory.at_most(address, length, limit);
        let name = name_of(name, class, read)?;
        Some(match file {
            0 => in_c(name?),
            file => in_php(name, file_name(file, read)?, LineTable::Beginning(u32::try_from(line).ok()?)),
        })
    }

    /// Stands for the function at this address: another function there has another name, class, or instructions.
    ///
    /// At the address of a copy is nothing.
    pub fn identity(&self, address: u64) -> Option<u64> {
        let head = self.memory.bytes::<24>(address).filter(|_| address & COPY == 0)?;
        let mut hasher = DefaultHasher::new();
        head.hash(&mut hasher);
        if head[0] != layout::INTERNAL {
            self.memory.word(address.checked_add(self.layout.instructions)?)?.hash(&mut hasher);
        }
        Some(hasher.finish())
    }

    /// The text of the string at this address; `None` if there is none.
    pub fn string(&self, address: u64) -> Option<String> {
        string(address, |address, length, limit| self.memory.at_most(address, length, limit))
    }
}

/// A function, read by `read`: so many bytes from an address on, if they are no more than the limit.
struct Function<R> {
    address: u64,
    layout: &'static Layout,
    read: R,
}

impl<R: Fn(u64, u64, u64) -> Option<Vec<u8>>> Function<R> {
    fn code(&self) -> Option<Code> {
        let head = (self.read)(self.address, 24, 24)?;
        let (name, class) = (word_at(&head, layout::NAME as usize)?, word_at(&head, layout::CLASS as usize)?);
        let name = name_of(name, class, &self.read)?;
        match head[0] {
            layout::INTERNAL => Some(in_c(name?)),
            layout::USER | layout::EVALUATED => {
                let bytes = self.layout.code_bytes();
                let body = (self.read)(self.address, bytes, bytes)?;
                let file = file_name(word_at(&body, self.layout.file as usize)?, &self.read)?;
                Some(in_php(name, file, LineTable::ByAddress(self.lines(&body)?)))
            }
            _ => None,
        }
    }

    fn lines(&self, body: &[u8]) -> Option<LinesByAddress> {
        let count = u64::from(half_word_at(body, self.layout.instruction_count as usize)?);
        let first = word_at(body, self.layout.instructions as usize)?;
        if count > MAX_INSTRUCTIONS {
            return None;
        }
        let bytes = count * layout::INSTRUCTION_BYTES;
        let instructions = (self.read)(first, bytes, MAX_INSTRUCTIONS * layout::INSTRUCTION_BYTES)?;
        let lines = instructions.chunks_exact(layout::INSTRUCTION_BYTES as usize);
        let lines = lines.map(|instruction| half_word_at(instruction, layout::LINE as usize)).collect::<Option<_>>()?;
        Some(LinesByAddress { first: first as u32, unit: layout::INSTRUCTION_BYTES as u32, lines })
    }
}

/// A function's name with its class, from the addresses of both, 0 for none; nothing for code outside of functions. `None` if a name cannot be
/// read.
#[expect(clippy::option_option, reason = "no name is told from one that cannot be read")]
fn name_of(name: u64, class: u64, read: impl Fn(u64, u64, u64) -> Option<Vec<u8>>) -> Option<Option<String>> {
    if name == 0 {
        return Some(None);
    }
    let name = string(name, &read)?;
    if class == 0 {
        return Some(Some(name));
    }
    let class = read(class.checked_add(layout::CLASS_NAME)?, 8, 8)?;
    let class = string(word_at(&class, 0)?, &read)?;
    // That of a class without one has more behind an end of its text.
    let class = class.split('\0').next().unwrap_or_default();
    Some(Some(format!("{class}::{name}")))
}

/// A file's name. What has come in the place of one that is gone may have any characters.
fn file_name(address: u64, read: impl Fn(u64, u64, u64) -> Option<Vec<u8>>) -> Option<String> {
    string(address, read).filter(|name| !name.is_empty() && !name.contains(char::is_control))
}

/// A function in C.
fn in_c(name: String) -> Code {
    let (language, module) = (Language::Php, BUILT_IN);
    Code { language, module, name, file: None, instruction_bytes: u64::MAX, lines: None }
}

/// A function in PHP, or code outside of functions, which has no name.
fn in_php(name: Option<String>, file: String, lines: LineTable) -> Code {
    let language = Language::Php;
    let name = name.unwrap_or_else(|| MAIN.to_owned());
    Code {
        language,
        module: language.module(),
        name,
        file: Some(file),
        instruction_bytes: u64::MAX,
        lines: Some(lines),
    }
}

/// The text of a string, cut where it is very long; `None` if it does not end where its length says.
fn string(address: u64, read: impl Fn(u64, u64, u64) -> Option<Vec<u8>>) -> Option<String> {
    let head = read(address, layout::TEXT, layout::TEXT)?;
    let length = word_at(&head, layout::LENGTH as usize)?;
    let text = address.checked_add(layout::TEXT)?;
    // Each string is followed by a byte that is 0.
    if read(text.checked_add(length)?, 1, 1)? != [0] {
        return None;
    }
    let bytes = read(text, length.min(MAX_TEXT_BYTES), MAX_TEXT_BYTES)?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads bytes as memory from the address 4096 on, with a function at its beginning, for tests of hostile memory: the first byte says of which
/// version, the next four the lowest half of an instruction's address. The function's name, and the instruction's line.
pub fn read_any(data: &[u8]) -> Option<(String, Option<u32>)> {
    let [version, a, b, c, d, memory @ ..] = data else { return None };
    let layout = layout::LAYOUTS.get(usize::from(*version))?;
    let code = Function { address: IMAGE_BEGIN, layout, read: image(memory) }.code()?;
    let line = code.line(u32::from_le_bytes([*a, *b, *c, *d]));
    Some((code.name, line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::seeds;

    /// The fuzzer's seeds: functions of a real process, whole and damaged at each byte.
    #[test]
    fn the_fuzzers_seeds_are_read_whatever_becomes_of_them() {
        let expected =
            [("method_8_2", "Store::put", Some(11)), ("internal_8_2", "usleep", None), ("main_8_4", "{main}", Some(3))];
        seeds::are_read("php", read_any, &expected);
    }

    proptest::proptest! {
        #[test]
        fn any_memory_is_a_function_or_none(data in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let _ = read_any(&data);
        }
    }
}
