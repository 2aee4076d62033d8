//! The unwind step: from one frame's registers to its caller's, generic over a memory reader.
//!
//! For now by frame pointer: `caller ip = [fp + 8]`, `caller fp = [fp]`, `caller sp = fp + 16` (System V ABI for
//! x86-64, section 3.2.2). The same code runs in the kernel and in the host's tests.

use crate::limits::USER_ADDRESS_END;

/// Reads the target's memory.
pub trait MemoryReader {
    /// The two 8-byte words at `address` and `address + 8`, or `None` if they cannot be read.
    fn read_pair(&self, address: u64) -> Option<[u64; 2]>;
}

/// What a step starts from and arrives at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Registers {
    /// The instruction pointer; of a caller, its return address.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer.
    pub fp: u64,
}

macro_rules! ends {
    ($($(#[$doc:meta])* $name:ident = $number:literal => $text:expr,)+) => {
        /// Why a stack ends where it does.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u64)]
        pub enum StackEnd { $($(#[$doc])* $name = $number,)+ }

        impl StackEnd {
            /// The end with this number, if there is one.
            pub const fn from_number(number: u64) -> Option<StackEnd> {
                match number { $($number => Some(StackEnd::$name),)+ _ => None }
            }

            /// What a report says of a stack that stopped short; `None` for a whole one.
            pub const fn truncated(self) -> Option<&'static str> {
                match self { $(StackEnd::$name => $text,)+ }
            }
        }
    };
}

ends! {
    /// The outermost frame was reached: its frame pointer is 0.
    Complete = 0 => None,
    /// More frames than a record holds.
    TooDeep = 1 => Some("deeper than 127 frames"),
    /// The stack could not be read: swapped out, or not a stack.
    ReadFault = 2 => Some("stack memory could not be read"),
    /// The frame-pointer register holds something else: code built without frame pointers.
    NoFramePointer = 3 => Some("code without frame pointers"),
}

/// One step: the caller's registers, or why there are none.
///
/// # Errors
///
/// The [`StackEnd`]; `Complete` when the walk arrived at the outermost frame.
#[inline(always)]
pub fn step<M: MemoryReader>(registers: &Registers, memory: &M) -> Result<Registers, StackEnd> {
    let fp = registers.fp;
    if fp == 0 {
        return Err(StackEnd::Complete);
    }
    // A frame pointer lies at or above the stack pointer, and frames are 8-byte aligned at least.
    if fp < registers.sp || fp & 7 != 0 || fp >= USER_ADDRESS_END {
        return Err(StackEnd::NoFramePointer);
    }
    let Some([caller_fp, ip]) = memory.read_pair(fp) else {
        return Err(StackEnd::ReadFault);
    };
    if ip == 0 {
        return Err(StackEnd::Complete);
    }
    if !(crate::limits::PAGE_BYTES..USER_ADDRESS_END).contains(&ip) {
        return Err(StackEnd::NoFramePointer);
    }
    Ok(Registers { ip, sp: fp + 16, fp: caller_fp })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    struct Stack(BTreeMap<u64, u64>);

    impl MemoryReader for Stack {
        fn read_pair(&self, address: u64) -> Option<[u64; 2]> {
            Some([*self.0.get(&address)?, *self.0.get(&(address + 8))?])
        }
    }

    fn walk(mut registers: Registers, memory: &Stack) -> (Vec<u64>, StackEnd) {
        let mut frames = Vec::new();
        loop {
            match step(&registers, memory) {
                Ok(caller) => {
                    assert!(caller.sp > registers.sp, "a step must climb");
                    frames.push(caller.ip);
                    registers = caller;
                }
                Err(end) => return (frames, end),
            }
        }
    }

    #[test]
    fn a_chain_of_frames_is_followed_to_its_end() {
        let memory = Stack(BTreeMap::from([
            (0x7000_0010, 0x7000_0040),
            (0x7000_0018, 0x40_1000),
            (0x7000_0040, 0),
            (0x7000_0048, 0x40_2000),
        ]));
        let start = Registers { ip: 0x40_0000, sp: 0x7000_0000, fp: 0x7000_0010 };
        assert_eq!(walk(start, &memory), (vec![0x40_1000, 0x40_2000], StackEnd::Complete));
    }

    #[test]
    fn a_general_register_is_not_taken_for_a_frame_pointer() {
        let memory = Stack(BTreeMap::new());
        for fp in [1, 7, 0x6fff_fff8, u64::MAX, USER_ADDRESS_END] {
            let start = Registers { ip: 0x40_0000, sp: 0x7000_0000, fp };
            assert_eq!(walk(start, &memory).1, StackEnd::NoFramePointer, "{fp:#x}");
        }
        let start = Registers { ip: 0x40_0000, sp: 0x7000_0000, fp: 0x7000_0008 };
        assert_eq!(walk(start, &memory).1, StackEnd::ReadFault);
    }

    proptest! {
        #[test]
        fn any_memory_ends_the_walk(words in prop::collection::vec(any::<u64>(), 2..200), fp in 0u64..2000) {
            let base = 0x7000_0000u64;
            // Make about half of the words look like frame pointers into the same stack.
            let memory = Stack(words.iter().enumerate().map(|(index, &word)| {
                let value = if word % 2 == 0 { base + (word >> 32) % 2000 / 8 * 8 } else { word };
                (base + 8 * index as u64, value)
            }).collect());
            let start = Registers { ip: 0x40_0000, sp: base, fp: base + fp };
            let (frames, _) = walk(start, &memory);
            prop_assert!(frames.len() <= words.len());
        }
    }
}
