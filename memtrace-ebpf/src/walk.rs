//! The stack of a call: walked at its entry, hashed, and sent when first seen.

use aya_ebpf::{btf_maps::Array, helpers::bpf_probe_read_user, macros::btf_map};
use memtrace_common::{
    counter::Counter,
    event::{Head, Kind, StackRecord},
    limits::{MAX_FRAMES, MAX_TARGETS, SENT_STACKS},
    stack,
    target::TargetState,
    thread::ThreadState,
    unwind::{self, Frame, MemoryReader, Registers, StackEnd},
};

use crate::{count, ring, thread};

/// Ids of stacks whose frames user space has; a later stack may take an earlier one's place, which is then sent again.
#[btf_map]
static SENT: Array<u64, SENT_STACKS> = Array::new();

/// The targets' state, by slot.
#[btf_map]
pub static TARGETS: Array<TargetState, MAX_TARGETS> = Array::new();

/// By slot: not 0 while the target's calls are recorded. All of its probes are in place before, and stay until after, so
/// that no block is seen to appear whose release would be missed.
#[btf_map]
static RUNNING: Array<u64, MAX_TARGETS> = Array::new();

/// Whether calls that begin now are recorded.
#[inline(always)]
pub fn running(slot: u16) -> bool {
    // SAFETY: a live array element, written by user space at any moment.
    RUNNING.get_ptr(u32::from(slot)).is_some_and(|running| unsafe { running.read_volatile() } != 0)
}

struct UserMemory;

impl MemoryReader for UserMemory {
    #[inline(always)]
    fn read_word(&self, address: u64) -> Option<u64> {
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_user(address as *const u64).ok() }
    }

    #[inline(always)]
    fn read_pair(&self, address: u64) -> Option<[u64; 2]> {
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_user(address as *const [u64; 2]).ok() }
    }
}

/// Walks the stack of the call that was entered with these registers, whose return address is `first`, into the
/// thread's state, and sends it if user space may not have it. Returns its id.
#[inline(always)]
pub fn stack_id(state: &mut ThreadState, slot: u16, registers: Registers, first: u64) -> u64 {
    let generation = TARGETS.get(u32::from(slot)).map_or(0, |target| target.generation as u32);
    let mut hash = stack::seed(slot, generation);
    let mut depth = 0usize;
    let mut end = StackEnd::TooDeep;
    let mut frame = Frame::innermost(registers);
    if first == 0 {
        end = StackEnd::ReadFault;
    } else {
        state.frames[0] = first;
        hash = stack::mix(hash, first);
        depth = 1;
        for index in 1..MAX_FRAMES {
            match unwind::step_frame_pointer(&frame, &UserMemory) {
                Ok(caller) => {
                    state.frames[index] = caller.registers.ip;
                    hash = stack::mix(hash, caller.registers.ip);
                    frame = caller;
                    depth = index + 1;
                }
                Err(reason) => {
                    end = reason;
                    break;
                }
            }
        }
    }
    let id = stack::finish(hash);
    send_once(state, slot, id, depth, end);
    id
}

#[inline(always)]
fn send_once(state: &mut ThreadState, slot: u16, id: u64, depth: usize, end: StackEnd) {
    let Some(sent) = SENT.get_ptr_mut(id as u32 & (SENT_STACKS as u32 - 1)) else { return };
    // SAFETY: a live array element. A race with another CPU costs a second send at most.
    if unsafe { sent.read_volatile() } == id {
        return;
    }
    let mut head = Head::new(Kind::Stack, memtrace_common::Slot(slot), thread::id());
    head.count = depth as u8;
    state.record = StackRecord { head, id, end: end as u64 };
    let bytes = size_of::<StackRecord>() as u64 + 8 * (depth as u64 & 127);
    // SAFETY: the frames follow the record in the thread's state without a gap, and there is room for 128 of them.
    let whole = unsafe { ring::send_bytes((&raw mut state.record).cast(), bytes) };
    if whole {
        // SAFETY: as above.
        unsafe { sent.write_volatile(id) };
    } else {
        count::add(slot, Counter::StacksDeferred, 1);
    }
}
