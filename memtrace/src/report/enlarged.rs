//! Who makes the blocks of a stack larger, where `realloc` is called from several places in turn.

use serde::{Deserialize, Serialize};

use super::{
    name::{function, source},
    number::{bytes, of},
    snapshot::Frame,
};

/// The most callers that a line names.
const NAMED: usize = 3;

/// A call stack that makes blocks larger which were born in another, or in itself.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Enlarger {
    /// The id of the calling stack in hexadecimal.
    pub id: String,
    /// Calls that made a block larger.
    pub calls: u64,
    /// Bytes by which they did.
    pub bytes: u64,
    /// Its share of the bytes of all such calls, 0 to 1.
    pub share: f64,
    /// The caller of the allocator first.
    pub frames: Vec<Frame>,
}

/// `enlarged by handle_get 34 %, handle_put 33 %, handle_delete 33 %`; `None` where nobody is known to.
pub fn sentence(enlarged_by: &[Enlarger]) -> Option<String> {
    if enlarged_by.is_empty() {
        return None;
    }
    let depth = first_difference(enlarged_by);
    let name = |enlarger: &Enlarger| {
        let Some(frame) = enlarger.frames.get(depth.unwrap_or(0)) else { return format!("stack {}", enlarger.id) };
        let place = source(frame, true).filter(|_| depth.is_none()).map(|place| format!(" ({place})"));
        format!("{}{}", function(frame), place.unwrap_or_default())
    };
    let shown: Vec<String> = enlarged_by
        .iter()
        .take(NAMED)
        .map(|enlarger| format!("{} {:.0} % ({})", name(enlarger), enlarger.share * 100.0, bytes(enlarger.bytes)))
        .collect();
    let more = match enlarged_by.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {}", of(more as u64, "more caller", "more callers")),
    };
    Some(format!("moved by realloc between callers; enlarged by {}{more}", shown.join(", ")))
}

/// The first frame in which the named callers have different functions; `None` if they differ in lines only.
fn first_difference(enlarged_by: &[Enlarger]) -> Option<usize> {
    let named = &enlarged_by[..enlarged_by.len().min(NAMED)];
    let deepest = named.iter().map(|enlarger| enlarger.frames.len()).min()?;
    let name = |enlarger: &Enlarger, depth: usize| function(&enlarger.frames[depth]);
    (0..deepest).find(|&depth| named.iter().any(|enlarger| name(enlarger, depth) != name(&named[0], depth)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn enlarger(names: &[&str], line: u32, share: f64) -> Enlarger {
        let frames = names.iter().map(|name| sample::frame(name, "server", Some(("/src/log.c", line)))).collect();
        Enlarger { id: "00aa".to_owned(), calls: 2, bytes: 1000, share, frames }
    }

    #[test]
    fn callers_are_told_apart_by_the_first_function_that_differs() {
        let by = [enlarger(&["grow", "get", "main"], 1, 0.5), enlarger(&["grow", "put", "main"], 1, 0.5)];
        let text = sentence(&by).unwrap();
        assert!(text.ends_with("enlarged by get 50 % (1.00 kB), put 50 % (1.00 kB)"), "{text}");
    }

    #[test]
    fn callers_in_one_function_are_told_apart_by_their_lines() {
        let text = sentence(&[enlarger(&["grow"], 1, 0.6), enlarger(&["grow"], 2, 0.4)]).unwrap();
        assert!(text.contains("grow (log.c:1) 60 %") && text.contains("grow (log.c:2) 40 %"), "{text}");
    }

    #[test]
    fn no_more_than_three_are_named_and_those_without_frames_have_an_id() {
        assert_eq!(sentence(&[]), None);
        let five: Vec<_> = (0..5).map(|_| enlarger(&[], 0, 0.2)).collect();
        let text = sentence(&five).unwrap();
        assert_eq!(text.matches("stack 00aa").count(), 3);
        assert!(text.ends_with(" and 2 more callers"), "{text}");
    }

    #[test]
    fn names_of_the_target_are_escaped() {
        let text = sentence(&[enlarger(&["a\u{1b}[31m"], 1, 1.0)]).unwrap();
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}
