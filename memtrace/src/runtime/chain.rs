//! Interpreter frames in the place of the native frames that run them.

use std::ops::Range;

use memtrace_common::{
    Address,
    interpreter::{COPY, CUT, DETAILS, FrameKind, unpack},
};

use crate::event::{Chain, StackFrame};

/// How interpreter frames are told apart and placed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Placing {
    /// Where the parts of the interpreter's loop are, for interpreters that have nothing of their own on the native stack; else empty.
    pub evaluators: Vec<Range<u64>>,
    /// Bytes from a code object to its first instruction where a frame has the address of its instruction; `None` where it has the
    /// offset.
    pub first_instruction: Option<u64>,
    /// Bytes of the unit in which offsets are counted.
    pub unit: u64,
    /// Where code lies that is no function's: the interpreter runs it between two functions, and does not show it itself.
    pub hidden: Range<u64>,
}

/// The offset of an instruction that is not in its code: which code it was is not known.
pub const ELSEWHERE: u32 = u32::MAX;

/// The offset of a frame that has not come to its first instruction, as when a debugger is told of the call: it is at the line at which its
/// code begins.
pub const BEFORE: u32 = u32::MAX - 1;

impl Placing {
    /// The offset of an instruction from the first one of its code, in bytes, or [`BEFORE`]; `None` if it lies elsewhere.
    pub fn offset(&self, code: u64, instruction: u64) -> Option<u32> {
        let offset = match self.first_instruction {
            Some(first) => instruction.checked_sub(code.checked_add(first)?)?,
            None if instruction == u64::from(u32::MAX) => return Some(BEFORE),
            None => instruction.checked_mul(self.unit)?,
        };
        u32::try_from(offset).ok()
    }

    /// The frames of a stack in their true order, the innermost first. A native frame that runs interpreter frames is replaced by
    /// them. Runs of which no native frame is known, since the native stack ends before, come last. Also whether frames are missing.
    pub fn join(&self, native: &[Address], chain: &Chain) -> (Vec<StackFrame>, bool) {
        let mut joined = Vec::with_capacity(native.len() + chain.words.len() / 2);
        let natives = |range: Range<usize>| native[range].iter().map(|&address| StackFrame::Native(address));
        // The first native frame that has not been taken.
        let mut next = 0;
        let mut run = Vec::new();
        let mut is_cut = false;
        let mut words = chain.words.iter().copied();
        while let Some(word) = words.next() {
            match unpack(word) {
                Some((FrameKind::Interpreter, code)) => {
                    let Some(instruction) = words.next() else { break };
                    if self.hidden.contains(&code) {
                        continue;
                    }
                    let offset = self.offset(code, instruction).unwrap_or(ELSEWHERE);
                    run.push(StackFrame::Interpreter { code, offset });
                }
                Some((FrameKind::Boundary, address)) => {
                    is_cut |= address == CUT;
                    let runner = self.runner(native, chain, next, address);
                    // Nothing is placed where nothing is known, or no run has been begun that was cut.
                    if run.is_empty() && (runner.is_none() || address == CUT) {
                        continue;
                    }
                    joined.extend(natives(next..runner.unwrap_or(native.len())));
                    next = runner.map_or(native.len(), |runner| runner + 1);
                    joined.append(&mut run);
                }
                Some((FrameKind::Native | FrameKind::Detail, _)) | None => {}
            }
        }
        joined.extend(natives(next..native.len()));
        joined.append(&mut run);
        (joined, is_cut)
    }

    /// The copies of code that frames of a chain ran, with the details that name them.
    pub fn copies(chain: &Chain) -> impl Iterator<Item = (u64, [u64; DETAILS])> + '_ {
        chain.words.windows(2 + DETAILS).filter_map(|words| {
            let (FrameKind::Interpreter, address) = unpack(words[0])? else { return None };
            let mut details = [0; DETAILS];
            for (detail, word) in details.iter_mut().zip(&words[2..]) {
                let (FrameKind::Detail, value) = unpack(*word)? else { return None };
                *detail = value;
            }
            (address & COPY != 0).then_some((address, details))
        })
    }

    /// The index of the native frame that runs the frames which end at a boundary.
    fn runner(&self, native: &[Address], chain: &Chain, next: usize, boundary: u64) -> Option<usize> {
        if boundary == 0 || boundary == CUT {
            let is_in_loop = |address: u64| self.evaluators.iter().any(|part| part.contains(&address));
            return (next..native.len()).find(|&index| is_in_loop(native[index].0.wrapping_sub(1)));
        }
        // The frame's part of the stack is from its own stack pointer to its caller's. One whose caller is not known may end anywhere.
        let known = &chain.stack_pointers[..native.len().min(chain.stack_pointers.len())];
        let holds = |index: &usize| {
            let sp = |index: usize| known.get(index).copied().flatten();
            sp(*index).is_some_and(|sp| sp <= boundary) && sp(index + 1).is_some_and(|sp| boundary < sp)
        };
        (next..native.len()).find(holds)
    }
}

#[cfg(test)]
mod tests {
    use memtrace_common::interpreter::pack;

    use super::*;

    fn native(address: u64) -> StackFrame {
        StackFrame::Native(Address(address))
    }

    fn code(code: u64, offset: u32) -> StackFrame {
        StackFrame::Interpreter { code, offset }
    }

    /// The interpreter's loop, where there is one.
    const LOOP: Range<u64> = 0x500..0x600;

    const PLACING: Placing = Placing { evaluators: Vec::new(), first_instruction: Some(100), unit: 1, hidden: 0..0 };

    fn frame(code: u64, offset: u64) -> [u64; 2] {
        [pack(FrameKind::Interpreter, code), code + 100 + offset]
    }

    fn boundary(address: u64) -> [u64; 1] {
        [pack(FrameKind::Boundary, address)]
    }

    fn addresses(addresses: &[u64]) -> Vec<Address> {
        addresses.iter().copied().map(Address).collect()
    }

    #[test]
    fn a_native_frame_is_replaced_by_the_frames_that_it_runs() {
        let chain = Chain {
            stack_pointers: [0x1000, 0x1100, 0x1200, 0x1300, 0x1400].map(Some).to_vec(),
            words: [&frame(0x70, 4)[..], &frame(0x80, 6), &boundary(0x1150), &frame(0x90, 8), &boundary(0x1300)]
                .concat(),
        };
        let (joined, is_cut) = PLACING.join(&addresses(&[1, 2, 3, 4, 5]), &chain);
        assert_eq!(joined, [native(1), code(0x70, 4), code(0x80, 6), native(3), code(0x90, 8), native(5)]);
        assert!(!is_cut);
    }

    #[test]
    fn code_of_no_function_is_left_out() {
        let placing = Placing { hidden: 0x80..0x90, ..PLACING };
        let chain = Chain {
            stack_pointers: [0x1000, 0x1100, 0x1200].map(Some).to_vec(),
            words: [&frame(0x70, 4)[..], &frame(0x80, 0), &frame(0x90, 8), &boundary(0x1150)].concat(),
        };
        let (joined, is_cut) = placing.join(&addresses(&[1, 2, 3]), &chain);
        assert_eq!(joined, [native(1), code(0x70, 4), code(0x90, 8), native(3)]);
        assert!(!is_cut);
    }

    #[test]
    fn runs_beyond_the_native_stack_come_last() {
        let chain = Chain {
            stack_pointers: [0x1000, 0x1100, 0x1200].map(Some).to_vec(),
            words: [&frame(0x70, 4)[..], &boundary(0x1150), &frame(0x80, 0), &boundary(0x900), &frame(0x90, 2)]
                .concat(),
        };
        let (joined, is_cut) = PLACING.join(&addresses(&[1, 2, 3]), &chain);
        assert_eq!(joined, [native(1), code(0x70, 4), native(3), code(0x80, 0), code(0x90, 2)]);
        assert!(!is_cut);
    }

    #[test]
    fn without_an_address_the_next_frame_in_the_evaluator_runs_one_frame() {
        let placing = Placing { evaluators: vec![LOOP], first_instruction: None, unit: 2, hidden: 0..0 };
        let frame = |code: u64, index: u64| [pack(FrameKind::Interpreter, code), index];
        let chain = Chain {
            stack_pointers: vec![None; 5],
            words: [&frame(0x70, 4)[..], &boundary(0), &frame(0x80, 6), &boundary(0), &frame(0x90, 1), &boundary(0)]
                .concat(),
        };
        let (joined, is_cut) = placing.join(&addresses(&[1, 0x501, 0x600, 3, 0x700]), &chain);
        assert_eq!(joined, [native(1), code(0x70, 8), code(0x80, 12), native(3), native(0x700), code(0x90, 2)]);
        assert!(!is_cut);
    }

    #[test]
    fn a_chain_that_was_cut_goes_to_the_next_frame_in_the_evaluator_and_says_so() {
        let placing = Placing { evaluators: vec![LOOP], ..PLACING };
        let chain = Chain {
            stack_pointers: [0x1000, 0x1100, 0x1200, 0x1300].map(Some).to_vec(),
            words: [&frame(0x70, 4)[..], &boundary(CUT)].concat(),
        };
        let (joined, is_cut) = placing.join(&addresses(&[1, 0x501, 3, 4]), &chain);
        assert_eq!((joined, is_cut), (vec![native(1), code(0x70, 4), native(3), native(4)], true));
        // A frame whose caller is not known is nobody's runner.
        let chain = Chain {
            stack_pointers: [0x1000, 0x1100].map(Some).to_vec(),
            words: [&frame(0x70, 4)[..], &boundary(0x2000)].concat(),
        };
        let (joined, _) = PLACING.join(&addresses(&[1, 2]), &chain);
        assert_eq!(joined, [native(1), native(2), code(0x70, 4)]);
    }

    #[test]
    fn an_instruction_elsewhere_has_no_offset() {
        assert_eq!(PLACING.offset(0x1000, 0x1064), Some(0));
        assert_eq!(PLACING.offset(0x1000, 0x1066), Some(2));
        assert_eq!(PLACING.offset(0x1000, 0x10), None);
        assert_eq!(PLACING.offset(0x1000, u64::MAX), None);
        assert_eq!(PLACING.offset(u64::MAX, 0), None);
        let by_number = Placing { first_instruction: None, unit: 2, ..PLACING };
        assert_eq!(by_number.offset(0x1000, 4), Some(8));
        assert_eq!(by_number.offset(0x1000, u32::MAX.into()), Some(BEFORE));
    }

    proptest::proptest! {
        #[test]
        fn no_native_frame_is_lost_but_runners_and_no_interpreter_frame(
            words in proptest::collection::vec(proptest::num::u64::ANY, 0..60),
            tags in proptest::collection::vec(0u64..4, 60),
            stack_pointers in proptest::collection::vec(0u64..1 << 20, 0..20),
            count in 0usize..20,
        ) {
            let words: Vec<u64> =
                words.iter().zip(&tags).map(|(word, tag)| tag << 48 | word & 0xf_ffff).collect();
            let native: Vec<Address> = (0..count as u64).map(Address).collect();
            let stack_pointers = stack_pointers.into_iter().map(Some).collect();
            let chain = Chain { stack_pointers, words: words.clone() };
            let (joined, _) = PLACING.join(&native, &chain);
            let natives = joined.iter().filter(|frame| matches!(frame, StackFrame::Native(_))).count();
            let boundaries = words.iter().filter(|&&word| word >> 48 == 2).count();
            proptest::prop_assert!(natives <= count && natives + boundaries >= count);
            proptest::prop_assert!(joined.len() - natives <= words.len());
        }
    }
}
