//! Scratch memory of a processor: elements of which a program takes one that no preempted program is using, and gives it back.
//! Programs stay on their processor, and end.

use aya_ebpf::btf_maps::PerCpuArray;
use memtrace_common::limits::WINDOWS;

use crate::atomic;

/// A map of scratch memory: a few elements for each processor.
pub type Scratches<T> = PerCpuArray<T, WINDOWS>;

/// Memory that says whether a program uses it.
pub trait Scratch: Sized + 'static {
    /// The map that it is in.
    fn map() -> &'static Scratches<Self>;

    /// What is not 0 while a program uses it.
    fn busy(&mut self) -> *mut u64;
}

/// The element of this processor with this index; `None` if there is none, as for [`WINDOWS`].
#[inline(always)]
pub fn get<T: Scratch>(index: u64) -> Option<&'static mut T> {
    // SAFETY: a live element of this processor, which belongs to whoever has claimed it.
    T::map().get_ptr_mut(index as u32).map(|found| unsafe { &mut *found })
}

/// Takes an element that is free, with its index; `None` if none is.
#[inline(always)]
pub fn claim<T: Scratch>() -> Option<(u64, &'static mut T)> {
    for index in 0..WINDOWS as u64 {
        let found: &mut T = get(index)?;
        // SAFETY: a live map value. One instruction, so that nobody comes in between.
        if unsafe { atomic::exchange(found.busy(), 1) } == 0 {
            return Some((index, found));
        }
    }
    None
}

/// Gives an element back, so that another program may claim it.
#[inline(always)]
pub fn release<T: Scratch>(found: &mut T) {
    // SAFETY: a live map value. Volatile, so that it stays behind the last use.
    unsafe { found.busy().write_volatile(0) };
}
