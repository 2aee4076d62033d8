use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::unwind::{MemoryReader, Registers, StackEnd, step};

/// Where the return address of the walk stands.
const BASE: u64 = 0x7ffc_0000_1000;
const WORDS: usize = 4000;
const ENTRY: usize = 17;

/// Words from [`BASE`] up, and words elsewhere.
#[derive(Clone)]
struct Memory(Vec<u64>, BTreeMap<u64, u64>);

impl Memory {
    fn at(&self, address: u64) -> Option<u64> {
        let above = address.checked_sub(BASE).filter(|above| above % 8 == 0);
        let here = above.and_then(|above| self.0.get((above / 8) as usize));
        here.or_else(|| self.1.get(&address)).copied()
    }
}

impl MemoryReader for Memory {
    fn read_word(&self, address: u64) -> Option<u64> {
        self.at(address)
    }

    fn read_pair(&self, address: u64) -> Option<[u64; 2]> {
        Some([self.at(address)?, self.at(address.wrapping_add(8))?])
    }
}

impl Stack for Memory {
    fn read(&self, window: &mut Window, place: usize, address: u64, words: u64) -> bool {
        (0..words as usize).all(|at| {
            let word = self.at(address + 8 * at as u64);
            if let (Some(to), Some(word)) = (window.words.get_mut(place + at), word) {
                *to = word;
                true
            } else {
                false
            }
        })
    }

    fn word(&self, address: u64) -> Option<u64> {
        self.at(address)
    }

    fn note(&self, state: &mut ThreadState, address: u64, value: u64) {
        note_word(state, address, value);
    }

    fn note_change(&self, state: &mut ThreadState, address: u64, depth: u64, base: u64) {
        note_change(state, address, depth, base);
    }
}

fn state() -> Box<ThreadState> {
    // SAFETY: a map's value, of integers only.
    Box::new(unsafe { std::mem::zeroed() })
}

fn window() -> Box<Window> {
    Box::new(Window { busy: 1, near: 0, words: [0; 2 * WINDOW_WORDS] })
}

/// Walks as the programs do: by the rule of each address, noting what decides. All return addresses, innermost first.
fn walk(state: &mut ThreadState, rules: &BTreeMap<u64, Rule>, start: Registers, memory: &Memory) -> Vec<u64> {
    state.walk.base = BASE;
    state.walk.entry = ENTRY as u64;
    (state.walk.ip, state.walk.sp, state.walk.fp) = (start.ip, start.sp, start.fp);
    begin(state);
    let mut frame = Frame::caller(start);
    let mut frames = vec![start.ip];
    while frames.len() < 64 {
        let rule = rules.get(&frame.registers.ip).copied().unwrap_or(Rule::EndOfStack);
        match step(rule, &frame, memory) {
            Ok(caller) => {
                note_step(state, rule, &frame, &caller, memory);
                frames.push(caller.registers.ip);
                frame = caller;
            }
            Err(end) => {
                state.walk.uncacheable |= u64::from(end != StackEnd::Complete || rule != Rule::EndOfStack);
                break;
            }
        }
    }
    frames
}

/// Whether the cache entry of [`walk`] would be taken for a walk from here.
fn is_hit(state: &mut ThreadState, start: Registers, memory: &Memory) -> bool {
    state.walk.base = BASE;
    (state.walk.ip, state.walk.sp, state.walk.fp) = (start.ip, start.sp, start.fp);
    let mut window = window();
    window.near = if memory.read(&mut window, 0, BASE, 32) { 32 } else { 0 };
    repeats(state, ENTRY, || Some(&mut window), memory)
}

/// One frame: the words that it takes, how it is undone, and whether it saves the frame pointer.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Plain(u64),
    SavesFp(u64),
    ByFp(u64),
    Aligned(u64),
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        (1u64..60).prop_map(Shape::Plain),
        (3u64..60).prop_map(Shape::SavesFp),
        (3u64..400).prop_map(Shape::ByFp),
        (4u64..60).prop_map(Shape::Aligned),
    ]
}

/// A stack of these frames, with the rules that undo them and the registers that a walk starts with.
fn build(shapes: &[Shape]) -> (BTreeMap<u64, Rule>, Memory, Registers) {
    let mut words = vec![0u64; WORDS];
    let mut rules = BTreeMap::new();
    let code = |frame: usize| 0x5555_0000_0000 + 0x100 * frame as u64;
    words[0] = code(0);
    let start = BASE + 8;
    // Each frame is laid out from its stack pointer up; `fp` of a frame that needs it is at its second word.
    let mut sp = start;
    let mut fps = Vec::new();
    for (index, shape) in shapes.iter().enumerate() {
        let at = |address: u64| ((address - BASE) / 8) as usize;
        let (size, rule) = match *shape {
            Shape::Plain(size) => (size, Rule::Frame { cfa: Cfa::Sp(8 * size as i32), fp: FramePointer::Unchanged }),
            Shape::SavesFp(size) => (size, Rule::Frame { cfa: Cfa::Sp(8 * size as i32), fp: FramePointer::AtCfa(-16) }),
            Shape::ByFp(size) => (size, Rule::Frame { cfa: Cfa::Fp(16), fp: FramePointer::AtCfa(-16) }),
            Shape::Aligned(size) => {
                let rule = Rule::Frame { cfa: Cfa::DerefSp { offset: 8, add: 0 }, fp: FramePointer::Unchanged };
                words[at(sp + 8)] = sp + 8 * size;
                (size, rule)
            }
        };
        let cfa = sp + 8 * size;
        rules.insert(code(index), rule);
        words[at(cfa - 8)] = code(index + 1);
        fps.push((*shape, cfa - 16));
        sp = cfa;
    }
    // From the outermost frame in: the value that each frame's register has.
    let mut register = 0x1234;
    for (shape, place) in fps.into_iter().rev() {
        match shape {
            Shape::SavesFp(_) | Shape::ByFp(_) => {
                words[((place - BASE) / 8) as usize] = register;
                register = if matches!(shape, Shape::ByFp(_)) { place } else { 0x77 };
            }
            Shape::Plain(_) | Shape::Aligned(_) => {}
        }
    }
    (rules, Memory(words, BTreeMap::new()), Registers { ip: code(0), sp: start, fp: register })
}

proptest! {
    #[test]
    fn a_hit_is_what_another_walk_would_give(
        shapes in prop::collection::vec(shape(), 1..12),
        changes in prop::collection::vec((0usize..800, prop_oneof![any::<u32>().prop_map(u64::from), Just(0x5555_0000_0100)]), 0..4),
        moves_fp in any::<bool>(),
    ) {
        let (rules, mut memory, mut start) = build(&shapes);
        let mut state = state();
        let frames = walk(&mut state, &rules, start, &memory);
        prop_assume!(state.walk.uncacheable == 0);
        end(&mut state, 9);
        prop_assume!(state.walks.remembered[ENTRY].id == 9);
        prop_assert!(is_hit(&mut state, start, &memory), "an unchanged stack is found");
        for (at, value) in changes {
            memory.0[at] = value;
        }
        start.fp ^= u64::from(moves_fp) << 12;
        if is_hit(&mut state, start, &memory) {
            let again = walk(&mut self::state(), &rules, start, &memory);
            prop_assert_eq!(frames, again);
        }
    }

    #[test]
    fn a_word_that_no_rule_reads_does_not_cost_a_walk(shapes in prop::collection::vec(shape(), 1..12), at in 1usize..800) {
        let (rules, mut memory, start) = build(&shapes);
        let mut state = state();
        walk(&mut state, &rules, start, &memory);
        prop_assume!(state.walk.uncacheable == 0);
        end(&mut state, 9);
        prop_assume!(state.walks.remembered[ENTRY].id == 9);
        // Locals: words that are 0 in a stack that was built.
        prop_assume!(memory.0[at] == 0);
        memory.0[at] = 0xdead;
        prop_assert!(is_hit(&mut state, start, &memory));
    }
}

#[test]
fn a_return_address_or_a_used_frame_pointer_that_changed_is_walked_again() {
    let (rules, memory, start) = build(&[Shape::Plain(4), Shape::ByFp(20), Shape::SavesFp(5), Shape::ByFp(300)]);
    let mut state = state();
    let frames = walk(&mut state, &rules, start, &memory);
    assert_eq!(frames.len(), 5);
    end(&mut state, 9);
    assert!(is_hit(&mut state, start, &memory));
    assert!(!is_hit(&mut state, Registers { fp: start.fp + 8, ..start }, &memory), "the frame pointer is used");
    assert!(!is_hit(&mut state, Registers { ip: start.ip + 1, ..start }, &memory));
    for (at, &word) in memory.0.iter().enumerate().filter(|&(_, &word)| word >> 32 == 0x5555) {
        let mut changed = memory.clone();
        changed.0[at] = word + 1;
        assert!(!is_hit(&mut state, start, &changed), "the return address at word {at}");
    }
}

#[test]
fn walks_are_expected_in_the_order_in_which_they_came() {
    let mut state = state();
    for round in 0..3 {
        for (sp, entry) in [(0x7ffc_0000, 3), (0x7ffc_0100, 5), (0x7ffc_0000, 9)] {
            state.walk.expectation = expectation(&state, sp) as u64;
            if round == 2 {
                assert_eq!(expected(&state), entry);
            }
            commit(&mut state, entry);
        }
    }
    assert_eq!(set(1, 2) % REMEMBERED_WAYS, 0);
    assert!(set(u64::MAX, u64::MAX) < REMEMBERED_WALKS);
}

/// The goroutines that call C, and where each one's stack ends.
const GOROUTINES: [(u64, u64); 2] = [(0xc0_0000_61a0, 0xc0_0010_0000), (0xc0_0000_7380, 0xc0_0020_0000)];

/// Puts a call of C that a goroutine makes behind the frames of C: the goroutine's return addresses lie so many words apart, and may be
/// on a stack that has been moved.
#[derive(Clone, Debug)]
struct Call {
    goroutine: usize,
    moved: u64,
    frames: Vec<(u64, u64)>,
}

impl Call {
    fn place(&self, rules: &mut BTreeMap<u64, Rule>, memory: &mut Memory, c_frames: usize, depth: u64) {
        let (goroutine, end) = GOROUTINES[self.goroutine];
        let end = end + 0x1000 * self.moved;
        let asmcgocall = 0x5555_0000_0000 + 0x100 * c_frames as u64;
        rules.insert(
            asmcgocall,
            Rule::Switch(Switch::Call { depth: 2, left: 3, saves_fp: self.frames.len().is_multiple_of(2) }),
        );
        let sp = BASE + 8 + 8 * 30 * c_frames as u64;
        let at = |address: u64| ((address - BASE) / 8) as usize;
        (memory.0[at(sp + 16)], memory.0[at(sp + 24)]) = (depth, goroutine);
        memory.1.insert(goroutine + 8, end);
        // So many words that no read of a piece fails.
        memory.1.extend((0..2000).map(|word| (end - depth - 64 + 8 * word, 0x7777)));
        let mut place = end - depth + if self.frames.len().is_multiple_of(2) { 8 } else { 0 };
        for &(words, code) in &self.frames {
            memory.1.insert(place, code);
            rules.insert(code, Rule::Frame { cfa: Cfa::Sp(8 * words as i32), fp: FramePointer::Unchanged });
            place += 8 * words;
        }
        memory.1.insert(place, 0x5566_0000_0000);
    }
}

/// A rule for each of the few return addresses, so that walks of one can be told from those of another.
fn call() -> impl Strategy<Value = Call> {
    let frame = (0u64..4).prop_map(|which| (2 + 70 * which, 0x5577_0000_0000 + which));
    (0usize..2, 0u64..2, prop::collection::vec(frame, 1..5)).prop_map(|(goroutine, moved, frames)| Call {
        goroutine,
        moved,
        frames,
    })
}

proptest! {
    #[test]
    fn a_walk_on_to_a_goroutine_is_found_again_for_the_same_callers_only(
        calls in prop::collection::vec(call(), 1..6),
        c_frames in 1usize..4,
        depths in prop::collection::vec(prop_oneof![3 => Just(0x800u64), 1 => Just(0x1000)], 6),
    ) {
        let mut state = state();
        let mut before: Option<Vec<u64>> = None;
        let mut where_before = (0, 0);
        for (call, depth) in calls.iter().zip(depths) {
            let (mut rules, mut memory, start) = build(&vec![Shape::Plain(30); c_frames]);
            call.place(&mut rules, &mut memory, c_frames, depth);
            let frames = walk(&mut self::state(), &rules, start, &memory);
            prop_assert_eq!(frames.len(), c_frames + call.frames.len() + 2);
            let is_same = before.as_ref() == Some(&frames) && where_before == (depth, call.frames.len() % 2);
            prop_assert_eq!(is_hit(&mut state, start, &memory), is_same, "{:x?} after {:x?}", frames, before);
            walk(&mut state, &rules, start, &memory);
            prop_assert_eq!(state.walk.uncacheable, 0);
            end(&mut state, 9);
            prop_assert!(is_hit(&mut state, start, &memory), "{:x?}", frames);
            // Not any more when the thread is without a goroutine.
            memory.0[1 + 30 * c_frames + 3] = 0;
            prop_assert!(!is_hit(&mut state, start, &memory));
            (before, where_before) = (Some(frames), (depth, call.frames.len() % 2));
        }
    }
}

#[test]
fn walks_that_change_stacks_in_other_ways_are_not_remembered() {
    let call = Call { goroutine: 0, moved: 0, frames: vec![(4, 0x5577_0000_0000), (6, 0x5577_0000_0001)] };
    let others = [Switch::Callback { frame: 1 }, Switch::Call { depth: 0, left: 0, saves_fp: false }];
    for other in others {
        let (mut rules, mut memory, start) = build(&[Shape::Plain(30)]);
        call.place(&mut rules, &mut memory, 1, 0x800);
        rules.insert(0x5577_0000_0000, Rule::Switch(other));
        // For a second call of C the words are a depth and no goroutine; for a call of Go the stack that was left goes on.
        let (_, end) = GOROUTINES[0];
        memory.1.extend([(end - 0x800 + 16, end - 0x780), (end - 0x800 + 24, 0), (end - 0x780, 0x5566_0000_0000)]);
        memory.0[1 + 30 + 3] = GOROUTINES[0].0;
        let mut state = state();
        walk(&mut state, &rules, start, &memory);
        assert_eq!(state.walk.uncacheable, 1, "{other:?}");
    }
}
