//! Exec, with which the pid goes on under a new image, and the end of threads.

use aya_ebpf::{
    Global, bindings::bpf_pidns_info, btf_maps::HashMap, helpers::generated::bpf_get_ns_current_pid_tgid,
    macros::btf_map, programs::RawTracePointContext,
};
use memtrace_common::{
    Slot,
    event::{Head, Kind},
    limits::MAX_TARGETS,
};

use crate::{
    interpreter, mapping, predict, thread,
    walk::{SEGMENT_RANGES, TARGETS},
};

/// Process ids, as memtrace's pid namespace numbers them, to slots.
#[btf_map]
static SLOTS: HashMap<u32, u32, MAX_TARGETS> = HashMap::new();

/// The device and inode of memtrace's pid namespace (`/proc/self/ns/pid`).
#[unsafe(no_mangle)]
static NAMESPACE_DEVICE: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static NAMESPACE_INODE: Global<u64> = Global::new(0);

/// The running process's slot, if it is a target.
#[inline(always)]
pub fn current_slot() -> Option<u16> {
    let mut ids = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: `ids` is as large as said.
    let failed = unsafe {
        bpf_get_ns_current_pid_tgid(
            NAMESPACE_DEVICE.load(),
            NAMESPACE_INODE.load(),
            &raw mut ids,
            size_of::<bpf_pidns_info>() as u32,
        )
    };
    if failed != 0 {
        return None;
    }
    // SAFETY: the value is copied at once, and a running process's entry is never deleted.
    unsafe { SLOTS.get(ids.tgid).map(|&slot| slot as u16) }
}

/// The running process has a new image.
#[inline(always)]
pub fn exec(context: &RawTracePointContext) {
    let Some(slot) = current_slot() else { return };
    // The tracepoint's second argument is the thread's id before the exec (include/trace/events/sched.h). If it differs,
    // another thread than the first one called exec and took over the process's id: probes bound to the first are dead.
    let id_before = context.arg::<u32>(1);
    thread::forget(id_before);
    if let Some(state) = thread::existing() {
        state.call.return_slot = 0;
    }
    predict::forget(slot);
    interpreter::forget(slot);
    if let Some(target) = TARGETS.get_ptr_mut(u32::from(slot)) {
        // SAFETY: a live array element; exec has ended all other threads of the process.
        unsafe {
            (*target).generation += 1;
            (*target).brk = 0;
            (*target).stack_end = 0;
        }
    }
    // The tables are those of the old image.
    let _ = SEGMENT_RANGES.set(u32::from(slot), 0u64, 0);
    let mut head = Head::new(Kind::Exec, Slot(slot), thread::id());
    head.count = u8::from(id_before != thread::id());
    mapping::send_head(head);
}
