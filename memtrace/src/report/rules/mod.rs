//! Rules say which stacks are meant ([`pattern`]). Suppressions are known leaks that must not fail a gate: a file has one rule a
//! line; empty lines and lines that begin with `#` are left out.

mod pattern;

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use thiserror::Error;

pub use self::pattern::{Names, Rule, RuleError};

/// The largest suppressions file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The most rules of all suppressions files together: each growing stack is compared with each.
const MAX_RULES: usize = 4096;

/// One rule and where it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Suppression {
    /// Which stacks.
    pub rule: Rule,
    /// `FILE:LINE`.
    pub place: String,
}

/// Why a suppressions file cannot be used.
#[derive(Debug, Error)]
pub enum SuppressionError {
    /// It cannot be read.
    #[error("--suppressions {path}: {source}; name a file that can be read")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is too large.
    #[error("--suppressions {path}: larger than {MAX_FILE_BYTES} bytes; leave rules out or use wildcards")]
    Large {
        /// The file.
        path: String,
    },
    /// There are too many.
    #[error("--suppressions: more than {MAX_RULES} rules; leave rules out or use wildcards")]
    Many,
    /// A line makes no sense.
    #[error("--suppressions {place}: {source}")]
    Line {
        /// `FILE:LINE`.
        place: String,
        /// What is wrong with it.
        source: RuleError,
    },
}

/// Reads the files, in the order given.
///
/// # Errors
/// The first that cannot be read or understood.
pub fn read(paths: &[impl AsRef<Path>]) -> Result<Vec<Suppression>, SuppressionError> {
    let mut all = Vec::new();
    for path in paths {
        let shown = path.as_ref().display().to_string();
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
        if let Err(source) = read {
            return Err(SuppressionError::Read { path: shown, source });
        }
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(SuppressionError::Large { path: shown });
        }
        // Names of targets may be anything; a rule that is no UTF-8 finds what the symbolizer made of such a name.
        all.extend(parse(&String::from_utf8_lossy(&bytes), &shown)?);
        if all.len() > MAX_RULES {
            return Err(SuppressionError::Many);
        }
    }
    Ok(all)
}

fn parse(text: &str, path: &str) -> Result<Vec<Suppression>, SuppressionError> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{path}:{number}");
        match Rule::parse_typed(line) {
            Ok(rule) => found.push(Suppression { rule, place }),
            Err(source) => return Err(SuppressionError::Line { place, source }),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_keep_their_places_and_comments_are_left_out() {
        let found = parse("# known\n\n  leak:pool_grow  \r\nstack:a;b\n", "x.supp").unwrap();
        let shown: Vec<_> = found.iter().map(|one| format!("{} {}", one.place, one.rule)).collect();
        assert_eq!(shown, ["x.supp:3 leak:pool_grow", "x.supp:4 stack:a;b"]);
    }

    #[test]
    fn a_line_of_an_unknown_type_is_named_with_file_and_line() {
        let error = parse("leak:a\nrace:b\n", "x.supp").unwrap_err().to_string();
        assert!(error.contains("x.supp:2") && error.contains("\"race\""), "{error}");
        let error = parse("what is this", "x.supp").unwrap_err().to_string();
        assert!(error.contains("x.supp:1") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn files_are_read_in_order_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (a, b) = (write("a", "leak:one"), write("b", "leak:two"));
        let found = read(&[&a, &b]).unwrap();
        assert_eq!(found.iter().map(|one| one.rule.to_string()).collect::<Vec<_>>(), ["leak:one", "leak:two"]);
        let large = write("large", &"#".repeat(MAX_FILE_BYTES as usize + 1));
        assert!(matches!(read(&[&large]), Err(SuppressionError::Large { .. })));
        let many = write("many", &"leak:x\n".repeat(MAX_RULES + 1));
        assert!(matches!(read(&[&many]), Err(SuppressionError::Many)));
        assert!(matches!(read(&[folder.path().join("none")]), Err(SuppressionError::Read { .. })));
    }

    proptest! {
        #[test]
        fn any_file_is_rules_or_one_line_of_error(text in any::<String>()) {
            if let Err(error) = parse(&text, "f") {
                prop_assert!(error.to_string().lines().count() == 1, "{}", error);
            }
        }
    }
}
