//! What memtrace itself takes: processor time and memory.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::target::memory::Resident;

/// Processor time of all threads of this process.
pub(super) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Its resident memory; the ring and the unwind tables, which the kernel has and we map, are shared memory in it.
pub(super) fn resident() -> Option<Resident> {
    Resident::parse(&std::fs::read("/proc/self/status").ok()?)
}
