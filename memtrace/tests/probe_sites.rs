//! The probe sites of real allocators, as Debian ships them, checked by rules of this file's own.
//!
//! Needs the packages musl, libjemalloc2, libgoogle-perftools4, libtcmalloc-minimal4, libmimalloc2.0,
//! gcc and musl-tools.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "all of this file is tests and their steps"
)]

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use memtrace::parts::{
    allocator::{
        self, Family, Plan, ProbeSite,
        catalogue::{self, Function, Role},
        site::{self, Site},
    },
    object::{ElfFile, Symbol},
    target::{Pid, Target},
};
use memtrace_common::call::Call;

const GLIBC: (&str, &str) = ("/lib/x86_64-linux-gnu/libc.so.6", "libc6");
const MUSL: (&str, &str) = ("/lib/ld-musl-x86_64.so.1", "musl");
const JEMALLOC: (&str, &str) = ("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", "libjemalloc2");
const TCMALLOC: (&str, &str) = ("/usr/lib/x86_64-linux-gnu/libtcmalloc.so.4", "libgoogle-perftools4");
const TCMALLOC_MINIMAL: (&str, &str) = ("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4", "libtcmalloc-minimal4");
const MIMALLOC: (&str, &str) = ("/usr/lib/x86_64-linux-gnu/libmimalloc.so.2", "libmimalloc2.0");

const EVERY_LIBRARY: [(&str, &str); 6] = [GLIBC, MUSL, JEMALLOC, TCMALLOC, TCMALLOC_MINIMAL, MIMALLOC];

type Symbols = HashMap<&'static str, Symbol>;

fn open((path, package): (&str, &str)) -> (ElfFile<File>, Symbols) {
    let file = File::open(path).unwrap_or_else(|error| panic!("{path}: {error}: install the package {package}"));
    let file = ElfFile::parse(file).unwrap_or_else(|error| panic!("{path}: {error}"));
    let wanted: Vec<_> = catalogue::wanted_symbols().collect();
    let symbols = file.symbols(&wanted, catalogue::rust::plain).unwrap_or_else(|error| panic!("{path}: {error}"));
    (file, symbols)
}

/// Every function of the catalogue that a library has, with its site and its code.
fn sites(library: (&str, &str)) -> Vec<(Function, Site, Vec<u8>, u64)> {
    let (file, symbols) = open(library);
    let mut sites = Vec::new();
    let mut addresses = HashSet::new();
    for &function in &Role::of(|name| symbols.contains_key(name)).functions() {
        let Some(symbol) = symbols.get(function.name).filter(|symbol| addresses.insert(symbol.address)) else {
            continue;
        };
        let code = file.code(symbol).unwrap_or_else(|error| panic!("{} {}: {error}", library.0, function.name));
        let site = site::choose(code, symbol.address, symbol.size, function.arguments())
            .unwrap_or_else(|error| panic!("{} {}: {error}", library.0, function.name));
        println!(
            "{} {}+{} {} ({})",
            library.0,
            function.name,
            site.displacement,
            site.instruction,
            if site.emulated { "emulated" } else { "single-stepped" }
        );
        sites.push((*function, site, code.to_vec(), symbol.address));
    }
    assert!(sites.iter().any(|(function, ..)| function.name == "malloc"), "{} has no malloc", library.0);
    sites
}

fn site_of(library: (&str, &str), name: &str) -> Site {
    let (_, site, ..) = sites(library).into_iter().find(|(function, ..)| function.name == name).expect(name);
    site
}

/// Whether the bytes begin with an instruction that every supported kernel emulates: written down once more, by opcode.
fn begins_with_an_emulated_opcode(code: &[u8]) -> bool {
    let (first, second) = (code[0], code.get(1).copied().unwrap_or(0));
    match first {
        0x41 => (0x50..0x58).contains(&second),
        0x66 => second == 0x90,
        0x0f => second & 0xf0 == 0x80,
        0x50..0x58 | 0x70..0x80 | 0x90 | 0xe8 | 0xe9 | 0xeb => true,
        _ => false,
    }
}

/// Instructions known by name to write nothing but their first operand, or nothing at all. Anything else before a site
/// fails the test, so that a person looks at it.
fn is_known_to_be_harmless(instruction: &Instruction, arguments: u8) -> bool {
    use Register::*;
    let kept = [RSP, RBP, RBX, R12, R13, R14, R15];
    let read: Vec<_> = [RDI, RSI, RDX, RCX, R8, R9]
        .into_iter()
        .enumerate()
        .filter(|(at, _)| arguments >> at & 1 == 1)
        .map(|(_, register)| register)
        .collect();
    let first_operand_may_be_written = || {
        let register = instruction.op0_register().full_register();
        instruction.op0_kind() != OpKind::Register || !(kept.contains(&register) || read.contains(&register))
    };
    match instruction.mnemonic() {
        Mnemonic::Endbr64 | Mnemonic::Test | Mnemonic::Cmp | Mnemonic::Nop => true,
        Mnemonic::Mov
        | Mnemonic::Lea
        | Mnemonic::Xor
        | Mnemonic::Movzx
        | Mnemonic::Add
        | Mnemonic::Sub
        | Mnemonic::And
        | Mnemonic::Or
        | Mnemonic::Shr
        | Mnemonic::Shl
        | Mnemonic::Sete
        | Mnemonic::Setne => first_operand_may_be_written(),
        _ => false,
    }
}

#[test]
fn no_site_of_a_real_allocator_breaks_a_rule() {
    for library in EVERY_LIBRARY {
        for (function, site, code, address) in sites(library) {
            let name = format!("{} {}+{}", library.0, function.name, site.displacement);
            let start = site.displacement as usize;
            assert_eq!(site.emulated, begins_with_an_emulated_opcode(&code[start..]), "{name}");
            let mut decoder = Decoder::with_ip(64, &code, address, DecoderOptions::NONE);
            while decoder.position() < start {
                let instruction = decoder.decode();
                assert!(is_known_to_be_harmless(&instruction, function.arguments()), "{name}: {instruction}");
            }
            assert_eq!(decoder.position(), start, "{name} is not between instructions");
            if start > 0 {
                for instruction in Decoder::with_ip(64, &code, address, DecoderOptions::NONE).iter() {
                    let target = instruction.near_branch_target();
                    let back = target > address && target <= address + site.displacement;
                    assert!(!back, "{name}: {instruction} leads back");
                }
            }
        }
    }
}

#[test]
fn most_functions_of_every_allocator_get_an_emulated_site() {
    for library in EVERY_LIBRARY {
        let sites = sites(library);
        let emulated = sites.iter().filter(|(_, site, ..)| site.emulated).count();
        assert!(emulated * 2 > sites.len(), "{}: {emulated} of {}", library.0, sites.len());
    }
}

#[test]
fn an_emulated_instruction_that_could_be_the_site_is_never_passed_over() {
    for library in EVERY_LIBRARY {
        for (function, site, code, _) in sites(library) {
            if site.displacement > 0 || !site.emulated {
                assert!(!begins_with_an_emulated_opcode(&code), "{} {}", library.0, function.name);
            }
        }
    }
}

#[test]
fn glibc_2_36_has_its_known_sites() {
    let (_, symbols) = open(GLIBC);
    assert!(!symbols.is_empty());
    let version = Command::new(GLIBC.0).output().expect("libc prints its version");
    assert!(
        String::from_utf8_lossy(&version.stdout).contains("release version 2.36"),
        "these sites are those of Debian 12's glibc"
    );
    let site = site_of(GLIBC, "free");
    assert_eq!((site.displacement, site.emulated), (3, true));
    assert!(site.instruction.starts_with("je "), "{}", site.instruction);
    let site = site_of(GLIBC, "malloc");
    assert_eq!((site.displacement, site.emulated, site.instruction.as_str()), (0, true, "push r12"));
    // cmp byte [rip], 0; then push or je
    for name in ["aligned_alloc", "posix_memalign", "valloc", "pvalloc"] {
        let site = site_of(GLIBC, name);
        assert_eq!((site.displacement, site.emulated), (7, true), "{name}: {}", site.instruction);
    }
    // mov r10d, ecx; test r9d, 0xfff; jne
    let site = site_of(GLIBC, "mmap");
    assert_eq!((site.displacement, site.emulated), (10, true), "{}", site.instruction);
    // Its third argument is overwritten by `mul rdx` before the first branch.
    assert!(!site_of(GLIBC, "reallocarray").emulated);
}

#[test]
fn every_library_is_known_for_what_it_is() {
    let role = |library| {
        let (_, symbols) = open(library);
        let role = Role::of(|name| symbols.contains_key(name));
        (role.is_libc, role.families)
    };
    assert_eq!(role(GLIBC), (true, vec![]));
    assert_eq!(role(MUSL), (true, vec![]));
    assert_eq!(role(JEMALLOC), (false, vec![Family::Jemalloc]));
    assert_eq!(role(TCMALLOC), (false, vec![Family::Tcmalloc]));
    assert_eq!(role(TCMALLOC_MINIMAL), (false, vec![Family::Tcmalloc]));
    assert_eq!(role(MIMALLOC), (false, vec![Family::Mimalloc]));
    assert_eq!(role(("/lib64/ld-linux-x86-64.so.2", "libc6")), (false, vec![]));
}

/// A running program that waits to be killed.
struct Running(Child);

impl Running {
    fn start(program: &Path, preload: Option<&str>) -> Running {
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        if let Some(library) = preload {
            command.env("LD_PRELOAD", library);
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let running = Running(child);
        // It is past the dynamic linker's work when it sleeps in read(2) or pause(2).
        let wchan = format!("/proc/{}/syscall", running.0.id());
        let start = Instant::now();
        while !std::fs::read_to_string(&wchan).is_ok_and(|call| call.starts_with("0 0x0 ")) {
            assert!(start.elapsed() < Duration::from_secs(10), "{} does not read", program.display());
            std::thread::sleep(Duration::from_millis(5));
        }
        running
    }

    fn plan(&self) -> Result<Plan, allocator::AllocatorError> {
        let target = Target::open(Pid(self.0.id())).expect("a running child");
        allocator::plan(&target.objects().expect("its objects"), &[], allocator::Ends::Sessions)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const WAITS_FOR_INPUT: &str = "#include <stdlib.h>\n#include <unistd.h>\n\
    int main(void) { char c; free(malloc(7)); return read(0, &c, 1); }\n";

const CC: (&str, &str) = ("cc", "gcc");
const MUSL_CC: (&str, &str) = ("musl-gcc", "musl-tools");

/// Compiles the program that waits for input.
fn compile(folder: &Path, (compiler, package): (&str, &str), options: &[&str]) -> PathBuf {
    let (source, program) = (folder.join("waits.c"), folder.join("waits"));
    std::fs::write(&source, WAITS_FOR_INPUT).expect("the source");
    let status = Command::new(compiler).args(options).arg(&source).arg("-o").arg(&program).status();
    let status = status.unwrap_or_else(|error| panic!("{compiler}: {error}: install the package {package}"));
    assert!(status.success(), "{compiler} {options:?}");
    program
}

fn has(plan: &Plan, function: &str, object: &Path) -> bool {
    plan.sites.iter().any(|site| site.function == function && site.object_path == object)
}

#[test]
fn a_program_with_another_allocator_is_planned_in_both() {
    for (library, family) in [(JEMALLOC, Family::Jemalloc), (MIMALLOC, Family::Mimalloc), (TCMALLOC, Family::Tcmalloc)]
    {
        let plan = Running::start(Path::new("/bin/cat"), Some(library.0)).plan().expect("a plan");
        let families: Vec<_> = plan.allocators.iter().map(|found| found.family).collect();
        assert_eq!(families, [family], "{plan:#?}");
        assert_eq!(plan.unusable, [], "{family}");
        let real = std::fs::canonicalize(library.0).expect("the library");
        for name in ["malloc", "free", "calloc", "realloc"] {
            assert!(has(&plan, name, &real), "{family} {name}: {plan:#?}");
            assert!(plan.sites.iter().any(|site| site.function == name && site.object_path.ends_with("libc.so.6")));
        }
    }
}

#[test]
fn every_way_out_of_a_function_that_throws_is_a_return() {
    for library in [JEMALLOC, TCMALLOC, TCMALLOC_MINIMAL, MIMALLOC] {
        let plan = Running::start(Path::new("/bin/cat"), Some(library.0)).plan().expect("a plan");
        let code = std::fs::read(library.0).expect("the library");
        // The C library's mapping functions have ways out as well.
        let real = std::fs::canonicalize(library.0).expect("the library");
        let is_here = |site: &&ProbeSite| site.call == Call::Exit && site.object_path == real;
        let ways_out: Vec<_> = plan.sites.iter().filter(is_here).collect();
        let throwing = plan.sites.iter().filter(|site| site.signature.throws()).count();
        assert!(throwing > 0 && ways_out.len() >= throwing, "{}: {throwing}, {ways_out:#?}", library.0);
        for site in ways_out {
            let bytes = &code[usize::try_from(site.file_offset).expect("an offset")..];
            assert!(matches!(bytes, [0xc3, ..] | [0xf3, 0xc3, ..] | [0xc2, ..]), "{}: {site:?}", library.0);
        }
    }
}

#[test]
fn a_release_that_hands_its_work_on_is_left_out_or_closed_by_a_return_probe() {
    let calls = |library: (&str, &str), name: &str| {
        let plan = Running::start(Path::new("/bin/cat"), Some(library.0)).plan().expect("a plan");
        let real = std::fs::canonicalize(library.0).expect("the library");
        let sites: Vec<_> = plan.sites.into_iter().filter(|site| site.object_path == real).collect();
        sites.iter().find(|site| site.function == name).map(|site| site.call)
    };
    // jemalloc's operator delete jumps to free; its free and its sized deletes do the work.
    assert_eq!(calls(JEMALLOC, "_ZdlPv"), None);
    assert_eq!(calls(JEMALLOC, "free"), Some(Call::Release));
    assert_eq!(calls(JEMALLOC, "_ZdlPvm"), Some(Call::Release));
    // mimalloc's looks whether the block is its own before it calls mi_free.
    assert_eq!(calls(MIMALLOC, "mi_cfree"), Some(Call::ReleaseOuter));
    assert_eq!(calls(MIMALLOC, "mi_free_aligned"), None);
    assert_eq!(calls(TCMALLOC, "tc_new"), Some(Call::Allocate));
}

#[test]
fn a_static_program_is_planned_in_itself_unless_it_is_stripped() {
    let folder = tempfile::tempdir().expect("a folder");
    for options in [&["-static"][..], &["-static-pie", "-fPIE"]] {
        let program = compile(folder.path(), CC, options);
        let plan = Running::start(&program, None).plan().expect("a plan");
        for name in ["malloc", "free", "calloc", "realloc", "mmap", "munmap"] {
            assert!(has(&plan, name, &program), "{options:?} {name}: {plan:#?}");
        }
        assert_eq!(plan.allocators, []);
    }
    let program = compile(folder.path(), CC, &["-static", "-s"]);
    let error = Running::start(&program, None).plan().expect_err("stripped").to_string();
    assert!(error.contains("strip") && error.contains("/waits"), "{error}");
}

#[test]
fn a_removed_program_is_planned_from_the_file_that_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = compile(folder.path(), CC, &["-static"]);
    let running = Running::start(&program, None);
    std::fs::remove_file(&program).expect("removed");
    // Opening a removed file needs privilege; without it the reason must be told.
    match running.plan() {
        Ok(plan) => assert!(has(&plan, "malloc", &program), "{plan:#?}"),
        Err(error) => assert!(error.to_string().contains("was not read"), "{error}"),
    }
}

#[test]
fn a_musl_program_is_planned_in_musl_or_in_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = compile(folder.path(), MUSL_CC, &[]);
    let plan = Running::start(&program, None).plan().expect("a plan");
    assert!(has(&plan, "malloc", Path::new("/usr/lib/x86_64-linux-musl/libc.so")), "{plan:#?}");
    assert_eq!(plan.absent, ["pvalloc", "cfree"]);
    assert_eq!((plan.allocators, plan.unusable), (vec![], vec![]));
    let program = compile(folder.path(), MUSL_CC, &["-static"]);
    let plan = Running::start(&program, None).plan().expect("a plan");
    assert!(has(&plan, "malloc", &program) && has(&plan, "free", &program), "{plan:#?}");
}

#[test]
fn absent_functions_and_aliases_are_told_apart() {
    let plan = Running::start(Path::new("/bin/cat"), None).plan().expect("a plan");
    // glibc gives memalign's code the name aligned_alloc, too: one site, and neither is absent.
    let names: Vec<_> = plan.sites.iter().map(|site| site.function.as_str()).collect();
    assert!(names.contains(&"aligned_alloc") && !names.contains(&"memalign"), "{names:?}");
    assert!(names.contains(&"mmap") && !names.contains(&"mmap64"), "{names:?}");
    assert_eq!(plan.absent, Vec::<String>::new());
    assert_eq!(plan.unusable, []);
}
