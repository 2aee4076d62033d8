//! Text in a number of columns: by graphemes, with the width that the terminal gives them.

use ratatui::{style::Style, text::Span};

/// Columns that the text takes.
pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

fn graphemes(text: &str) -> Vec<String> {
    Span::raw(text).styled_graphemes(Style::new()).map(|grapheme| grapheme.symbol.to_owned()).collect()
}

/// The text in at most `most` columns: the middle goes, as both ends of a long C++ name tell more than it.
pub(super) fn shorten(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let Some(room) = most.checked_sub(1) else { return String::new() };
    let graphemes = graphemes(text);
    let take = |graphemes: &mut dyn Iterator<Item = &String>, room: usize| -> Vec<String> {
        let mut used = 0;
        let fits = |grapheme: &&String| {
            used += width(grapheme);
            used <= room
        };
        graphemes.take_while(fits).cloned().collect()
    };
    let head = take(&mut graphemes.iter(), room - room / 2).concat();
    let mut tail = take(&mut graphemes.iter().rev(), room / 2);
    tail.reverse();
    format!("{head}…{}", tail.concat())
}

/// The text in exactly `columns`, at their left.
pub(super) fn left(text: &str, columns: usize) -> String {
    let text = shorten(text, columns);
    let gap = columns.saturating_sub(width(&text));
    format!("{text}{}", " ".repeat(gap))
}

/// The text in exactly `columns`, at their right.
pub(super) fn right(text: &str, columns: usize) -> String {
    let text = shorten(text, columns);
    let gap = columns.saturating_sub(width(&text));
    format!("{}{text}", " ".repeat(gap))
}

/// Lines of at most `columns`, broken at spaces.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let word = shorten(word, columns);
        if !line.is_empty() && width(&line) + 1 + width(&word) > columns {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_ends_of_a_long_name_stay() {
        assert_eq!(shorten("abcdefghij", 7), "abc…hij");
        assert_eq!(shorten("日本語日本語", 7), "日…語");
        assert_eq!((shorten("abc", 0), shorten("abc", 1)), (String::new(), "…".to_owned()));
    }

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("", 8), [""]);
    }

    proptest! {
        #[test]
        fn no_text_takes_more_than_its_columns(text in any::<String>(), columns in 0usize..40) {
            prop_assert!(width(&shorten(&text, columns)) <= columns);
            prop_assert!(wrap(&text, columns).iter().all(|line| width(line) <= columns));
            if !text.contains(char::is_control) {
                prop_assert_eq!(width(&left(&text, columns)), columns);
                prop_assert_eq!(width(&right(&text, columns)), columns);
            }
        }
    }
}
