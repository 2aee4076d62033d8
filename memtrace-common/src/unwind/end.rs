//! Why stacks end where they do.

/// What reports say of a stack that ends before its outermost frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Short {
    /// The reason's name in machine formats: lower-case words joined by underscores.
    pub name: &'static str,
    /// The reason in a few words, for a list of reasons; two reasons may share them.
    pub words: &'static str,
    /// The reason as a clause, for the end of one stack.
    pub sentence: &'static str,
}

macro_rules! ends {
    ($($(#[$doc:meta])* $name:ident = $number:literal => $short:expr;)+) => {
        /// Why a stack ends where it does.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u64)]
        pub enum StackEnd { $($(#[$doc])* $name = $number,)+ }

        impl StackEnd {
            /// Every end, in the order of their numbers.
            pub const ALL: &'static [StackEnd] = &[$(StackEnd::$name,)+];

            /// The end with this number, if there is one.
            pub const fn from_number(number: u64) -> Option<StackEnd> {
                match number { $($number => Some(StackEnd::$name),)+ _ => None }
            }

            /// What reports say of a stack that ends short for this reason; `None` for a whole one.
            pub const fn short(self) -> Option<Short> {
                match self { $(StackEnd::$name => $short,)+ }
            }
        }
    };
}

ends! {
    /// The outermost frame was reached: the unwind table says so, its return address is 0, or, where code has no
    /// table, its frame pointer is 0.
    Complete = 0 => None;
    /// More frames than a record holds.
    TooDeep = 1 => Some(Short {
        name: "too_deep",
        words: "deeper than 127 frames",
        sentence: "deeper than 127 frames",
    });
    /// The stack could not be read: swapped out, or not a stack.
    ReadFault = 2 => Some(Short {
        name: "read_fault",
        words: "stack not readable",
        sentence: "stack memory could not be read",
    });
    /// The frame-pointer register holds something else: code built without frame pointers.
    NoFramePointer = 3 => Some(Short {
        name: "no_frame_pointer",
        words: "no frame pointers",
        sentence: "code without frame pointers",
    });
    /// The address is in no object with an unwind table, and its code has no frame pointers.
    NoTable = 4 => Some(Short {
        name: "no_table",
        words: "no unwind table",
        sentence: "code without unwind table or frame pointers",
    });
    /// The table has a rule that its format cannot express.
    UnsupportedRule = 5 => Some(Short {
        name: "unsupported_rule",
        words: "unsupported unwind rule",
        sentence: "unwind rule that memtrace does not support",
    });
    /// The object has a table, but nothing in it covers the address.
    FdeGap = 6 => Some(Short {
        name: "table_gap",
        words: "gap in an unwind table",
        sentence: "code that its object's unwind table leaves out",
    });
    /// The caller's frame would not be above its callee's: a damaged stack, or a wrong rule.
    NotClimbing = 7 => Some(Short {
        name: "not_climbing",
        words: "damaged stack",
        sentence: "damaged stack: the caller is not above its callee",
    });
    /// The return address is none that user space can have: a damaged stack, or a wrong rule.
    BadReturnAddress = 8 => Some(Short {
        name: "bad_return_address",
        words: "damaged stack",
        sentence: "damaged stack: the return address is not code",
    });
    /// The return address leads to the kernel's trampoline: another tool's return probe put it there.
    ReturnProbe = 9 => Some(Short {
        name: "return_probe",
        words: "another tool's return probe",
        sentence: "return address replaced by another tool's return probe",
    });
    /// Unwinding is switched off or unavailable for this process, and only its first frame is known.
    NotUnwound = 10 => Some(Short {
        name: "not_unwound",
        words: "unwind tables not loaded yet",
        sentence: "no unwind tables for this process",
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_its_number_and_only_the_complete_one_has_no_text() {
        for (number, &end) in StackEnd::ALL.iter().enumerate() {
            assert_eq!(StackEnd::from_number(number as u64), Some(end));
            assert_eq!(end as u64, number as u64);
            assert_eq!(end.short().is_none(), end == StackEnd::Complete);
        }
        assert_eq!(StackEnd::from_number(StackEnd::ALL.len() as u64), None);
    }
}
