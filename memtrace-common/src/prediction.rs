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

/// Whose caches of free blocks a target's threads have.
pub mod kind {
    /// No result is predicted for the target.
    pub const NONE: u64 = 0;
    /// glibc's caches, to each of which a thread-local pointer leads.
    pub const GLIBC: u64 = 1;
    /// jemalloc's caches, each of them thread-local itself.
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

/// Reads the memory of a target.
pub trait Memory {
    /// `N` words at an address; `None` if they cannot be read.
    fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]>;

    /// The byte at an address; `None` if it cannot be read.
    fn byte(&self, address: u64) -> Option<u8>;
}

/// How far a thread's cache, or the pointer to it, is from its thread pointer. `None` as long as the loader has not settled it.
#[inline(always)]
pub fn offset<M: Memory>(target: &Prediction, memory: &M) -> Option<u64> {
    if target.offset_address == 0 {
        return Some(target.offset);
    }
    let [distance] = memory.words(target.offset_address)?;
    if distance == 0 { None } else { Some(target.offset.wrapping_add(distance)) }
}

/// The address of a thread's cache, of which `place` is where it is or where the pointer to it is; for jemalloc its quantum as
/// well. 0 or `None` while the thread has none.
#[inline(always)]
pub fn cache<M: Memory>(target: &Prediction, place: u64, quantum: &mut u64, memory: &M) -> Option<u64> {
    if target.kind == kind::GLIBC {
        let [cache] = memory.words(place)?;
        return Some(cache);
    }
    *quantum = jemalloc::quantum(memory.byte(target.telling_address)?)?;
    Some(place)
}

/// The block that the next `malloc` of `bytes` takes from the thread's cache; `None` if that is not known, or it takes none.
#[inline(always)]
pub fn next_block<M: Memory>(kind: u64, bins: u64, bytes: u64, cache: u64, quantum: u64, memory: &M) -> Option<u64> {
    let place = if kind == kind::GLIBC {
        cache + bins + 8 * glibc::bin(bytes)?
    } else {
        let (bin, size) = jemalloc::class(bytes, quantum)?;
        let [before, due] = memory.words(cache)?;
        let [top, _requests, ends] = memory.words(cache + bins + jemalloc::BIN_BYTES * bin)?;
        let bits = |at: u64| (ends >> (8 * (at - 16))) as u16;
        let (fewest, none) = (bits(jemalloc::LOW_WATER), bits(jemalloc::EMPTY));
        if before.wrapping_add(size) >= due || (top as u16 == fewest && top as u16 == none) {
            return None;
        }
        top
    };
    let [block] = memory.words(place)?;
    if block == 0 { None } else { Some(block) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Words by their addresses.
    #[derive(Default)]
    struct Words(HashMap<u64, u64>);

    impl Words {
        fn with(mut self, address: u64, word: u64) -> Self {
            self.0.insert(address, word);
            self
        }
    }

    impl Memory for Words {
        fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
            let mut words = [0; N];
            for (at, word) in words.iter_mut().enumerate() {
                *word = *self.0.get(&(address + 8 * at as u64))?;
            }
            Some(words)
        }

        fn byte(&self, address: u64) -> Option<u8> {
            Some(self.0.get(&address)?.to_le_bytes()[0])
        }
    }

    const CACHE: u64 = 0x7f00_0000_1000;
    const BLOCK: u64 = 0x5555_0000_2010;

    #[test]
    fn glibcs_cache_is_behind_a_pointer_once_the_loader_has_settled_where() {
        let target = Prediction { kind: kind::GLIBC, offset_address: 0x1000, offset: 0x10, ..Prediction::default() };
        let distance = 0u64.wrapping_sub(0x88);
        let memory = Words::default().with(0x1000, distance).with(0x7000 - 0x78, CACHE);
        let offset = super::offset(&target, &memory).unwrap();
        assert_eq!(cache(&target, 0x7000u64.wrapping_add(offset), &mut 0, &memory), Some(CACHE));
        assert_eq!(super::offset(&target, &Words::default().with(0x1000, 0)), None);
        assert_eq!(super::offset(&Prediction { offset_address: 0, ..target }, &memory), Some(0x10));
    }

    #[test]
    fn glibc_gives_the_head_of_the_list_for_the_size() {
        let list = CACHE + 0x80 + 8 * glibc::bin(100).unwrap();
        let memory = Words::default().with(list, BLOCK);
        assert_eq!(next_block(kind::GLIBC, 0x80, 100, CACHE, 0, &memory), Some(BLOCK));
        assert_eq!(
            next_block(kind::GLIBC, 0x80, 100, CACHE, 0, &Words::default().with(list, 0)),
            None,
            "an empty list"
        );
        assert_eq!(next_block(kind::GLIBC, 0x80, 4000, CACHE, 0, &memory), None, "a size without a list");
        assert_eq!(next_block(kind::GLIBC, 0x80, 300, CACHE, 0, &memory), None, "a list that cannot be read");
    }

    #[test]
    fn jemalloc_gives_the_top_of_the_stack_unless_it_is_empty_or_something_is_due() {
        let (bin, size) = jemalloc::class(100, 16).unwrap();
        let stack = CACHE + 64 + jemalloc::BIN_BYTES * bin;
        let (top, end) = (0x7f00_0000_4fe8u64, 0x5000u64);
        let memory = |allocated: u64, low: u64, top: u64| {
            Words::default()
                .with(CACHE, allocated)
                .with(CACHE + 8, 10_000)
                .with(stack, top)
                .with(stack + 8, 7)
                .with(stack + 16, low | end << 32)
                .with(top, BLOCK)
        };
        let next = |memory: &Words| next_block(kind::JEMALLOC, 64, 100, CACHE, 16, memory);
        assert_eq!(next(&memory(0, end, top)), Some(BLOCK));
        assert_eq!(next(&memory(10_000 - size, end, top)), None, "an event is due");
        assert_eq!(next(&memory(10_000 - size - 1, end, top)), Some(BLOCK));
        assert_eq!(next(&memory(0, end, 0x7f00_0000_5000)), None, "the stack is empty");
        assert_eq!(next(&memory(0, 0x4fe8, top)), Some(BLOCK), "the fewest so far, and some are left");
        let mut quantum = 0;
        let target = Prediction { kind: kind::JEMALLOC, telling_address: 0x1000, ..Prediction::default() };
        let class = |class: u64| Words::default().with(0x1000, class);
        assert_eq!((cache(&target, CACHE, &mut quantum, &class(3)), quantum), (Some(CACHE), 16));
        assert_eq!((cache(&target, CACHE, &mut quantum, &class(4)), quantum), (Some(CACHE), 8));
        assert_eq!(cache(&target, CACHE, &mut quantum, &class(0)), None, "no classes yet");
    }

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
