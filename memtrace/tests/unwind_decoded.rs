//! Rules that are read from code against the call frame information of the very same code, at every instruction.
//!
//! The files have call frame information, which the decoder does not see: it is given their code, their dynamic symbols,
//! and nothing else. Of the functions that it does not give up, nearly all instructions must have the rule that the compiler
//! wrote. The kinds of differences are described in docs/design/unwind-tables.md.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "all of this file is tests and their steps"
)]

use std::{collections::BTreeMap, fs, io::Cursor, time::Instant};

use memtrace::parts::unwind::{
    Table,
    decode::{Decoded, State, Stretch, Value, decode_with},
};
use memtrace_common::unwind::{Cfa, FramePointer, Rule};
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _, SymbolKind};

/// What one instruction's rule is beside the compiler's.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Kind {
    Equal,
    /// Where the caller's frame pointer is.
    FramePointer,
    /// Where the frame is.
    Frame,
    /// The compiler finds the frame by a register that the decoder knows nothing of.
    OtherRegister,
    /// The decoder's rule says that it knows no frame.
    Unknown,
    /// Call frame information says nothing that a table can hold.
    Unsupported,
    /// No call frame information covers the code.
    NoRule,
}

impl Kind {
    /// Whether both sides say something, and not the same.
    fn is_difference(self) -> bool {
        matches!(self, Kind::FramePointer | Kind::Frame | Kind::OtherRegister | Kind::Unknown)
    }
}

fn kind(state: &State, address: u64, rule: Option<Rule>) -> Kind {
    let (cfa, fp) = match rule {
        None | Some(Rule::Gap | Rule::WithoutRules) => return Kind::NoRule,
        Some(Rule::Frame { cfa, fp }) => (cfa, fp),
        Some(Rule::EndOfStack | Rule::SignalFrame | Rule::Switch(_) | Rule::Unsupported(_)) => {
            return Kind::Unsupported;
        }
    };
    if !matches!(state.rule(), Rule::Frame { .. }) {
        return Kind::Unknown;
    }
    let (by, below) = match cfa {
        Cfa::Sp(offset) => (state.sp(), offset),
        Cfa::Fp(offset) => (state.fp(), offset),
        Cfa::Plt { threshold } => (state.sp(), if address & 15 >= u64::from(threshold) { 16 } else { 8 }),
        _ => return Kind::Unsupported,
    };
    match by {
        Value::Below(bytes) if bytes != below => return Kind::Frame,
        Value::Below(_) => {}
        _ => return Kind::OtherRegister,
    }
    let is_equal = match (fp, state.fp(), state.saved_fp()) {
        (FramePointer::Unchanged, Value::CallersFp, _) => true,
        (FramePointer::AtCfa(offset), _, Some(saved)) if offset == -saved => true,
        // Behind the instruction that fetches it back: in the register and still on the stack.
        (FramePointer::AtCfa(_), Value::CallersFp, _) => true,
        _ => false,
    };
    if is_equal { Kind::Equal } else { Kind::FramePointer }
}

/// What must hold of one file.
struct Expected {
    /// Of a hundred thousand instructions whose rules can be compared, how many have equal ones.
    equal: u64,
    /// Of a hundred bytes of code, how many may belong to functions that are given up.
    given_up: u64,
}

/// The code of an ELF file.
fn code(file: &object::File<'_>) -> Vec<Stretch> {
    file.segments()
        .filter(|segment| matches!(segment.flags(), object::SegmentFlags::Elf { p_flags, .. } if p_flags & 1 != 0))
        .map(|segment| Stretch { start: segment.address(), bytes: segment.data().expect("code").to_vec() })
        .collect()
}

/// Where functions begin by an ELF file's dynamic symbols.
fn starts(file: &object::File<'_>) -> Vec<u64> {
    let functions = file.dynamic_symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.address() > 0);
    functions.map(|symbol| symbol.address()).collect()
}

/// Compares the instructions of one file, and prints how many there are of each kind, with some that differ.
fn check(path: &str, package: &str, expected: &Expected) {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}: install the package {package}"));
    let table = Table::read(&mut Cursor::new(&bytes)).expect("a table");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let stretches = code(&file);
    let mut kinds: BTreeMap<Kind, u64> = BTreeMap::new();
    let mut differences = Vec::new();
    let began = Instant::now();
    let decoded = decode_with(&stretches, &starts(&file), |states| {
        for (address, state) in states.filter_map(|(address, state)| Some((address, state?))) {
            let rule = table.rule(address);
            let kind = kind(&state, address, rule);
            *kinds.entry(kind).or_default() += 1;
            if kind.is_difference() && differences.len() < 20 {
                differences.push(format!("{kind:?} at {address:#x}: {rule:?}, decoded {:?}", state.rule()));
            }
        }
    });
    let took = began.elapsed();
    let all: usize = stretches.iter().map(|stretch| stretch.bytes.len()).sum();
    let Decoded { functions, given_up, given_up_bytes, .. } = decoded;
    println!(
        "{path}: {all} bytes of code in {took:.1?}: {functions} functions decoded, {given_up} pieces of {given_up_bytes} bytes \
         given up; {kinds:?}; {differences:#?}"
    );
    let equal = kinds.get(&Kind::Equal).copied().unwrap_or_default();
    let different: u64 = kinds.iter().filter(|(kind, _)| kind.is_difference()).map(|(_, count)| count).sum();
    assert!(equal > 100_000, "{path}: {equal} instructions were compared");
    assert!(equal * 100_000 >= (equal + different) * expected.equal, "{path}: {different} differ, {equal} do not");
    assert!(given_up_bytes * 100 <= all as u64 * expected.given_up, "{path}: {given_up_bytes} bytes are given up");
}

#[test]
fn the_c_librarys_code_tells_what_its_compiler_says() {
    check("/lib/x86_64-linux-gnu/libc.so.6", "libc6", &Expected { equal: 99_900, given_up: 20 });
}

#[test]
fn sqlites_code_tells_what_its_compiler_says() {
    let path = "/usr/lib/x86_64-linux-gnu/libsqlite3.so.0";
    check(path, "libsqlite3-0", &Expected { equal: 99_990, given_up: 6 });
}

/// Where exceptions are caught, nothing leads to the code that does it but tables that the decoder does not read.
#[test]
fn the_cpp_librarys_code_tells_what_its_compiler_says() {
    let path = "/usr/lib/x86_64-linux-gnu/libstdc++.so.6";
    check(path, "libstdc++6", &Expected { equal: 99_800, given_up: 22 });
}

/// What it is for: a C library without call frame information.
#[test]
fn nearly_all_of_musls_functions_have_rules() {
    let path = "/lib/ld-musl-x86_64.so.1";
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}: install the package musl"));
    let began = Instant::now();
    let table = Table::read(&mut Cursor::new(&bytes)).expect("a table");
    let took = began.elapsed();
    println!("{path}: {} rows in {took:.1?}: {:?}", table.rows.len(), table.stats);
    assert!(table.stats.functions_decoded > 1500 && table.stats.functions_given_up < 60, "{:?}", table.stats);
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let of = |name: &str| {
        let mut symbols = file.dynamic_symbols();
        symbols.find(|symbol| symbol.name() == Ok(name)).unwrap_or_else(|| panic!("no {name}")).address()
    };
    for function in ["strdup", "asprintf", "vasprintf", "getline", "opendir", "qsort", "scandir"] {
        assert!(matches!(table.rule(of(function)), Some(Rule::Frame { .. })), "{function}");
    }
}
