//! Why stacks end where they do.

macro_rules! ends {
    ($($(#[$doc:meta])* $name:ident = $number:literal => $text:expr,)+) => {
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

            /// What a report says of a stack that stopped short; `None` for a whole one.
            pub const fn truncated(self) -> Option<&'static str> {
                match self { $(StackEnd::$name => $text,)+ }
            }
        }
    };
}

ends! {
    /// The outermost frame was reached: the unwind table says so, its return address is 0, or, where code has no
    /// table, its frame pointer is 0.
    Complete = 0 => None,
    /// More frames than a record holds.
    TooDeep = 1 => Some("deeper than 127 frames"),
    /// The stack could not be read: swapped out, or not a stack.
    ReadFault = 2 => Some("stack memory could not be read"),
    /// The frame-pointer register holds something else: code built without frame pointers.
    NoFramePointer = 3 => Some("code without frame pointers"),
    /// The address is in no object with an unwind table, and its code has no frame pointers.
    NoTable = 4 => Some("code without unwind table or frame pointers"),
    /// The table has a rule that its format cannot express.
    UnsupportedRule = 5 => Some("unwind rule that memtrace does not support"),
    /// The object has a table, but nothing in it covers the address.
    FdeGap = 6 => Some("code that its object's unwind table leaves out"),
    /// The caller's frame would not be above its callee's: a damaged stack, or a wrong rule.
    NotClimbing = 7 => Some("damaged stack: the caller is not above its callee"),
    /// The return address is none that user space can have: a damaged stack, or a wrong rule.
    BadReturnAddress = 8 => Some("damaged stack: the return address is not code"),
    /// The return address leads to the kernel's trampoline: another tool's return probe put it there.
    ReturnProbe = 9 => Some("return address replaced by another tool's return probe"),
    /// Unwinding is switched off or unavailable for this process, and only its first frame is known.
    NotUnwound = 10 => Some("no unwind tables for this process"),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_its_number_and_only_the_complete_one_has_no_text() {
        for (number, &end) in StackEnd::ALL.iter().enumerate() {
            assert_eq!(StackEnd::from_number(number as u64), Some(end));
            assert_eq!(end as u64, number as u64);
            assert_eq!(end.truncated().is_none(), end == StackEnd::Complete);
        }
        assert_eq!(StackEnd::from_number(StackEnd::ALL.len() as u64), None);
    }
}
