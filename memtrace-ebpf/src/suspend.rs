//! Calls that wait on a stack of their own while their thread runs on another: a coroutine that was switched away within a
//! function whose ways out are probed. Such a call is put aside, and found again by the address of its return address,
//! in whichever thread it goes on.

use aya_ebpf::{btf_maps::HashMap, helpers::generated::bpf_get_current_pid_tgid, macros::btf_map};
use memtrace_common::{counter::Counter, deferred::DeferredBlock, limits::MAX_SUSPENDED, thread::ThreadState};

use crate::count;

/// Where a call waits.
#[derive(Clone, Copy)]
#[repr(C)]
struct Place {
    process: u64,
    return_slot: u64,
}

/// What a [`ThreadState`] knows of a call.
#[derive(Clone, Copy)]
#[repr(C)]
struct Suspended {
    return_address: u64,
    cookie: u64,
    size: u64,
    argument: u64,
    stack: u64,
    flags: u64,
    parked: DeferredBlock,
}

#[btf_map]
static SUSPENDED: HashMap<Place, Suspended, MAX_SUSPENDED> = HashMap::new();

#[inline(always)]
fn place(return_slot: u64) -> Place {
    // SAFETY: no arguments.
    let process = unsafe { bpf_get_current_pid_tgid() } >> 32;
    Place { process, return_slot }
}

/// Puts the thread's call aside; whether there was room.
#[inline(never)]
pub fn keep(state: &ThreadState) -> bool {
    let ThreadState { return_slot, return_address, cookie, size, argument, stack, flags, parked, .. } = *state;
    let suspended = Suspended { return_address, cookie, size, argument, stack, flags, parked };
    SUSPENDED.insert(place(return_slot), suspended, 0).is_ok()
}

/// Takes the call that waits at `return_slot` back, if there is one; whether it did. When the thread is in another call, the
/// one that waited is given up and counted in the target `slot`.
#[inline(always)]
pub fn resume(state: &mut ThreadState, return_slot: u64, slot: u16) -> bool {
    let place = place(return_slot);
    // SAFETY: the value is copied at once; only the call's own way out takes it.
    let Some(&suspended) = (unsafe { SUSPENDED.get(place) }) else { return false };
    let _ = SUSPENDED.remove(place);
    if state.return_slot != 0 {
        count::add(slot, Counter::CallsAbandoned, 1);
        return false;
    }
    state.return_slot = return_slot;
    state.return_address = suspended.return_address;
    state.cookie = suspended.cookie;
    state.size = suspended.size;
    state.argument = suspended.argument;
    state.stack = suspended.stack;
    state.flags = suspended.flags;
    state.parked = suspended.parked;
    true
}
