//! The answer of a Java virtual machine to `GC.class_histogram`: a table of the classes whose objects live, with their number and bytes.
//!
//! ```text
//!  num     #instances         #bytes  class name (module)
//! -------------------------------------------------------
//!    1:         10873         851328  [B (java.base@17.0.15)
//! Total         10873         851328
//! ```

use std::sync::Arc;

/// The most lines that are read.
const MAX_LINES: usize = 1 << 17;

/// The longest name of a class that is kept, in bytes.
const MAX_NAME: usize = 512;

/// The most dimensions that an array has.
const MAX_DIMENSIONS: usize = 255;

/// The objects of one class that live.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Class {
    /// What it is called in the language, as in `java.util.HashMap$Node` and `byte[]`.
    pub name: Arc<str>,
    /// How many there are.
    pub objects: u64,
    /// Their bytes, without what they refer to.
    pub bytes: u64,
}

/// The classes of an answer, in its order. Lines that are none of the table are passed over; a name may come more than once.
pub fn classes(answer: &str) -> Vec<Class> {
    answer.lines().take(MAX_LINES).filter_map(class).collect()
}

fn class(line: &str) -> Option<Class> {
    let mut words = line.split_ascii_whitespace();
    words.next()?.strip_suffix(':')?.parse::<u64>().ok()?;
    let (objects, bytes) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Class { name: name(words.next()?)?.into(), objects, bytes })
}

/// The name of a class in the language, by what the virtual machine calls it.
fn name(of: &str) -> Option<String> {
    // A class that was made at run time has its address behind its name.
    let of = of.split("/0x").next().filter(|name| !name.is_empty() && name.len() <= MAX_NAME)?;
    let element = of.trim_start_matches('[');
    let dimensions = of.len() - element.len();
    if dimensions == 0 {
        return Some(of.to_owned());
    }
    let element = match element {
        "Z" => "boolean",
        "B" => "byte",
        "C" => "char",
        "S" => "short",
        "I" => "int",
        "J" => "long",
        "F" => "float",
        "D" => "double",
        class => class.strip_prefix('L')?.trim_end_matches(';'),
    };
    (dimensions <= MAX_DIMENSIONS).then(|| element.to_owned() + &"[]".repeat(dimensions))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_table_is_read_with_and_without_modules_and_nothing_else_is() {
        let answer = " num     #instances         #bytes  class name (module)\n\
            -------------------------------------------------------\n   \
               1:         10873         851328  [B (java.base@17.0.15)\n   \
               2:          9999         239976  Leak$Session\n   \
               3:            12           4096  [[Ljava.lang.Object; (java.base@17.0.15)\n   \
               4:             1             16  Leak$$Lambda$14/0x00007f2f4c0a1000\n\
            Total         20885        1095416\n";
        let found: Vec<(String, u64, u64)> =
            classes(answer).into_iter().map(|class| (class.name.to_string(), class.objects, class.bytes)).collect();
        let expected = [
            ("byte[]", 10_873, 851_328),
            ("Leak$Session", 9999, 239_976),
            ("java.lang.Object[][]", 12, 4096),
            ("Leak$$Lambda$14", 1, 16),
        ];
        assert_eq!(found, expected.map(|(name, objects, bytes)| (name.to_owned(), objects, bytes)));
        for odd in ["", "1:", "1: 2", "1: 2 3", "x: 1 2 A", "1: -1 2 A", "1: 1 99999999999999999999 A", "1: 1 2 [Q"] {
            assert_eq!(classes(odd), [], "{odd}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_an_end(text in any::<String>(), table in "( [0-9]{1,30}: [0-9]{1,25} [0-9]{1,25} [\\[A-Z/0x;]{0,40}\n){0,20}") {
            let _ = classes(&text);
            prop_assert!(classes(&table).len() <= 20);
        }
    }
}
