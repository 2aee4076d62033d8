//! The unwind tables of real files against their call frame information, evaluated independently, address by address.
//!
//! The oracle looks an address up as the C++ runtime does (by the sorted table of `.eh_frame_hdr`, which the table
//! builder never reads) and evaluates the rules and DWARF expressions with all registers; memtrace packs, searches,
//! unpacks and steps. Both start from the same made-up registers and memory, and must arrive at the same caller. Every
//! function's first and last byte and the byte behind it are compared, and `SAMPLES` addresses anywhere in the code.
//!
//! Differences that are allowed, and counted:
//! - rules that memtrace says it does not support: at most 1 per mille of the sampled addresses of a file, or what is
//!   said beside its name. They are in hand-written code. OpenSSL's ciphers find their frames by rsi, rax and the like
//!   in code that calls nothing but itself; the dynamic loader's lazy resolution finds its frame by rbx. What counts is
//!   how many call instructions have such a rule, for only there can a stack end early: `calls` bounds their number.
//!   glibc's longjmp, setcontext and vfork, and the end of exception handling, have the return address in a register;
//! - code without rules, where there is nothing to compare: memtrace says so by `Gap`, `WithoutRules`, or `EndOfStack`
//!   at the file's entry point, or has read the rules from the code (tests/unwind_decoded.rs);
//! - functions at which the stacks of coroutines end: `EndOfStack` at the byte before them, which no rules cover, and in
//!   those that take another stack as their first step, glibc's `__start_context` alone.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "all of this file is tests and their steps"
)]

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Cursor,
    time::{Instant, SystemTime},
};

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, EvaluationResult, Expression, FrameDescriptionEntry,
    Location, NativeEndian, Pointer, Register, RegisterRule, UnwindContext, UnwindSection, Value, X86_64,
};
use iced_x86::{Decoder, DecoderOptions, FlowControl};
use memtrace::parts::unwind::Table;
use memtrace_common::unwind::{Frame, MemoryReader, Registers, Rule, StackEnd, Unsupported, row, step};
use object::{Object as _, ObjectSection as _, ObjectSegment as _};

const SAMPLES: u64 = 100_000;

/// What may be unsupported in a file.
#[derive(Clone, Copy)]
struct Allowed {
    /// Of the sampled addresses.
    per_mille: u64,
    /// Call instructions.
    calls: u64,
}

const COMPILED: Allowed = Allowed { per_mille: 1, calls: 0 };

/// Big-number arithmetic and ciphers in assembly, which call helpers beside them.
const OPENSSL_CALLS: u64 = 24;

type Bytes<'a> = EndianSlice<'a, NativeEndian>;

/// Made-up memory: every word of it is a plausible address, above any stack pointer.
struct Memory;

impl MemoryReader for Memory {
    fn read_word(&self, address: u64) -> Option<u64> {
        Some(0x7100_0000_0000 + (mix(address) >> 24 & !7))
    }

    fn read_pair(&self, address: u64) -> Option<[u64; 2]> {
        Some([self.read_word(address)?, self.read_word(address + 8)?])
    }
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014): its output function.
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % bound
    }
}

/// What both sides start from. The frame pointer lies so far above the stack pointer that no offset leads below it.
fn register(register: Register, ip: u64) -> u64 {
    const SP: u64 = 0x7000_0000_0000;
    match register {
        X86_64::RA => ip,
        X86_64::RSP => SP,
        X86_64::RBP => SP + (16 << 20),
        Register(other) => 0x7200_0000_0000 + u64::from(other) * 0x1000,
    }
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Caller(Registers),
    End,
    NoRule,
    Unsupported(Unsupported),
}

fn ours(table: &Table, address: u64) -> Outcome {
    let rule = match table.rule(address) {
        None | Some(Rule::Gap | Rule::WithoutRules) => return Outcome::NoRule,
        Some(Rule::Unsupported(reason)) => return Outcome::Unsupported(reason),
        Some(rule) => rule,
    };
    let registers = Registers { ip: address, sp: register(X86_64::RSP, address), fp: register(X86_64::RBP, address) };
    match step(rule, &Frame::innermost(registers), &Memory) {
        Ok(caller) => Outcome::Caller(caller.registers),
        Err(StackEnd::Complete) => Outcome::End,
        Err(end) => panic!("at {address:#x}: {rule:?} ended with {end:?}"),
    }
}

struct Oracle<'a> {
    section: EhFrame<Bytes<'a>>,
    bases: BaseAddresses,
    /// Sorted by their starts.
    functions: Vec<FrameDescriptionEntry<Bytes<'a>>>,
    context: Box<UnwindContext<usize>>,
}

impl<'a> Oracle<'a> {
    fn new(file: &object::File<'a>) -> Oracle<'a> {
        let section = |name| {
            let section = file.section_by_name(name).unwrap_or_else(|| panic!("no {name}"));
            (section.address(), section.data().expect("its contents"))
        };
        let (hdr_address, hdr) = section(".eh_frame_hdr");
        let (address, data) = section(".eh_frame");
        let bases = BaseAddresses::default().set_eh_frame_hdr(hdr_address).set_eh_frame(address);
        let section = EhFrame::new(data, NativeEndian);
        let hdr = EhFrameHdr::new(hdr, NativeEndian).parse(&bases, 8).expect("a sound .eh_frame_hdr");
        let entries = hdr.table().expect("its table");
        let mut entries = entries.iter(&bases);
        let mut cies = HashMap::new();
        let mut functions = Vec::new();
        while let Some((_, Pointer::Direct(entry))) = entries.next().expect("a sound table") {
            let entry = section.partial_fde_from_offset(&bases, ((entry - address) as usize).into()).expect("an entry");
            let cie = |section: &EhFrame<_>, bases: &_, offset: gimli::EhFrameOffset| {
                let cie = cies.entry(offset.0).or_insert_with(|| section.cie_from_offset(bases, offset));
                cie.clone()
            };
            functions.push(entry.parse(cie).expect("a sound entry"));
        }
        Oracle { section, bases, functions, context: Box::default() }
    }

    /// How many of the call instructions in functions with unsupported rules have one.
    fn unsupported_calls(&self, file: &object::File<'_>, table: &Table) -> u64 {
        let mut calls = 0;
        for pair in table.rows.windows(2) {
            let Rule::Unsupported(_) = Rule::unpack(row::row_rule(pair[0])) else { continue };
            let [start, end] = [pair[0], pair[1]].map(|row| table.base + u64::from(row::row_offset(row)));
            let behind = self.functions.partition_point(|function| function.initial_address() <= start);
            // What was read from code has no other side.
            let function = behind.checked_sub(1).map(|index| &self.functions[index]);
            let Some(function) = function.filter(|function| function.contains(start)) else { continue };
            let segment = file.segments().find(|segment| {
                (segment.address()..segment.address() + segment.size()).contains(&function.initial_address())
            });
            let code = segment.expect("a segment").data_range(function.initial_address(), function.len());
            let code = code.expect("code").expect("in the file");
            let calls_within = Decoder::with_ip(64, code, function.initial_address(), DecoderOptions::NONE)
                .into_iter()
                .filter(|instruction| {
                    matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall)
                })
                .filter(|instruction| (start..end).contains(&(instruction.next_ip() - 1)))
                .count();
            calls += calls_within as u64;
        }
        calls
    }

    /// How many bytes there are without rules around an address that no function covers.
    fn uncovered_bytes(&self, address: u64) -> u64 {
        let behind = self.functions.partition_point(|function| function.initial_address() <= address);
        let from = behind.checked_sub(1).map_or(0, |index| self.functions[index].end_address());
        let to = self.functions.get(behind).map_or(u64::MAX, FrameDescriptionEntry::initial_address);
        to - from.min(to)
    }

    /// Whether a function begins at this address.
    fn begins(&self, address: u64) -> bool {
        self.functions.binary_search_by_key(&address, FrameDescriptionEntry::initial_address).is_ok()
    }

    /// The size of the function that covers an address.
    fn function_bytes(&self, address: u64) -> Option<u64> {
        let behind = self.functions.partition_point(|function| function.initial_address() <= address);
        behind.checked_sub(1).map(|index| self.functions[index].len())
    }

    fn outcome(&mut self, address: u64) -> Outcome {
        let behind = self.functions.partition_point(|function| function.initial_address() <= address);
        let function = behind.checked_sub(1).map(|index| &self.functions[index]);
        let Some(function) = function.filter(|function| function.contains(address)) else { return Outcome::NoRule };
        let row = function
            .unwind_info_for_address(&self.section, &self.bases, &mut self.context, address)
            .unwrap_or_else(|error| panic!("at {address:#x}: {error}"));
        let evaluate = |expression: &gimli::UnwindExpression<usize>, initial| {
            evaluate(expression.get(&self.section).expect("its bytes"), function.cie().encoding(), address, initial)
        };
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register: base, offset } => {
                register(*base, address).wrapping_add(*offset as u64)
            }
            CfaRule::Expression(expression) => evaluate(expression, None),
        };
        let word = |address| Memory.read_word(address).expect("made-up memory has every word");
        let caller = |wanted: Register| match row.register(wanted) {
            Some(RegisterRule::Undefined) => None,
            None | Some(RegisterRule::SameValue) => Some(register(wanted, address)),
            Some(RegisterRule::Offset(offset)) => Some(word(cfa.wrapping_add(offset as u64))),
            Some(RegisterRule::ValOffset(offset)) => Some(cfa.wrapping_add(offset as u64)),
            Some(RegisterRule::Register(other)) => Some(register(other, address)),
            Some(RegisterRule::Expression(expression)) => Some(word(evaluate(&expression, Some(cfa)))),
            Some(RegisterRule::ValExpression(expression)) => Some(evaluate(&expression, Some(cfa))),
            other => panic!("at {address:#x}: {other:?}"),
        };
        let Some(ip) = caller(X86_64::RA) else { return Outcome::End };
        let sp = match row.register(X86_64::RSP) {
            None => cfa,
            Some(_) => caller(X86_64::RSP).expect("a stack pointer"),
        };
        // A frame pointer that is undefined is one that the caller does not rely on.
        let fp = caller(X86_64::RBP).unwrap_or(register(X86_64::RBP, address));
        Outcome::Caller(Registers { ip, sp, fp })
    }
}

fn evaluate(expression: Expression<Bytes<'_>>, encoding: gimli::Encoding, ip: u64, initial: Option<u64>) -> u64 {
    let mut evaluation = expression.evaluation(encoding);
    if let Some(initial) = initial {
        evaluation.set_initial_value(initial);
    }
    let mut result = evaluation.evaluate().expect("it evaluates");
    loop {
        result = match result {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresRegister { register: wanted, .. } => {
                evaluation.resume_with_register(Value::Generic(register(wanted, ip))).expect("it evaluates")
            }
            EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                let word = Memory.read_word(address).expect("made-up memory has every word");
                evaluation.resume_with_memory(Value::Generic(word)).expect("it evaluates")
            }
            other => panic!("the expression requires {other:?}"),
        };
    }
    match evaluation.as_result() {
        [piece] => match piece.location {
            Location::Address { address } => address,
            ref other => panic!("the expression results in {other:?}"),
        },
        pieces => panic!("the expression results in {} pieces", pieces.len()),
    }
}

/// How one file's addresses compare.
#[derive(Default)]
struct Comparison {
    equal: u64,
    without_rules: u64,
    /// Without call frame information, and with rules that were read from the code.
    decoded: u64,
    /// In functions with rules that end stacks.
    ends: u64,
    unsupported: BTreeMap<&'static str, u64>,
}

impl Comparison {
    fn compare(&mut self, path: &str, table: &Table, oracle: &mut Oracle<'_>, entry: u64, address: u64) {
        match (ours(table, address), oracle.outcome(address)) {
            (Outcome::NoRule, Outcome::NoRule) => self.without_rules += 1,
            // The length is the table builder's.
            (Outcome::End, Outcome::NoRule) if (entry..entry + 256).contains(&address) => self.without_rules += 1,
            (Outcome::End, Outcome::NoRule) if oracle.begins(address + 1) => self.without_rules += 1,
            (Outcome::End, Outcome::Caller(_)) if oracle.function_bytes(address).is_some_and(|bytes| bytes <= 64) => {
                self.ends += 1;
            }
            (_, Outcome::NoRule) if oracle.uncovered_bytes(address) >= 16 => self.decoded += 1,
            (Outcome::Unsupported(reason), Outcome::Caller(_) | Outcome::End) => {
                *self.unsupported.entry(reason.text()).or_default() += 1;
            }
            (ours, theirs) if ours == theirs => self.equal += 1,
            (ours, theirs) => {
                let rule = table.rule(address);
                panic!(
                    "{path}: at {address:#x} the table's {rule:?} gives {ours:x?}, call frame information {theirs:x?}"
                );
            }
        }
    }
}

fn check(path: &str, package: &str, allowed: Allowed) {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}: install the package {package}"));
    let began = Instant::now();
    let table = Table::read(&mut Cursor::new(&bytes)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let took = began.elapsed();
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let mut oracle = Oracle::new(&file);
    assert!(table.rows.is_sorted_by(|one, next| one < next), "{path}: rows are not sorted");

    let seed = match std::env::var("MEMTRACE_SEED") {
        Ok(seed) => seed.parse().expect("MEMTRACE_SEED is a number"),
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_nanos() as u64,
    };
    println!("{path}: MEMTRACE_SEED={seed} repeats the sampled addresses");
    let mut boundaries = Comparison::default();
    for index in 0..oracle.functions.len() {
        let function = &oracle.functions[index];
        let (start, end) = (function.initial_address(), function.end_address());
        for address in [start, end - 1, end] {
            boundaries.compare(path, &table, &mut oracle, file.entry(), address);
        }
    }
    let code: Vec<_> = file
        .segments()
        .filter(|segment| matches!(segment.flags(), object::SegmentFlags::Elf { p_flags, .. } if p_flags & 1 != 0))
        .map(|segment| (segment.address(), segment.size()))
        .collect();
    let size: u64 = code.iter().map(|&(_, size)| size).sum();
    let mut random = Random(seed);
    let mut sampled = Comparison::default();
    for _ in 0..SAMPLES {
        let mut at = random.below(size);
        let mut segments = code.iter();
        let address = loop {
            let &(address, size) = segments.next().expect("within the code");
            if at < size {
                break address + at;
            }
            at -= size;
        };
        sampled.compare(path, &table, &mut oracle, file.entry(), address);
    }
    let calls = oracle.unsupported_calls(&file, &table);
    let stats = &table.stats;
    println!(
        "{path}: {} functions, {} rows of {} evaluated, {} KiB, {took:.1?}; boundaries: {} equal, {} without rules, \
         unsupported {:?}; sampled: {} equal, {} without rules, unsupported {:?}; {calls} calls with unsupported rules",
        stats.functions,
        table.rows.len(),
        stats.rows_evaluated,
        table.rows.len() * 8 / 1024,
        boundaries.equal,
        boundaries.without_rules,
        boundaries.unsupported,
        sampled.equal,
        sampled.without_rules,
        sampled.unsupported,
    );
    assert_eq!(stats.functions_malformed, 0, "{path}");
    assert!(sampled.equal > 0, "{path}: nothing was compared");
    println!(
        "{path}: {} sampled addresses have rules from code, {} are in ends of stacks",
        sampled.decoded, sampled.ends
    );
    assert!(boundaries.ends <= 2 && sampled.ends <= 20, "{path}: more than one function ends stacks");
    let unsupported: u64 = sampled.unsupported.values().sum();
    let bound = SAMPLES * allowed.per_mille / 1000;
    assert!(unsupported <= bound, "{path}: {unsupported} addresses have unsupported rules, more than {bound}");
    assert!(calls <= allowed.calls, "{path}: {calls} calls have unsupported rules, more than {}", allowed.calls);
}

macro_rules! files {
    ($($name:ident: $path:literal of $package:literal, $allowed:expr;)+) => { $(
        #[test]
        fn $name() {
            check($path, $package, $allowed);
        }
    )+ };
}

files! {
    the_c_library: "/lib/x86_64-linux-gnu/libc.so.6" of "libc6", Allowed { per_mille: 1, calls: 1 };
    the_dynamic_loader: "/lib64/ld-linux-x86-64.so.2" of "libc6", Allowed { per_mille: 30, calls: 12 };
    the_compilers_runtime: "/lib/x86_64-linux-gnu/libgcc_s.so.1" of "libgcc-s1", COMPILED;
    the_cpp_library: "/usr/lib/x86_64-linux-gnu/libstdc++.so.6" of "libstdc++6", COMPILED;
    libssl: "/usr/lib/x86_64-linux-gnu/libssl.so.3" of "libssl3", COMPILED;
    libcrypto: "/usr/lib/x86_64-linux-gnu/libcrypto.so.3" of "libssl3", Allowed { per_mille: 30, calls: OPENSSL_CALLS };
    libsqlite: "/usr/lib/x86_64-linux-gnu/libsqlite3.so.0" of "libsqlite3-0", COMPILED;
    jemalloc: "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2" of "libjemalloc2", COMPILED;
    python: "/usr/bin/python3" of "python3-minimal", COMPILED;
    node: "/usr/bin/node" of "nodejs", Allowed { per_mille: 4, calls: OPENSSL_CALLS };
    redis: "/usr/bin/redis-server" of "redis-server", COMPILED;
    nginx: "/usr/sbin/nginx" of "nginx-light", COMPILED;
    bpftrace: "/usr/bin/bpftrace" of "bpftrace", COMPILED;
    gdb: "/usr/bin/gdb" of "gdb", COMPILED;
    perl: "/usr/bin/perl" of "perl-base", COMPILED;
    bash: "/bin/bash" of "bash", COMPILED;
}

/// Cargo itself, which the compiler's authors build in release mode, with OpenSSL in it.
#[test]
fn a_rust_program_in_release_mode() {
    let path = std::env::var("CARGO").expect("cargo runs the tests");
    check(&path, "cargo", Allowed { per_mille: 4, calls: OPENSSL_CALLS });
}

#[test]
fn this_program() {
    check("/proc/self/exe", "none: it is this test", COMPILED);
}
