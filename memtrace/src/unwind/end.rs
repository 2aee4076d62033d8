//! The ways in which stacks end short, by the names that they have in reports.

use memtrace_common::unwind::StackEnd;

/// The name for stacks whose frames were not kept, or are still on their way.
pub const NOT_STORED: &str = "not_stored";

/// The reason of this name in a few words for people; `None` for a name that is not known.
pub fn words(name: &str) -> Option<&'static str> {
    if name == NOT_STORED {
        return Some("frames not kept");
    }
    StackEnd::ALL.iter().filter_map(|end| end.short()).find(|short| short.name == name).map(|short| short.words)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_short_end_has_a_name_of_its_own_and_words() {
        let names: Vec<&str> =
            StackEnd::ALL.iter().filter_map(|end| Some(end.short()?.name)).chain([NOT_STORED]).collect();
        assert_eq!(names.len(), StackEnd::ALL.len(), "all but the complete one, and one more");
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for name in names {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(words(name).is_some(), "{name}");
        }
        assert_eq!(words("complete"), None);
    }
}
