//! Remembered walks (see `memtrace_common::remembered`): looking one up, and noting what decides a new one.

use aya_ebpf::{Global, btf_maps::PerCpuArray, macros::btf_map};
use memtrace_common::{
    limits::{MAX_REMEMBERED_WORDS, REMEMBERED_WALKS, REMEMBERED_WAYS},
    remembered::Remembered,
    thread::{ThreadState, fp_state},
    unwind::{Cfa, FramePointer, Registers, Rule},
};

use crate::thread;

/// Not 0 in the test mode: every remembered stack is walked again all the same, and the two compared.
#[unsafe(no_mangle)]
static VERIFY_REMEMBERED: Global<u64> = Global::new(0);

/// Hits, misses, and (in the test mode) hits that were wrong.
#[btf_map]
static REMEMBERED_COUNTS: PerCpuArray<[u64; 3], 1> = PerCpuArray::new();

/// What [`count`] counts.
#[derive(Clone, Copy)]
pub enum Outcome {
    Hit = 0,
    Miss = 1,
    Wrong = 2,
}

/// Counts on this CPU. A preempted count may be lost, which only blurs a rate.
#[inline(always)]
pub fn count(outcome: Outcome) {
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

/// The id of the remembered walk that a walk from here would repeat. If there is none, chooses the place for it.
#[inline(always)]
pub fn find(state: &mut ThreadState, registers: &Registers, range: u64) -> Option<u64> {
    let guess = (state.remembered[state.walk.previous as usize & (REMEMBERED_WALKS - 1)].next) as usize;
    let guess = guess & (REMEMBERED_WALKS - 1);
    if let Some(id) = repeats(&state.remembered[guess], registers, range) {
        state.walk.entry = guess as u64;
        state.walk.previous = guess as u64;
        return Some(id);
    }
    state.walk.set = set(registers.ip, registers.sp) as u64;
    // SAFETY: the field was written just now. Read as volatile the compiler knows nothing of its bits, and leaves the mask
    // in place below that Linux 6.1's verifier needs to see.
    let set = unsafe { (&raw const state.walk.set).read_volatile() } as usize;
    for way in 0..REMEMBERED_WAYS {
        let place = (set + way) & (REMEMBERED_WALKS - 1);
        if let Some(id) = repeats(&state.remembered[place], registers, range) {
            follow(state, place as u64);
            return Some(id);
        }
    }
    // The ways are written over in turn.
    state.walk.turn = state.walk.turn.wrapping_add(1);
    let way = state.walk.turn as usize & (REMEMBERED_WAYS - 1);
    follow(state, ((set + way) & (REMEMBERED_WALKS - 1)) as u64);
    None
}

/// The walk is the one at `entry`, which came after the one before it.
#[inline(always)]
fn follow(state: &mut ThreadState, entry: u64) {
    state.remembered[state.walk.previous as usize & (REMEMBERED_WALKS - 1)].next = entry;
    state.walk.previous = entry;
    state.walk.entry = entry;
}

#[inline(always)]
fn repeats(entry: &Remembered, registers: &Registers, range: u64) -> Option<u64> {
    if entry.id == 0
        || entry.first != registers.ip
        || entry.sp != registers.sp
        || entry.range != range
        || (entry.fp_decides != 0 && entry.fp != registers.fp)
    {
        return None;
    }
    let words = entry.count as usize;
    for index in 0..MAX_REMEMBERED_WORDS {
        if index >= words {
            break;
        }
        let address = registers.sp + 8 * u64::from(entry.places[index]);
        if thread::read_word(address) != Some(entry.values[index]) {
            return None;
        }
    }
    Some(entry.id)
}

/// A walk begins that is to be remembered.
#[inline(always)]
pub fn begin(state: &mut ThreadState, registers: &Registers, range: u64) {
    let walk = &mut state.walk;
    walk.fp_place = 0;
    walk.fp_state = fp_state::REGISTER;
    walk.unremarkable = 0;
    walk.base = registers.sp;
    let entry = &mut state.remembered[walk.entry as usize & (REMEMBERED_WALKS - 1)];
    entry.id = 0;
    entry.first = registers.ip;
    entry.sp = registers.sp;
    entry.fp = registers.fp;
    entry.range = range;
    entry.count = 0;
    entry.fp_decides = 0;
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
            state.walk.unremarkable = 1;
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
            let entry = &mut state.remembered[state.walk.entry as usize & (REMEMBERED_WALKS - 1)];
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
    if state.walk.unremarkable == 0 {
        state.remembered[state.walk.entry as usize & (REMEMBERED_WALKS - 1)].id = id;
    }
}

/// This word decides the walk.
#[inline(always)]
fn word(state: &mut ThreadState, address: u64, value: u64) {
    let above = address.wrapping_sub(state.walk.base);
    let place = above >> 3;
    let entry = &mut state.remembered[state.walk.entry as usize & (REMEMBERED_WALKS - 1)];
    let index = entry.count as usize;
    if index >= MAX_REMEMBERED_WORDS || place > u64::from(u16::MAX) || above & 7 != 0 {
        state.walk.unremarkable = 1;
        return;
    }
    entry.values[index] = value;
    entry.places[index] = place as u16;
    entry.count = index as u32 + 1;
}
