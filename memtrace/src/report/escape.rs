//! Names come from targets and are not trusted: nothing of them may steer a terminal or reorder a line.
//!
//! Escaped are control characters (C0, C1, DEL: ANSI sequences begin with one), line and paragraph separators, and the
//! invisible characters that change how text runs or hide in it (Unicode TR 36 and "Trojan Source", CVE-2021-42574), and
//! the two that XML does not allow.

use std::borrow::Cow;

/// `text` with every unsafe character written as `\n`, `\x1b` or `\u{202e}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            _ if !is_unsafe(character) => escaped.push(character),
            _ if u32::from(character) < 0x100 => escaped.push_str(&format!("\\x{:02x}", u32::from(character))),
            _ => escaped.push_str(&format!("\\u{{{:x}}}", u32::from(character))),
        }
    }
    Cow::Owned(escaped)
}

fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        assert_eq!(escape("a\x1b[31mb"), "a\\x1b[31mb");
        assert_eq!(escape("a\nb\r\tc\u{7f}\u{9b}"), "a\\nb\\r\\tc\\x7f\\x9b");
        assert_eq!(escape("x\u{202e}y\u{2066}z\u{2028}"), "x\\u{202e}y\\u{2066}z\\u{2028}");
    }

    #[test]
    fn ordinary_names_are_left_alone() {
        for name in ["operator new[](unsigned long)", "core::ptr::drop_in_place<[T; 4]>", "naïve_日本", "<b>&amp;"] {
            assert!(matches!(escape(name), Cow::Borrowed(text) if text == name));
        }
    }

    proptest! {
        #[test]
        fn nothing_unsafe_remains(text in any::<String>()) {
            prop_assert!(!escape(&text).chars().any(is_unsafe));
        }
    }
}
