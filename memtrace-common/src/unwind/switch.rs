//! Where Go's runtime changes from one stack to another: from a goroutine's, which may be moved, to the thread's, on which C code
//! runs, and back for C code that calls Go.
//!
//! The functions that do so are written in assembly (`runtime/asm_amd64.s` of Go), and their call frame information does not say it.
//! Go itself has to find its way back, so what each of them has saved is enough for a walk.

use super::{
    Frame, MemoryReader, Registers, StackEnd,
    step::{is_user_code, pair, word},
};
use crate::arch::USER_ADDRESS_END;

/// In Go's `g`, the goroutine: where its stack ends (`stack.hi`), its thread (`m`), and the stack pointer that was saved when it left
/// its stack (`sched.sp`). Go 1.19 to 1.27 agree.
pub mod goroutine {
    /// Where `stack.hi` is, in bytes from the beginning of `g`.
    pub const STACK_END: u64 = 8;
    /// Where `m` is, in bytes from the beginning of `g`.
    pub const THREAD: u64 = 48;
    /// Where `sched.sp` is, in bytes from the beginning of `g`.
    pub const SAVED_SP: u64 = 56;
}

/// A frame of a function that changes stacks, and how its caller is found. `[a]` is the word in memory at `a`, `at` the stack pointer
/// with which the function was on the stack that it left: there stands its return address, or if `saves_fp` its caller's frame pointer
/// and then the return address.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Switch {
    /// `runtime.asmcgocall`, by which Go calls C. `g = [sp + depth + 8]`, `at = [g + stack.hi] - [sp + depth]`; if `g` is 0 no stack
    /// was changed, and `at = [sp + depth]`. The stack that C runs on was left before at `sp + left`.
    Call {
        /// Where the depth is, in words.
        depth: u8,
        /// How far above the stack pointer that stack had been left, in words.
        left: u8,
        /// Whether the frame pointer is saved below the return address.
        saves_fp: bool,
    },
    /// `runtime.systemstack`, by which the runtime calls itself on the thread's stack. `g = [thread pointer + goroutine]`,
    /// `at = [[[g + m] + current] + sched.sp]`. That stack was left before at `sp`.
    System {
        /// Where the running goroutine is, in words from the thread pointer.
        goroutine: i32,
        /// Where the goroutine that runs user code is in Go's `m`, the thread, in words.
        current: u8,
        /// Whether the frame pointer is saved below the return address.
        saves_fp: bool,
    },
    /// `runtime.cgocallback`, by which C calls Go: `cfa = left + frame`, where `left` is the place at which its stack was left again
    /// further in. As long as it was not left, `cfa = sp + frame`.
    Callback {
        /// How large the frame is with its return address, in words.
        frame: u8,
    },
}

const CALL: u32 = 0;
const SYSTEM: u32 = 1;
const CALLBACK: u32 = 2;

/// A walk has come back to a stack that had been left, or no stack is known to have been.
const CAME_BACK: u64 = 1;

impl Switch {
    /// The 29 bits behind a rule's kind; `None` if a number is too large. From the lowest: 2 bits which, then
    ///
    /// ```text
    /// Call      5 bits depth, 5 bits left, 1 bit saves_fp
    /// System    8 bits current, 1 bit saves_fp, 18 bits goroutine, signed
    /// Callback  8 bits frame
    /// ```
    pub(super) const fn packed(self) -> Option<u32> {
        match self {
            Switch::Call { depth, left, saves_fp } if depth < 32 && left < 32 => {
                Some(CALL | (depth as u32) << 2 | (left as u32) << 7 | (saves_fp as u32) << 12)
            }
            Switch::System { goroutine, current, saves_fp } if goroutine >= -(1 << 17) && goroutine < 1 << 17 => {
                Some(SYSTEM | (current as u32) << 2 | (saves_fp as u32) << 10 | (goroutine as u32 & 0x3_ffff) << 11)
            }
            Switch::Callback { frame } => Some(CALLBACK | (frame as u32) << 2),
            _ => None,
        }
    }

    #[inline(always)]
    pub(super) const fn unpack(packed: u32) -> Option<Switch> {
        match packed & 3 {
            CALL => Some(Switch::Call {
                depth: (packed >> 2 & 31) as u8,
                left: (packed >> 7 & 31) as u8,
                saves_fp: packed >> 12 & 1 != 0,
            }),
            SYSTEM => Some(Switch::System {
                goroutine: (packed << 3) as i32 >> 14,
                current: (packed >> 2) as u8,
                saves_fp: packed >> 10 & 1 != 0,
            }),
            CALLBACK => Some(Switch::Callback { frame: (packed >> 2) as u8 }),
            _ => None,
        }
    }
}

/// The caller's frame of one that has changed stacks.
#[inline(always)]
pub(super) fn step<M: MemoryReader>(switch: Switch, frame: &Frame, memory: &M) -> Result<Frame, StackEnd> {
    let Registers { sp, fp, .. } = frame.registers;
    let (at, left, saves_fp) = match switch {
        Switch::Call { depth, left, saves_fp } => {
            let [depth, goroutine] = pair(memory, sp.wrapping_add(8 * depth as u64))?;
            if goroutine == 0 {
                if depth <= sp {
                    return Err(StackEnd::NotClimbing);
                }
                (depth, frame.left, saves_fp)
            } else {
                let end = word(memory, goroutine.wrapping_add(goroutine::STACK_END))?;
                (end.wrapping_sub(depth), sp.wrapping_add(8 * left as u64), saves_fp)
            }
        }
        // What is saved in the goroutine is where it was left last, and so leads nowhere else.
        Switch::System { .. } if frame.left != 0 => return Err(StackEnd::UnsupportedRule),
        Switch::System { goroutine, current, saves_fp } => {
            let pointer = memory.thread_pointer().ok_or(StackEnd::UnsupportedRule)?;
            let goroutine = word(memory, pointer.wrapping_add((8 * goroutine as i64) as u64))?;
            let thread = word(memory, goroutine.wrapping_add(goroutine::THREAD))?;
            let current = word(memory, thread.wrapping_add(8 * current as u64))?;
            (word(memory, current.wrapping_add(goroutine::SAVED_SP))?, sp, saves_fp)
        }
        Switch::Callback { frame: words } => {
            let from = if frame.left > CAME_BACK { frame.left } else { sp };
            (from.wrapping_add(8 * words as u64).wrapping_sub(8), CAME_BACK, false)
        }
    };
    if at == 0 || at & 7 != 0 || at >= USER_ADDRESS_END {
        return Err(StackEnd::NotClimbing);
    }
    let (fp, ip, behind) = if saves_fp {
        let [fp, ip] = pair(memory, at)?;
        (fp, ip, 16)
    } else {
        (fp, word(memory, at)?, 8)
    };
    if !is_user_code(ip) {
        return Err(StackEnd::BadReturnAddress);
    }
    Ok(Frame { registers: Registers { ip, sp: at + behind, fp }, exact: false, left })
}

#[cfg(test)]
mod tests;
