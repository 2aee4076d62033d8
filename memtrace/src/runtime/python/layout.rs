//! Where CPython keeps what memtrace reads, for each version: bytes from the beginning of an object, for builds for x86-64 with the
//! global interpreter lock.
//!
//! The figures are those that compiling against each version's headers gives, and were compared with live processes of all of
//! them. Minor versions do not change them: they are part of what extension modules are compiled against.

use std::ops::Range;

use memtrace_common::interpreter::{Interpreter, Path, entry, frames};

use super::lines::Form;
use crate::runtime::chain::Placing;

/// Where one version of CPython keeps what is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    /// 3.this.
    pub minor: u32,
    /// In `_PyRuntime`: the first interpreter.
    pub interpreters: u64,
    /// In an interpreter: its first thread.
    pub threads: u64,
    /// In a thread's state: the thread pointer of the thread (`thread_id`).
    pub thread_id: u64,
    /// In `_PyRuntime`: the key under which each thread has its state, if there is one.
    pub key: Option<u64>,
    /// How frames are walked.
    pub frames: Frames,
    /// Of code objects.
    pub code: CodeLayout,
    /// Of strings of one byte a character that is ASCII: the length of their head.
    pub ascii_head: u64,
    /// Of other strings.
    pub compact_head: u64,
}

/// Where the frames of a thread are, and what is read of each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frames {
    /// From a thread's state to its innermost frame.
    pub innermost: &'static [i64],
    /// In a frame: its caller.
    pub previous: u64,
    /// In a frame: its code.
    pub code: u64,
    /// In a frame: its instruction.
    pub instruction: u64,
    /// In a frame: the byte that says who runs it.
    pub owner: u64,
    /// One of [`mod@entry`].
    pub entry: u64,
    /// From a thread's state to the record of its innermost run on the native stack.
    pub run: &'static [i64],
    /// In such a record: the one before.
    pub run_previous: u64,
}

/// What is read of the object that holds a function's code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CodeLayout {
    /// The file's name, a string.
    pub file: u64,
    /// The function's name, with its class where the version has that.
    pub name: u64,
    /// The first line.
    pub first_line: u64,
    /// The table of lines, a bytes object.
    pub lines: u64,
    /// The form of that table.
    pub form: Form,
    /// The first instruction, where the instructions are in the object and frames have the address of theirs.
    pub first_instruction: Option<u64>,
    /// The bytes object with the instructions, where they are not in the object.
    pub instructions: u64,
    /// Bytes of the unit in which frames have the offset of their instruction.
    pub unit: u64,
}

impl CodeLayout {
    /// How much of a code object is read, in bytes.
    pub fn bytes(&self) -> u64 {
        [self.file, self.name, self.first_line, self.lines].into_iter().max().unwrap_or(0) + 8
    }
}

/// Where every object has the address of its type, in bytes.
pub const TYPE: u64 = 8;
/// Of objects of variable size: how much of it there is.
pub const SIZE: u64 = 16;
/// Where bytes objects have their first byte.
pub const BYTES: u64 = 32;
/// Of strings: the number of characters.
pub const LENGTH: u64 = 16;
/// Of strings: how they are kept. Bits 2 to 4 are bytes a character, bit 5 whether the characters follow the head, bit 6 whether
/// all are ASCII.
pub const STATE: u64 = 32;
/// In a thread's state: the state of the next thread.
pub const NEXT_THREAD: u64 = 8;
/// The size of a thread's state is less than this.
const STATE_BYTES: u64 = 4096;

const OLD_CODE: CodeLayout = CodeLayout {
    file: 104,
    name: 112,
    first_line: 40,
    lines: 120,
    form: Form::Pairs,
    first_instruction: None,
    instructions: 48,
    unit: 1,
};

const CODE: CodeLayout = CodeLayout {
    file: 112,
    name: 128,
    first_line: 68,
    lines: 136,
    form: Form::Locations,
    first_instruction: Some(192),
    instructions: 0,
    unit: 1,
};

const OLD_FRAMES: Frames = Frames {
    innermost: &[24],
    previous: 24,
    code: 32,
    instruction: 104,
    owner: 0,
    entry: entry::NOWHERE,
    run: &[],
    run_previous: 0,
};

const FRAMES: Frames = Frames {
    innermost: &[72],
    previous: 8,
    code: 0,
    instruction: 56,
    owner: 70,
    entry: entry::FRAME,
    run: &[],
    run_previous: 0,
};

const VERSION_8: Layout = Layout {
    minor: 8,
    interpreters: 32,
    threads: 8,
    thread_id: 176,
    key: Some(1392),
    frames: OLD_FRAMES,
    code: OLD_CODE,
    ascii_head: 48,
    compact_head: 72,
};

const VERSION_12: Layout = Layout {
    minor: 12,
    interpreters: 40,
    threads: 72,
    thread_id: 136,
    key: Some(1544),
    frames: Frames { innermost: &[56, 0], ..FRAMES },
    code: CODE,
    ascii_head: 40,
    compact_head: 56,
};

const VERSION_14: Layout = Layout {
    minor: 14,
    interpreters: 808,
    threads: 7344,
    thread_id: 152,
    key: Some(2336),
    frames: Frames { owner: 74, ..FRAMES },
    code: CodeLayout { first_instruction: Some(208), ..CODE },
    ..VERSION_12
};

/// All versions that are known, the oldest first.
pub const LAYOUTS: [Layout; 8] = [
    VERSION_8,
    Layout { minor: 9, key: Some(584), ..VERSION_8 },
    Layout {
        minor: 10,
        key: Some(584),
        frames: Frames { instruction: 96, entry: entry::EACH, run: &[48], run_previous: 8, ..OLD_FRAMES },
        code: CodeLayout { form: Form::Ranges, unit: 2, ..OLD_CODE },
        ..VERSION_8
    },
    Layout {
        minor: 11,
        interpreters: 40,
        threads: 16,
        thread_id: 152,
        key: Some(592),
        frames: Frames {
            innermost: &[56, 8],
            previous: 48,
            code: 32,
            instruction: 56,
            owner: 68,
            entry: entry::FLAG,
            run: &[56],
            run_previous: 16,
        },
        code: CodeLayout { first_line: 72, first_instruction: Some(184), ..CODE },
        ..VERSION_8
    },
    VERSION_12,
    Layout {
        minor: 13,
        interpreters: 632,
        threads: 7344,
        thread_id: 152,
        key: Some(2160),
        frames: FRAMES,
        code: CodeLayout { first_instruction: Some(200), ..CODE },
        ..VERSION_12
    },
    VERSION_14,
    Layout { minor: 15, interpreters: 936, threads: 7336, thread_id: 176, key: None, ..VERSION_14 },
];

/// Where a version has the table of functions by which it asks the system for arenas.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arenas {
    /// In `_PyRuntime`, at this offset.
    InRuntime(u64),
    /// In a variable without a name for others, which an exported function copies.
    Copied,
}

impl Layout {
    /// Where the table of the allocator of arenas is; `None` where no function of its own makes pools ready.
    pub const fn arenas(&self) -> Option<Arenas> {
        match self.minor {
            ..9 => None,
            9..12 => Some(Arenas::Copied),
            12 => Some(Arenas::InRuntime(360)),
            13 => Some(Arenas::InRuntime(976)),
            14 => Some(Arenas::InRuntime(1152)),
            _ => Some(Arenas::InRuntime(1280)),
        }
    }

    /// The layout of 3.`minor`, if that version is known.
    pub fn of(minor: u32) -> Option<&'static Layout> {
        LAYOUTS.iter().find(|layout| layout.minor == minor)
    }

    /// How large the pieces are that blocks of one size share, in bytes (`POOL_SIZE` in Objects/obmalloc.c).
    pub const fn pool_bytes(&self) -> usize {
        if self.minor < 10 { 4 << 10 } else { 16 << 10 }
    }

    /// Flags of types whose objects have two words more in front, for attributes and weak references (`Py_TPFLAGS_MANAGED_DICT` since
    /// 3.11, `Py_TPFLAGS_MANAGED_WEAKREF` since 3.12).
    pub const fn words_in_front(&self) -> u64 {
        match self.minor {
            ..11 => 0,
            11 => 1 << 4,
            _ => 1 << 4 | 1 << 3,
        }
    }

    /// Which native frame runs which frames, in a process that has the interpreter's loop at `evaluator` and maps its file at `file`.
    pub fn placing(&self, evaluator: Range<u64>, file: Range<u64>) -> Placing {
        /// From this version on all code of functions is made at run time. What the file has is code that is run between two functions,
        /// such as between `__init__` and the call of its class (`_Py_InitCleanup`). Before, functions of the import system are in it.
        const NO_FUNCTIONS_IN_FILE: u32 = 13;
        let CodeLayout { first_instruction, unit, .. } = self.code;
        let hidden = if self.minor < NO_FUNCTIONS_IN_FILE { 0..0 } else { file };
        Placing { evaluators: vec![evaluator], first_instruction, unit, hidden }
    }

    /// What the kernel is told, for thread states that are found by these paths.
    pub fn interpreter(&self, thread_state: Path, other_thread_state: Path) -> Interpreter {
        let Frames { innermost, previous, code, instruction, owner, entry, run, run_previous } = self.frames;
        let last = previous.max(code).max(instruction).max(owner);
        Interpreter {
            is_known: frames::CHAIN,
            thread_state,
            other_thread_state,
            innermost: Path::over(innermost).unwrap_or_default(),
            state_bytes: STATE_BYTES,
            frame_words: last / 8 + 1,
            previous: previous / 8,
            code: code / 8,
            // The lowest bits say how a reference is counted.
            code_mask: !3,
            instruction: instruction / 8,
            instruction_mask: if self.code.first_instruction.is_some() { u64::MAX } else { u32::MAX.into() },
            owner: owner / 8,
            owner_shift: owner % 8 * 8,
            entry,
            // Frames on the native stack, or in the thread's state (`_PyFrameOwner` in Include/internal/pycore_frame.h).
            entry_owner: 3,
            run: Path::over(run).unwrap_or_default(),
            run_previous,
            ..Interpreter::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use memtrace_common::interpreter::MAX_FRAME_WORDS;

    use super::*;

    #[test]
    fn every_version_fits_what_the_kernel_reads() {
        for (index, layout) in LAYOUTS.iter().enumerate() {
            assert_eq!(layout.minor, 8 + index as u32);
            let interpreter = layout.interpreter(Path::default(), Path::default());
            assert!(interpreter.frame_words <= MAX_FRAME_WORDS as u64, "{layout:?}");
            assert!(interpreter.innermost.count > 0);
            let has_records = matches!(layout.frames.entry, entry::FLAG | entry::EACH);
            assert_eq!(interpreter.run.count > 0, has_records, "{layout:?}");
        }
        assert_eq!((Layout::of(7), Layout::of(16)), (None, None));
    }
}
