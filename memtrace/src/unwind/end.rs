//! Stable names of the ways in which stacks end short.

use memtrace_common::unwind::StackEnd;

/// For stacks whose frames were not kept, or are still on their way.
pub const NOT_STORED: &str = "not_stored";

/// The end's name in reports; `None` for a whole stack. The sentence for people is [`StackEnd::truncated`].
pub const fn name(end: StackEnd) -> Option<&'static str> {
    Some(match end {
        StackEnd::Complete => return None,
        StackEnd::TooDeep => "too_deep",
        StackEnd::ReadFault => "read_fault",
        StackEnd::NoFramePointer => "no_frame_pointer",
        StackEnd::NoTable => "no_table",
        StackEnd::UnsupportedRule => "unsupported_rule",
        StackEnd::FdeGap => "table_gap",
        StackEnd::NotClimbing => "not_climbing",
        StackEnd::BadReturnAddress => "bad_return_address",
        StackEnd::ReturnProbe => "return_probe",
        StackEnd::NotUnwound => "not_unwound",
    })
}

/// A few words for people, by name; `None` for an unknown one.
pub fn words(short: &str) -> Option<&'static str> {
    if short == NOT_STORED {
        return Some("frames not kept");
    }
    let end = StackEnd::ALL.iter().copied().find(|&end| name(end) == Some(short))?;
    Some(match end {
        StackEnd::Complete => return None,
        StackEnd::TooDeep => "deeper than 127 frames",
        StackEnd::ReadFault => "stack not readable",
        StackEnd::NoFramePointer => "no frame pointers",
        StackEnd::NoTable => "no unwind table",
        StackEnd::UnsupportedRule => "unsupported unwind rule",
        StackEnd::FdeGap => "gap in an unwind table",
        StackEnd::NotClimbing | StackEnd::BadReturnAddress => "damaged stack",
        StackEnd::ReturnProbe => "another tool's return probe",
        StackEnd::NotUnwound => "unwind tables not loaded yet",
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_short_end_has_a_name_of_its_own_and_words() {
        let names: Vec<&str> = StackEnd::ALL.iter().filter_map(|&end| name(end)).chain([NOT_STORED]).collect();
        assert_eq!(names.len(), StackEnd::ALL.len(), "all but the complete one, and one more");
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for short in names {
            assert!(short.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{short}");
            assert!(words(short).is_some(), "{short}");
        }
        assert_eq!(words("complete"), None);
        for &end in StackEnd::ALL {
            assert_eq!(name(end).is_none(), end.truncated().is_none());
        }
    }
}
