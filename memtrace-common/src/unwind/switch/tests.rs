use std::collections::BTreeMap;

use super::*;
use crate::unwind::{Rule, step as undo};

/// A thread's memory, and its thread pointer.
struct Thread(BTreeMap<u64, u64>);

impl MemoryReader for Thread {
    fn read_word(&self, address: u64) -> Option<u64> {
        self.0.get(&address).copied()
    }

    fn read_pair(&self, address: u64) -> Option<[u64; 2]> {
        Some([self.read_word(address)?, self.read_word(address.wrapping_add(8))?])
    }

    fn thread_pointer(&self) -> Option<u64> {
        Some(POINTER)
    }
}

const POINTER: u64 = 0x7f00_0000_0740;
const SP: u64 = 0x7f00_1000_0000;
const G: u64 = 0xc0_0000_61a0;
const STACK_END: u64 = 0xc0_0043_0000;

fn thread<const N: usize>(words: [(u64, u64); N]) -> Thread {
    Thread(BTreeMap::from(words))
}

fn at(sp: u64, fp: u64, left: u64) -> Frame {
    Frame { left, ..Frame::caller(Registers { ip: 0x40_0000, sp, fp }) }
}

fn call(saves_fp: bool) -> Rule {
    Rule::unpack(Rule::Switch(Switch::Call { depth: 5, left: 9, saves_fp }).pack())
}

#[test]
fn a_call_of_c_goes_on_where_the_goroutine_is_now() {
    let mut thread = thread([
        (SP + 40, 0x100),
        (SP + 48, G),
        (G + 8, STACK_END),
        (STACK_END - 0x100, 0x45_1000),
        (STACK_END - 0xf8, 0x45_2000),
    ]);
    let beyond = undo(call(false), &at(SP, 7, 0), &thread).expect("a caller");
    assert_eq!(beyond, at(STACK_END - 0xf8, 7, SP + 72).with_ip(0x45_1000));
    let saved = undo(call(true), &at(SP, 7, 0), &thread).expect("a caller");
    assert_eq!(saved, at(STACK_END - 0xf0, 0x45_1000, SP + 72).with_ip(0x45_2000));

    // The stack has been moved: its end is elsewhere, and it has as much on it.
    thread.0.extend([(G + 8, STACK_END + 0x8000), (STACK_END + 0x7f00, 0x45_1000)]);
    let moved = undo(call(false), &at(SP, 7, 0), &thread).expect("a caller");
    assert_eq!(moved.registers, Registers { ip: 0x45_1000, sp: STACK_END + 0x7f08, fp: 7 });
}

#[test]
fn a_call_of_c_from_the_threads_own_stack_stays_there() {
    let thread = thread([(SP + 40, SP + 0x200), (SP + 48, 0), (SP + 0x200, 0x45_1000)]);
    let beyond = undo(call(false), &at(SP, 7, 3), &thread);
    assert_eq!(beyond, Ok(at(SP + 0x208, 7, 3).with_ip(0x45_1000)));
    let back = Thread(BTreeMap::from([(SP + 40, SP - 0x200), (SP + 48, 0), (SP - 0x200, 0x45_1000)]));
    assert_eq!(undo(call(false), &at(SP, 7, 0), &back), Err(StackEnd::NotClimbing));
}

#[test]
fn a_damaged_goroutine_ends_the_stack() {
    let words = [(SP + 40, 0x100), (SP + 48, G), (G + 8, STACK_END), (STACK_END - 0x100, 0x45_1000)];
    for (address, word, end) in [
        (SP + 40, 0x101, StackEnd::NotClimbing),
        (SP + 40, STACK_END, StackEnd::NotClimbing),
        (SP + 48, 1, StackEnd::ReadFault),
        (G + 8, u64::MAX << 3, StackEnd::NotClimbing),
        (G + 8, STACK_END + 8, StackEnd::ReadFault),
        (STACK_END - 0x100, 7, StackEnd::BadReturnAddress),
    ] {
        let mut thread = thread(words);
        thread.0.insert(address, word);
        assert_eq!(undo(call(false), &at(SP, 7, 0), &thread), Err(end), "{address:#x}");
    }
}

#[test]
fn what_runs_on_the_system_stack_goes_on_where_the_threads_goroutine_left_its_own() {
    let (thread_of_go, current) = (0xc0_0005_0000, 0xc0_0006_2000);
    let thread = thread([
        (POINTER - 8, G),
        (G + 48, thread_of_go),
        (thread_of_go + 192, current),
        (current + 56, STACK_END - 0x80),
        (STACK_END - 0x80, 0xbeef),
        (STACK_END - 0x78, 0x45_3000),
    ]);
    let rule = Rule::unpack(Rule::Switch(Switch::System { goroutine: -1, current: 24, saves_fp: true }).pack());
    assert_eq!(undo(rule, &at(SP, 7, 0), &thread), Ok(at(STACK_END - 0x70, 0xbeef, SP).with_ip(0x45_3000)));
    // Beyond another switch the goroutine tells of that one.
    for left in [CAME_BACK, SP] {
        assert_eq!(undo(rule, &at(SP, 7, left), &thread), Err(StackEnd::UnsupportedRule));
    }
}

#[test]
fn a_call_of_go_from_c_comes_back_to_the_stack_that_was_left() {
    let rule = Rule::unpack(Rule::Switch(Switch::Callback { frame: 5 }).pack());
    let thread = thread([(SP + 72 + 32, 0x46_1000), (STACK_END - 32, 0x46_2000)]);
    let back = undo(rule, &at(STACK_END - 64, 7, SP + 72), &thread);
    assert_eq!(back, Ok(at(SP + 72 + 40, 7, CAME_BACK).with_ip(0x46_1000)));
    // On the thread's stack still, before it changes to the goroutine's.
    for left in [0, CAME_BACK] {
        let same = undo(rule, &at(STACK_END - 64, 7, left), &thread);
        assert_eq!(same, Ok(at(STACK_END - 24, 7, CAME_BACK).with_ip(0x46_2000)));
    }
}

impl Frame {
    fn with_ip(mut self, ip: u64) -> Frame {
        self.registers.ip = ip;
        self
    }
}
