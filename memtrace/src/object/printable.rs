//! Bytes that a target chose, made safe to show: command lines, paths, names.

use std::fmt::Write;

/// Text for a terminal: control and invalid bytes are escaped as `\x1b`, and more than `limit` characters are cut
/// with an ellipsis.
pub fn printable(bytes: &[u8], limit: usize) -> String {
    let mut text = String::new();
    let mut shown = 0;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if shown == limit {
                text.push('…');
                return text;
            }
            shown += 1;
            if is_unsafe(character) {
                let mut buffer = [0; 4];
                escape(&mut text, character.encode_utf8(&mut buffer).as_bytes());
            } else {
                text.push(character);
            }
        }
        if !chunk.invalid().is_empty() {
            if shown == limit {
                text.push('…');
                return text;
            }
            shown += 1;
            escape(&mut text, chunk.invalid());
        }
    }
    text
}

/// Control characters, and those that reorder or break a line of text.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::printable;

    #[test]
    fn control_and_invalid_bytes_are_escaped_and_length_is_bounded() {
        assert_eq!(printable(b"redis-server *:6379", 100), "redis-server *:6379");
        assert_eq!(printable(b"a\x1b[2Jb\nc\xff", 100), "a\\x1b[2Jb\\x0ac\\xff");
        assert_eq!(printable("\u{202e}x".as_bytes(), 100), "\\xe2\\x80\\xaex");
        assert_eq!(printable("ünder".as_bytes(), 3), "ünd…");
    }

    proptest! {
        #[test]
        fn no_control_character_passes(bytes in prop::collection::vec(any::<u8>(), 0..300), limit in 0usize..100) {
            let text = printable(&bytes, limit);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert!(text.chars().count() <= limit * 16 + 1);
        }
    }
}
