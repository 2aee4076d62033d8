use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::unwind::row::Unsupported;

struct Stack(BTreeMap<u64, u64>);

impl MemoryReader for Stack {
    fn read_word(&self, address: u64) -> Option<u64> {
        self.0.get(&address).copied()
    }

    fn read_pair(&self, address: u64) -> Option<[u64; 2]> {
        Some([self.read_word(address)?, self.read_word(address.wrapping_add(8))?])
    }
}

fn stack<const N: usize>(words: [(u64, u64); N]) -> Stack {
    Stack(BTreeMap::from(words))
}

const SP: u64 = 0x7000_0000;

fn frame(sp: u64, fp: u64) -> Frame {
    Frame::caller(Registers { ip: 0x40_0000, sp, fp })
}

fn caller(ip: u64, sp: u64, fp: u64) -> Result<Frame, StackEnd> {
    Ok(Frame::caller(Registers { ip, sp, fp }))
}

fn by(cfa: Cfa, fp: FramePointer) -> Rule {
    Rule::Frame { cfa, fp }
}

fn walk(mut frame: Frame, memory: &Stack) -> (Vec<u64>, StackEnd) {
    let mut frames = Vec::new();
    loop {
        match step_frame_pointer(&frame, memory) {
            Ok(caller) => {
                assert!(caller.registers.sp > frame.registers.sp, "a step must climb");
                frames.push(caller.registers.ip);
                frame = caller;
            }
            Err(end) => return (frames, end),
        }
    }
}

#[test]
fn a_chain_of_frame_pointers_is_followed_to_its_end() {
    let memory = stack([(SP + 0x10, SP + 0x40), (SP + 0x18, 0x40_1000), (SP + 0x40, 0), (SP + 0x48, 0x40_2000)]);
    assert_eq!(walk(frame(SP, SP + 0x10), &memory), (vec![0x40_1000, 0x40_2000], StackEnd::Complete));
}

#[test]
fn a_general_register_is_not_taken_for_a_frame_pointer() {
    let memory = stack([]);
    for fp in [1, 7, SP - 8, u64::MAX, USER_ADDRESS_END] {
        assert_eq!(walk(frame(SP, fp), &memory).1, StackEnd::NoFramePointer, "{fp:#x}");
        assert_eq!(step(Rule::WithoutRules, &frame(SP, fp), &memory), Err(StackEnd::FdeGap));
    }
    assert_eq!(walk(frame(SP, SP + 8), &memory).1, StackEnd::ReadFault);
}

#[test]
fn a_leaf_and_a_frame_with_saved_registers_are_undone_by_the_stack_pointer() {
    let memory = stack([(SP, 0x40_1000), (SP + 0x18, 0xbeef), (SP + 0x20, 0x40_2000), (SP + 0x28, 0x40_3000)]);
    let leaf = by(Cfa::Sp(8), FramePointer::Unchanged);
    assert_eq!(step(leaf, &frame(SP, 77), &memory), caller(0x40_1000, SP + 8, 77));
    let next_to_the_return_address = by(Cfa::Sp(0x28), FramePointer::AtCfa(-16));
    assert_eq!(step(next_to_the_return_address, &frame(SP, 77), &memory), caller(0x40_2000, SP + 0x28, 0xbeef));
    let further_down = by(Cfa::Sp(0x30), FramePointer::AtCfa(-24));
    assert_eq!(step(further_down, &frame(SP, 77), &memory), caller(0x40_3000, SP + 0x30, 0xbeef));
}

#[test]
fn frames_found_by_the_frame_pointer_are_undone_wherever_the_stack_pointer_is() {
    let memory = stack([(SP + 0x100, SP + 0x200), (SP + 0x108, 0x40_1000)]);
    let rule = by(Cfa::Fp(16), FramePointer::AtCfa(-16));
    assert_eq!(step(rule, &frame(SP, SP + 0x100), &memory), caller(0x40_1000, SP + 0x110, SP + 0x200));
}

#[test]
fn aligned_stacks_are_undone_by_the_pointer_that_they_keep() {
    // gcc: r10 = cfa is pushed below the frame pointer, where the caller's frame pointer is.
    let memory = stack([
        (SP + 0x38, SP + 0x90),
        (SP + 0x40, 0xbeef),
        (SP + 0x88, 0x40_1000),
        (SP + 0x20, SP + 0xa0),
        (SP + 0xa0, 0x40_2000),
    ]);
    let compiled = by(Cfa::DerefFp { offset: -8, add: 0 }, FramePointer::AtFp(0));
    assert_eq!(step(compiled, &frame(SP, SP + 0x40), &memory), caller(0x40_1000, SP + 0x90, 0xbeef));
    // OpenSSL: the old stack pointer, which points at the return address, is kept on the new stack.
    let written = by(Cfa::DerefSp { offset: 0x20, add: 8 }, FramePointer::Unchanged);
    assert_eq!(step(written, &frame(SP, 77), &memory), caller(0x40_2000, SP + 0xa8, 77));
}

#[test]
fn an_entry_of_the_linkage_table_is_undone_before_and_after_its_push() {
    let memory = stack([(SP, 0x40_1000), (SP + 8, 0x40_2000)]);
    let rule = by(Cfa::Plt { threshold: 11 }, FramePointer::Unchanged);
    let at = |ip| Frame::innermost(Registers { ip, sp: SP, fp: 0 });
    assert_eq!(step(rule, &at(0x40_002a), &memory), caller(0x40_1000, SP + 8, 0));
    assert_eq!(step(rule, &at(0x40_002b), &memory), caller(0x40_2000, SP + 16, 0));
}

#[test]
fn a_signal_frame_leads_to_the_interrupted_instruction_even_on_another_stack() {
    let below = SP - 0x10_0000;
    let memory = stack([(SP + 120, 0xbeef), (SP + 160, below), (SP + 168, 0x40_1234)]);
    let interrupted = step(Rule::SignalFrame, &frame(SP, 0), &memory).expect("an interrupted frame");
    assert_eq!(interrupted, Frame::innermost(Registers { ip: 0x40_1234, sp: below, fp: 0xbeef }));
    assert_eq!(interrupted.lookup_address(), 0x40_1234);
    assert_eq!(frame(SP, 0).lookup_address(), 0x3f_ffff);
}

#[test]
fn a_trampoline_without_rules_is_known_by_its_instructions() {
    let memory = stack([
        (0x40_0000, u64::from_le_bytes([0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f])),
        (0x40_0008, u64::from_le_bytes([0x05, 0xc3, 0, 0, 0, 0, 0, 0])),
        (SP + 120, 0xbeef),
        (SP + 160, SP + 0x400),
        (SP + 168, 0x40_1234),
    ]);
    let expected = Ok(Frame::innermost(Registers { ip: 0x40_1234, sp: SP + 0x400, fp: 0xbeef }));
    assert_eq!(step_without_table(&frame(SP, 0), &memory), expected);
    assert_eq!(step(Rule::WithoutRules, &frame(SP, 0), &memory), expected);
    assert_eq!(step_without_table(&frame(SP, 77), &stack([])), Err(StackEnd::NoTable));
}

#[test]
fn each_way_of_stopping_has_its_name() {
    let memory = stack([(SP, 0), (SP + 8, 0xffff_8000_0000_0000), (SP + 16, 12), (SP + 24, SP)]);
    let end = |rule| step(rule, &frame(SP, SP - 64), &memory).expect_err("an end");
    let by_sp = |offset| by(Cfa::Sp(offset), FramePointer::Unchanged);
    assert_eq!(end(Rule::EndOfStack), StackEnd::Complete);
    assert_eq!(end(by_sp(8)), StackEnd::Complete, "a return address of 0");
    assert_eq!(end(by_sp(16)), StackEnd::BadReturnAddress);
    assert_eq!(end(by_sp(24)), StackEnd::BadReturnAddress);
    assert_eq!(end(by_sp(48)), StackEnd::ReadFault);
    assert_eq!(end(by_sp(0)), StackEnd::NotClimbing);
    assert_eq!(end(by(Cfa::Fp(16), FramePointer::Unchanged)), StackEnd::NotClimbing);
    assert_eq!(end(by(Cfa::DerefSp { offset: 24, add: 0 }, FramePointer::Unchanged)), StackEnd::NotClimbing);
    assert_eq!(end(by(Cfa::DerefSp { offset: 8, add: 0 }, FramePointer::Unchanged)), StackEnd::NotClimbing);
    assert_eq!(end(by(Cfa::DerefFp { offset: 0, add: 0 }, FramePointer::Unchanged)), StackEnd::ReadFault);
    assert_eq!(end(Rule::Gap), StackEnd::FdeGap);
    assert_eq!(end(Rule::Unsupported(Unsupported::CfaExpression)), StackEnd::UnsupportedRule);
    assert_eq!(end(Rule::SignalFrame), StackEnd::ReadFault);
}

proptest! {
    #[test]
    fn any_memory_ends_a_walk_by_frame_pointer(words in prop::collection::vec(any::<u64>(), 2..200), fp in 0u64..2000) {
        // Make about half of the words look like frame pointers into the same stack.
        let memory = Stack(words.iter().enumerate().map(|(index, &word)| {
            let value = if word % 2 == 0 { SP + (word >> 32) % 2000 / 8 * 8 } else { word };
            (SP + 8 * index as u64, value)
        }).collect());
        let (frames, _) = walk(frame(SP, SP + fp), &memory);
        prop_assert!(frames.len() <= words.len());
    }

    #[test]
    fn any_rule_on_any_memory_climbs_or_ends(
        packed in any::<u32>(),
        words in prop::collection::vec(any::<u64>(), 1..100),
        sp in any::<u64>(),
        fp in any::<u64>(),
    ) {
        struct Anywhere(Vec<u64>);
        impl MemoryReader for Anywhere {
            fn read_word(&self, address: u64) -> Option<u64> {
                self.0.get(address as usize % 128).copied()
            }
            fn read_pair(&self, address: u64) -> Option<[u64; 2]> {
                Some([self.read_word(address)?, self.read_word(address.wrapping_add(8))?])
            }
        }
        let rule = Rule::unpack(packed);
        if let Ok(caller) = step(rule, &frame(sp, fp), &Anywhere(words)) {
            prop_assert!(caller.registers.sp > sp || rule == Rule::SignalFrame);
        }
    }
}
