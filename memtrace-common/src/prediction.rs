//! What the kernel side needs to know which block `malloc` is about to return: where each thread of a target has its cache of
//! free blocks, and what of the cache serves a request.
//!
//! The cache is the thread's own, so that nobody takes a block from it between the entry of the call and its return.
//! - glibc's (`tcache`, since 2.26) has a list of blocks for each size, and the head is what the next call returns.
//! - jemalloc's (since 5.3) has a stack of blocks for each size, and its top is what the next call returns, unless so much has
//!   been allocated that something else is due first.

/// Where a target's threads have their caches: a value of the kernel's `PREDICTIONS` array, which the slot indexes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Prediction {
    /// One of [`kind`].
    pub kind: u64,
    /// Another one for each prediction of a run: a thread may run another program, or belong to another target, than when it
    /// found its cache.
    pub number: u64,
    /// Where in the target the distance of the cache, or of the pointer to it, from the thread pointer stands; 0 if that is
    /// `offset`.
    pub offset_address: u64,
    /// What is added to that distance, as a signed number.
    pub offset: u64,
    /// Bytes from the cache's beginning to its first list or stack. jemalloc's begins with the bytes that the thread has
    /// allocated, behind which stands at how many something is due.
    pub bins: u64,
    /// Of jemalloc: where in the target the class of [`jemalloc::TELLING_BYTES`] stands, a byte.
    pub telling_address: u64,
}

const _: () = assert!(size_of::<Prediction>() == 48);

/// Whose caches they are.
pub mod kind {
    /// Nothing is predicted.
    pub const NONE: u64 = 0;
    /// glibc's, each behind a pointer.
    pub const GLIBC: u64 = 1;
    /// jemalloc's.
    pub const JEMALLOC: u64 = 2;
}

/// A thread's predictions of which one is compared with what the call returns.
pub const COMPARED_EVERY: u64 = 64;

/// What glibc's cache has for requests.
pub mod glibc {
    /// The largest request that the cache serves, by default and at most (`MAX_TCACHE_SIZE` in malloc/malloc.c; the large bins of
    /// 2.42 are another matter).
    pub const MAX_BYTES: u64 = 1032;

    /// Lists for requests of up to that size.
    pub const BINS: u64 = 64;

    /// The list that serves a request of `bytes`, if one does. Blocks have 8 bytes in front that count, sizes in steps of 16, and
    /// at least 32 bytes (ibid., `checked_request2size`, `csize2tidx`).
    #[inline(always)]
    pub const fn bin(bytes: u64) -> Option<u64> {
        if bytes > MAX_BYTES {
            None
        } else if bytes <= 24 {
            Some(0)
        } else {
            Some((bytes - 9) / 16)
        }
    }
}

/// What jemalloc's cache has for requests.
pub mod jemalloc {
    /// The largest request that is served without more ado (`SC_LOOKUP_MAXCLASS` in include/jemalloc/internal/sc.h).
    pub const MAX_BYTES: u64 = 4096;

    /// Bytes of a stack's description: `cache_bin_t` in include/jemalloc/internal/cache_bin.h.
    pub const BIN_BYTES: u64 = 24;

    /// Where in it the lowest bits (`u16`) stand that the address of the top had when there were the fewest blocks lately.
    pub const LOW_WATER: u64 = 16;

    /// Where in it the lowest bits (`u16`) stand that the address of the top has when there is no block.
    pub const EMPTY: u64 = 20;

    /// Sizes in steps of 16, and 8.
    pub const QUANTUM: u64 = 16;

    /// Sizes in steps of 8, which some programs build their own jemalloc with.
    pub const SMALL_QUANTUM: u64 = 8;

    /// A size that the two have in different classes.
    pub const TELLING_BYTES: u64 = 40;

    /// The quantum by which that size is of this class; `None` while there are no classes yet.
    #[inline(always)]
    pub const fn quantum(class: u8) -> Option<u64> {
        match class {
            3 => Some(QUANTUM),
            4 => Some(SMALL_QUANTUM),
            _ => None,
        }
    }

    /// The stack that serves a request of `bytes`, and the size of its blocks, if one does (ibid. and sz.h,
    /// `sz_size2index_compute`). Sizes go up by the quantum to four times as much, and then in four steps to each doubling.
    #[inline(always)]
    pub const fn class(bytes: u64, quantum: u64) -> Option<(u64, u64)> {
        if bytes > MAX_BYTES {
            return None;
        }
        // Numbers are those of the quantum 16, where 8 is the first class; by the other 8 begins the steps.
        let tiny = if quantum == QUANTUM { 1 } else { 0 };
        if bytes <= 8 {
            return Some((0, 8));
        }
        let shift = if quantum == QUANTUM { 4 } else { 3 };
        // The steps of a doubling that ends at twice `first`, which is class `before`.
        let mut first = 8 << shift;
        let mut before = 7 + tiny;
        let mut step = shift + 1;
        if bytes <= first {
            let count = (bytes + quantum - 1) >> shift;
            return Some((count - 1 + tiny, count << shift));
        }
        let mut doublings = 0;
        while doublings < 6 {
            if bytes <= first * 2 {
                let count = (bytes - first + (1 << step) - 1) >> step;
                return Some((before + count, first + (count << step)));
            }
            first *= 2;
            before += 4;
            step += 1;
            doublings += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_goes_to_the_bin_that_glibcs_arithmetic_gives() {
        for bytes in 0..=glibc::MAX_BYTES {
            let chunk = ((bytes + 8 + 15) & !15).max(32);
            assert_eq!(glibc::bin(bytes), Some((chunk - 32) / 16), "{bytes}");
            assert!(glibc::bin(bytes) < Some(glibc::BINS));
        }
        assert_eq!(glibc::bin(glibc::MAX_BYTES), Some(glibc::BINS - 1));
        assert_eq!((glibc::bin(glibc::MAX_BYTES + 1), glibc::bin(u64::MAX)), (None, None));
    }

    /// jemalloc's manual, "Size classes": the sizes up to 4 KiB.
    const CLASSES: [u64; 29] = [
        8, 16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536,
        1792, 2048, 2560, 3072, 3584, 4096,
    ];

    #[test]
    fn every_request_goes_to_the_smallest_class_of_jemallocs_that_is_large_enough() {
        let small: Vec<u64> =
            (1..=8).map(|count| 8 * count).chain([80, 96, 112]).chain(CLASSES[8..].to_vec()).collect();
        for (quantum, classes) in [(jemalloc::QUANTUM, CLASSES.to_vec()), (jemalloc::SMALL_QUANTUM, small)] {
            for bytes in 0..=jemalloc::MAX_BYTES {
                let index = classes.iter().position(|&size| size >= bytes).unwrap();
                assert_eq!(
                    jemalloc::class(bytes, quantum),
                    Some((index as u64, classes[index])),
                    "{bytes} by {quantum}"
                );
            }
            assert_eq!(jemalloc::class(jemalloc::MAX_BYTES + 1, quantum), None);
        }
        for quantum in [jemalloc::QUANTUM, jemalloc::SMALL_QUANTUM] {
            let (class, _) = jemalloc::class(jemalloc::TELLING_BYTES, quantum).unwrap();
            assert_eq!(jemalloc::quantum(class as u8), Some(quantum));
        }
        assert_eq!(jemalloc::quantum(0), None);
    }
}
