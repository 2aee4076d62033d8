use std::{
    fs::{self, File},
    path::Path as FilePath,
    process::Command,
};

use iced_x86::ConditionCode;
use proptest::prelude::*;

use self::assembly::*;
use super::{
    flags::Flags,
    glibc::MAX_COUNTS_BYTES,
    value::{mask, sign_extended},
    *,
};
use crate::{
    object::symbols::ElfFile,
    object::{Pid, mapped::objects, maps},
};

mod assembly;
mod jemalloc;

const ADDRESS: u64 = 0x1000;

/// The place of the cache in static programs.
const LOCAL: ThreadPlace = ThreadPlace::Offset(-72);

fn code(pieces: &[&[&[u8]]]) -> Vec<u8> {
    pieces.concat().concat()
}

fn found(pieces: &[&[&[u8]]]) -> Option<ThreadCache> {
    let code = code(pieces);
    find(&code, ADDRESS, Some(code.len() as u64))
}

/// What the `malloc` of a file that has glibc's shows: where the pointer and the bins are.
fn glibcs_in(path: &FilePath) -> (ThreadPlace, u64) {
    let elf = ElfFile::parse(File::open(path).expect("the file")).expect("an ELF file");
    let symbols = elf.symbols(&["malloc"], |name| name).expect("its symbols");
    let malloc = symbols.get("malloc").expect("malloc");
    let cache = find(elf.code(malloc).expect("its code"), malloc.address, malloc.size);
    let Some(ThreadCache::Glibc { pointer, bins }) = cache else { panic!("no cache of glibc's: {cache:x?}") };
    (pointer, bins)
}

#[test]
fn the_machines_own_glibc_has_a_cache_with_two_bytes_a_count() {
    let pid = Pid(std::process::id());
    let objects = objects(pid, &maps::read(pid).expect("our own maps"));
    let libc = objects.iter().map(|object| &object.path).find(|path| path.ends_with("libc.so.6"));
    let (pointer, bins) = glibcs_in(libc.expect("a glibc program"));
    assert!(matches!(pointer, ThreadPlace::Slot { plus: 0, .. }), "{pointer:x?}");
    // glibc 2.42 has 76 bins.
    assert!([128, 152].contains(&bins), "{bins}");
}

#[test]
fn a_static_programs_malloc_has_the_offset_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, program) = (folder.path().join("small.c"), folder.path().join("small"));
    fs::write(&source, "#include <stdlib.h>\nint main(void) { free(malloc(7)); return 0; }\n").expect("the source");
    for options in [&["-static"][..], &["-static-pie", "-fPIE"]] {
        let status = Command::new("cc").args(options).arg(&source).arg("-o").arg(&program).status();
        assert!(status.expect("the package gcc").success(), "{options:?}");
        let (pointer, bins) = glibcs_in(&program);
        assert!(matches!(pointer, ThreadPlace::Offset(..0)), "{pointer:x?}");
        assert!([128, 152].contains(&bins), "{bins}");
    }
}

#[test]
fn all_ways_to_the_pointer_lead_to_its_place() {
    let of_first_instruction =
        |length| ThreadPlace::Slot { slot: ADDRESS + code(&[BIN]).len() as u64 + length + 0x1000, plus: 0 };
    for (way, pointer) in [
        (INITIAL_EXEC, of_first_instruction(7)),
        (BY_THREAD_POINTER, of_first_instruction(9 + 7)),
        (BY_SUM, of_first_instruction(7)),
        (LOCAL_EXEC, LOCAL),
        (RELAXED, LOCAL),
        (LOCAL_BY_THREAD_POINTER, LOCAL),
    ] {
        assert_eq!(found(&[BIN, way, COUNTED]), Some(ThreadCache::Glibc { pointer, bins: 128 }), "{way:x?}");
    }
}

#[test]
fn all_ways_to_take_a_block_show_the_layout() {
    for (way, bins) in [(COUNTED, 128), (COUNTED_IN_PLACE, 128), (COUNTING_BYTES, 64), (COUNTING_FREE_PLACES, 152)] {
        for bin in [BIN, BIN_BY_BRANCHES] {
            let cache = Some(ThreadCache::Glibc { pointer: LOCAL, bins });
            assert_eq!(found(&[bin, LOCAL_EXEC, way]), cache, "{way:x?}");
            assert_eq!(found(&[JUMPS, bin, SPINS, RELAXED, way]), cache, "{way:x?}");
        }
    }
}

#[test]
fn without_any_step_of_taking_a_block_nothing_is_found() {
    for way in [UNTESTED, UNCOUNTED, LEFT_THERE, SECOND] {
        assert_eq!(found(&[BIN, LOCAL_EXEC, way]), None, "{way:x?}");
    }
}

#[test]
fn another_bin_for_one_size_is_enough_to_find_nothing() {
    assert_eq!(found(&[WRONG_BIN, LOCAL_EXEC, COUNTED]), None);
    assert_eq!(found(&[BIN, ALL_BUT_THE_LAST_BIN, LOCAL_EXEC, COUNTED]), None);
    assert_eq!(found(&[LOCAL_EXEC, COUNTED]), None, "a bin that nothing is known of");
}

#[test]
fn paths_that_take_from_different_caches_find_nothing() {
    assert_eq!(found(&[BIN, LOCAL_EXEC, TWO_CACHES, COUNTED]), None);
}

#[test]
fn what_is_read_after_something_unknown_was_written_is_not_as_it_was_at_the_entry() {
    assert_eq!(found(&[BIN, LOCAL_EXEC, FLUSHES, COUNTED]), None);
    assert_eq!(found(&[BIN, FLUSHES, LOCAL_EXEC, COUNTED]), None);
    assert_eq!(found(&[BIN, LOCAL_EXEC, CALLS, COUNTED]), None);
}

#[test]
fn code_that_takes_too_long_finds_nothing() {
    assert_eq!(found(&[ENDLESS, BIN, LOCAL_EXEC, COUNTED]), None);
}

#[test]
fn a_malloc_that_hands_its_work_on_finds_nothing() {
    // As musl's and mimalloc's do.
    assert_eq!(found(&[HANDS_ON]), None);
    assert_eq!(found(&[BIN, HANDS_ON]), None);
    let handed_over = code(&[HANDS_ON, BIN, LOCAL_EXEC, COUNTED]);
    assert_eq!(find(&handed_over, ADDRESS, Some(5)), None);
    assert_eq!(find(&[], ADDRESS, None), None);
}

#[test]
fn nothing_behind_the_end_of_the_function_is_looked_at() {
    let malloc = code(&[BIN, LOCAL_EXEC, COUNTED]);
    let length = malloc.len() as u64;
    let cache = Some(ThreadCache::Glibc { pointer: LOCAL, bins: 128 });
    for size in [None, Some(length), Some(length + 1), Some(u64::MAX)] {
        assert_eq!(find(&malloc, ADDRESS, size), cache);
    }
    assert_eq!(find(&malloc, ADDRESS, Some(length - 1)), None);
    for length in 0..malloc.len() {
        assert_eq!(find(&malloc[..length], ADDRESS, None), None, "{length}");
    }
    assert_eq!(find(&malloc, u64::MAX - 20, None), cache, "addresses begin anew");
}

/// The fuzzer's seeds that are glibc's, by name.
fn seeds() -> [(&'static str, Vec<u8>); 5] {
    [
        ("counted", code(&[BIN, INITIAL_EXEC, COUNTED])),
        ("counted-in-place", code(&[BIN_BY_BRANCHES, SPINS, BY_THREAD_POINTER, COUNTED_IN_PLACE])),
        ("counting-bytes", code(&[BIN, BY_SUM, COUNTING_BYTES])),
        ("counting-free-places", code(&[JUMPS, BIN, RELAXED, COUNTING_FREE_PLACES])),
        ("local-exec", code(&[BIN, LOCAL_BY_THREAD_POINTER, COUNTED])),
    ]
}

#[test]
fn the_fuzzers_seeds_are_these_files_and_have_caches() {
    let folder = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/thread_cache");
    for (name, code) in seeds().into_iter().chain(jemalloc::seeds()) {
        assert!(find(&code, ADDRESS, None).is_some(), "{name}");
        let path = folder.join(name);
        if std::env::var_os("MEMTRACE_WRITE_SEEDS").is_some() {
            fs::write(&path, &code).expect("written");
        }
        let same = fs::read(&path).is_ok_and(|found| found == code);
        assert!(same, "{} is another: MEMTRACE_WRITE_SEEDS=1 writes it anew", path.display());
    }
}

/// Code with bytes of it replaced.
fn damaged(mut code: Vec<u8>, damage: Vec<(prop::sample::Index, u8)>) -> Vec<u8> {
    for (at, byte) in damage {
        let at = at.index(code.len());
        code[at] = byte;
    }
    code
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_code_has_a_cache_or_none(
        code in prop::collection::vec(any::<u8>(), 0..200),
        address in any::<u64>(),
        size in prop::option::of(any::<u64>()),
    ) {
        let _ = find(&code, address, size);
    }

    #[test]
    fn damaged_code_has_a_cache_or_none(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        address in any::<u64>(),
    ) {
        let code = damaged(which.get(&seeds()).1.clone(), damage);
        if let Some(ThreadCache::Glibc { bins, .. }) = find(&code, address, None) {
            prop_assert!((64..=MAX_COUNTS_BYTES).contains(&bins), "{bins}");
        }
    }

    #[test]
    fn conditions_after_a_comparison_are_those_of_the_numbers(
        left in any::<u64>(),
        right in any::<u64>(),
        is_near in any::<bool>(),
        bits in prop::sample::select(vec![8_u32, 16, 32, 64]),
    ) {
        let right = if is_near { left.wrapping_add(right % 3).wrapping_sub(1) } else { right };
        let (one, other) = (left & mask(bits), right & mask(bits));
        let (signed, signed_other) =
            (sign_extended(left, bits).cast_signed(), sign_extended(right, bits).cast_signed());
        let flags = Flags::of_difference(left, right, bits);
        for (condition, holds) in [
            (ConditionCode::e, one == other),
            (ConditionCode::ne, one != other),
            (ConditionCode::b, one < other),
            (ConditionCode::ae, one >= other),
            (ConditionCode::be, one <= other),
            (ConditionCode::a, one > other),
            (ConditionCode::l, signed < signed_other),
            (ConditionCode::ge, signed >= signed_other),
            (ConditionCode::le, signed <= signed_other),
            (ConditionCode::g, signed > signed_other),
        ] {
            prop_assert_eq!(flags.holds(condition), Some(holds), "{:?}", condition);
        }
        // The sum of the difference and what was taken away is the first number again.
        let sum = Flags::of_sum(left.wrapping_sub(right), right, bits);
        prop_assert_eq!(sum.holds(ConditionCode::e), Some(one == 0));
        prop_assert_eq!(sum.holds(ConditionCode::s), Some(signed < 0));
        prop_assert_eq!(sum.holds(ConditionCode::b), Some(one < other));
    }
}
