//! The state of the running thread: it survives preemption and ends with the thread.
//!
//! A thread's place in an array is found faster than its task storage. It follows from the thread's id, so each place
//! has one owner at a time; a thread that finds its place taken uses task storage for as long as it lives.

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    bindings::{BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE, bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE},
    btf_maps::Array,
    helpers::{
        bpf_probe_read_user,
        generated::{bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_storage_get},
    },
    macros::btf_map,
};
use memtrace_common::{
    arch::{PAGE_BYTES, USER_ADDRESS_END},
    call::Call,
    cookie,
    counter::Counter,
    limits::PLACED_THREADS,
    thread::{ThreadState, flag},
};

use crate::{atomic, count, suspend, walk::TARGETS};

/// A task storage map, which aya-ebpf has no type for: the layout that its map macro expects.
#[repr(C)]
pub struct TaskStorage {
    r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
    key: *const i32,
    value: *const ThreadState,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: the pointers are never followed; they only carry types to the loader.
unsafe impl Sync for TaskStorage {}

#[btf_map]
static THREADS: TaskStorage = TaskStorage {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

/// The states of threads by the lowest bits of their ids. [`ThreadState::thread`] says whose a place is; 0 is nobody.
#[btf_map]
static PLACES: Array<ThreadState, PLACED_THREADS> = Array::new();

/// Where in the kernel's `task_struct` the thread pointer is: bytes.
#[unsafe(no_mangle)]
static THREAD_POINTER: Global<u64> = Global::new(0);

/// The running thread's state, made when it is not there yet.
#[inline(always)]
pub fn state(slot: u16) -> Option<&'static mut ThreadState> {
    let state = get(u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE));
    if state.is_none() {
        count::add(slot, Counter::ThreadStateMissing, 1);
    }
    state
}

/// The running thread's state, if it has one.
#[inline(always)]
pub fn existing() -> Option<&'static mut ThreadState> {
    get(0)
}

#[inline(always)]
fn get(flags: u64) -> Option<&'static mut ThreadState> {
    let id = id();
    let place = place(id)?;
    // SAFETY: a live array element. Only its owner writes to it, and only this thread can be the owner of this id.
    unsafe { if (*place).thread == u64::from(id) { Some(&mut *place) } else { get_elsewhere(id, flags) } }
}

#[inline(always)]
fn place(id: u32) -> Option<*mut ThreadState> {
    PLACES.get_ptr_mut(id & (PLACED_THREADS as u32 - 1))
}

/// The state of a thread that has no place: it takes its place if that is free, else it goes on in task storage.
#[inline(never)]
fn get_elsewhere(id: u32, flags: u64) -> Option<&'static mut ThreadState> {
    if let Some(stored) = stored(0) {
        stored.thread = u64::from(id);
        return Some(stored);
    }
    let place = place(id)?;
    // SAFETY: a live array element, which belongs to whoever put an id where none was.
    unsafe {
        if (*place).thread == 0 && atomic::claim(&raw mut (*place).thread, u64::from(id)) {
            let state = &mut *place;
            clear(state);
            return Some(state);
        }
    }
    if flags == 0 {
        return None;
    }
    let stored = stored(flags)?;
    stored.thread = u64::from(id);
    Some(stored)
}

/// The running thread's task storage.
#[inline(always)]
fn stored(flags: u64) -> Option<&'static mut ThreadState> {
    // SAFETY: the map is a live task storage map whose value is a ThreadState, and only this task touches its own.
    unsafe {
        let map: *mut c_void = (&raw const THREADS).cast_mut().cast();
        let value = bpf_task_storage_get(map, bpf_get_current_task_btf(), core::ptr::null_mut(), flags);
        value.cast::<ThreadState>().as_mut()
    }
}

/// Forgets what the place's last owner left. Its walks are found by their ids, the rest is written before it is read.
#[inline(always)]
fn clear(state: &mut ThreadState) {
    state.call.return_slot = 0;
    state.call.return_address = 0;
    state.sampler.until_point = 0;
    state.predictor.cache = 0;
    state.sampler.window = 0;
    state.walk.previous = 0;
    for remembered in &mut state.walks.remembered {
        remembered.id = 0;
    }
}

/// The thread of this id is no more.
#[inline(always)]
pub fn forget(id: u32) {
    if let Some(place) = place(id) {
        // SAFETY: a live array element, whose owner does not run any more, or runs this.
        unsafe {
            if (*place).thread == u64::from(id) {
                (&raw mut (*place).thread).write_volatile(0);
            }
        }
    }
}

/// The running thread's id, asked of the kernel; a [`ThreadState`] has it as well.
#[inline(always)]
pub fn id() -> u32 {
    // SAFETY: no arguments.
    unsafe { bpf_get_current_pid_tgid() as u32 }
}

/// The running thread's thread pointer, where its thread-local storage is; `None` if the kernel's type information does not say
/// where to find it.
#[inline(always)]
pub fn pointer() -> Option<u64> {
    if THREAD_POINTER.load() == 0 {
        return None;
    }
    let mut pointer = 0u64;
    // SAFETY: the helper checks the address.
    let failed = unsafe {
        let place = bpf_get_current_task_btf().cast::<u8>().wrapping_add(THREAD_POINTER.load() as usize);
        bpf_probe_read_kernel((&raw mut pointer).cast(), 8, place.cast())
    };
    if failed != 0 { None } else { Some(pointer) }
}

/// Whether the running thread is the one that its process began with.
#[inline(always)]
pub fn is_first() -> bool {
    // SAFETY: no arguments.
    let id = unsafe { bpf_get_current_pid_tgid() };
    id >> 32 == id & u64::from(u32::MAX)
}

/// How a call stands to the one that the thread is in.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Standing {
    /// The thread is in no other call.
    Outermost,
    /// It is part of that call.
    Nested,
    /// It is made on another stack while that call waits for its return.
    Elsewhere,
}

/// How a call entered with stack pointer `sp` stands to the call that the thread is in. A call that is proven
/// to be over, though its return was never seen, is forgotten and counted.
#[inline(always)]
pub fn standing(state: &mut ThreadState, slot: u16, sp: u64) -> Standing {
    if state.call.return_slot == 0 {
        return Standing::Outermost;
    }
    in_call(state, slot, sp)
}

#[inline(always)]
fn in_call(state: &mut ThreadState, slot: u16, sp: u64) -> Standing {
    if cookie::signature(state.call.cookie).ends_at_exits() {
        // No return probe of ours waits for it: its return address stays as it was until the call is over, or is another
        // tool's trampoline. With sp equal a function has tail-called another, which does the work and is followed instead,
        // unless the first has begun something, of which the second is part.
        let pending = read_word(state.call.return_slot)
            .is_none_or(|word| word == state.call.return_address || is_trampoline(word));
        if pending && (sp < state.call.return_slot || (sp == state.call.return_slot && has_begun(state))) {
            return Standing::Nested;
        }
        if sp == state.call.return_slot {
            state.call.return_slot = 0;
            return Standing::Outermost;
        }
        // A coroutine that waits in the call while another runs; its way out will find it again.
        if pending && !is_main_stack(slot, state.call.return_slot, sp) && suspend::keep(state) {
            state.call.return_slot = 0;
            return Standing::Outermost;
        }
    } else if sp <= state.call.return_slot {
        // While the call is pending, its return address is replaced by the kernel's trampoline. The original standing
        // there means that no return probe waits (their nesting is limited), or that the same place calls anew. With
        // sp equal and another value there, a function has tail-called another, which is nested.
        let is_pending =
            |word| if state.call.return_address == 0 { is_trampoline(word) } else { word != state.call.return_address };
        let pending = read_word(state.call.return_slot).is_none_or(is_pending);
        if pending {
            return Standing::Nested;
        }
    } else if read_word(state.call.return_slot).is_some_and(is_trampoline)
        && !is_main_stack(slot, state.call.return_slot, sp)
    {
        // The kernel drops every return probe that waits on a lower address than a new one is put at, and ends a process
        // that then returns to its trampoline (`cleanup_return_instances` in kernel/events/uprobes.c). A thread that
        // jumped out of the call on the same stack looks alike until its old frames are written over; then calls are missed
        // and the target lives.
        return Standing::Elsewhere;
    }
    state.call.return_slot = 0;
    count::add(slot, Counter::CallsAbandoned, 1);
    Standing::Outermost
}

/// Whether both addresses are on the first thread's stack: the higher one then proves that a call at the lower is over.
#[inline(always)]
fn is_main_stack(slot: u16, lower: u64, higher: u64) -> bool {
    TARGETS.get(u32::from(slot)).is_some_and(|target| target.is_on_main_stack(lower) && target.is_on_main_stack(higher))
}

/// Whether a word can be the address to which return probes send a function's return: a page that the kernel asks to have at
/// the very end of user space (`xol_add_vma` in kernel/events/uprobes.c), above any stack. Return probes of one process's
/// tracer replace return addresses in every process that has a probe at the same place of the same file.
#[inline(always)]
pub const fn is_trampoline(word: u64) -> bool {
    word >= USER_ADDRESS_END - 16 * PAGE_BYTES && word & (PAGE_BYTES - 1) == 0
}

/// Whether the call that the thread is in has released something that its end must answer for.
#[inline(always)]
fn has_begun(state: &ThreadState) -> bool {
    let call = cookie::call_number(state.call.cookie);
    let parked =
        call == Call::Reallocate as u8 && (state.call.parked.released_ns != 0 || state.call.parked.allocated_ns != 0);
    call == Call::ReleaseOuter as u8 || state.call.flags & flag::BEGUN != 0 || parked
}

/// Reads 8 bytes of the target's memory.
#[inline(always)]
pub fn read_word(address: u64) -> Option<u64> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(address as *const u64).ok() }
}
