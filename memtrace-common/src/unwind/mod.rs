//! Unwinding: from one frame's registers to its caller's, generic over a memory reader.
//!
//! In: a frame's registers, and the row of an unwind table that covers its address. Out: the caller's registers, or why
//! the stack ends here. [`row`] is the format of the tables, [`search`] finds the row of an address, and
//! [`step`](mod@step) takes the step, by a row or, in code without a table, by the frame pointer. User space builds the
//! tables from `.eh_frame`; the very code that walks them in the kernel runs in the host's tests.

mod end;
pub mod row;
pub mod search;
pub mod segment;
pub mod step;
pub mod switch;

pub use end::{Short, StackEnd};
pub use row::{Cfa, FramePointer, Rule, Unsupported};
pub use search::Rows;
pub use segment::{Segment, Segments};
pub use step::{Frame, step, step_frame_pointer, step_without_table};
pub use switch::Switch;

/// Reads words of a target's memory.
pub trait MemoryReader {
    /// The 8-byte word at `address`, or `None` if it cannot be read.
    fn read_word(&self, address: u64) -> Option<u64>;

    /// The two 8-byte words at `address` and `address + 8`, or `None` if they cannot be read.
    fn read_pair(&self, address: u64) -> Option<[u64; 2]>;

    /// The thread pointer of the thread whose stack is walked, where its thread-local storage is; `None` if it is not known.
    fn thread_pointer(&self) -> Option<u64> {
        None
    }
}

/// What a step starts from and arrives at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Registers {
    /// The instruction pointer; of a caller, its return address.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer: `rbp`, whatever the code uses it for.
    pub fp: u64,
}
