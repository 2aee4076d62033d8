//! Unwind tables of damaged and hostile files: an error or a smaller table, never a panic, and no more memory than a
//! set bound, whatever the file's numbers say. The fuzzer's seeds run here too (`fuzz/`), with damage of their own.

#![expect(clippy::expect_used, reason = "all of this file is tests and their steps")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use memtrace::parts::{
    object::ObjectError,
    unwind::{MAX_ROWS, Table, TableError},
};
use memtrace_common::unwind::{Cfa, FramePointer, Rule, Unsupported, row};
use proptest::prelude::*;

/// The memory that making one table may take: two sections of 64 MiB with room to grow, functions, and rows.
const MAX_BYTES: usize = 512 << 20;

/// In the tests' build, on a slow machine.
const MAX_TIME: Duration = Duration::from_secs(60);

/// Counts the bytes in use, and the most there ever were.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let in_use = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(in_use, Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// One at a time, or the bytes of one would be counted for another.
static ALONE: Mutex<()> = Mutex::new(());

/// Makes a table within the bounds of memory and time, and checks what every table promises.
fn bounded(make: impl FnOnce() -> Result<Table, TableError>) -> Result<Table, TableError> {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = IN_USE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let began = Instant::now();
    let table = make();
    let took = began.elapsed();
    let bytes = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    drop(alone);
    assert!(bytes <= MAX_BYTES, "it took {bytes} bytes");
    assert!(took <= MAX_TIME, "it took {took:?}");
    if let Ok(table) = &table {
        assert!(!table.rows.is_empty() && table.rows.len() <= MAX_ROWS);
        assert!(table.rows.is_sorted_by(|one, next| row::row_offset(*one) < row::row_offset(*next)));
    }
    table
}

fn table(image: &[u8]) -> Result<Table, TableError> {
    bounded(|| Table::of_image(image))
}

const CODE: u64 = 0x1_0000;
const EH_FRAME_AT: usize = 0x200;

/// Section header: name, type, address, offset, size.
fn section(name: u32, kind: u32, flags: u64, address: u64, offset: u64, size: u64) -> Vec<u8> {
    let mut bytes = [name.to_le_bytes(), kind.to_le_bytes()].concat();
    bytes.extend([flags, address, offset, size, 0, 1, 0].map(u64::to_le_bytes).concat());
    bytes
}

/// A shared object with code from `CODE` on that is not in the file, and this call frame information.
fn object(eh_frame: &[u8], debug_frame: &[u8], debug_flags: u64) -> Vec<u8> {
    let names = b"\0.eh_frame\0.debug_frame\0.shstrtab\0";
    let debug_at = EH_FRAME_AT + eh_frame.len();
    let names_at = debug_at + debug_frame.len();
    let sections_at = (names_at + names.len()).next_multiple_of(8);
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0\x01\0\0\0".to_vec();
    bytes.extend([CODE + 0x8000, 64, sections_at as u64].map(u64::to_le_bytes).concat());
    bytes.extend([0u16, 0, 64, 56, 2, 64, 4, 3].map(u16::to_le_bytes).concat());
    for (kind, flags, offset, address, size, in_file) in
        [(1u32, 4u32, 0, 0, sections_at as u64, sections_at as u64), (1, 5, 0x1000, CODE, 0x1_0000, 0)]
    {
        bytes.extend([kind.to_le_bytes(), flags.to_le_bytes()].concat());
        bytes.extend([offset, address, address, in_file, size, 0x1000].map(u64::to_le_bytes).concat());
    }
    bytes.resize(EH_FRAME_AT, 0);
    bytes.extend(eh_frame);
    bytes.extend(debug_frame);
    bytes.extend(names);
    bytes.resize(sections_at, 0);
    bytes.extend(section(0, 0, 0, 0, 0, 0));
    bytes.extend(section(1, 1, 2, EH_FRAME_AT as u64, EH_FRAME_AT as u64, eh_frame.len() as u64));
    bytes.extend(section(11, 1, debug_flags, 0, debug_at as u64, debug_frame.len() as u64));
    bytes.extend(section(24, 3, 0, 0, names_at as u64, names.len() as u64));
    bytes
}

fn eh_object(eh_frame: &[u8]) -> Vec<u8> {
    object(eh_frame, &[], 0)
}

fn entry(mut body: Vec<u8>) -> Vec<u8> {
    body.resize((body.len() + 4).next_multiple_of(8) - 4, 0);
    [(body.len() as u32).to_le_bytes().to_vec(), body].concat()
}

/// A common entry: cfa = sp + 8, the return address at cfa - 8, and then these instructions.
fn common(instructions: &[u8]) -> Vec<u8> {
    let mut body = b"\0\0\0\0\x01zR\0\x01\x78\x10\x01\0\x0c\x07\x08\x90\x01".to_vec();
    body.extend(instructions);
    entry(body)
}

/// A function's entry at this offset in the section, with the common entry at another.
fn function(at: usize, common_at: usize, start: u64, length: u64, instructions: &[u8]) -> Vec<u8> {
    let mut body = ((at + 4).wrapping_sub(common_at) as u32).to_le_bytes().to_vec();
    body.extend([start, length].map(u64::to_le_bytes).concat());
    body.push(0);
    body.extend(instructions);
    entry(body)
}

/// A section of one common entry and these functions.
fn frames(functions: &[(u64, u64, &[u8])]) -> Vec<u8> {
    let mut bytes = common(&[]);
    for &(start, length, instructions) in functions {
        bytes.extend(function(bytes.len(), 0, start, length, instructions));
    }
    bytes.extend([0; 4]);
    bytes
}

/// push %rbp; mov %rsp, %rbp: two advances, the frame pointer saved, then the frame found by it.
const PROLOGUE: &[u8] = &[0x41, 0x0e, 0x10, 0x86, 0x02, 0x43, 0x0d, 0x06];

/// A function like any other, one that aligns its stack, and one whose frame is found by an unknown expression.
fn sound() -> Vec<u8> {
    // DW_CFA_def_cfa_expression { breg6 -8; deref }, DW_CFA_expression rbp { breg6 0 }.
    let aligned = [&[0x41, 0x0f, 3, 0x76, 0x78, 0x06, 0x10, 6, 2, 0x76, 0][..]].concat();
    eh_object(&frames(&[
        (CODE, 0x100, PROLOGUE),
        (CODE + 0x100, 0x80, &aligned),
        (CODE + 0x190, 0x70, &[0x0f, 2, 0x30, 0x06]),
        (CODE + 0x1000, 0x10, &[]),
    ]))
}

fn frame(cfa: Cfa, fp: FramePointer) -> Option<Rule> {
    Some(Rule::Frame { cfa, fp })
}

#[test]
fn a_sound_file_has_the_rules_that_it_says() {
    let table = table(&sound()).expect("a table");
    let leaf = frame(Cfa::Sp(8), FramePointer::Unchanged);
    for (address, expected) in [
        (CODE - 1, None),
        (CODE, leaf),
        (CODE + 1, frame(Cfa::Sp(16), FramePointer::AtCfa(-16))),
        (CODE + 4, frame(Cfa::Fp(16), FramePointer::AtCfa(-16))),
        (CODE + 0xff, frame(Cfa::Fp(16), FramePointer::AtCfa(-16))),
        (CODE + 0x100, leaf),
        (CODE + 0x101, frame(Cfa::DerefFp { offset: -8, add: 0 }, FramePointer::AtFp(0))),
        (CODE + 0x180, Some(Rule::Gap)),
        (CODE + 0x190, Some(Rule::Unsupported(Unsupported::CfaExpression))),
        (CODE + 0x200, Some(Rule::WithoutRules)),
        (CODE + 0x1000, leaf),
        (CODE + 0x1010, Some(Rule::WithoutRules)),
        (CODE + 0x8000, Some(Rule::EndOfStack)),
        (CODE + 0x8100, Some(Rule::WithoutRules)),
        (CODE + 0x1_0000, Some(Rule::Gap)),
    ] {
        assert_eq!(table.rule(address), expected, "{address:#x}");
    }
    assert_eq!(table.stats.functions, 4);
    assert_eq!(table.stats.unsupported[Unsupported::CfaExpression as usize], 1);
}

#[test]
fn overlapping_functions_are_settled_the_same_way_in_any_order() {
    let by_fp: &[u8] = &[0x0c, 6, 16];
    let functions = [(CODE, 0x100, &[][..]), (CODE + 0x40, 0x1000, by_fp), (CODE + 0x80, 0x10, &[])];
    let mut reversed = functions;
    reversed.reverse();
    let table_of = |functions: &[_]| table(&eh_object(&frames(functions))).expect("a table");
    let (one, other) = (table_of(&functions), table_of(&reversed));
    assert_eq!(one.rows, other.rows);
    assert_eq!(one.rule(CODE + 0x3f), frame(Cfa::Sp(8), FramePointer::Unchanged));
    assert_eq!(one.rule(CODE + 0x40), frame(Cfa::Fp(16), FramePointer::Unchanged));
    assert_eq!(one.rule(CODE + 0x80), frame(Cfa::Sp(8), FramePointer::Unchanged));
    assert_eq!(one.rule(CODE + 0x90), Some(Rule::WithoutRules));
    // Of two with one start the first counts.
    let twice = table_of(&[(CODE, 0x10, by_fp), (CODE, 0x20, &[])]);
    assert_eq!(twice.rule(CODE), frame(Cfa::Fp(16), FramePointer::Unchanged));
    assert_eq!((twice.stats.functions, twice.stats.functions_ignored), (1, 1));
}

#[test]
fn debug_frame_fills_what_eh_frame_leaves_out() {
    // There a common entry's id is all ones, and a function's points from the section's start.
    let mut debug = entry(b"\xff\xff\xff\xff\x01\0\x01\x78\x10\x0c\x07\x08\x90\x01".to_vec());
    for (start, length) in [(CODE + 0x80, 0x100), (CODE + 0x100, 0x40)] {
        let mut body = vec![0; 4];
        body.extend([start, length].map(u64::to_le_bytes).concat());
        body.extend([0x0c, 6, 16]);
        debug.extend(entry(body));
    }
    let table = table(&object(&frames(&[(CODE, 0x100, &[])]), &debug, 0)).expect("a table");
    assert_eq!(table.rule(CODE + 0xff), frame(Cfa::Sp(8), FramePointer::Unchanged));
    assert_eq!(table.rule(CODE + 0x100), frame(Cfa::Fp(16), FramePointer::Unchanged));
    assert_eq!(table.rule(CODE + 0x140), Some(Rule::WithoutRules));
    assert_eq!((table.stats.functions, table.stats.functions_ignored), (2, 1));
}

#[test]
fn common_entries_that_lead_in_circles_or_nowhere_are_counted_and_left_out() {
    let first = common(&[]);
    let at = first.len();
    // To itself, to a place inside it, behind the section, before it.
    for common_at in [at, at + 4, at + 400, usize::MAX - 1000] {
        let bytes = [first.clone(), function(at, common_at, CODE, 16, &[]), vec![0; 4]].concat();
        assert_eq!(table(&eh_object(&bytes)), Err(TableError::NoRules), "{common_at}");
    }
    let mut two = [first, function(at, at, CODE, 16, &[])].concat();
    two.extend(function(two.len(), 0, CODE + 16, 16, &[]));
    let table = table(&eh_object(&two)).expect("a table");
    assert_eq!((table.stats.functions, table.stats.functions_malformed), (1, 1));
}

#[test]
fn instructions_that_do_not_evaluate_leave_a_rest_without_rule() {
    let remember = [0x0a; 1000];
    for (case, instructions) in [
        ("more states than are kept", &remember[..]),
        ("a state that was not remembered", &[0x41, 0x0b]),
        ("an unknown instruction", &[0x41, 0x3b]),
        ("an expression longer than the entry", &[0x41, 0x0f, 0xff, 0xff, 0x7f]),
        ("a location before the function", &[0x01, 0, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        let table = table(&eh_object(&frames(&[(CODE, 16, instructions)]))).expect("a table");
        assert_eq!(table.rule(CODE + 15), Some(Rule::Unsupported(Unsupported::Malformed)), "{case}");
    }
}

#[test]
fn an_endless_expression_is_not_evaluated() {
    // breg7 0; and then `skip -3`, back to itself, for as long as there is room.
    let mut expression = vec![0x77, 0];
    expression.extend([0x2f, 0xfd, 0xff].repeat(5000));
    let mut instructions = vec![0x0f, (expression.len() & 0x7f) as u8 | 0x80, (expression.len() >> 7) as u8];
    instructions.extend(expression);
    let table = table(&eh_object(&frames(&[(CODE, 16, &instructions)]))).expect("a table");
    assert_eq!(table.rule(CODE), Some(Rule::Unsupported(Unsupported::CfaExpression)));
}

#[test]
fn work_that_multiplies_is_refused() {
    // A long common entry for each of many functions.
    let mut bytes = common(&[0; 960]);
    for index in 0..400_000u64 {
        let entry = function(bytes.len(), 0, CODE + index % 0xff00, 1 + index / 0xff00, &[]);
        bytes.extend(entry);
    }
    let many = table(&eh_object(&bytes)).expect("functions with one start are evaluated once");
    assert_eq!(many.stats.functions, 0xff00);
    // A too long one is none.
    let bytes = [common(&[0; 2000]), function(2024, 0, CODE, 16, &[])].concat();
    assert_eq!(table(&eh_object(&bytes)), Err(TableError::NoRules));
}

#[test]
fn more_rows_than_a_table_holds_are_refused() {
    // Advance by one, cfa = sp + 8 or + 16, for 40 MB of instructions in code of 4 GB.
    let advances = [0x41, 0x0e, 0x10, 0x41, 0x0e, 0x08].repeat(6 << 20);
    let mut image = eh_object(&frames(&[(CODE, 1 << 31, &advances)]));
    image[64 + 56 + 40..64 + 56 + 48].copy_from_slice(&(1u64 << 32).to_le_bytes());
    assert_eq!(table(&image), Err(TableError::TooManyRows));
    let advances = [0x41].repeat(48 << 20);
    let mut image = eh_object(&frames(&[(CODE, 1 << 31, &advances)]));
    image[64 + 56 + 40..64 + 56 + 48].copy_from_slice(&(1u64 << 32).to_le_bytes());
    assert_eq!(table(&image), Err(TableError::TooMuchWork));
}

/// A program without sections that has nothing but code.
fn code_object(code: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    bytes.extend([CODE, 64, 0].map(u64::to_le_bytes).concat());
    bytes.extend([0u16, 0, 64, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
    bytes.extend([1u32, 5].map(u32::to_le_bytes).concat());
    bytes.extend([0x1000, CODE, CODE, code.len() as u64, code.len() as u64, 0x1000].map(u64::to_le_bytes).concat());
    bytes.resize(0x1000, 0);
    bytes.extend(code);
    bytes
}

#[test]
fn code_without_rules_is_decoded_within_the_bounds_whatever_it_is() {
    // Returns; pushes and pops; pushes in a loop; calls of what follows; addresses; jumps through tables.
    let pieces: [&[u8]; 6] = [
        &[0xc3],
        &[0x53, 0x5b],
        &[0x53, 0xeb, 0xfd],
        &[0xe8, 0, 0, 0x10, 0],
        &[0x48, 0x8d, 0x0d, 0, 0, 0x10, 0, 0xc3],
        &[0xff, 0xe0, 0x53],
    ];
    for piece in pieces {
        let _ = table(&code_object(&piece.repeat((2 << 20) / piece.len())));
    }
    let table = table(&code_object(&[0x53, 0x48, 0x83, 0xec, 0x10, 0x48, 0x83, 0xc4, 0x10, 0x5b, 0xc3])).err();
    assert_eq!(table, Some(TableError::NoRules), "the little that there is counts as padding");
}

/// A file as long as it likes to be that has nothing in most of it.
fn sparse(image: &[u8], bytes: u64) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(image).expect("written");
    file.set_len(bytes).expect("made long");
    file.seek(SeekFrom::Start(0)).expect("rewound");
    file
}

#[test]
fn sizes_that_no_file_has_are_refused_before_they_are_allocated() {
    let image = sound();
    let sections_at = u64::from_le_bytes(*image[40..].first_chunk().expect("a header")) as usize;
    let size_at = sections_at + 64 + 32;
    for bytes in [4u64 << 30, 1 << 40, u64::MAX] {
        let mut image = image.clone();
        image[size_at..size_at + 8].copy_from_slice(&bytes.to_le_bytes());
        let refused = Err(TableError::Read(ObjectError::TooLarge { part: ".eh_frame".into(), bytes }));
        assert_eq!(bounded(|| Table::read(&mut sparse(&image, 8 << 40))), refused);
    }
    // Each function is looked up in the segments.
    let mut many = image.clone();
    many[56..58].fill(0xff);
    let refused = ObjectError::TooLarge { part: "program header table".into(), bytes: 65535 * 56 };
    assert_eq!(table(&many), Err(TableError::Read(refused)));
    many[56..58].copy_from_slice(&200u16.to_le_bytes());
    assert_eq!(table(&many), Err(TableError::Read(ObjectError::Truncated("program header table"))));
}

#[test]
fn compressed_sections_are_bounded_by_what_they_expand_to() {
    let eh_frame = frames(&[(CODE, 16, &[])]);
    for (bytes, expected) in [
        (1u64 << 40, ObjectError::TooLarge { part: ".debug_frame".into(), bytes: 1 << 40 }),
        (64 << 20, ObjectError::Malformed(".debug_frame".into())),
    ] {
        let compressed = [1u64, bytes, 1, u64::MAX].map(u64::to_le_bytes).concat();
        assert_eq!(table(&object(&eh_frame, &compressed, 0x800)), Err(TableError::Read(expected)));
    }
}

#[test]
fn segments_at_the_end_of_the_address_space_do_not_overflow() {
    for address in [u64::MAX - 0x100, u64::MAX - 0x1_0000, u64::MAX] {
        let mut image = eh_object(&frames(&[(address, 16, PROLOGUE), (address, u64::MAX, PROLOGUE)]));
        image[64 + 56 + 16..64 + 56 + 24].copy_from_slice(&address.to_le_bytes());
        let _ = table(&image);
    }
}

/// The smallest ELF file with call frame information that a compiler and a linker have made and every machine has.
fn vdso() -> Vec<u8> {
    let maps = fs::read_to_string("/proc/self/maps").expect("our own maps");
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).expect("a vDSO");
    let (start, rest) = line.split_once('-').expect("a range");
    let (end, _) = rest.split_once(' ').expect("a range");
    let [start, end] = [start, end].map(|number| usize::from_str_radix(number, 16).expect("a number"));
    // SAFETY: mapped, readable, and never changed.
    unsafe { std::slice::from_raw_parts(start as *const u8, end - start) }.to_vec()
}

#[test]
fn the_vdso_has_a_table_with_or_without_section_headers() {
    let image = vdso();
    let whole = table(&image).expect("a table");
    assert!(whole.build_id.as_ref().is_some_and(|id| id.len() == 20));
    let mut stripped = image;
    stripped[40..48].fill(0);
    stripped[58..64].fill(0);
    let by_segments = table(&stripped).expect("a table");
    assert_eq!(whole.rows, by_segments.rows);
}

#[test]
fn truncation_anywhere_is_an_error_or_a_table() {
    for image in [sound(), vdso()] {
        for length in 0..image.len() {
            let _ = Table::of_image(&image[..length]);
        }
    }
}

/// The fuzzer's seeds, by name.
fn seeds() -> [(&'static str, Vec<u8>); 4] {
    let overlapping = frames(&[(CODE, 0x100, PROLOGUE), (CODE + 0x40, 0x100, &[]), (CODE + 0x40, 8, &[0x0c, 6, 16])]);
    let end_of_stack = frames(&[(CODE, 0x100, &[0x07, 16]), (CODE + 0x200, 8, &[0x0a, 0x41, 0x0e, 0x10, 0x41, 0x0b])]);
    let plt: &[u8] = &[0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
    let linkage = frames(&[(CODE, 0x40, plt), (CODE + 0x40, 0x20, &[0x0f, 5, 0x77, 0x28, 0x06, 0x23, 0x08])]);
    [
        ("sound", sound()),
        ("overlapping", eh_object(&overlapping)),
        ("end-of-stack", eh_object(&end_of_stack)),
        ("linkage-table", eh_object(&linkage)),
    ]
}

#[test]
fn the_linkage_table_and_the_ends_of_stacks_have_their_rules() {
    let [.., (_, end_of_stack), (_, linkage)] = seeds();
    let table_of = |image: &[u8]| table(image).expect("a table");
    assert_eq!(table_of(&end_of_stack).rule(CODE), Some(Rule::EndOfStack));
    let linkage = table_of(&linkage);
    assert_eq!(linkage.rule(CODE), frame(Cfa::Plt { threshold: 11 }, FramePointer::Unchanged));
    assert_eq!(linkage.rule(CODE + 0x40), frame(Cfa::DerefSp { offset: 0x28, add: 8 }, FramePointer::Unchanged));
}

#[test]
fn the_fuzzers_seeds_are_these_files_and_have_tables() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/unwind_table");
    for (name, image) in seeds() {
        assert!(table(&image).is_ok(), "{name}");
        let path = folder.join(name);
        if std::env::var_os("MEMTRACE_WRITE_SEEDS").is_some() {
            fs::write(&path, &image).expect("written");
        }
        let same = fs::read(&path).is_ok_and(|found| found == image);
        assert!(same, "{} is another: MEMTRACE_WRITE_SEEDS=1 writes it anew", path.display());
    }
}

fn damaged(mut image: Vec<u8>, damage: &[(u32, u8)]) -> Vec<u8> {
    let length = image.len();
    for &(at, value) in damage {
        image[at as usize % length] = value;
    }
    image
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_damaged_file_has_an_error_or_a_table(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<u32>(), prop_oneof![any::<u8>(), Just(0xff), Just(0)]), 1..12),
        length in any::<prop::sample::Index>(),
    ) {
        let mut images: Vec<_> = seeds().into_iter().map(|(_, image)| image).collect();
        images.push(vdso());
        let mut image = damaged(which.get(&images).clone(), &damage);
        if damage.len() % 4 == 0 {
            image.truncate(length.index(image.len()));
        }
        let _ = table(&image);
    }

    #[test]
    fn any_call_frame_information_has_an_error_or_a_table(
        instructions in prop::collection::vec(any::<u8>(), 0..60),
        bytes in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let _ = table(&eh_object(&frames(&[(CODE, 0x100, &instructions), (CODE + 0x80, 16, &bytes)])));
        let _ = table(&eh_object(&bytes));
        let _ = table(&object(&frames(&[]), &bytes, 0));
    }
}
