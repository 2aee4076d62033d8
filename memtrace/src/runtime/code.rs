//! A piece of interpreted code: its function, its file, and the lines of its instructions.

use super::{chain::BEFORE, language::Language, lines::LinesByAddress, python, v8};

/// Which instruction is of which line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LineTable {
    /// Of Python: by the offset of the instruction.
    Python(python::lines::Lines),
    /// Of JavaScript: by the place in the script.
    Script(v8::positions::Lines),
    /// Of PHP and Ruby: by the address of the instruction.
    ByAddress(LinesByAddress),
    /// Of whatever was told of by its functions: the line at which this one begins stands for all of it.
    Beginning(u32),
}

/// Code of one function, as an interpreter has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Code {
    /// The language that it is written in.
    pub language: Language,
    /// What reports call its module.
    pub module: &'static str,
    /// The function's name, qualified by its class where the interpreter knows that. Not escaped.
    pub name: String,
    /// The source file, as the interpreter has it. Not escaped.
    pub file: Option<String>,
    /// Bytes of its instructions.
    pub instruction_bytes: u64,
    /// Which instruction is of which line; `None` where that could not be read.
    pub lines: Option<LineTable>,
}

impl Code {
    /// The line of the instruction at this offset from the first one, in bytes, or of the place that a frame of JavaScript has instead; `None`
    /// if it belongs to none.
    pub fn line(&self, offset: u32) -> Option<u32> {
        match self.lines.as_ref()? {
            LineTable::Python(lines) => lines.line(offset),
            LineTable::Script(lines) => lines.line(offset),
            LineTable::ByAddress(lines) => lines.line(offset),
            LineTable::Beginning(line) => Some(*line),
        }
    }

    /// Whether one of its instructions is at this offset, or the offset is that of a frame before its first one.
    pub fn has(&self, offset: u32) -> bool {
        match &self.lines {
            // Its instructions lie elsewhere, and the offset is where.
            Some(LineTable::ByAddress(lines)) => lines.line(offset).is_some(),
            _ => offset == BEFORE || u64::from(offset) < self.instruction_bytes,
        }
    }

    /// About how much memory it takes, in bytes.
    pub fn bytes(&self) -> u64 {
        (self.name.len()
            + self.file.as_ref().map_or(0, String::len)
            + self.lines.as_ref().map_or(0, |lines| match lines {
                LineTable::Python(lines) => lines.bytes(),
                LineTable::Script(lines) => lines.bytes(),
                LineTable::ByAddress(lines) => lines.bytes(),
                LineTable::Beginning(_) => 0,
            })
            + 128) as u64
    }
}
