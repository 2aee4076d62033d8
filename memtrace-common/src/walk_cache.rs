//! The cache of a thread's walks (see [`crate::remembered`]): looking one up, and noting what decides a new one.
//!
//! What differs between the kernel and a test is a [`Stack`]: how words are read, and how a word is noted.

use crate::{
    limits::{EXPECTED_WALKS, MAX_PIECES, MAX_REMEMBERED_WORDS, REMEMBERED_WALKS, REMEMBERED_WAYS, WINDOW_WORDS},
    remembered::{GROUP, Remembered, Window},
    thread::{ThreadState, fp_state},
    unwind::{Cfa, Frame, FramePointer, Rule, Switch, switch::goroutine},
};

/// The stack of the running thread.
pub trait Stack {
    /// Reads `words` words, at least 1, from `address` to the place `place` of the window. False if they cannot be read, or do not
    /// fit.
    fn read(&self, window: &mut Window, place: usize, address: u64, words: u64) -> bool;

    /// The word at `address`, or `None` if it cannot be read.
    fn word(&self, address: u64) -> Option<u64>;

    /// Calls [`note_word`]. The kernel's verifier looks at it once if it is a function of its own.
    fn note(&self, state: &mut ThreadState, address: u64, value: u64);

    /// Calls [`note_change`], likewise.
    fn note_change(&self, state: &mut ThreadState, address: u64, depth: u64, base: u64);
}

/// The index of the first entry of the set in which a walk that starts like this may be cached.
#[inline(always)]
pub fn set(first: u64, sp: u64) -> usize {
    let mixed = (first ^ sp.rotate_left(21)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as usize & (REMEMBERED_WALKS - REMEMBERED_WAYS)
}

/// The index in [`crate::thread::WalkCache::expected`] for a walk from this stack pointer: programs that loop repeat the order of
/// their walks.
#[inline(always)]
pub fn expectation(state: &ThreadState, sp: u64) -> usize {
    // The previous walk, and how far down the stack this one begins.
    let mixed = (sp ^ state.walk.previous << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 48) as usize & (EXPECTED_WALKS - 1)
}

/// The index of the cache entry that is expected.
#[inline(always)]
pub fn expected(state: &ThreadState) -> usize {
    usize::from(state.walks.expected[state.walk.expectation as usize & (EXPECTED_WALKS - 1)]) & (REMEMBERED_WALKS - 1)
}

/// Settles that the walk is the cache entry `entry`, and expects it the next time in the same circumstances.
#[inline(always)]
pub fn commit(state: &mut ThreadState, entry: usize) {
    state.walks.expected[state.walk.expectation as usize & (EXPECTED_WALKS - 1)] = entry as u8;
    state.walk.previous = entry as u64;
    state.walk.entry = entry as u64;
}

/// Whether the walk from the place where `state.walk` stands would be the cache entry at `place` again. `window` gives
/// the window that holds the beginning of the stack.
#[inline(always)]
pub fn repeats<'w, S: Stack>(
    state: &ThreadState,
    place: usize,
    window: impl FnOnce() -> Option<&'w mut Window>,
    stack: &S,
) -> bool {
    let (walk, entry) = (&state.walk, &state.walks.remembered[place]);
    if entry.id == 0
        || entry.first != walk.ip
        || entry.sp != walk.sp
        || entry.range != walk.range
        || (entry.fp_decides != 0 && entry.fp != walk.fp)
    {
        return false;
    }
    let Some(window) = window() else { return false };
    let near = entry.piece_words(0);
    if near > window.near {
        if !stack.read(window, 0, walk.base, near) {
            window.near = 0;
            return false;
        }
        window.near = near;
    }
    let groups = entry.count as usize / GROUP;
    let near_groups = if entry.pieces > 1 { usize::from(entry.near) / GROUP } else { groups };
    unchanged(entry, window, 0, near_groups)
        && (entry.pieces <= 1
            || (read_rest(entry, window, walk.base, stack) && unchanged(entry, window, near_groups, groups)))
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
fn read_rest<S: Stack>(entry: &Remembered, window: &mut Window, base: u64, stack: &S) -> bool {
    let mut base = base;
    // They come behind the first piece of this walk, over what was read for another.
    window.near = entry.piece_words(0).min(window.near);
    for index in 1..MAX_PIECES {
        if index >= usize::from(entry.pieces) {
            break;
        }
        if index == usize::from(entry.second) {
            let Some(second) = second_base(entry, window, stack) else { return false };
            base = second;
        }
        let piece = entry.piece[index];
        let address = base.wrapping_add(8 * u64::from(piece.above));
        if !stack.read(window, usize::from(piece.place), address, entry.piece_words(index)) {
            return false;
        }
    }
    true
}

/// The word below the one that the goroutine left its stack with, from which pieces of that stack count.
#[inline(always)]
fn second_base<S: Stack>(entry: &Remembered, window: &Window, stack: &S) -> Option<u64> {
    let place = usize::from(entry.depth_place) & (WINDOW_WORDS - 1);
    let (depth, goroutine) = (window.words[place], window.words[place + 1]);
    if goroutine == 0 {
        return None;
    }
    let end = stack.word(goroutine.wrapping_add(goroutine::STACK_END))?;
    let base = end.wrapping_sub(depth).wrapping_sub(8);
    if base & 7 != 0 { None } else { Some(base) }
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
pub fn note_step<S: Stack>(state: &mut ThreadState, rule: Rule, frame: &Frame, caller: &Frame, stack: &S) {
    let is_left = caller.left != frame.left;
    let (frame, caller) = (&frame.registers, &caller.registers);
    let saved_fp = match rule {
        Rule::Frame { cfa, fp } => {
            if matches!(cfa, Cfa::Fp(_) | Cfa::DerefFp { .. }) || matches!(fp, FramePointer::AtFp(_)) {
                frame_pointer_decides(state, frame.fp, stack);
            }
            match cfa {
                Cfa::DerefSp { offset, add } => stack.note(state, plus(frame.sp, offset), plus(caller.sp, -add)),
                Cfa::DerefFp { offset, add } => stack.note(state, plus(frame.fp, offset), plus(caller.sp, -add)),
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
            frame_pointer_decides(state, frame.fp, stack);
            Some(frame.fp)
        }
        Rule::Switch(Switch::Call { depth, saves_fp, .. }) if is_left => {
            let address = frame.sp.wrapping_add(8 * depth as u64);
            let Some(depth) = stack.word(address) else {
                state.walk.uncacheable = 1;
                return;
            };
            let at = caller.sp.wrapping_sub(if saves_fp { 16 } else { 8 });
            stack.note_change(state, address, depth, at.wrapping_sub(8));
            None
        }
        _ => {
            state.walk.uncacheable = 1;
            return;
        }
    };
    stack.note(state, caller.sp.wrapping_sub(8), caller.ip);
    if let Some(place) = saved_fp {
        state.walk.fp_place = place;
        state.walk.fp_state = fp_state::MEMORY;
    }
}

/// A rule used the frame pointer: what it came from decides the walk.
#[inline(always)]
fn frame_pointer_decides<S: Stack>(state: &mut ThreadState, fp: u64, stack: &S) {
    // Beyond a change of stacks words are noted in their order only, and Go's rules do without the frame pointer.
    if state.walks.remembered[state.walk.entry as usize & (REMEMBERED_WALKS - 1)].second != 0 {
        state.walk.uncacheable = 1;
        return;
    }
    match state.walk.fp_state {
        fp_state::REGISTER => {
            let entry = &mut state.walks.remembered[state.walk.entry as usize & (REMEMBERED_WALKS - 1)];
            entry.fp_decides = 1;
        }
        fp_state::MEMORY => {
            let place = state.walk.fp_place;
            stack.note(state, place, fp);
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

/// The word at `address` decides the walk.
#[inline(always)]
pub fn note_word(state: &mut ThreadState, address: u64, value: u64) {
    let above = address.wrapping_sub(state.walk.base);
    let entry = &mut state.walks.remembered[state.walk.entry as usize & (REMEMBERED_WALKS - 1)];
    if above & 7 != 0 || !entry.add(above >> 3, value) {
        state.walk.uncacheable = 1;
    }
}

/// The walk goes on to a goroutine's stack, by the word at `address`, which says how deep it is; `base` is the word below the one that
/// the goroutine left it with.
#[inline(always)]
pub fn note_change(state: &mut ThreadState, address: u64, depth: u64, base: u64) {
    let above = address.wrapping_sub(state.walk.base);
    let entry = &mut state.walks.remembered[state.walk.entry as usize & (REMEMBERED_WALKS - 1)];
    if above & 7 != 0 || !entry.change(above >> 3, depth) {
        state.walk.uncacheable = 1;
    }
    state.walk.base = base;
}

#[cfg(test)]
mod tests;
