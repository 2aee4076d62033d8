//! The stack of a call: walked at its entry, hashed, and sent when first seen.
//!
//! Each frame is undone by the unwind table of its object, or by its frame pointer where there is no table. The loop is
//! the kernel's (`bpf_loop`), so that the verifier looks at one frame only.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::Array,
    helpers::{bpf_probe_read_user, generated::bpf_loop},
    macros::btf_map,
};
use memtrace_common::{
    counter::Counter,
    event::{Head, Kind, StackRecord},
    limits::{MAX_FRAMES, MAX_SEGMENTS, MAX_TARGETS, SENT_STACKS},
    stack,
    target::{TargetState, running},
    thread::ThreadState,
    unwind::{
        Frame, MemoryReader, Registers, Rows, Rule, Segment, Segments, StackEnd, search,
        segment::{self, TRAMPOLINE},
        step, step_without_table,
    },
    walk_cache,
};

use crate::{count, interpreter, remember, ring, thread};

/// Ids of stacks whose frames user space has; a later stack may take an earlier one's place, which is then sent again.
#[btf_map]
static SENT: Array<u64, SENT_STACKS> = Array::new();

/// What the programs know of each target, by its slot.
#[btf_map]
pub static TARGETS: Array<TargetState, MAX_TARGETS> = Array::new();

/// By slot: one of [`running`], which says whether the target's calls are recorded. All of its probes are in place before,
/// and stay until after, so that no block is seen to appear whose release would be missed.
#[btf_map]
static RUNNING: Array<u64, MAX_TARGETS> = Array::new();

/// Rows of all unwind tables, one table behind the other; user space writes them through a mapping, and sets the size.
#[btf_map]
static ROWS: Array<u64, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Segments of all targets; user space writes them through a mapping.
#[btf_map]
static SEGMENTS: Array<Segment, MAX_SEGMENTS, { BPF_F_MMAPABLE as usize }> = Array::new();

/// By slot: where the target's segments are, 0 when there are none.
#[btf_map]
pub static SEGMENT_RANGES: Array<u64, MAX_TARGETS> = Array::new();

/// Whether calls that begin now are recorded.
#[inline(always)]
pub fn running(slot: u16) -> bool {
    state(slot) != running::NO
}

/// The same for a call whose end is seen by the probe that sees its beginning.
#[inline(always)]
pub fn running_to_the_end(slot: u16) -> bool {
    state(slot) == running::YES
}

#[inline(always)]
fn state(slot: u16) -> u64 {
    // SAFETY: a live array element, written by user space at any moment.
    RUNNING.get_ptr(u32::from(slot)).map_or(running::NO, |state| unsafe { state.read_volatile() })
}

struct UserMemory;

impl MemoryReader for UserMemory {
    #[inline(always)]
    fn read_word(&self, address: u64) -> Option<u64> {
        thread::read_word(address)
    }

    #[inline(always)]
    fn read_pair(&self, address: u64) -> Option<[u64; 2]> {
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_user(address as *const [u64; 2]).ok() }
    }

    #[inline(always)]
    fn thread_pointer(&self) -> Option<u64> {
        thread::pointer()
    }
}

struct Tables;

impl Rows for Tables {
    #[inline(always)]
    fn row(&self, index: u32) -> Option<u64> {
        ROWS.get(index).copied()
    }
}

impl Segments for Tables {
    #[inline(always)]
    fn segment(&self, index: u32) -> Option<Segment> {
        SEGMENTS.get(index).copied()
    }
}

/// The id of the stack that starts with these registers, of which nothing has been read yet.
#[inline(always)]
pub fn stack_from(state: &mut ThreadState, slot: u16, registers: Registers) -> u64 {
    remember::open(state, registers.sp.wrapping_sub(8));
    stack_id(state, slot, registers)
}

/// The id of the stack that starts with these registers, the caller's, after [`remember::open`]. If the thread does not
/// remember it, walks it into the thread's state, and sends it if user space may not have it.
#[inline(always)]
pub fn stack_id(state: &mut ThreadState, slot: u16, start: Registers) -> u64 {
    let generation = TARGETS.get(u32::from(slot)).map_or(0, |target| target.generation as u32);
    let first = start.ip;
    let walk = &mut state.walk;
    walk.range = range(slot);
    walk.ip = first;
    walk.sp = start.sp;
    walk.fp = start.fp;
    let remembered = if first == 0 { None } else { remember::find(state) };
    remember::close(state);
    interpreter::walk(state, slot);
    if let Some(id) = remembered
        && !remember::verifying()
    {
        let id = interpreter::with_chain(state, id);
        // User space may have had to forget the stack's frames: then it is walked again.
        if is_sent(id) {
            remember::count_outcome(remember::Outcome::Hit);
            interpreter::close(state);
            return id;
        }
    }
    walk_cache::begin(state);
    let walk = &mut state.walk;
    walk.hash = stack::seed(slot, generation);
    walk.depth = 0;
    walk.end = StackEnd::ReadFault as u64;
    if first != 0 {
        walk.exact = 0;
        walk.left = 0;
        walk.hash = stack::mix(walk.hash, first);
        walk.depth = 1;
        walk.end = StackEnd::TooDeep as u64;
        walk.segment.start = 0;
        walk.segment.end = 0;
        state.frames[0] = first;
        interpreter::note_depth(state, 0, start.sp);
        let mut context: *mut ThreadState = state;
        // SAFETY: the callback has the type that bpf_loop calls, and the context outlives the loop.
        unsafe {
            bpf_loop(MAX_FRAMES as u32 - 1, one_frame as *mut c_void, (&raw mut context).cast(), 0);
        }
        // Tables that were exchanged under the walk may have led it astray.
        if range(slot) != state.walk.range {
            state.walk.end = StackEnd::NotUnwound as u64;
            state.walk.depth = 1;
            state.walk.hash = stack::mix(stack::seed(slot, generation), first);
            state.walk.uncacheable = 1;
            interpreter::drop_frames(state);
        }
    }
    let id = stack::finish(state.walk.hash);
    match remembered {
        None => remember::count_outcome(remember::Outcome::Miss),
        Some(expected) if expected == id => remember::count_outcome(remember::Outcome::Hit),
        // Tables that were exchanged under the walk contradict nothing.
        Some(_) if state.walk.end == StackEnd::NotUnwound as u64 => {}
        Some(_) => remember::count_outcome(remember::Outcome::Wrong),
    }
    if first != 0 {
        walk_cache::end(state, id);
    }
    let id = interpreter::with_chain(state, id);
    send_once(state, slot, id);
    interpreter::close(state);
    id
}

#[inline(always)]
fn range(slot: u16) -> u64 {
    // SAFETY: a live array element, written by user space at any moment.
    SEGMENT_RANGES.get_ptr(u32::from(slot)).map_or(0, |range| unsafe { range.read_volatile() })
}

/// One step of the walk; not 0 ends the loop.
#[inline(never)]
extern "C" fn one_frame(index: u32, context: *mut c_void) -> i64 {
    // SAFETY: the context is the pointer that `stack_id` passed.
    let state: &mut ThreadState = unsafe { &mut **context.cast::<*mut ThreadState>() };
    let place = index as usize + 1;
    if place >= MAX_FRAMES {
        return 1;
    }
    let walk = &mut state.walk;
    let frame = Frame {
        registers: Registers { ip: walk.ip, sp: walk.sp, fp: walk.fp },
        exact: walk.exact != 0,
        left: walk.left,
    };
    let address = frame.lookup_address();
    if !walk.segment.contains(address) {
        let (first, count) = segment::unpack_range(walk.range);
        walk.segment = segment::find(&Tables, first, count, address).unwrap_or_default();
    }
    // As a number: an `Option<Rule>` has bytes that no one wrote, which the verifier does not let be moved.
    let mut used = Rule::WithoutRules.pack();
    let caller = match walk.segment.rows {
        TRAMPOLINE => Err(StackEnd::ReturnProbe),
        0 => match step_without_table(&frame, &UserMemory) {
            Err(StackEnd::NoTable) if walk.range == 0 => Err(StackEnd::NotUnwound),
            other => other,
        },
        rows => {
            let offset = search::offset(address, walk.segment.base);
            let rule = offset.and_then(|offset| search::search(&Tables, walk.segment.first_row, rows, offset));
            match rule {
                Some(rule) => {
                    used = rule;
                    step(Rule::unpack(rule), &frame, &UserMemory)
                }
                None => Err(StackEnd::FdeGap),
            }
        }
    };
    match caller {
        Ok(caller) => {
            walk.ip = caller.registers.ip;
            walk.sp = caller.registers.sp;
            walk.fp = caller.registers.fp;
            walk.exact = u64::from(caller.exact);
            walk.left = caller.left;
            walk.hash = stack::mix(walk.hash, caller.registers.ip);
            walk.depth = place as u64 + 1;
            state.frames[place] = caller.registers.ip;
            interpreter::note_depth(state, place, caller.registers.sp);
            walk_cache::note_step(state, Rule::unpack(used), &frame, &caller, &remember::OwnStack);
            if used == Rule::WithoutRules.pack() && !caller.exact {
                interpreter::note_frame(state, place, frame.registers.fp);
            }
            // A walk that goes on to the last frame that fits has not come to its end.
            if place + 1 >= MAX_FRAMES {
                state.walk.uncacheable = 1;
            }
            0
        }
        Err(end) => {
            walk.end = end as u64;
            // Ends that the rule itself says; all others hang on a word that was read, or was not there.
            if !matches!(Rule::unpack(used), Rule::EndOfStack | Rule::Gap | Rule::Unsupported(_)) {
                walk.uncacheable = 1;
            }
            1
        }
    }
}

#[inline(always)]
fn is_sent(id: u64) -> bool {
    // SAFETY: a live array element, which other CPUs write.
    SENT.get_ptr(id as u32 & (SENT_STACKS as u32 - 1)).is_some_and(|sent| unsafe { sent.read_volatile() } == id)
}

#[inline(always)]
fn send_once(state: &mut ThreadState, slot: u16, id: u64) {
    let Some(sent) = SENT.get_ptr_mut(id as u32 & (SENT_STACKS as u32 - 1)) else { return };
    // SAFETY: a live array element. A race with another CPU costs a second send at most.
    if unsafe { sent.read_volatile() } == id {
        return;
    }
    if !interpreter::send(state, slot, id) {
        count::add(slot, Counter::StacksDeferred, 1);
        return;
    }
    let mut head = Head::new(Kind::Stack, memtrace_common::Slot(slot), thread::id());
    head.count = state.walk.depth as u8 & 127;
    let time_ns = ring::now();
    state.record = StackRecord { head, time_ns, id, end: state.walk.end };
    let bytes = size_of::<StackRecord>() as u64 + 8 * (state.walk.depth & 127);
    // SAFETY: the frames follow the record in the thread's state without a gap, and there is room for 128 of them.
    let whole = unsafe { ring::send_stack((&raw mut state.record).cast(), bytes) };
    if whole {
        // SAFETY: as above.
        unsafe { sent.write_volatile(id) };
    } else {
        count::add(slot, Counter::StacksDeferred, 1);
    }
}
