use std::{collections::HashMap, fs, path::Path};

use proptest::prelude::*;

use super::*;
use crate::event::StackFrame;

/// The fuzzer's seeds: real tables and bytecode, whole and damaged at each byte.
#[test]
fn the_fuzzers_seeds_are_read_whatever_becomes_of_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/v8");
    let mut seeds = 0;
    for seed in fs::read_dir(folder).expect("the seeds") {
        let path = seed.expect("a seed").path();
        let bytes = fs::read(&path).expect("a seed");
        let found = read_any(&bytes);
        assert!(found.is_some_and(|found| (0..1000).contains(&found)), "{path:?}: {found:?}");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            let _ = (read_any(&damaged), read_any(&bytes[..at]));
        }
        seeds += 1;
    }
    assert!(seeds >= 8, "{seeds} seeds");
}

/// The constants of V8 11.3, in Node 20.
fn constants() -> HashMap<&'static str, u32> {
    let own = [
        ("class_JSFunction__shared__SharedFunctionInfo", 24),
        ("class_Map__instance_type__uint16_t", 12),
        ("class_SharedFunctionInfo__name_or_scope_info__Object", 16),
        ("class_SharedFunctionInfo__script_or_debug_info__HeapObject", 32),
        ("class_Script__name__Object", 16),
        ("class_Script__source__Object", 8),
        ("class_String__length__int32_t", 12),
        ("scopeinfo_idx_first_vars", 3),
        ("scopeinfo_idx_ncontextlocals", 2),
        ("class_BytecodeArray__data__uintptr_t", 54),
        ("type_SharedFunctionInfo__SHARED_FUNCTION_INFO_TYPE", 262),
        ("type_BytecodeArray__BYTECODE_ARRAY_TYPE", 191),
        ("type_ScopeInfo__SCOPE_INFO_TYPE", 261),
        ("type_InstructionStream__INSTRUCTION_STREAM_TYPE", 252),
        ("DeoptimizationDataLiteralArrayIndex", 2),
        ("DeoptimizationDataInliningPositionsIndex", 7),
    ];
    own.into_iter().chain(layout::FIXED).collect()
}

#[test]
fn a_build_whose_constants_are_missing_or_others_is_refused_by_name() {
    let layout = Layout::of(&constants()).expect("Node 20");
    assert_eq!((layout.shared, layout.bytecode_positions, layout.code_start), (24, 32, 40));
    let mut other = constants();
    other.remove("scopeinfo_idx_first_vars");
    assert_eq!(Layout::of(&other), Err("scopeinfo_idx_first_vars"));
    // Pointers of half a word.
    let mut other = constants();
    other.insert("TaggedSize", 4);
    assert_eq!(Layout::of(&other), Err("TaggedSize"));
    let split = constants().into_iter().chain([(layout::CODE_START, 40), (layout::CODE_SIZE, 52)]).collect();
    let layout = Layout::of(&split).expect("a newer build");
    assert_eq!((layout.bytecode_positions, layout.code_size, layout.code_positions), (24, 52, 16));
}

/// A heap in this process's own memory: objects are made of words, of which the lowest say what they point to.
fn heap() -> Heap {
    let memory = Memory::open(Pid(std::process::id()), ((0, 0), 0)).expect("one's own memory");
    let mut layout = Layout::of(&constants()).expect("Node 20");
    layout.script_type = 167;
    Heap { memory, layout, form: Form::Signed }
}

/// A map whose type is this.
fn map(kind: u16) -> Vec<u64> {
    vec![1, u64::from(kind) << 32, 0, 0]
}

fn pointer(object: &[u64]) -> u64 {
    object.as_ptr() as u64 + 1
}

/// A string of one byte a character.
fn string(map: &[u64], text: &str) -> Vec<u64> {
    let mut words = vec![pointer(map), (text.len() as u64) << 32];
    words.extend(
        text.as_bytes().chunks(8).map(|chunk| chunk.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))),
    );
    words
}

#[test]
fn strings_of_all_kinds_are_read() {
    let heap = heap();
    let (one, cons, sliced, thin) = (map(0x28), map(0x29), map(0x2b), map(0x2d));
    let (hello, world) = (string(&one, "hello, "), string(&one, "large world"));
    let both = [pointer(&cons), 18 << 32, pointer(&hello), pointer(&world)];
    assert_eq!(heap.string(pointer(&both)).as_deref(), Some("hello, large world"));
    let part = [pointer(&sliced), 9 << 32, pointer(&both), 3 << 32];
    assert_eq!(heap.string(pointer(&part)).as_deref(), Some("lo, large"));
    let same = [pointer(&thin), 9 << 32, pointer(&part), 0];
    assert_eq!(heap.string(pointer(&same)).as_deref(), Some("lo, large"));
    // One that is made of itself ends.
    let mut own = [pointer(&cons), 1000 << 32, 0, 0];
    let itself = pointer(&own);
    own[2..].fill(itself);
    assert_eq!(heap.string(std::hint::black_box(itself)), None);
    assert_eq!(own[3], itself);
}

#[test]
fn names_stand_behind_the_variables_of_a_scope() {
    let heap = heap();
    let (text, scope, shared) = (map(8), map(261), map(262));
    let (name, variable, empty) = (string(&text, "keep"), string(&text, "kept"), string(&text, ""));
    let number = |number: u64| number << 32;
    let named = |words: &[u64]| {
        let scope: Vec<u64> = [&[pointer(&scope)], words].concat();
        let function = [pointer(&shared), 1, pointer(&scope), 0, 1];
        heap.name(pointer(&function))
    };
    let variable = pointer(&variable);
    let (empty, name) = (pointer(&empty), pointer(&name));
    let minus = u64::from(u32::MAX) << 32;
    for words in [
        vec![0, 0, 0, name, minus, number(49), number(104)],
        vec![0, 0, number(2), variable, variable, number(7), number(8), name, minus, number(49), number(104)],
        // The scope of a module has a number more; an anonymous function has the name that the compiler would give it.
        vec![0, 0, number(1), number(3), variable, number(7), name, minus, number(49), number(104)],
        vec![0, 0, 0, empty, minus, name, number(49), number(104)],
        vec![0, 0, 0, name, number(49), number(104)],
    ] {
        assert_eq!(named(&words).as_deref(), Some("keep"), "{words:x?}");
    }
    assert_eq!(named(&[0, 0, 0, empty, minus, number(49), number(104), 0, 0, 0]).as_deref(), Some(""));
    assert_eq!(named(&[0, 0, number(1 << 20), name]).as_deref(), Some(""));
}

proptest! {
    #[test]
    fn any_memory_has_a_name_or_none(words in prop::collection::vec((any::<u64>(), 0u8..8, 0u16..300), 64), offset: u32) {
        let mut memory = vec![0u64; words.len()];
        let begin = memory.as_ptr() as u64;
        let kinds = [262u16, 261, 191, 167, 252, 40, 41, 43, 45, 32];
        for (to, (word, choice, at)) in memory.iter_mut().zip(&words) {
            let kind = u64::from(kinds[usize::from(*at) % kinds.len()]);
            *to = match choice {
                0 => *word,
                1 => word << 32,
                2 => kind << 32,
                3 => word & 0xff << 32,
                _ => begin + 8 * (u64::from(*at) % 64) + 1,
            };
        }
        let reader = Reader::new(heap());
        let mut places = Places::new(heap(), pointer(&memory), &[]);
        for at in 0..memory.len() as u64 {
            let shared = begin + 8 * at + 1;
            let code = reader.read(shared);
            let _ = (reader.identity(shared), code.map(|code| code.line(offset)));
            let mut frames = vec![StackFrame::Interpreter { code: shared, offset }];
            places.place(&mut frames);
            prop_assert!(!frames.is_empty());
        }
    }
}

#[test]
fn whose_memory_it_is_is_told_by_who_asks_for_it() {
    let asks = |functions: &[&'static str]| functions.iter().copied().find(|function| !is_library(function));
    let note = [
        "operator new(unsigned long)",
        "void std::vector<v8::internal::Page*>::push_back()",
        "v8::internal::Sweeper::Run()",
    ];
    assert!(asks(&note).is_some_and(is_inside));
    let addon = ["operator new(unsigned long)", "leak()", "v8::internal::FunctionCallbackArguments::Call()"];
    assert!(!asks(&addon).is_some_and(is_inside));
    assert!(makes_collected("v8::ArrayBuffer::New(v8::Isolate*, unsigned long)"));
    assert!(!makes_collected("v8::internal::Sweeper::Run()") && !makes_collected("node::http_parser::Parser::New()"));
}

#[test]
fn a_stack_in_a_thread_of_v8s_is_its_own_if_nothing_else_has_part_in_it() {
    let (worker, ends) =
        ("node::(anonymous namespace)::PlatformWorkerThread(void*)", "v8::platform::DefaultJobWorker::Run()");
    let start = [(Some(worker), Some("node")), (Some("start_thread"), Some("libc.so.6")), (None, Some("libc.so.6"))];
    let is_own =
        |inner: &[(Option<&'static str>, Option<&'static str>)]| is_own_thread(inner.iter().copied().chain(start));
    // The memory of a thread's arena, which the first free in it asks for.
    assert!(is_own(&[(Some("_int_new_arena"), Some("libc.so.6")), (Some(ends), Some("node"))]));
    assert!(is_own(&[(Some("operator new(unsigned long)"), Some("node")), (Some(ends), Some("node"))]));
    assert!(is_own(&[(Some("auto v8::internal::Run()"), Some("node"))]));
    // A function of the program's, one of JavaScript and code that is not known.
    assert!(!is_own(&[(Some("malloc"), Some("libc.so.6")), (Some("leak()"), Some("addon.node")), (Some(ends), None)]));
    assert!(!is_own(&[(Some("malloc"), Some("libc.so.6")), (Some("fill"), Some("[javascript]"))]));
    assert!(!is_own(&[(Some("malloc"), Some("libc.so.6")), (None, Some("[anonymous]"))]));
    assert!(!is_own(&[(Some("malloc"), Some("libc.so.6")), (None, None)]));
    // The main thread, and one that has nothing of V8's.
    assert!(!is_own(&[
        (Some("v8::internal::Heap::Collect()"), None),
        (Some("node::Start(int, char**)"), Some("node"))
    ]));
    assert!(!is_own_thread(start[1..].iter().copied()));
    assert!(!is_own_thread(std::iter::empty()));
}
