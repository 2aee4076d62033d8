use std::{fs, path::Path};

use proptest::prelude::*;

use super::*;
use memtrace_common::unwind::{Cfa, FramePointer, Unsupported};

const START: u64 = 0x1000;

fn decoded(bytes: &[u8], starts: &[u64]) -> Decoded {
    let decoded = decode(&[Stretch { start: START, bytes: bytes.to_vec() }], starts);
    let end = START + bytes.len() as u64;
    assert!(decoded.rows.keys().all(|&address| (START - 1..=end).contains(&address)), "{decoded:x?}");
    decoded
}

/// The rule at an offset in the code.
fn rule(decoded: &Decoded, offset: u64) -> Option<Rule> {
    decoded.rows.range(..=START + offset).next_back().and_then(|(_, &rule)| rule)
}

fn by_sp(offset: i32, fp: FramePointer) -> Option<Rule> {
    Some(Rule::Frame { cfa: Cfa::Sp(offset), fp })
}

/// As a compiler writes a function that saves two registers: push rbp; push rbx; sub rsp, 8; test edi, edi; je out; call
/// itself; out: add rsp, 8; pop rbx; pop rbp; ret.
const SAVING: &[u8] = &[
    0x55, 0x53, 0x48, 0x83, 0xec, 0x08, 0x85, 0xff, 0x74, 0x05, 0xe8, 0xf1, 0xff, 0xff, 0xff, 0x48, 0x83, 0xc4, 0x08,
    0x5b, 0x5d, 0xc3,
];

/// With a frame pointer and a frame of changing size: push rbp; mov rbp, rsp; sub rsp, rdi; leave; ret.
const FRAMED: &[u8] = &[0x55, 0x48, 0x89, 0xe5, 0x48, 0x29, 0xfc, 0xc9, 0xc3];

/// A jump through a table to two cases: push rbx; notrack jmp rax; xor eax, eax; pop rbx; ret; pop rbx; ret.
const WITH_TABLE: &[u8] = &[0x53, 0x3e, 0xff, 0xe0, 0x31, 0xc0, 0x5b, 0xc3, 0x5b, 0xc3];

/// What makes a coroutine, and where it begins and ends: lea rcx, [ends]; ret; begins: push rbp; jmp rbx; ends: xor edi,
/// edi; call [rip]; hlt.
const COROUTINE: &[u8] = &[
    0x48, 0x8d, 0x0d, 0x04, 0x00, 0x00, 0x00, 0xc3, 0x55, 0xff, 0xe3, 0x31, 0xff, 0xff, 0x15, 0x00, 0x00, 0x00, 0x00,
    0xf4,
];

/// A stack of its own as the first step: mov rsp, rbx; mov rdi, [rsp]; call [rip]; hlt.
const TAKES_ANOTHER: &[u8] = &[0x48, 0x89, 0xdc, 0x48, 0x8b, 0x3c, 0x24, 0xff, 0x15, 0x00, 0x00, 0x00, 0x00, 0xf4];

/// Ways out that do not fit: push rbx; ret.
const UNBALANCED: &[u8] = &[0x53, 0xc3];

/// `rt_sigreturn`: mov rax, 15; syscall; ret.
const TRAMPOLINE: &[u8] = &[0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05, 0xc3];

/// The fuzzer's seeds, by name.
const SEEDS: &[(&str, &[u8])] = &[
    ("saving", SAVING),
    ("framed", FRAMED),
    ("with-table", WITH_TABLE),
    ("coroutine", COROUTINE),
    ("takes-another-stack", TAKES_ANOTHER),
    ("unbalanced", UNBALANCED),
    ("trampoline", TRAMPOLINE),
];

#[test]
fn pushes_and_pops_are_followed_over_branches() {
    let decoded = decoded(SAVING, &[]);
    assert_eq!((decoded.functions, decoded.given_up), (1, 0));
    assert_eq!(rule(&decoded, 0), by_sp(8, FramePointer::Unchanged));
    assert_eq!(rule(&decoded, 1), by_sp(16, FramePointer::Unchanged), "pushed and not yet changed");
    for offset in 6..15 {
        assert_eq!(rule(&decoded, offset), by_sp(32, FramePointer::Unchanged));
    }
    assert_eq!(rule(&decoded, 20), by_sp(16, FramePointer::Unchanged));
    assert_eq!(rule(&decoded, 21), by_sp(8, FramePointer::Unchanged));
    assert_eq!(rule(&decoded, 22), None);
}

#[test]
fn a_frame_pointer_finds_a_frame_of_changing_size() {
    let decoded = decoded(FRAMED, &[]);
    let by_fp = Some(Rule::Frame { cfa: Cfa::Fp(16), fp: FramePointer::AtCfa(-16) });
    assert_eq!(rule(&decoded, 7), by_fp);
    assert_eq!(rule(&decoded, 8), by_sp(8, FramePointer::Unchanged));
}

#[test]
fn cases_behind_a_jump_through_a_table_have_the_jumps_frame() {
    let decoded = decoded(WITH_TABLE, &[]);
    assert_eq!((decoded.functions, decoded.given_up), (1, 0));
    assert_eq!(rule(&decoded, 8), by_sp(16, FramePointer::Unchanged));
}

#[test]
fn the_address_that_stands_in_place_of_a_caller_is_the_end_of_the_stack() {
    let decoded = decoded(COROUTINE, &[START]);
    // A return address is looked up at the byte before it.
    assert_eq!(rule(&decoded, 10), Some(Rule::EndOfStack));
    assert_eq!(rule(&decoded, 11), by_sp(8, FramePointer::Unchanged));
    assert_eq!(end(TAKES_ANOTHER, START), Some(End::Within));
    assert_eq!(end(&COROUTINE[11..], START), Some(End::Before));
    assert_eq!(end(SAVING, START), None, "it returns");
    assert_eq!(end(WITH_TABLE, START), None, "who knows");
}

#[test]
fn the_outermost_frame_is_the_end_of_the_stack() {
    // xor ebp, ebp; and rsp, -16; call rax; hlt.
    let decoded = decoded(&[0x31, 0xed, 0x48, 0x83, 0xe4, 0xf0, 0xff, 0xd0, 0xf4], &[START]);
    assert_eq!(rule(&decoded, 7), Some(Rule::EndOfStack));
}

#[test]
fn what_does_not_fit_is_given_up() {
    // The last one loses the caller's frame pointer: xor ebp, ebp; ret.
    for bytes in [UNBALANCED, &[0x31, 0xed, 0xc3]] {
        let decoded = decoded(bytes, &[START]);
        assert_eq!((decoded.functions, decoded.given_up), (0, 1), "{bytes:x?}");
        assert_eq!(rule(&decoded, 1), None);
    }
    // A frame pointer that is lost for good, in a function that never returns: xor ebp, ebp; call rax; hlt.
    let decoded = decoded(&[0x31, 0xed, 0xff, 0xd0, 0xf4], &[START]);
    assert_eq!(rule(&decoded, 3), Some(Rule::Unsupported(Unsupported::FramePointer)));
}

#[test]
fn a_signals_trampoline_is_left_to_the_walk_with_the_byte_before_it() {
    // The C library has a nop there, so that no function is in front.
    let mut bytes = FRAMED.to_vec();
    bytes.push(0x90);
    let start = bytes.len() as u64;
    bytes.extend(TRAMPOLINE);
    let decoded = decoded(&bytes, &[START, START + start]);
    assert_eq!((decoded.functions, decoded.given_up), (1, 1));
    assert_eq!(rule(&decoded, start - 1), Some(Rule::WithoutRules));
    assert_eq!(rule(&decoded, start + 7), Some(Rule::WithoutRules));
}

#[test]
fn code_in_which_few_functions_make_frames_keeps_no_frame_pointers() {
    let [few, many] =
        [[SAVING.repeat(99), FRAMED.to_vec()], [SAVING.repeat(50), FRAMED.repeat(50)]].map(|code| code.concat());
    let end = START + few.len() as u64;
    assert_eq!(decoded(&few, &[]).frameless, BTreeMap::from([(START, end)]));
    assert!(decoded(&many, &[]).frameless.is_empty());
    assert!(decoded(FRAMED, &[]).frameless.is_empty(), "too little to tell");
}

#[test]
fn a_function_that_nobody_names_begins_behind_padding() {
    let mut bytes = SAVING.to_vec();
    bytes.resize(32, 0x90);
    bytes.extend(FRAMED);
    let decoded = decoded(&bytes, &[START]);
    assert_eq!((decoded.functions, decoded.given_up), (2, 0));
    assert_eq!(rule(&decoded, 31), None);
    assert_eq!(rule(&decoded, 32 + 1), by_sp(16, FramePointer::Unchanged));
    // One that the first would have to run into is kept apart, too.
    let mut bytes = UNBALANCED.to_vec();
    bytes.resize(16, 0xcc);
    bytes.extend(FRAMED);
    let decoded = self::decoded(&bytes, &[START]);
    assert_eq!((decoded.functions, decoded.given_up), (1, 1));
    assert_eq!(rule(&decoded, 16 + 1), by_sp(16, FramePointer::Unchanged));
}

#[test]
fn calls_of_functions_that_never_return_end_a_way_wherever_they_stand() {
    // push rbx; call 0x1020; a second function that the first must not run into: push rbp; ...
    let mut bytes = vec![0x53, 0xe8, 0x1a, 0x00, 0x00, 0x00];
    bytes.extend(FRAMED);
    bytes.resize(0x20, 0x90);
    // sub rsp, 8; hlt.
    bytes.extend([0x48, 0x83, 0xec, 0x08, 0xf4]);
    let decoded = decoded(&bytes, &[START, START + 6]);
    assert_eq!((decoded.functions, decoded.given_up), (3, 0));
    assert_eq!(rule(&decoded, 1), by_sp(16, FramePointer::Unchanged));
}

#[test]
fn hostile_code_is_bounded() {
    // Jumps back and forth, pushes in a loop, and functions of one byte.
    let jumps = [0x53, 0x75, 0xfd, 0x75, 0x7f].repeat(1 << 16);
    let pushes = [0x53, 0xeb, 0xfd].repeat(1 << 16);
    let returns = [0xc3].repeat(1 << 18);
    let tables = [0xff, 0xe0, 0x90].repeat(1 << 16);
    for bytes in [jumps, pushes, returns, tables] {
        let starts: Vec<u64> = (0..bytes.len() as u64).step_by(7).map(|offset| START + offset).collect();
        let decoded = decoded(&bytes, &starts);
        assert!(decoded.rows.len() <= bytes.len() + 1);
        self::decoded(&bytes, &[]);
    }
}

#[test]
fn the_fuzzers_seeds_are_these_functions() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/unwind_decode");
    for (name, bytes) in SEEDS {
        let path = folder.join(name);
        if std::env::var_os("MEMTRACE_WRITE_SEEDS").is_some() {
            fs::write(&path, bytes).expect("written");
        }
        let same = fs::read(&path).is_ok_and(|found| found == *bytes);
        assert!(same, "{} is another: MEMTRACE_WRITE_SEEDS=1 writes it anew", path.display());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_code_is_decoded_or_given_up(
        pieces in prop::collection::vec(
            prop_oneof![
                prop::sample::select(SEEDS.to_vec()).prop_map(|(_, bytes)| bytes.to_vec()),
                prop::collection::vec(any::<u8>(), 0..24),
                prop::collection::vec(prop::sample::select(vec![0x53u8, 0x5b, 0x55, 0x5d, 0xc3, 0xe8, 0xeb, 0x74, 0x90, 0]), 0..24),
            ],
            0..12,
        ),
        starts in prop::collection::vec(0..200u64, 0..6),
    ) {
        let bytes = pieces.concat();
        let starts: Vec<u64> = starts.into_iter().map(|offset| START + offset).collect();
        let one = decoded(&bytes, &starts);
        prop_assert_eq!(one, decoded(&bytes, &starts), "the same each time");
        let _ = end(&bytes, START);
    }
}
