//! How much room text takes, and making it fit.

/// Columns of a terminal: East Asian wide characters take two, combining ones are counted as one, which errs to short.
pub fn width(text: &str) -> usize {
    text.chars().map(character_width).sum()
}

fn character_width(character: char) -> usize {
    let wide = matches!(u32::from(character),
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd);
    1 + usize::from(wide)
}

/// `text` in at most `most` columns: the middle goes, as both ends of a long C++ name tell more than it.
pub fn shorten(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let room = most.saturating_sub(1);
    let tail_room = room / 2;
    let take = |characters: &mut dyn Iterator<Item = char>, room: usize| {
        let mut taken = Vec::new();
        let mut used = 0;
        for character in characters {
            used += character_width(character);
            if used > room {
                break;
            }
            taken.push(character);
        }
        taken
    };
    let head: String = take(&mut text.chars(), room - tail_room).into_iter().collect();
    let tail: String = take(&mut text.chars().rev(), tail_room).into_iter().rev().collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shortened_text_fits(text in any::<String>(), most in 1usize..100) {
            prop_assert!(width(&shorten(&text, most)) <= most);
        }
    }
}
