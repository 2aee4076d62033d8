//! Calls that wait on a stack of their own while their thread runs on another: a coroutine that was switched away within a
//! function whose ways out are probed. Such a call is put aside, and found again by the address of its return address,
//! in whichever thread it goes on.

use aya_ebpf::{btf_maps::HashMap, helpers::generated::bpf_get_current_pid_tgid, macros::btf_map};
use memtrace_common::{
    counter::Counter,
    limits::MAX_SUSPENDED,
    thread::{Call, ThreadState},
};

use crate::count;

/// Where a call waits.
#[derive(Clone, Copy)]
#[repr(C)]
struct Place {
    process: u64,
    return_slot: u64,
}

#[btf_map]
static SUSPENDED: HashMap<Place, Call, MAX_SUSPENDED> = HashMap::new();

#[inline(always)]
fn place(return_slot: u64) -> Place {
    // SAFETY: no arguments.
    let process = unsafe { bpf_get_current_pid_tgid() } >> 32;
    Place { process, return_slot }
}

/// Puts the thread's call aside; whether there was room.
#[inline(never)]
pub fn keep(state: &ThreadState) -> bool {
    SUSPENDED.insert(place(state.call.return_slot), state.call, 0).is_ok()
}

/// Takes the call that waits at `return_slot` back, if there is one; whether it did. When the thread is in another call, the
/// one that waited is given up and counted in the target `slot`.
#[inline(always)]
pub fn resume(state: &mut ThreadState, return_slot: u64, slot: u16) -> bool {
    let place = place(return_slot);
    // SAFETY: the value is copied at once; only the call's own way out takes it.
    let Some(&suspended) = (unsafe { SUSPENDED.get(place) }) else { return false };
    let _ = SUSPENDED.remove(place);
    if state.call.return_slot != 0 {
        count::add(slot, Counter::CallsAbandoned, 1);
        return false;
    }
    state.call = suspended;
    true
}
