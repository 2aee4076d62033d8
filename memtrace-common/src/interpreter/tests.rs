use std::collections::HashMap;

use super::*;

fn chain(memory: &HashMap<u64, u64>, interpreter: &Interpreter, thread_state: u64) -> Vec<u64> {
    let read = |address: u64| memory.get(&address).copied();
    let mut chain = Box::new(Chain::empty());
    chain.thread_state = thread_state;
    chain.frame = interpreter.innermost.follow(thread_state, read).unwrap_or(0);
    chain.run = interpreter.run.follow(thread_state, read).unwrap_or(0);
    chain.end = interpreter.array_end(thread_state, read);
    for _ in 0..MAX_INTERPRETER_FRAMES {
        if chain.frame == 0 {
            break;
        }
        let (begin, place, words) = match source(&mut chain, 8 * interpreter.frame_words) {
            Source::Held => (0, 0, 0),
            Source::Window(begin, bytes) => {
                (chain.window, chain.window_bytes) = (begin, bytes);
                (begin, 0, bytes / 8)
            }
            Source::Alone => (chain.frame, FRAMES_WINDOW, interpreter.frame_words),
        };
        for at in 0..words {
            chain.words[place + at as usize] = read(begin + 8 * at).unwrap_or(0);
        }
        if !step(interpreter, &mut chain, read) {
            break;
        }
    }
    chain.sent_words().to_vec()
}

const STATE: u64 = 0x5000_0000;

fn interpreter(entry: u64) -> Interpreter {
    Interpreter {
        is_known: 1,
        innermost: Path::over(&[72]).unwrap(),
        state_bytes: 4096,
        frame_words: 4,
        code_mask: !3,
        previous: 1,
        instruction: 2,
        instruction_mask: u64::MAX,
        owner: 3,
        owner_shift: 16,
        entry,
        entry_owner: 3,
        run: Path::over(&[80]).unwrap(),
        run_previous: 16,
        ..Interpreter::default()
    }
}

fn frame(memory: &mut HashMap<u64, u64>, at: u64, words: [u64; 4]) {
    words.iter().enumerate().for_each(|(index, &word)| _ = memory.insert(at + 8 * index as u64, word));
}

fn code(address: u64) -> u64 {
    pack(FrameKind::Interpreter, address)
}

fn boundary(address: u64) -> u64 {
    pack(FrameKind::Boundary, address)
}

#[test]
fn entry_frames_end_runs_and_a_frame_within_the_threads_state_ends_the_chain() {
    let mut memory = HashMap::from([(STATE + 72, 0x100)]);
    frame(&mut memory, 0x100, [0xc0de1, 0x200, 0x11, 0]);
    frame(&mut memory, 0x200, [0xc0de8, 0x7ffc_0300, 0x22, 1 << 16]);
    frame(&mut memory, 0x7ffc_0300, [0xbb1, 0x400, 0, 4 << 16]);
    frame(&mut memory, 0x400, [0xc0de10, STATE + 800, 0x33, 0]);
    frame(&mut memory, STATE + 800, [0xbb1, 0, 0, 3 << 16]);
    let expected = vec![code(0xc0de0), 0x11, code(0xc0de8), 0x22, boundary(0x7ffc_0300), code(0xc0de10), 0x33];
    assert_eq!(chain(&memory, &interpreter(entry::FRAME), STATE), expected);
}

#[test]
fn flags_and_single_frames_end_runs_by_their_records() {
    let mut memory = HashMap::from([(STATE + 72, 0x100), (STATE + 80, 0x7ffc_0000)]);
    memory.extend([(0x7ffc_0010, 0x7ffc_0800), (0x7ffc_0810, 0)]);
    frame(&mut memory, 0x100, [0xc0de0, 0x200, 0x11, 0]);
    frame(&mut memory, 0x200, [0xc0de8, 0x300, 0x22, 1 << 16]);
    frame(&mut memory, 0x300, [0xc0de10, 0, 0x33, 1 << 16]);
    let (a, b, c) = ([code(0xc0de0), 0x11], [code(0xc0de8), 0x22], [code(0xc0de10), 0x33]);
    let expected = [&a[..], &b, &[boundary(0x7ffc_0000)], &c, &[boundary(0x7ffc_0800)]].concat();
    assert_eq!(chain(&memory, &interpreter(entry::FLAG), STATE), expected);
    let expected = [&a[..], &[boundary(0x7ffc_0000)], &b, &[boundary(0x7ffc_0800)], &c, &[boundary(0)]].concat();
    assert_eq!(chain(&memory, &interpreter(entry::EACH), STATE), expected);
    let expected = [&a[..], &[boundary(0)], &b, &[boundary(0)], &c, &[boundary(0)]].concat();
    assert_eq!(chain(&memory, &interpreter(entry::NOWHERE), STATE), expected);
}

/// An interpreter whose frames have functions in C among them: a frame is its caller, its code, its instruction, and how it was called.
fn looped() -> Interpreter {
    Interpreter {
        previous: 0,
        code: 1,
        code_mask: u64::MAX,
        last_mask: 2,
        copy_mask: 1,
        copy_details: [8, 16, 24, 32],
        loop_mask: 6,
        ..interpreter(entry::LOOP)
    }
}

#[test]
fn functions_in_c_end_no_run_and_have_no_instruction() {
    let mut memory = HashMap::from([(STATE + 72, 0x100), (0x8000, 1), (0x8100, 0xff02), (0x8200, 1), (0x8300, 2)]);
    // In C, called from C, called from C; a function that the loop runs, called from C; in C; two functions of one loop.
    frame(&mut memory, 0x100, [0x200, 0x8000, 0xbad, 2 << 16]);
    frame(&mut memory, 0x200, [0x300, 0x8000, 0xbad, 2 << 16]);
    frame(&mut memory, 0x300, [0x400, 0x8100, 0x7fff_0000_0011, 2 << 16]);
    frame(&mut memory, 0x400, [0x500, 0x8200, 0xbad, 0]);
    // It stands for another one, and runs nothing.
    frame(&mut memory, 0x500, [0x600, 0, 0xbad, 2 << 16]);
    frame(&mut memory, 0x600, [0x700, 0x8300, 0x22, 0]);
    frame(&mut memory, 0x700, [0, 0x8100, 0x33, 2 << 16]);
    let in_c = [code(0x8000), 0];
    let expected = [&in_c[..], &in_c, &[code(0x8100), 0x11, boundary(0)], &[code(0x8200), 0], &[code(0x8300), 0x22]];
    let expected = [&expected.concat()[..], &[code(0x8100), 0x33, boundary(0)]].concat();
    assert_eq!(chain(&memory, &looped(), STATE), expected);
}

#[test]
fn copies_of_code_are_their_instructions_with_their_details_and_make_no_other_stack() {
    let stack = |copy: u64| {
        let mut memory = HashMap::from([(STATE + 72, 0x100), (copy, 2), (0x7000 + 32, 0xffff_0000_0007)]);
        memory.extend([(copy + 8, 0x9000), (copy + 16, 0x9100), (copy + 24, 0x9200), (0x8000, 1), (0x8008, 0x9300)]);
        frame(&mut memory, 0x100, [0x200, 0x8000, 0xbad, 1 << 16]);
        frame(&mut memory, 0x200, [0, copy, 0x7000, 3 << 16]);
        let interpreter = looped();
        let read = |address: u64| memory.get(&address).copied();
        let mut chain = Box::new(Chain { frame: 0x100, ..Chain::empty() });
        for address in [0x100, 0x200] {
            chain.at = 0;
            (0..4).for_each(|at| chain.words[at as usize] = memory[&(address + 8 * at)]);
            step(&interpreter, &mut chain, read);
        }
        (chain.sent_words().to_vec(), chain.hash)
    };
    let detail = |value: u64| pack(FrameKind::Detail, value);
    let (words, hash) = stack(0x8100);
    let in_c = [code(COPY | 0x9300), 0, detail(0x9300), detail(0), detail(0), detail(0)];
    let looped = [code(COPY | 0x7000), 0, detail(0x9000), detail(0x9100), detail(0x9200), detail(7), boundary(0)];
    assert_eq!(words, [&in_c[..], &looped].concat());
    assert_eq!(stack(0x8500), (words, hash));
}

/// An interpreter whose frames lie in an array: a frame is its code, its instruction and the address of its flags.
fn in_array() -> Interpreter {
    Interpreter {
        frame_words: 3,
        code: 0,
        instruction: 1,
        owner: 2,
        owner_shift: 0,
        last_mask: 0x20,
        left_out_mask: 0x80,
        frame_bytes: 24,
        array_begin: 8,
        array_words: 16,
        ..interpreter(entry::ARRAY)
    }
}

#[test]
fn frames_in_an_array_follow_each_other_up_to_its_end() {
    // 300 words from 0x8000 on, the last five frames of which are in use.
    let end = 0x8000 + 300 * 8;
    let frames = [
        [0xc0de0, 0x11, 0x7000], // a method
        [0, 0, 0x7008],          // in C, without code
        [0xc0de8, 0x22, 0x7010], // the last one of a loop
        [0xbad0, 0x33, 0x7018],  // a block in C, with code of another kind
        [0xc0df0, 0, 0x7000],    // at no instruction
        [0xc0df8, 0x44, 0x7010],
        [0xc0e00, 0x55, 0x7010], // below all others
    ];
    let innermost = end - 24 * frames.len() as u64;
    let mut memory = HashMap::from([(STATE + 72, innermost), (STATE + 8, 0x8000), (STATE + 16, 300)]);
    memory.extend([(0x7000, 1), (0x7008, 0x80), (0x7010, 0x21), (0x7018, 0xa0)]);
    for (index, words) in frames.iter().enumerate() {
        words.iter().enumerate().for_each(|(word, &value)| {
            _ = memory.insert(innermost + 24 * index as u64 + 8 * word as u64, value);
        });
    }
    let expected = [code(0xc0de0), 0x11, code(0xc0de8), 0x22, boundary(0), code(0xc0df8), 0x44, boundary(0)];
    assert_eq!(chain(&memory, &in_array(), STATE), expected);
    // An end that is nowhere, or before the frame, ends the chain.
    for words in [0, u64::MAX, 1 << 61] {
        memory.insert(STATE + 16, words);
        assert!(chain(&memory, &in_array(), STATE).len() <= 2 * MAX_INTERPRETER_FRAMES);
    }
}

#[test]
fn a_chain_of_copies_is_cut_where_there_is_no_room_for_another() {
    let mut memory = HashMap::from([(STATE + 72, 0x100), (0x8000, 2)]);
    frame(&mut memory, 0x100, [0x100, 0x8000, 0x7000, 3 << 16]);
    let words = chain(&memory, &looped(), STATE);
    assert!(words.len() + 2 < MAX_CHAIN_WORDS && words.len() + 20 > MAX_CHAIN_WORDS, "{}", words.len());
}

#[test]
fn a_circle_of_frames_ends_at_the_bound() {
    let mut memory = HashMap::from([(STATE + 72, 0x100)]);
    frame(&mut memory, 0x100, [0xc0de0, 0x100, 0x11, 0]);
    let words = chain(&memory, &interpreter(entry::FRAME), STATE);
    assert_eq!(words.len(), 2 * MAX_INTERPRETER_FRAMES);
}

#[test]
fn frames_close_together_are_read_at_once_and_others_alone() {
    let mut chain = Chain::empty();
    let bytes = 96;
    chain.frame = 0x1_0f00;
    assert_eq!((source(&mut chain, bytes), chain.at), (Source::Alone, 256));
    // 200 bytes further down: with what is below it.
    (chain.last, chain.frame) = (0x1_0f00, 0x1_0f00 - 200);
    let begin = 0x1_0f00 - 200 + 96 - 2048;
    assert_eq!((source(&mut chain, bytes), chain.at), (Source::Window(begin, 2048), 256 - 12));
    (chain.window, chain.window_bytes) = (begin, 2048);
    (chain.last, chain.frame) = (chain.frame, chain.frame - 208);
    assert_eq!((source(&mut chain, bytes), chain.at), (Source::Held, 256 - 12 - 26));
    // On the native stack, and back.
    (chain.last, chain.frame) = (chain.frame, 0x7ffc_0000);
    assert_eq!(source(&mut chain, bytes), Source::Alone);
    (chain.last, chain.frame) = (0x7ffc_0000, begin + 16);
    assert_eq!((source(&mut chain, bytes), chain.at), (Source::Held, 2));
    // Down to the beginning of the page, and no further.
    (chain.last, chain.frame) = (begin + 16, begin - 8);
    let offset = (begin - 8) & 0xfff;
    assert_eq!((source(&mut chain, bytes), chain.at), (Source::Window(0x1_0000, offset + 96), offset / 8));
    // Not a place for words.
    (chain.last, chain.frame) = (begin + 19, begin + 3);
    assert_eq!(source(&mut chain, bytes), Source::Alone);
}

proptest::proptest! {
    #[test]
    fn no_place_is_outside_of_what_there_is(
        frame in proptest::num::u64::ANY, last in proptest::num::u64::ANY, near in 0u64..5000, window in proptest::num::u64::ANY,
        window_bytes in 0u64..=2048, words in 1u64..=16,
    ) {
        for last in [last, frame.wrapping_add(near)] {
            for window in [window, frame.wrapping_sub(near)] {
                let mut chain = Chain { frame, last, window, window_bytes, ..Chain::empty() };
                if let Source::Window(begin, bytes) = source(&mut chain, 8 * words) {
                    proptest::prop_assert!(bytes <= 2048 && begin <= frame && bytes % 8 == 0);
                    proptest::prop_assert!(begin & !0xfff == frame & !0xfff);
                }
                proptest::prop_assert!(chain.at + words <= 2 * FRAMES_WINDOW as u64);
            }
        }
    }
}

#[test]
fn a_path_is_followed_word_by_word() {
    let memory = HashMap::from([(0x1008, 0x2000), (0x2030, 0x3000), (0x2ff8, 7), (0x1010, 0)]);
    let read = |address: u64| memory.get(&address).copied();
    assert_eq!(Path::over(&[8, 0x30, -8]).unwrap().follow(0x1000, read), Some(7));
    assert_eq!(Path::over(&[16, 0x30]).unwrap().follow(0x1000, read), None, "a word on the way is 0");
    assert_eq!(Path::over(&[16]).unwrap().follow(0x1000, read), Some(0));
    assert_eq!(Path::over(&[24]).unwrap().follow(0x1000, read), None);
    assert_eq!(Path::default().follow(0x1000, read), None);
    assert_eq!(Path::over(&[0; 4]), None);
}

#[test]
fn words_are_told_by_their_kinds() {
    for kind in [FrameKind::Native, FrameKind::Interpreter, FrameKind::Boundary, FrameKind::Detail] {
        assert_eq!(unpack(pack(kind, 0x7fff_ffff_fff8)), Some((kind, 0x7fff_ffff_fff8)));
    }
    assert_eq!(unpack(4 << 48), None);
    assert_eq!(unpack(u64::MAX), None);
}

const ON_STACK: OnStack = OnStack { code: 32, code_type: 0x101, instructions_type: 0x201 };

/// A function at 0x1000 whose code is described at 0x2000, and bytecode at 0x3000.
fn script_heap() -> HashMap<u64, u64> {
    HashMap::from([(0x1000 + 32, 0x2001), (0x2000, 0x101), (0x3000, 0x201), (0x4000, 0x301)])
}

fn found(words: [u64; ON_STACK_WORDS]) -> Option<FrameOnStack> {
    let heap = script_heap();
    on_stack(&ON_STACK, &words, 0x7fff_1234_5678, |address| heap.get(&address).copied())
}

#[test]
fn a_frame_on_the_native_stack_is_told_by_its_offset_or_by_its_return_address() {
    let interpreted = found([63 << 32, 0x3001, 0, 0x1001, 0x9001]).expect("a frame");
    assert_eq!((interpreted.code, interpreted.instruction, interpreted.is_interpreted()), (0x2001, 63, true));
    let compiled = FrameOnStack { code: 0x2001, instruction: COMPILED | 0x1234_5678 };
    assert!(!compiled.is_interpreted());
    // Baseline code keeps another object in place of the offset; in optimised code anything may stand there.
    for words in [[0x4001, 0x3001], [63 << 32, 0x4001], [63 << 32, 0x5001], [63 << 32, 7], [u64::MAX << 32, 0x3001]] {
        assert_eq!(found([words[0], words[1], 0, 0x1001, 0x9001]), Some(compiled), "{words:x?}");
    }
}

#[test]
fn frames_of_the_engine_and_of_other_code_are_none() {
    // A number in place of the context, a function that is none, and one whose code is of another type.
    for [function, context] in [[0x1001, 0x24], [0x1002, 0x9001], [0x3001, 0x9001], [0x8001, 0x9001], [1, 1]] {
        assert_eq!(found([63 << 32, 0x3001, 0, function, context]), None);
    }
}

proptest::proptest! {
    #[test]
    fn any_words_are_a_frame_or_none(words: [u64; ON_STACK_WORDS], ip: u64, at: u64) {
        let heap = script_heap();
        let read = |address: u64| heap.get(&address).copied().or(Some(address.wrapping_mul(at)));
        let frame = on_stack(&OnStack { code: at, code_type: at, instructions_type: at }, &words, ip, read);
        proptest::prop_assert!(frame.is_none_or(|frame| frame.instruction <= u64::from(u32::MAX)));
    }
}
