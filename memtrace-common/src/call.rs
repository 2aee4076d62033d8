//! The calls that memtrace knows, by what they mean rather than by name. Where a heap call has its arguments is said by
//! its [`crate::signature::Signature`].

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
    /// A new block appears when it returns: `malloc` and its like.
    Allocate = 1,
    /// A block is replaced by another when it returns, unless it fails: `realloc` and its like.
    Reallocate = 2,
    /// A block disappears when it is entered, and it calls no other probed function: the allocator's own `free`.
    Release = 3,
    /// A block disappears when it is entered, and other probed functions may be called before it returns, which are part
    /// of it: wrappers of `free`.
    ReleaseOuter = 4,
    /// `mmap(hint, length, ...)`.
    Mmap = 5,
    /// `munmap(address, length)`.
    Munmap = 6,
    /// `mremap(old, old_length, new_length, flags, ...)`.
    Mremap = 7,
    /// `brk(address)`, seen as a system call only.
    Brk = 8,
    /// An exception's handler is about to be looked for up the stack: `_Unwind_RaiseException` and its like.
    Raise = 9,
    /// A way out of a call that has no return probe: a `ret`, or a jump to a function whose result is its first argument.
    Exit = 10,
    /// `mprotect(address, length, protection)`: reserved pages may be accessed from then on. Its failure is not looked for.
    Protect = 11,
    /// A pool of small blocks is made ready, of which the first one is returned: pymalloc's `allocate_from_new_pool`. What it maps is
    /// part of it.
    Pool = 12,
}

impl Call {
    /// Whether the end of the call must be seen: for the outcome, or for the end of what is nested in it.
    pub const fn needs_return(self) -> bool {
        !matches!(self, Call::Release | Call::Raise | Call::Exit | Call::Protect)
    }

    /// Whether the call is about ranges of pages rather than heap blocks.
    pub const fn is_mapping(self) -> bool {
        matches!(self, Call::Mmap | Call::Munmap | Call::Mremap | Call::Brk | Call::Protect)
    }

    /// Whether the call releases a block and makes none.
    pub const fn is_release(self) -> bool {
        matches!(self, Call::Release | Call::ReleaseOuter)
    }

    /// The integer arguments that the probe programs read of a call without a signature, a bit each.
    pub const fn arguments(self) -> u8 {
        match self {
            Call::Munmap => 0b11,
            Call::Mmap | Call::Protect => 0b111,
            Call::Mremap => 0b1111,
            Call::Brk => 0b1,
            Call::Allocate
            | Call::Reallocate
            | Call::Release
            | Call::ReleaseOuter
            | Call::Raise
            | Call::Exit
            | Call::Pool => 0,
        }
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
