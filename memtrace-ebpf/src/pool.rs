//! Pools of small blocks: an allocator inside the program that asks for memory by the piece is seen when it makes a piece ready. The
//! blocks that it hands out of it are not: user space reads how many there are.

use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use memtrace_common::{call::Call, cookie, event::Kind, thread::ThreadState};

use crate::{
    arch, mapping,
    site::Site,
    thread::{self, Standing},
    walk,
};

const POOL: u8 = Call::Pool as u8;

/// The entry of the function that makes a pool ready. What it calls is part of it.
#[inline(always)]
pub fn entry(context: &ProbeContext, site: Site) {
    let regs = arch::registers(context.regs);
    if !walk::running(site.slot) {
        return;
    }
    let Some(state) = thread::state(site.slot) else { return };
    let sp = arch::return_slot(regs);
    if thread::standing(state, site.slot, sp) != Standing::Outermost {
        return;
    }
    state.call.cookie = site.cookie;
    state.call.flags = 0;
    state.call.argument = 0;
    let first = thread::read_word(sp).unwrap_or(0);
    state.call.return_address = first;
    state.call.stack = walk::stack_from(state, site.slot, arch::caller(regs, sp, first));
    state.call.return_slot = sp;
}

/// The return of the function that makes a pool ready.
#[inline(always)]
pub fn returned(context: &RetProbeContext) {
    let regs = arch::registers(context.regs);
    let Some(state) = thread::existing() else { return };
    let waits = state.call.return_slot != 0 && is_in(state);
    if waits && arch::is_return_of(regs, state.call.return_slot) {
        finish(state, arch::result(regs));
    }
}

/// Whether the call that the thread is in makes a pool ready.
#[inline(always)]
pub fn is_in(state: &ThreadState) -> bool {
    cookie::call_number(state.call.cookie) == POOL
}

/// Ends the call, which returned the pool's first block; 0 if there was no memory.
#[inline(always)]
pub fn finish(state: &mut ThreadState, block: u64) {
    state.call.return_slot = 0;
    if block != 0 {
        mapping::send_range(cookie::slot(state.call.cookie).0, Kind::Pool, block, 0, state.call.stack);
    }
}
