//! memtrace's BPF programs: one file a task, the probe programs here.
//!
//! In: uprobe hits on allocator functions (`heap`, `mapping`, `exits`, `exception`, `pool`, and `session` for both ends at once), system-call tracepoints (`syscall`), page
//! faults (`fault`), exec (`lifecycle`); which register holds what is in `arch`. Out: records in the ring (`ring`), blocks that had to wait (`deferred`), counters
//! (`count`). With `--sample` most blocks are left out (`sample`).

#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "atomic addition has no stable form on this target, see atomic.rs")]

mod arch;
mod atomic;
mod count;
mod deferred;
mod exception;
mod exits;
mod fault;
mod heap;
mod interpreter;
mod lifecycle;
mod mapping;
mod pool;
mod predict;
mod remember;
mod ring;
mod sample;
mod scratch;
mod session;
mod site;
mod suspend;
mod syscall;
mod thread;
mod walk;

use core::ffi::c_void;

use aya_ebpf::{
    macros::{raw_tracepoint, tracepoint, uprobe, uretprobe},
    programs::{ProbeContext, RawTracePointContext, RetProbeContext, TracePointContext},
};
use site::attach_cookie;

/// An empty program: the benchmark's floor, on the same sites.
#[uprobe]
fn empty_entry(_context: ProbeContext) -> u32 {
    0
}

/// An empty program for returns.
#[uretprobe]
fn empty_return(_context: RetProbeContext) -> u32 {
    0
}

/// Entry of every heap call that returns a block.
#[uprobe]
fn heap_entry(context: ProbeContext) -> u32 {
    heap::entry::<false>(&context, attach_cookie(&context));
    0
}

/// Both ends of the same, see `session`. What the attribute of the other programs would write, but for the value that is
/// returned.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uprobe")]
extern "C" fn heap_session(context: *mut c_void) -> u32 {
    heap::session(&ProbeContext::new(context))
}

/// Return of the same calls.
#[uretprobe]
fn heap_return(context: RetProbeContext) -> u32 {
    heap::returned(&context);
    0
}

/// Entry of `free` and its like; they have no return probe.
#[uprobe]
fn heap_release(context: ProbeContext) -> u32 {
    heap::release(&context, attach_cookie(&context));
    0
}

/// Entry of wrappers of `free`, which have one: `heap_return`.
#[uprobe]
fn heap_release_outer(context: ProbeContext) -> u32 {
    heap::release_outer(&context, attach_cookie(&context));
    0
}

/// Both ends of the same.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uprobe")]
extern "C" fn heap_release_session(context: *mut c_void) -> u32 {
    heap::release_session(&ProbeContext::new(context))
}

/// The ways out of calls that have no return probe.
#[uprobe]
fn way_out(context: ProbeContext) -> u32 {
    exits::way_out(&context, attach_cookie(&context));
    0
}

/// Entry of the function that looks for an exception's handler.
#[uprobe]
fn heap_raise(context: ProbeContext) -> u32 {
    exception::raise(&context, attach_cookie(&context));
    0
}

/// Entry of `mmap`, `munmap` and `mremap`, whose ways out are probed.
#[uprobe]
fn mapping_entry(context: ProbeContext) -> u32 {
    mapping::entry(&context, attach_cookie(&context));
    0
}

/// Entry of the function that makes a pool of small blocks ready.
#[uprobe]
fn pool_entry(context: ProbeContext) -> u32 {
    pool::entry(&context, attach_cookie(&context));
    0
}

/// Return of the same.
#[uretprobe]
fn pool_return(context: RetProbeContext) -> u32 {
    pool::returned(&context);
    0
}

/// A process has replaced its image.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn exec(context: RawTracePointContext) -> i32 {
    lifecycle::exec(&context);
    0
}

/// A thread ends.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn thread_exit(_context: RawTracePointContext) -> i32 {
    thread::forget(thread::id());
    0
}

/// Entry of the system calls that map memory.
#[tracepoint]
fn syscall_entry(context: TracePointContext) -> u32 {
    syscall::entry(&context);
    0
}

/// Exit of the same.
#[tracepoint]
fn syscall_exit(context: TracePointContext) -> u32 {
    syscall::exit(&context);
    0
}

/// A page fault of user code.
#[tracepoint]
fn page_fault(context: TracePointContext) -> u32 {
    fault::page_fault(&context);
    0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
