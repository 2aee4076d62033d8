//! Why a target's file is not read.

use std::{borrow::Cow, io};

use thiserror::Error;

/// Why a target's file, or a part of it, is not read. The sentence goes on from the file's name: `/srv/a.out: it is not ...`.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ObjectError {
    /// The system would not read it.
    #[error("it cannot be read: {0}")]
    Io(String),
    /// It does not begin as an ELF file does.
    #[error("it is not an ELF file")]
    NotElf,
    /// It is for other machines.
    #[error("it is not for x86-64 with 64-bit pointers")]
    NotX86_64,
    /// It is an object file, a core dump, or of an unknown type.
    #[error("it is neither a program nor a shared object (ELF type {0})")]
    NotLoadable(u16),
    /// A part of it lies outside the file.
    #[error("its {0} lies outside the file")]
    Truncated(&'static str),
    /// A part of it is larger than memtrace reads.
    #[error("its {part} has {bytes} bytes, which is more than memtrace reads")]
    TooLarge {
        /// Which.
        part: Cow<'static, str>,
        /// How large it says it is.
        bytes: u64,
    },
    /// It has more of something than memtrace reads.
    #[error("it has {count} {parts}, which is more than memtrace reads")]
    TooMany {
        /// What.
        parts: &'static str,
        /// How many it says it has.
        count: u64,
    },
    /// A part of it does not parse.
    #[error("its {0} cannot be parsed")]
    Malformed(Cow<'static, str>),
    /// It does not parse, by the word of the parser.
    #[error("it cannot be parsed: {0}")]
    Unparsable(String),
    /// An address is in no segment that is loaded from the file.
    #[error("address {0:#x} is not in its code")]
    NotCode(u64),
}

impl From<io::Error> for ObjectError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

impl From<object::Error> for ObjectError {
    fn from(error: object::Error) -> Self {
        Self::Unparsable(error.to_string())
    }
}
