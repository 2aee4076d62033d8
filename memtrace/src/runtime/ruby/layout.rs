//! Where Ruby 3.1 keeps what memtrace reads: bytes from the beginning of a structure, in builds for x86-64.
//!
//! The figures are those that compiling against the sources of 3.1.2 gives (vm_core.h, ractor_core.h, iseq.h), and were compared with live
//! processes. Versions are told by `ruby_api_version`, three numbers.

use memtrace_common::interpreter::{Interpreter, Path, entry, frames};

/// The version that is known, its first two numbers.
pub const KNOWN: [u32; 2] = [3, 1];

/// In the virtual machine: its main thread.
pub const MAIN_THREAD: u64 = 40;
/// In a thread: its thread pointer.
pub const THREAD_POINTER: u64 = 80;
/// In a thread: the context that it runs.
pub const CONTEXT: u64 = 40;

/// In a context: the memory that its frames lie in, how many words that has, and its innermost frame.
const STACK: u64 = 0;
const STACK_WORDS: u64 = 8;
const INNERMOST: i64 = 16;

/// In a frame: its instruction, its code, and the address of its flags; and bytes of a frame.
const INSTRUCTION: u64 = 0;
const CODE: u64 = 16;
const FLAGS: u64 = 32;
const FRAME_BYTES: u64 = 64;

/// Flags of frames: the last one that a loop of the virtual machine runs (`VM_FRAME_FLAG_FINISH`), and one in C (`VM_FRAME_FLAG_CFRAME`).
const FINISH: u64 = 0x20;
const IN_C: u64 = 0x80;

/// In code: what kind of object it is, and its body.
pub const KIND: u64 = 0;
pub const BODY: u64 = 16;
/// The bits of a kind that tell it, and what they are in code, a string and an array (`T_IMEMO` with `imemo_iseq`, `T_STRING`, `T_ARRAY`).
pub const CODE_KIND: (u64, u64) = (0xf01f, 0x701a);
pub const STRING_KIND: (u64, u64) = (0x1f, 5);
pub const ARRAY_KIND: (u64, u64) = (0x1f, 7);

/// In a body: how many words of instructions there are, a number of four bytes, their address, the file, the name, the entries of the
/// table of lines, how many there are, a number of four bytes, and the table of their places.
pub const INSTRUCTION_COUNT: u64 = 4;
pub const INSTRUCTIONS: u64 = 8;
pub const FILE: u64 = 64;
pub const NAME: u64 = 80;
pub const LINES: u64 = 120;
pub const LINE_COUNT: u64 = 136;
pub const PLACES: u64 = 144;
/// How much of a body is read.
pub const BODY_BYTES: u64 = PLACES + 8;
/// Bytes of an entry of the table of lines, which begins with the line.
pub const LINE_BYTES: u64 = 12;

/// In strings and arrays: the flag of a string that lies elsewhere, or an array that does not.
pub const ELSEWHERE: u64 = 0x2000;
/// In a string: its length and address where it lies elsewhere, else the bits of its kind that are its length; or the string itself.
pub const LENGTH: u64 = 16;
pub const ADDRESS: u64 = 24;
pub const LENGTH_SHIFT: u32 = 14;
/// In an array: its elements, or their address.
pub const ELEMENTS: u64 = 16;
pub const ELEMENTS_ADDRESS: u64 = 32;

/// What the kernel is told, for contexts that are found by this path.
pub fn interpreter(context: Path) -> Interpreter {
    Interpreter {
        is_known: frames::CHAIN,
        thread_state: context,
        innermost: Path::over(&[INNERMOST]).unwrap_or_default(),
        frame_words: FLAGS / 8 + 1,
        code: CODE / 8,
        code_mask: u64::MAX,
        instruction: INSTRUCTION / 8,
        // An address, of which the lowest half tells instructions of a function apart.
        instruction_mask: u32::MAX.into(),
        owner: FLAGS / 8,
        entry: entry::ARRAY,
        last_mask: FINISH,
        left_out_mask: IN_C,
        frame_bytes: FRAME_BYTES,
        array_begin: STACK,
        array_words: STACK_WORDS,
        ..Interpreter::default()
    }
}
