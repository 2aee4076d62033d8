//! The cache of walks in the kernel: where the stack is read to, in which order entries are looked at, and what is counted.
//! What an entry is and when it holds is in `memtrace_common::walk_cache`.

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    btf_maps::PerCpuArray,
    helpers::generated::{bpf_loop, bpf_probe_read_user},
    macros::btf_map,
};
use memtrace_common::{
    limits::{REMEMBERED_WALKS, REMEMBERED_WAYS, WINDOW_WORDS, WINDOWS},
    remembered::Window,
    thread::ThreadState,
    walk_cache::{self, Stack},
};

use crate::{
    scratch::{self, Scratch, Scratches},
    thread,
};

/// Not 0 in the test mode: every remembered stack is walked again all the same, and the two compared.
#[unsafe(no_mangle)]
static VERIFY_REMEMBERED: Global<u64> = Global::new(0);

/// Hits, misses, (in the test mode) hits that were wrong, and results that were predicted.
#[btf_map]
static REMEMBERED_COUNTS: PerCpuArray<[u64; 4], 1> = PerCpuArray::new();

/// Where the stack is read to.
#[btf_map]
static WINDOW: Scratches<Window> = Scratches::new();

impl Scratch for Window {
    #[inline(always)]
    fn map() -> &'static Scratches<Window> {
        &WINDOW
    }

    #[inline(always)]
    fn busy(&mut self) -> *mut u64 {
        &raw mut self.busy
    }
}

/// Words that are read at once at least. Walks from the same place are told apart by their nearest words.
const NEAR_WORDS: u64 = 32;

/// How a stack or a result came to be known; counted by [`count_outcome`].
#[derive(Clone, Copy)]
pub enum Outcome {
    Hit = 0,
    Miss = 1,
    Wrong = 2,
    Predicted = 3,
}

/// Counts an outcome on this processor. A preempted count may be lost, which only blurs a rate.
#[inline(always)]
pub fn count_outcome(outcome: Outcome) {
    if let Some(counts) = REMEMBERED_COUNTS.get_ptr_mut(0) {
        // SAFETY: a live element of this CPU.
        unsafe { (*counts)[outcome as usize] += 1 };
    }
}

/// Whether hits are to be walked again and compared.
#[inline(always)]
pub fn verifying() -> bool {
    VERIFY_REMEMBERED.load() != 0
}

/// Reads the beginning of the stack whose return address is at `base`, as much of it as the walk that is expected needs,
/// and gives the return address.
#[inline(always)]
pub fn open(state: &mut ThreadState, base: u64) -> Option<u64> {
    state.walk.base = base;
    state.walk.expectation = walk_cache::expectation(state, base) as u64;
    let expected = &state.walks.remembered[walk_cache::expected(state)];
    // Not the walk expected: one that is looked up by its return address, and may be of any length.
    let words = if expected.sp == base.wrapping_add(8) { expected.piece_words(0).max(NEAR_WORDS) } else { NEAR_WORDS };
    let Some((index, window)) = scratch::claim::<Window>() else {
        state.walk.window = WINDOWS as u64;
        return thread::read_word(base);
    };
    state.walk.window = index;
    window.near = if read_words(window, 0, base, words) {
        words
    } else if read_words(window, 0, base, 1) {
        1
    } else {
        0
    };
    if window.near == 0 { None } else { Some(window.words[0]) }
}

/// Gives the window of [`open`] back.
#[inline(always)]
pub fn close(state: &mut ThreadState) {
    if let Some(window) = scratch::get::<Window>(state.walk.window) {
        scratch::release(window);
    }
    state.walk.window = WINDOWS as u64;
}

/// Reads words of the stack to a place of the window.
#[inline(always)]
fn read_words(window: &mut Window, place: usize, address: u64, words: u64) -> bool {
    // A multiplication by a number that the compiler does not know leaves the check in place that the verifier needs.
    let bytes = core::hint::black_box(words) as u32 * 8;
    if bytes == 0 || bytes > 8 * WINDOW_WORDS as u32 {
        return false;
    }
    let Some(to) = window.words.get_mut(place & (WINDOW_WORDS - 1)) else { return false };
    // SAFETY: there is room for so many bytes from there on, and the helper checks the address.
    unsafe { bpf_probe_read_user((&raw mut *to).cast(), bytes, address as *const c_void) == 0 }
}

/// The id of the remembered walk that one from the place where `state.walk` stands would repeat. If there is none, chooses
/// the place for it.
#[inline(always)]
pub fn find(state: &mut ThreadState) -> Option<u64> {
    let expected = walk_cache::expected(state);
    if is_repeated(state, expected as u32) != 0 {
        walk_cache::commit(state, expected);
        return Some(state.walks.remembered[expected].id);
    }
    state.walk.set = walk_cache::set(state.walk.ip, state.walk.sp) as u64;
    // The ways of a set are evicted in turn.
    state.walk.victim = state.walk.victim.wrapping_add(1);
    let evicted = state.walk.set | state.walk.victim & (REMEMBERED_WAYS as u64 - 1);
    state.walk.entry = evicted;
    state.walk.found = 0;
    let mut context: *mut ThreadState = state;
    // SAFETY: the callback has the type that bpf_loop calls, and the context outlives the loop.
    unsafe {
        bpf_loop(REMEMBERED_WAYS as u32, one_way as *mut c_void, (&raw mut context).cast(), 0);
    }
    walk_cache::commit(state, state.walk.entry as usize & (REMEMBERED_WALKS - 1));
    if state.walk.found != 0 { Some(state.walk.found) } else { None }
}

/// Looks at one of the places where the walk may be remembered; not 0 ends the loop.
#[inline(never)]
extern "C" fn one_way(index: u32, context: *mut c_void) -> i64 {
    // SAFETY: the context is the pointer that `find` passed.
    let state: &mut ThreadState = unsafe { &mut **context.cast::<*mut ThreadState>() };
    let place = (state.walk.set as usize + index as usize) & (REMEMBERED_WALKS - 1);
    if is_repeated(state, place as u32) == 0 {
        return 0;
    }
    state.walk.entry = place as u64;
    state.walk.found = state.walks.remembered[place].id;
    1
}

/// [`walk_cache::repeats`], 1 for yes.
///
/// A *global* function in the verifier's sense, by its linkage: it is looked at once and by itself, for any state and place, and
/// not again on each way that leads to it, which took most of the time of loading. Its arguments are therefore what the verifier
/// can describe: a pointer, which might be null, and a number.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_repeated(state: *const ThreadState, place: u32) -> u32 {
    // SAFETY: null, or a reference of the caller's.
    let Some(state) = (unsafe { state.as_ref() }) else { return 0 };
    let window = || scratch::get::<Window>(state.walk.window);
    u32::from(walk_cache::repeats(state, place as usize & (REMEMBERED_WALKS - 1), window, &OwnStack))
}

/// A function of its own, since it is called from many places, and a global one, see [`is_repeated`]; the verifier wants a number
/// back.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn note_word(state: *mut ThreadState, address: u64, value: u64) -> u32 {
    // SAFETY: null, or a reference of the caller's.
    let Some(state) = (unsafe { state.as_mut() }) else { return 0 };
    walk_cache::note_word(state, address, value);
    0
}

/// [`walk_cache::note_change`], a global function as well.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn note_change(state: *mut ThreadState, address: u64, depth: u64, base: u64) -> u32 {
    // SAFETY: null, or a reference of the caller's.
    let Some(state) = (unsafe { state.as_mut() }) else { return 0 };
    walk_cache::note_change(state, address, depth, base);
    0
}

/// The running thread's stack, read by the kernel's helper.
pub struct OwnStack;

impl Stack for OwnStack {
    #[inline(always)]
    fn read(&self, window: &mut Window, place: usize, address: u64, words: u64) -> bool {
        read_words(window, place, address, words)
    }

    #[inline(always)]
    fn word(&self, address: u64) -> Option<u64> {
        thread::read_word(address)
    }

    #[inline(always)]
    fn note_change(&self, state: &mut ThreadState, address: u64, depth: u64, base: u64) {
        let _ = note_change(state, address, depth, base);
    }

    #[inline(always)]
    fn note(&self, state: &mut ThreadState, address: u64, value: u64) {
        let _ = note_word(state, address, value);
    }
}
