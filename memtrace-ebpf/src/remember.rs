//! The cache of walks (see `memtrace_common::remembered`): looking one up, and noting what decides a new one.

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    btf_maps::PerCpuArray,
    helpers::generated::{bpf_loop, bpf_probe_read_user},
    macros::btf_map,
};
use memtrace_common::{
    limits::{
        EXPECTED_WALKS, MAX_PIECES, MAX_REMEMBERED_WORDS, REMEMBERED_WALKS, REMEMBERED_WAYS, WINDOW_WORDS, WINDOWS,
    },
    remembered::{GROUP, Remembered, Window},
    thread::{ThreadState, fp_state},
    unwind::{Cfa, FramePointer, Registers, Rule},
};

use crate::{atomic, thread};

/// Not 0 in the test mode: every remembered stack is walked again all the same, and the two compared.
#[unsafe(no_mangle)]
static VERIFY_REMEMBERED: Global<u64> = Global::new(0);

/// Hits, misses, (in the test mode) hits that were wrong, and results that were predicted.
#[btf_map]
static REMEMBERED_COUNTS: PerCpuArray<[u64; 4], 1> = PerCpuArray::new();

/// Where the stack is read to.
#[btf_map]
static WINDOW: PerCpuArray<Window, WINDOWS> = PerCpuArray::new();

/// Words that are read at once at least. Walks from the same place are told apart by their nearest words.
const NEAR_WORDS: u64 = 32;

/// What [`count_outcome`] counts.
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

/// The first of the places where a walk that starts like this may be remembered.
#[inline(always)]
fn set(first: u64, sp: u64) -> usize {
    let mixed = (first ^ sp.rotate_left(21)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as usize & (REMEMBERED_WALKS - REMEMBERED_WAYS)
}

/// Reads the beginning of the stack whose return address is at `base`, as much of it as the walk that is expected needs,
/// and gives the return address.
#[inline(always)]
pub fn open(state: &mut ThreadState, base: u64) -> Option<u64> {
    state.walk.base = base;
    state.walk.expectation = expectation(state, base) as u64;
    let expected = &state.walks.remembered[expected(state)];
    // Not the walk expected: one that is looked up by its return address, and may be of any length.
    let words = if expected.sp == base.wrapping_add(8) { expected.piece_words(0).max(NEAR_WORDS) } else { NEAR_WORDS };
    let Some(window) = claim(&mut state.walk.window) else { return thread::read_word(base) };
    window.near = if read(window, 0, base, words) {
        words
    } else if read(window, 0, base, 1) {
        1
    } else {
        0
    };
    if window.near == 0 { None } else { Some(window.words[0]) }
}

/// Gives the window of [`open`] back.
#[inline(always)]
pub fn close(state: &mut ThreadState) {
    if let Some(window) = window(state.walk.window) {
        // SAFETY: a reference. Volatile, so that it stays behind the last use of the words.
        unsafe { (&raw mut window.busy).write_volatile(0) };
    }
    state.walk.window = WINDOWS as u64;
}

/// Takes a window of this processor that no preempted program is using. Programs stay on their processor, and end.
#[inline(always)]
fn claim(number: &mut u64) -> Option<&'static mut Window> {
    for index in 0..WINDOWS as u64 {
        let found = window(index)?;
        // SAFETY: a live map value. One instruction, so that nobody comes in between.
        if unsafe { atomic::exchange(&raw mut found.busy, 1) } == 0 {
            *number = index;
            return Some(found);
        }
    }
    *number = WINDOWS as u64;
    None
}

/// A window of this processor.
#[inline(always)]
fn window(index: u64) -> Option<&'static mut Window> {
    // SAFETY: a live element of this processor, which belongs to whoever has claimed it.
    WINDOW.get_ptr_mut(index as u32).map(|window| unsafe { &mut *window })
}

/// The index of the expectation for this walk: programs that loop repeat the order of their walks.
#[inline(always)]
fn expectation(state: &ThreadState, sp: u64) -> usize {
    // The previous walk, and how far down the stack this one begins.
    let mixed = (sp ^ state.walk.previous << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 48) as usize & (EXPECTED_WALKS - 1)
}

/// The index of the cache entry that is expected.
#[inline(always)]
fn expected(state: &ThreadState) -> usize {
    usize::from(state.walks.expected[state.walk.expectation as usize & (EXPECTED_WALKS - 1)]) & (REMEMBERED_WALKS - 1)
}

/// Reads words of the stack to a place of the window.
#[inline(always)]
fn read(window: &mut Window, place: usize, address: u64, words: u64) -> bool {
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
    let expected = expected(state);
    if is_repeated(state, expected as u32) != 0 {
        commit(state, expected);
        return Some(state.walks.remembered[expected].id);
    }
    state.walk.set = set(state.walk.ip, state.walk.sp) as u64;
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
    commit(state, state.walk.entry as usize & (REMEMBERED_WALKS - 1));
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

/// Settles that the walk is the cache entry `entry`, and expects it the next time in the same circumstances.
#[inline(always)]
fn commit(state: &mut ThreadState, entry: usize) {
    state.walks.expected[state.walk.expectation as usize & (EXPECTED_WALKS - 1)] = entry as u8;
    state.walk.previous = entry as u64;
    state.walk.entry = entry as u64;
}

/// [`repeats`], 1 for yes.
///
/// A *global* function in the verifier's sense, by its linkage: it is looked at once and by itself, for any state and place, and
/// not again on each way that leads to it, which took most of the time of loading. Its arguments are therefore what the verifier
/// can describe: a pointer, which might be null, and a number.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_repeated(state: *const ThreadState, place: u32) -> u32 {
    // SAFETY: null, or a reference of the caller's.
    let Some(state) = (unsafe { state.as_ref() }) else { return 0 };
    u32::from(repeats(state, place as usize & (REMEMBERED_WALKS - 1)))
}

/// Whether the walk from the place where `state.walk` stands would be this one again.
#[inline(always)]
fn repeats(state: &ThreadState, place: usize) -> bool {
    let (walk, entry) = (&state.walk, &state.walks.remembered[place]);
    if entry.id == 0
        || entry.first != walk.ip
        || entry.sp != walk.sp
        || entry.range != walk.range
        || (entry.fp_decides != 0 && entry.fp != walk.fp)
    {
        return false;
    }
    let Some(window) = window(walk.window) else { return false };
    let near = entry.piece_words(0);
    if near > window.near {
        if !read(window, 0, walk.base, near) {
            window.near = 0;
            return false;
        }
        window.near = near;
    }
    let groups = entry.count as usize / GROUP;
    let near_groups = if entry.pieces > 1 { usize::from(entry.near) / GROUP } else { groups };
    unchanged(entry, window, 0, near_groups)
        && (entry.pieces <= 1 || (read_rest(entry, window, walk.base) && unchanged(entry, window, near_groups, groups)))
}

/// Whether the words of the groups from `from` to `to`, exclusive, are the same on the stack as in the cache entry.
#[inline(always)]
fn unchanged(entry: &Remembered, window: &Window, from: usize, to: usize) -> bool {
    for step in 0..MAX_REMEMBERED_WORDS / GROUP {
        let group = from + step;
        if group >= to {
            break;
        }
        if entry.differences(group, &window.words) != 0 {
            return false;
        }
    }
    true
}

/// Reads the pieces behind the first one.
#[inline(always)]
fn read_rest(entry: &Remembered, window: &mut Window, base: u64) -> bool {
    // They come behind the first piece of this walk, over what was read for another.
    window.near = entry.piece_words(0).min(window.near);
    for index in 1..MAX_PIECES {
        if index >= usize::from(entry.pieces) {
            break;
        }
        let piece = entry.piece[index];
        let address = base.wrapping_add(8 * u64::from(piece.above));
        if !read(window, usize::from(piece.place), address, entry.piece_words(index)) {
            return false;
        }
    }
    true
}

/// A walk begins, where `state.walk` stands, that is to be remembered.
#[inline(always)]
pub fn begin(state: &mut ThreadState) {
    let walk = &mut state.walk;
    walk.fp_place = 0;
    walk.fp_state = fp_state::REGISTER;
    walk.uncacheable = 0;
    let entry = &mut state.walks.remembered[walk.entry as usize & (REMEMBERED_WALKS - 1)];
    entry.begin(walk.ip);
    entry.sp = walk.sp;
    entry.fp = walk.fp;
    entry.range = walk.range;
}

/// The walk took a step by `rule` from `frame` to `caller`. Code without rules stands for `Rule::WithoutRules`.
#[inline(always)]
pub fn note(state: &mut ThreadState, rule: Rule, frame: &Registers, caller: &Registers) {
    let saved_fp = match rule {
        Rule::Frame { cfa, fp } => {
            if matches!(cfa, Cfa::Fp(_) | Cfa::DerefFp { .. }) || matches!(fp, FramePointer::AtFp(_)) {
                frame_pointer_decides(state, frame.fp);
            }
            match cfa {
                Cfa::DerefSp { offset, add } => word(state, plus(frame.sp, offset), plus(caller.sp, -add)),
                Cfa::DerefFp { offset, add } => word(state, plus(frame.fp, offset), plus(caller.sp, -add)),
                Cfa::Sp(_) | Cfa::Fp(_) | Cfa::Plt { .. } => {}
            }
            match fp {
                FramePointer::Unchanged => None,
                FramePointer::AtCfa(offset) => Some(plus(caller.sp, offset)),
                FramePointer::AtFp(offset) => Some(plus(frame.fp, offset)),
            }
        }
        // By frame pointer. That the code there is no signal's trampoline was looked up too, and is taken to stay so.
        Rule::WithoutRules if caller.sp == frame.fp.wrapping_add(16) => {
            frame_pointer_decides(state, frame.fp);
            Some(frame.fp)
        }
        _ => {
            state.walk.uncacheable = 1;
            return;
        }
    };
    word(state, caller.sp.wrapping_sub(8), caller.ip);
    if let Some(place) = saved_fp {
        state.walk.fp_place = place;
        state.walk.fp_state = fp_state::MEMORY;
    }
}

/// A rule used the frame pointer: what it came from decides the walk.
#[inline(always)]
fn frame_pointer_decides(state: &mut ThreadState, fp: u64) {
    match state.walk.fp_state {
        fp_state::REGISTER => {
            let entry = &mut state.walks.remembered[state.walk.entry as usize & (REMEMBERED_WALKS - 1)];
            entry.fp_decides = 1;
        }
        fp_state::MEMORY => {
            let place = state.walk.fp_place;
            word(state, place, fp);
        }
        _ => {}
    }
    state.walk.fp_state = fp_state::DECIDES;
}

#[inline(always)]
fn plus(address: u64, offset: i32) -> u64 {
    address.wrapping_add(offset as i64 as u64)
}

/// The walk is over: it is remembered from now on, unless something decided it that is not noted.
#[inline(always)]
pub fn end(state: &mut ThreadState, id: u64) {
    if state.walk.uncacheable == 0 {
        state.walks.remembered[state.walk.entry as usize & (REMEMBERED_WALKS - 1)].end(id);
    }
}

/// This word decides the walk.
#[inline(always)]
fn word(state: &mut ThreadState, address: u64, value: u64) {
    let _ = note_word(state, address, value);
}

/// A function of its own, since it is called from many places, and a global one, see [`is_repeated`]; the verifier wants a number
/// back.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn note_word(state: *mut ThreadState, address: u64, value: u64) -> u32 {
    // SAFETY: null, or a reference of the caller's.
    let Some(state) = (unsafe { state.as_mut() }) else { return 0 };
    let above = address.wrapping_sub(state.walk.base);
    let entry = &mut state.walks.remembered[state.walk.entry as usize & (REMEMBERED_WALKS - 1)];
    if above & 7 != 0 || !entry.add(above >> 3, value) {
        state.walk.uncacheable = 1;
    }
    0
}
