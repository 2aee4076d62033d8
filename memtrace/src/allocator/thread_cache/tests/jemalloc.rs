use super::{super::jemalloc::MAX_BYTES_BEFORE_BINS, *};
use assembly::*;

mod assembly;

/// The count of bytes in static programs, and what the pieces have else in common there.
const LOCAL: ThreadCache = ThreadCache::Jemalloc { allocated: ThreadPlace::Offset(-500), bins: 40, classes: 0x40_4000 };

/// The fuzzer's seeds, by name.
pub(super) fn seeds() -> [(&'static str, Vec<u8>); 4] {
    [
        ("jemalloc", code(&[CLASS, NOT_DUE, TAKES_BY_SLOT])),
        ("jemalloc-initial-exec", code(&[CLASS, NOT_DUE, BIN_OF_CLASS, TAKES])),
        ("jemalloc-local-exec", code(&[CLASS_BY_ADDRESS, LOCAL_NOT_DUE, BIN_OF_CLASS, TAKES_WITHOUT_REQUESTS])),
        ("jemalloc-local-pie", code(&[CLASS, LOCAL_NOT_DUE_BY_THREAD_POINTER, BIN_OF_CLASS, TAKES])),
    ]
}

#[test]
fn all_ways_to_the_count_and_to_the_block_lead_to_their_places() {
    let first = code(&[CLASS]).len() as u64;
    let classes = ADDRESS + 0x2000 + code(&[&CLASS[..4]]).len() as u64;
    let slot = ADDRESS + 0x1000 + first + 7;
    let initial_exec = ThreadCache::Jemalloc { allocated: ThreadPlace::Slot { slot, plus: 0x338 }, bins: 40, classes };
    assert_eq!(found(&[CLASS, NOT_DUE, TAKES_BY_SLOT]), Some(initial_exec));
    for takes in [TAKES, TAKES_WITHOUT_REQUESTS] {
        assert_eq!(found(&[CLASS, NOT_DUE, BIN_OF_CLASS, takes]), Some(initial_exec), "{takes:x?}");
        assert_eq!(found(&[CLASS_BY_ADDRESS, LOCAL_NOT_DUE, BIN_OF_CLASS, takes]), Some(LOCAL), "{takes:x?}");
        let pie = found(&[CLASS, LOCAL_NOT_DUE_BY_THREAD_POINTER, BIN_OF_CLASS, takes]);
        let allocated = ThreadPlace::Offset(-500);
        assert_eq!(pie, Some(ThreadCache::Jemalloc { allocated, bins: 40, classes }), "{takes:x?}");
    }
}

#[test]
fn without_any_step_of_taking_a_block_nothing_is_found() {
    for takes in [
        NEVER_EMPTY,
        NEVER_AT_LOW_WATER,
        EMPTY_AT_FULL,
        LEFT_IN_BIN,
        LEFT_IN_BIN_AT_LOW_WATER,
        TAKES_TWO,
        SECOND_OF_BIN,
        UNCOUNTED_BYTES,
        LOW_WATER_LEFT,
    ] {
        assert_eq!(found(&[CLASS_BY_ADDRESS, LOCAL_NOT_DUE, BIN_OF_CLASS, takes]), None, "{takes:x?}");
    }
}

#[test]
fn a_call_that_writes_more_than_it_has_to_finds_nothing() {
    for takes in [RESETS_THRESHOLD, FLUSHES_BY_BLOCK] {
        assert_eq!(found(&[CLASS_BY_ADDRESS, LOCAL_NOT_DUE, BIN_OF_CLASS, takes]), None, "{takes:x?}");
    }
    assert_eq!(found(&[FLUSHES, CLASS_BY_ADDRESS, LOCAL_NOT_DUE, BIN_OF_CLASS, TAKES]), None);
}

#[test]
fn a_call_that_may_go_another_way_for_what_is_not_known_finds_nothing() {
    assert_eq!(found(&[IF_ENABLED, CLASS_BY_ADDRESS, LOCAL_NOT_DUE, BIN_OF_CLASS, TAKES]), None);
    assert_eq!(found(&[CLASS_BY_ADDRESS, LOCAL_NOT_DUE, BIN_OF_CLASS, IF_ENABLED, TAKES]), None);
    assert_eq!(found(&[CLASS_BY_ADDRESS, LOCAL_NOT_DUE, CALLS, BIN_OF_CLASS, TAKES]), None);
}

#[test]
fn without_the_threshold_nothing_is_found() {
    for counts in [ALWAYS, NOT_DUE_SIGNED, NOT_DUE_OF_BEFORE] {
        assert_eq!(found(&[CLASS_BY_ADDRESS, counts, BIN_OF_CLASS, TAKES]), None, "{counts:x?}");
    }
}

#[test]
fn bins_elsewhere_are_not_found() {
    for bin in [BIN_OF_16_BYTES, BIN_BEFORE] {
        assert_eq!(found(&[CLASS_BY_ADDRESS, LOCAL_NOT_DUE, bin, TAKES]), None, "{bin:x?}");
    }
}

#[test]
fn another_class_for_one_size_is_enough_to_find_nothing() {
    for class in [CLASS_OF_MORE, CLASS_OF_SMALL] {
        assert_eq!(found(&[class, LOCAL_NOT_DUE, BIN_OF_CLASS, TAKES]), None, "{class:x?}");
    }
    assert_eq!(found(&[LOCAL_NOT_DUE, BIN_OF_CLASS, TAKES]), None, "a class that nothing is known of");
}

#[test]
fn nothing_behind_the_end_of_the_function_is_looked_at() {
    for (name, malloc) in seeds() {
        let length = malloc.len() as u64;
        let cache = find(&malloc, ADDRESS, Some(length));
        assert!(matches!(cache, Some(ThreadCache::Jemalloc { .. })), "{name}");
        for size in [None, Some(length + 1), Some(u64::MAX)] {
            assert_eq!(find(&malloc, ADDRESS, size), cache, "{name}");
        }
    }
    let malloc = code(&[CLASS_BY_ADDRESS, LOCAL_NOT_DUE, BIN_OF_CLASS, TAKES]);
    for length in 0..malloc.len() {
        assert_eq!(find(&malloc[..length], ADDRESS, None), None, "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_code_has_a_cache_or_none(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        address in any::<u64>(),
    ) {
        let code = damaged(which.get(&seeds()).1.clone(), damage);
        if let Some(ThreadCache::Jemalloc { bins, .. }) = find(&code, address, None) {
            prop_assert!((16..=MAX_BYTES_BEFORE_BINS).contains(&bins), "{bins}");
        }
    }
}
