//! The allocator calls that memtrace knows, by what they mean rather than by name.

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)+) => {
        /// What a probed function does. The number travels in the attach cookie (see [`crate::cookie`]).
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u8)]
        pub enum Call { $($(#[$doc])* $name = $number,)+ }

        impl Call {
            /// Every call, in the order of their numbers.
            pub const ALL: &[Call] = &[$(Call::$name,)+];

            /// The call with this number, if there is one.
            pub const fn from_number(number: u8) -> Option<Call> {
                match number { $($number => Some(Call::$name),)+ _ => None }
            }
        }
    };
}

calls! {
    /// `malloc(size)`.
    Malloc = 1,
    /// `calloc(count, size)`.
    Calloc = 2,
    /// `realloc(old, size)`.
    Realloc = 3,
    /// `reallocarray(old, count, size)`.
    Reallocarray = 4,
    /// `posix_memalign(&pointer, alignment, size)`: 0 on success.
    PosixMemalign = 5,
    /// `aligned_alloc(alignment, size)`, and `memalign`, which has the same arguments.
    AlignedAlloc = 6,
    /// `valloc(size)` and `pvalloc(size)`.
    Valloc = 7,
    /// `free(address)` and `cfree(address)`.
    Free = 8,
    /// `mmap(hint, length, ...)`.
    Mmap = 9,
    /// `munmap(address, length)`.
    Munmap = 10,
    /// `mremap(old, old_length, new_length, flags, ...)`.
    Mremap = 11,
    /// `brk(address)`, seen as a system call only.
    Brk = 12,
}

impl Call {
    /// How many integer arguments the probe programs read, from the first on.
    pub const fn arguments(self) -> usize {
        match self {
            Call::Malloc | Call::Valloc | Call::Free | Call::Brk => 1,
            Call::Calloc | Call::Realloc | Call::AlignedAlloc | Call::Mmap | Call::Munmap => 2,
            Call::Reallocarray | Call::PosixMemalign => 3,
            Call::Mremap => 4,
        }
    }

    /// Whether the outcome is known only when the call returns, so that a return probe is needed.
    pub const fn needs_return(self) -> bool {
        !matches!(self, Call::Free)
    }

    /// Whether the call maps or unmaps ranges of pages rather than heap blocks.
    pub const fn is_mapping(self) -> bool {
        matches!(self, Call::Mmap | Call::Munmap | Call::Mremap | Call::Brk)
    }
}

#[cfg(test)]
mod tests {
    use super::Call;

    #[test]
    fn every_number_names_its_call() {
        for &call in Call::ALL {
            assert_eq!(Call::from_number(call as u8), Some(call));
        }
        assert_eq!(Call::from_number(0), None);
        assert_eq!(Call::from_number(255), None);
    }
}
