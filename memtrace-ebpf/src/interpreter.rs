//! Frames of interpreted code: the chain that an interpreter keeps for the running thread is walked beside the native stack, and
//! sent with it. What is read where is data (`memtrace_common::interpreter`); the chain is walked anew at every call, since it is
//! no part of the native stack that a remembered walk compares.
//!
//! Frames that lie on the native stack are found while that is walked ([`note_frame`]). The words that tell them apart are among
//! those that a remembered walk compares, and they are part of its id.

use core::ffi::c_void;

use aya_ebpf::{
    btf_maps::Array,
    helpers::generated::{bpf_loop, bpf_probe_read_user},
    macros::btf_map,
};
use memtrace_common::{
    Slot,
    event::{ChainRecord, Head, Kind, UNKNOWN_DEPTH},
    interpreter::{
        self, Chain, FRAMES_WINDOW, FrameKind, Interpreter, MAX_CHAIN_WORDS, MAX_FRAME_WORDS, MAX_INTERPRETER_FRAMES,
        ON_STACK_BELOW, ON_STACK_WORDS, Source, frames, pack,
    },
    limits::{MAX_FRAMES, MAX_TARGETS, WINDOWS},
    stack,
    thread::ThreadState,
    walk_cache::Stack as _,
};

use crate::{
    remember::OwnStack,
    ring,
    scratch::{self, Scratch, Scratches},
    thread,
};

/// The interpreter of each target, by slot; user space writes it.
#[btf_map]
static INTERPRETERS: Array<Interpreter, MAX_TARGETS> = Array::new();

/// Where chains are walked to.
#[btf_map]
static CHAINS: Scratches<Chain> = Scratches::new();

impl Scratch for Chain {
    #[inline(always)]
    fn map() -> &'static Scratches<Chain> {
        &CHAINS
    }

    #[inline(always)]
    fn busy(&mut self) -> *mut u64 {
        &raw mut self.busy
    }
}

/// Walks the chain of the running thread's interpreter frames, if it has some. The chain stays with the thread until [`close`], and its
/// hash until the next walk.
#[inline(always)]
pub fn walk(state: &mut ThreadState, slot: u16) {
    state.walk.chain = WINDOWS as u64;
    state.walk.chain_hash = 0;
    let Some(target) = INTERPRETERS.get_ptr(u32::from(slot)) else { return };
    // SAFETY: a live array element, written by user space at any moment.
    if unsafe { (&raw const (*target).is_known).read_volatile() } != 0 {
        let _ = walk_chain(state, u32::from(slot));
    }
}

/// The id of the stack whose native frames have this one, with the chain of [`walk`].
#[inline(always)]
pub fn with_chain(state: &ThreadState, native: u64) -> u64 {
    // SAFETY: a reference. Volatile, so that the compiler does not know what `walk` wrote.
    let hash = unsafe { (&raw const state.walk.chain_hash).read_volatile() };
    stack::with_chain(native, hash)
}

/// [`walk`] for a target that has an interpreter. A global function, so that the verifier looks at it once and by itself; it wants a
/// number back.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_chain(state: *mut ThreadState, slot: u32) -> u32 {
    // SAFETY: null, or a reference of the caller's.
    let Some(state) = (unsafe { state.as_mut() }) else { return 0 };
    let Some(target) = INTERPRETERS.get_ptr(slot) else { return 0 };
    // SAFETY: a live array element. A half-written one leads to words that are not there, or that user space cannot name.
    let target = unsafe { &*target };
    if target.is_known == frames::ON_STACK {
        return begin_on_stack(state, slot);
    }
    let thread_state = thread_state(target);
    if thread_state == 0 {
        return 0;
    }
    let Some(frame) = target.innermost.follow(thread_state, thread::read_word) else { return 0 };
    if frame == 0 {
        return 0;
    }
    let Some((index, chain)) = scratch::claim::<Chain>() else { return 0 };
    chain.slot = u64::from(slot);
    chain.thread_state = thread_state;
    chain.frame = frame;
    chain.last = 0;
    chain.end = target.array_end(thread_state, thread::read_word);
    chain.is_looped = 0;
    chain.window = 0;
    chain.run = target.run.follow(thread_state, thread::read_word).unwrap_or(0);
    chain.hash = stack::seed(slot as u16, 0);
    chain.record.words = 0;
    let mut context: *mut Chain = chain;
    // SAFETY: the callback has the type that bpf_loop calls, and the context outlives the loop.
    unsafe {
        bpf_loop(MAX_INTERPRETER_FRAMES as u32, one_frame as *mut c_void, (&raw mut context).cast(), 0);
    }
    if chain.record.words == 0 {
        scratch::release(chain);
        return 0;
    }
    if chain.frame != 0 {
        chain.cut();
    }
    state.walk.chain = index;
    state.walk.chain_hash = stack::finish(chain.hash);
    0
}

/// The running thread's state in the interpreter; 0 if it has none.
#[inline(always)]
fn thread_state(target: &Interpreter) -> u64 {
    if target.only_state != 0 {
        return if thread::is_first() { target.only_state } else { 0 };
    }
    let Some(pointer) = thread::pointer() else { return 0 };
    let first = target.thread_state.follow(pointer, thread::read_word).unwrap_or(0);
    if first != 0 { first } else { target.other_thread_state.follow(pointer, thread::read_word).unwrap_or(0) }
}

/// Takes one frame into the chain; not 0 ends the loop.
#[inline(never)]
extern "C" fn one_frame(_index: u32, context: *mut c_void) -> i64 {
    // SAFETY: the context is the pointer that `walk_chain` passed.
    let chain: &mut Chain = unsafe { &mut **context.cast::<*mut Chain>() };
    let Some(target) = INTERPRETERS.get_ptr(chain.slot as u32) else { return 1 };
    // SAFETY: a live array element.
    let target = unsafe { &*target };
    let bytes = core::hint::black_box(target.frame_words) as u32 * 8;
    if bytes == 0 || bytes > 8 * MAX_FRAME_WORDS as u32 {
        return 1;
    }
    let mut source = interpreter::source(chain, bytes.into());
    if let Source::Window(begin, window_bytes) = source {
        (chain.window, chain.window_bytes) = (begin, window_bytes);
        // A mask of all 64 bits, which the verifier of Linux 6.1 needs: it does not follow a comparison of the lower half.
        let window_bytes = (core::hint::black_box(window_bytes) & (16 * FRAMES_WINDOW as u64 - 1)) as u32;
        if window_bytes == 0 || window_bytes > 8 * FRAMES_WINDOW as u32 {
            return 1;
        }
        // SAFETY: there is room for so many bytes, and the helper checks the address.
        let failed =
            unsafe { bpf_probe_read_user((&raw mut chain.words).cast(), window_bytes, begin as *const c_void) };
        if failed != 0 {
            chain.window = 0;
            chain.at = FRAMES_WINDOW as u64;
            source = Source::Alone;
        }
    }
    if source == Source::Alone {
        // SAFETY: as above, in the second half.
        let failed = unsafe {
            let place = (&raw mut chain.words).cast::<u64>().add(FRAMES_WINDOW);
            bpf_probe_read_user(place.cast(), bytes, chain.frame as *const c_void)
        };
        if failed != 0 {
            return 1;
        }
    }
    i64::from(!interpreter::step(target, chain, thread::read_word))
}

/// Room for frames that are found on the native stack.
#[inline(always)]
fn begin_on_stack(state: &mut ThreadState, slot: u32) -> u32 {
    if let Some((index, chain)) = scratch::claim::<Chain>() {
        chain.slot = u64::from(slot);
        chain.record.words = 0;
        state.walk.chain = index;
    }
    0
}

/// Notes the interpreter's frame that lies at the frame pointer `fp` of the native frame before `place`, if the stack may have such
/// frames and this is one.
#[inline(always)]
pub fn note_frame(state: &mut ThreadState, place: usize, fp: u64) {
    if state.walk.chain < WINDOWS as u64 {
        let _ = note_frame_on_stack(state, place as u32, fp);
    }
}

/// [`note_frame`] for a stack that has room for a chain. A global function, as [`walk_chain`] is; the verifier wants a number back.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn note_frame_on_stack(state: *mut ThreadState, place: u32, fp: u64) -> u32 {
    // SAFETY: null, or a reference of the caller's.
    let Some(state) = (unsafe { state.as_mut() }) else { return 0 };
    let Some(chain) = scratch::get::<Chain>(state.walk.chain) else { return 0 };
    let Some(target) = INTERPRETERS.get_ptr(chain.slot as u32) else { return 0 };
    // SAFETY: a live array element.
    let target = unsafe { &*target };
    if target.is_known != frames::ON_STACK {
        return 0;
    }
    let begin = fp.wrapping_sub(ON_STACK_BELOW);
    // SAFETY: the helper checks the address.
    let Ok(words) = (unsafe { aya_ebpf::helpers::bpf_probe_read_user(begin as *const [u64; ON_STACK_WORDS]) }) else {
        return 0;
    };
    let ip = state.frames[place.wrapping_sub(1) as usize & MAX_FRAMES];
    let Some(frame) = interpreter::on_stack(&target.on_stack, &words, ip, thread::read_word) else { return 0 };
    if frame.is_interpreted() {
        OwnStack.note(state, begin, words[0]);
        OwnStack.note(state, begin.wrapping_add(8), words[1]);
    }
    state.walk.hash = stack::mix(stack::mix(state.walk.hash, frame.code), frame.instruction);
    chain.push(pack(FrameKind::Interpreter, frame.code));
    chain.push(pack(FrameKind::Native, frame.instruction));
    chain.push_boundary(fp);
    0
}

/// The walk was led astray: frames that were found on the way are left out.
#[inline(always)]
pub fn drop_frames(state: &mut ThreadState) {
    if state.walk.chain < WINDOWS as u64 {
        let _ = drop_frames_on_stack(state);
    }
}

/// [`drop_frames`] for a stack that has room for a chain. A global function, as [`walk_chain`] is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn drop_frames_on_stack(state: *mut ThreadState) -> u32 {
    // SAFETY: null, or a reference of the caller's.
    let Some(state) = (unsafe { state.as_mut() }) else { return 0 };
    if state.walk.chain_hash == 0
        && let Some(chain) = scratch::get::<Chain>(state.walk.chain)
    {
        chain.record.words = 0;
    }
    0
}

/// Notes the stack pointer of the native frame `place`, if the stack has a chain.
#[inline(always)]
pub fn note_depth(state: &ThreadState, place: usize, sp: u64) {
    if state.walk.chain < WINDOWS as u64 {
        let _ = note_chain_depth(state, place as u32, sp);
    }
}

/// [`note_depth`] for a stack that has a chain. A global function, as [`walk_chain`] is; the verifier wants a number back.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn note_chain_depth(state: *const ThreadState, place: u32, sp: u64) -> u32 {
    // SAFETY: null, or a reference of the caller's.
    let Some(state) = (unsafe { state.as_ref() }) else { return 0 };
    let Some(chain) = scratch::get::<Chain>(state.walk.chain) else { return 0 };
    if place == 0 {
        chain.record.sp = sp;
    }
    if let Some(depth) = chain.depths.get_mut(place as usize & MAX_FRAMES) {
        let words = sp.wrapping_sub(chain.record.sp) >> 3;
        *depth = if words >= u64::from(UNKNOWN_DEPTH) { UNKNOWN_DEPTH } else { words as u32 };
    }
    0
}

/// Sends the chain of the stack `id`, if it has one; whether user space will have it.
#[inline(always)]
pub fn send(state: &mut ThreadState, slot: u16, id: u64) -> bool {
    if state.walk.chain >= WINDOWS as u64 {
        return true;
    }
    send_chain(state, u32::from(slot), id) != 0
}

/// [`send`] for a stack that has a chain, 1 for yes. A global function, as [`walk_chain`] is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send_chain(state: *mut ThreadState, slot: u32, id: u64) -> u32 {
    // SAFETY: null, or a reference of the caller's.
    let Some(state) = (unsafe { state.as_mut() }) else { return 0 };
    let Some(chain) = scratch::get::<Chain>(state.walk.chain) else { return 0 };
    let head = Head::new(Kind::Chain, Slot(slot as u16), state.thread as u32);
    let words = core::hint::black_box(chain.record.words) & (MAX_CHAIN_WORDS as u64 - 1);
    if words == 0 {
        return 1;
    }
    chain.record = ChainRecord { head, time_ns: ring::now(), id, sp: chain.record.sp, words };
    let bytes = (size_of::<ChainRecord>() + size_of_val(&chain.depths)) as u64 + 8 * words;
    // SAFETY: depths and words follow the record without a gap, and there is room for so many.
    u32::from(unsafe { ring::send_stack((&raw mut chain.record).cast(), bytes) })
}

/// Gives the chain of [`walk`] back.
#[inline(always)]
pub fn close(state: &mut ThreadState) {
    if state.walk.chain < WINDOWS as u64 {
        let _ = close_chain(state);
    }
}

/// [`close`] for a stack that has a chain. A global function, as [`walk_chain`] is; the verifier wants a number back.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn close_chain(state: *mut ThreadState) -> u32 {
    // SAFETY: null, or a reference of the caller's.
    let Some(state) = (unsafe { state.as_mut() }) else { return 0 };
    if let Some(chain) = scratch::get::<Chain>(state.walk.chain) {
        scratch::release(chain);
    }
    state.walk.chain = WINDOWS as u64;
    0
}

/// The target has another program: its interpreter's frames are not walked until user space has found them again.
#[inline(always)]
pub fn forget(slot: u16) {
    if let Some(target) = INTERPRETERS.get_ptr_mut(u32::from(slot)) {
        // SAFETY: a live array element.
        unsafe { (&raw mut (*target).is_known).write_volatile(0) };
    }
}
