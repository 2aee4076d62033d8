//! Page faults: who writes to a page first makes the process larger (`--mode growth`).

use aya_ebpf::programs::TracePointContext;
use memtrace_common::{
    Slot,
    arch::PAGE_BYTES,
    counter::Counter,
    event::{BlockRecord, Head, Kind},
};

use crate::{
    arch, count, lifecycle,
    ring::{self, Class},
    syscall, thread, walk,
};

/// The tracepoint's record: 8 bytes common to all, then three words (events/exceptions/page_fault_user/format in tracefs).
const ADDRESS_OFFSET: usize = 8;
const ERROR_OFFSET: usize = 24;

/// The access was a write (`X86_PF_WRITE`). Reads map pages of files, or the one page of zeros.
const WRITE: u64 = 2;

/// User code touched a page that it may not write to yet.
#[inline(always)]
pub fn page_fault(context: &TracePointContext) {
    // SAFETY: the record has a word there.
    let Ok(error) = (unsafe { context.read_at::<u64>(ERROR_OFFSET) }) else { return };
    if error & WRITE == 0 {
        return;
    }
    let Some(slot) = lifecycle::current_slot() else { return };
    if !walk::running(slot) {
        return;
    }
    // SAFETY: the record has a word there.
    let Ok(address) = (unsafe { context.read_at::<u64>(ADDRESS_OFFSET) }) else { return };
    let Some(state) = thread::state(slot) else { return };
    let Some(regs) = syscall::saved_registers() else { return };
    // The instruction itself, written as what would return behind its first byte.
    let mut start = arch::interrupted(&regs);
    start.ip += 1;
    let stack = walk::stack_from(state, slot, start);
    let head = Head::new(Kind::Touch, Slot(slot), state.thread as u32);
    let time_ns = ring::now();
    let record = BlockRecord { head, time_ns, address: address & !(PAGE_BYTES - 1), size: PAGE_BYTES, stack };
    if !ring::send(Class::Allocation, record) {
        count::add(slot, Counter::MappingsDropped, 1);
    }
}
