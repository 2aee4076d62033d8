//! Where PHP keeps what memtrace reads, for each version: bytes from the beginning of a structure, in builds for x86-64 without threads.
//!
//! The figures of 8.2 and 8.4 are those that compiling against their headers gives, and were compared with live processes; those of 8.0 and
//! 8.1 are read in Zend/zend_globals.h and Zend/zend_compile.h, those of 7.4 and 8.3 follow from their neighbours. All are trusted once a process's
//! own frames have proved them. A version is told by the number of its interface to modules (`ZEND_MODULE_API_NO`), which all that is compiled
//! for it has.

use memtrace_common::interpreter::{Interpreter, Path, entry, frames};

/// Where one version of PHP keeps what is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    /// Its number, such as 8.2.
    pub version: &'static str,
    /// The number of its interface to modules.
    pub interface: u32,
    /// In a function's code: how many instructions there are, a number of four bytes.
    pub instruction_count: u64,
    /// In a function's code: the address of its instructions.
    pub instructions: u64,
    /// In a function's code: its file's name.
    pub file: u64,
}

/// In `compiler_globals`: the table of functions, which is there from the program's start on.
pub const FUNCTIONS: u64 = 56;
/// In `executor_globals`: the innermost frame.
const INNERMOST: i64 = 488;

/// In a frame: its instruction, its code, the bits that say how it was called, and its caller.
const INSTRUCTION: u64 = 0;
const CODE: u64 = 24;
const CALL: u64 = 40;
const CALLER: u64 = 48;

/// Bits 16 to 23 of how a frame was called: from C, so that a loop of its own runs it (`ZEND_CALL_TOP`), as a closure, which has a copy of
/// its code (`ZEND_CALL_CLOSURE`), and as code outside of functions, which is gone when it has run (`ZEND_CALL_CODE`).
const FROM_C: u64 = 0x02;
const CLOSURE: u64 = 0x40;
const OUTSIDE: u64 = 0x01;

/// The first byte of code: of a function in C, in PHP, and of text that was evaluated.
pub const INTERNAL: u8 = 1;
pub const USER: u8 = 2;
pub const EVALUATED: u8 = 4;

/// In any code: the function's name and its class.
pub const NAME: u64 = 8;
pub const CLASS: u64 = 16;
/// In a class: the address of its name.
pub const CLASS_NAME: u64 = 8;

/// Bytes of an instruction, and where in it its line stands.
pub const INSTRUCTION_BYTES: u64 = 32;
pub const LINE: u64 = 24;

/// In a string: its length, and the first character.
pub const LENGTH: u64 = 16;
pub const TEXT: u64 = 24;

/// In a table: its entries, and how many there are, a number of four bytes. Bytes of an entry, which begins with the address of what it
/// holds and has that of its key, a string.
pub const ENTRIES: u64 = 16;
pub const ENTRY_COUNT: u64 = 24;
pub const ENTRY_BYTES: u64 = 32;
pub const KEY: u64 = 24;

/// In a module's description: the number of the interface that it was compiled for.
pub const INTERFACE: u64 = 4;

const OLD: Layout =
    Layout { version: "7.4", interface: 20_190_902, instruction_count: 60, instructions: 64, file: 136 };

/// All versions that are known, the oldest first.
pub const LAYOUTS: [Layout; 6] = [
    OLD,
    Layout { version: "8.0", interface: 20_200_930, instruction_count: 68, instructions: 72, file: 144 },
    Layout { version: "8.1", interface: 20_210_902, instruction_count: 68, instructions: 72, file: 144 },
    Layout { version: "8.2", interface: 20_220_829, instruction_count: 80, instructions: 88, file: 152 },
    Layout { version: "8.3", interface: 20_230_831, instruction_count: 80, instructions: 88, file: 152 },
    Layout { version: "8.4", interface: 20_240_924, instruction_count: 96, instructions: 104, file: 168 },
];

impl Layout {
    /// The layout of the version with this interface to modules, if it is known.
    pub fn of(interface: u32) -> Option<&'static Layout> {
        LAYOUTS.iter().find(|layout| layout.interface == interface)
    }

    /// How much of a function's code is read, in bytes.
    pub const fn code_bytes(&self) -> u64 {
        self.file + 8
    }

    /// What the kernel is told of a process that has `executor_globals` at this address.
    pub fn interpreter(&self, globals: u64) -> Interpreter {
        Interpreter {
            is_known: frames::CHAIN,
            only_state: globals,
            innermost: Path::over(&[INNERMOST]).unwrap_or_default(),
            frame_words: CALLER / 8 + 1,
            previous: CALLER / 8,
            code: CODE / 8,
            code_mask: u64::MAX,
            instruction: INSTRUCTION / 8,
            instruction_mask: u64::MAX,
            owner: CALL / 8,
            owner_shift: 16,
            entry: entry::LOOP,
            last_mask: FROM_C,
            copy_mask: CLOSURE | OUTSIDE,
            copy_details: [NAME, CLASS, self.file, LINE],
            loop_mask: (USER | EVALUATED).into(),
            ..Interpreter::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use memtrace_common::interpreter::MAX_FRAME_WORDS;

    use super::*;

    #[test]
    fn versions_are_told_by_their_interface_and_fit_what_the_kernel_reads() {
        assert_eq!(Layout::of(20_220_829).map(|layout| layout.version), Some("8.2"));
        assert_eq!(Layout::of(20_180_731), None);
        let interpreter = LAYOUTS[3].interpreter(0x1000);
        assert!(interpreter.frame_words <= MAX_FRAME_WORDS as u64 && interpreter.innermost.count == 1);
    }
}
