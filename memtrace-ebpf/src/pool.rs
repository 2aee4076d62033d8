//! Pools of small blocks: an allocator inside the program that asks for memory by the piece is seen when it makes a piece ready. The
//! blocks that it hands out of it are not: user space reads how many there are.

use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use memtrace_common::{cookie, event::Kind, thread::ThreadState};

use crate::{
    arch, mapping,
    site::Site,
    thread::{self, Standing},
    walk,
};

/// More bytes than lie between the entry of the function and that of a mapping function which it calls.
const NEAR: u64 = 64 << 10;

/// The entry of the function that makes a pool ready. What it maps is part of it.
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
    let first = thread::read_word(sp).unwrap_or(0);
    state.pool.cookie = site.cookie;
    state.pool.stack = walk::stack_from(state, site.slot, arch::caller(regs, sp, first));
    state.pool.return_slot = sp;
}

/// The return of the function that makes a pool ready.
#[inline(always)]
pub fn returned(context: &RetProbeContext) {
    let regs = arch::registers(context.regs);
    let Some(state) = thread::existing() else { return };
    if is_over(state, |slot| arch::is_return_of(regs, slot)) {
        finish(state, arch::result(regs));
    }
}

/// Whether the thread makes a pool ready, and is at the end of that call.
#[inline(always)]
pub fn is_over(state: &ThreadState, is_end: impl FnOnce(u64) -> bool) -> bool {
    state.pool.return_slot != 0 && is_end(state.pool.return_slot)
}

/// Whether a call that is entered with this stack pointer is part of one that makes a pool ready.
#[inline(always)]
pub fn is_part(state: &ThreadState, sp: u64) -> bool {
    sp < state.pool.return_slot && state.pool.return_slot - sp < NEAR
}

/// Ends the call, which returned the pool's first block; 0 if there was no memory.
#[inline(always)]
pub fn finish(state: &mut ThreadState, block: u64) {
    state.pool.return_slot = 0;
    if block != 0 {
        mapping::send_range(cookie::slot(state.pool.cookie).0, Kind::Pool, block, 0, state.pool.stack);
    }
}
