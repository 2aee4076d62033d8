//! The pattern language of suppressions, `--include` and `--exclude`: which stacks are meant, by the names in them.
//!
//! A pattern is found anywhere in a name, as LeakSanitizer does it: `*` stands for any text, `^` at the start and `$` at
//! the end hold it to the name's ends; elsewhere they are characters like any other. A rule says which names are looked at:
//!
//! | rule | matches a stack when |
//! |---|---|
//! | `leak:P`, or just `P` where no type is asked for | a function, module or source file of any frame matches |
//! | `function:P`, `module:P`, `file:P` | that name of any frame matches |
//! | `stack:P;Q;R` | the first frames, from the allocator's caller on, match one by one |

use std::fmt;

use thiserror::Error;

/// No rule is longer, in bytes. Demangled names are cut at a bound as well.
pub const MAX_RULE_BYTES: usize = 4096;

/// The names of one frame, as the symbolizer has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    /// The demangled function.
    pub function: Option<&'a str>,
    /// The file name of the object.
    pub module: Option<&'a str>,
    /// The source file's path.
    pub file: Option<&'a str>,
}

/// A text with wildcards and anchors.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pattern {
    /// What stands between the wildcards; never empty, and only the first and the last may be empty texts.
    parts: Vec<String>,
    from_start: bool,
    to_end: bool,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When nothing is left to look for, as in `^$`.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let rest = text.strip_prefix('^');
        let (from_start, text) = (rest.is_some(), rest.unwrap_or(text));
        let rest = text.strip_suffix('$');
        let (to_end, text) = (rest.is_some(), rest.unwrap_or(text));
        if text.is_empty() {
            return Err(RuleError::Empty);
        }
        let pieces: Vec<&str> = text.split('*').collect();
        let last = pieces.len() - 1;
        let kept = pieces.into_iter().enumerate().filter(|(index, piece)| {
            // Two wildcards in a row are one.
            *index == 0 || *index == last || !piece.is_empty()
        });
        Ok(Self { parts: kept.map(|(_, piece)| piece.to_owned()).collect(), from_start, to_end })
    }

    /// Whether `name` matches. Time: the name's length for each part, never more.
    pub fn matches(&self, name: &str) -> bool {
        let (mut rest, mut parts) = (name, self.parts.as_slice());
        if self.to_end
            && let [head @ .., last] = parts
        {
            // What stands before the last wildcard takes the leftmost places below, so it leaves as much as can be.
            if head.is_empty() && self.from_start {
                return name == last;
            }
            let Some(before) = rest.strip_suffix(last.as_str()) else { return false };
            (rest, parts) = (before, head);
        }
        if self.from_start
            && let [first, tail @ ..] = parts
        {
            let Some(after) = rest.strip_prefix(first.as_str()) else { return false };
            (rest, parts) = (after, tail);
        }
        for part in parts {
            let Some(at) = rest.find(part.as_str()) else { return false };
            rest = &rest[at + part.len()..];
        }
        true
    }
}

/// Which names a rule looks at.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Scope {
    Any(Pattern),
    Function(Pattern),
    Module(Pattern),
    File(Pattern),
    /// By the first frames.
    Stack(Vec<Pattern>),
}

/// A pattern and the names that it is for. It shows as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    scope: Scope,
    text: String,
}

/// Why a rule cannot be read.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RuleError {
    /// It has no pattern.
    #[error("the pattern is empty")]
    Empty,
    /// It begins with a word that is no type of rule.
    #[error("{0:?} is no type of rule; write leak:, function:, module:, file: or stack: before the pattern")]
    Type(String),
    /// It is too long.
    #[error("longer than {MAX_RULE_BYTES} bytes")]
    Long,
}

impl Rule {
    /// Reads a rule that names its type, as a line of a suppressions file does.
    ///
    /// # Errors
    /// When the type is missing or unknown, or there is no pattern.
    pub fn parse_typed(text: &str) -> Result<Self, RuleError> {
        Self::typed(text)?.ok_or_else(|| RuleError::Type(text.split(':').next().unwrap_or_default().to_owned()))
    }

    /// Reads a rule that may be a pattern alone, as flags have it.
    ///
    /// # Errors
    /// When it begins with a word and a colon that is no type of rule, or there is no pattern. `std::vector` does not.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        if let Some(rule) = Self::typed(text)? {
            return Ok(rule);
        }
        if let Some((word, rest)) = text.split_once(':')
            && !rest.starts_with(':')
            && !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_lowercase())
        {
            return Err(RuleError::Type(word.to_owned()));
        }
        Ok(Self { scope: Scope::Any(Pattern::parse(text)?), text: text.to_owned() })
    }

    fn typed(text: &str) -> Result<Option<Self>, RuleError> {
        if text.len() > MAX_RULE_BYTES {
            return Err(RuleError::Long);
        }
        let Some((word, pattern)) = text.split_once(':') else { return Ok(None) };
        let scope = match word {
            "leak" => Scope::Any(Pattern::parse(pattern)?),
            "function" => Scope::Function(Pattern::parse(pattern)?),
            "module" => Scope::Module(Pattern::parse(pattern)?),
            "file" => Scope::File(Pattern::parse(pattern)?),
            "stack" => Scope::Stack(pattern.split(';').map(Pattern::parse).collect::<Result<_, _>>()?),
            _ => return Ok(None),
        };
        Ok(Some(Self { scope, text: text.to_owned() }))
    }

    /// Whether a stack is meant; `frames` from the allocator's caller on, inlined functions as frames of their own.
    pub fn matches(&self, frames: &[Names<'_>]) -> bool {
        let found = |pattern: &Pattern, name: Option<&str>| name.is_some_and(|name| pattern.matches(name));
        let any = |wanted: &dyn Fn(&Names<'_>) -> bool| frames.iter().any(wanted);
        match &self.scope {
            Scope::Any(p) => any(&|n| found(p, n.function) || found(p, n.module) || found(p, n.file)),
            Scope::Function(p) => any(&|names| found(p, names.function)),
            Scope::Module(p) => any(&|names| found(p, names.module)),
            Scope::File(p) => any(&|names| found(p, names.file)),
            // A frame without a function's name goes by its module.
            Scope::Stack(patterns) => {
                patterns.len() <= frames.len()
                    && patterns.iter().zip(frames).all(|(p, names)| found(p, names.function.or(names.module)))
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(name)
    }

    #[test]
    fn a_pattern_is_found_anywhere_unless_it_is_anchored() {
        assert!(matches("leak", "my_leak_here") && matches("leak", "leak"));
        assert!(!matches("leak", "lea") && !matches("leak", ""));
        assert!(matches("^leak", "leak_here") && !matches("^leak", "my_leak"));
        assert!(matches("leak$", "my_leak") && !matches("leak$", "leak_here"));
        assert!(matches("^leak$", "leak") && !matches("^leak$", "leak_leak"));
    }

    #[test]
    fn a_wildcard_stands_for_any_text_also_none() {
        assert!(matches("std::*::push_back", "void std::vector<int>::push_back(int&&)"));
        assert!(matches("a*c", "ac") && matches("a*c", "xabbcx") && !matches("a*c", "ca"));
        assert!(matches("^a*c$", "abac") && !matches("^a*c$", "abacx"));
        // The two ends may not share characters.
        assert!(!matches("^ab*ba$", "aba") && matches("^ab*ba$", "abba"));
        assert!(matches("*", "") && matches("**", "x") && matches("^*$", "anything"));
        assert!(matches("^*.so*$", "libx.so.6") && matches("lib*", "libx"));
    }

    #[test]
    fn anchors_inside_are_characters() {
        assert!(matches("a$b", "xa$by") && matches("JS:^load", "JS:^load /srv/app.js"));
    }

    const FRAMES: [Names<'_>; 3] = [
        Names { function: Some("leak_here"), module: Some("server"), file: Some("/src/server.c") },
        Names { function: None, module: Some("libplugin.so"), file: None },
        Names { function: Some("main"), module: Some("server"), file: Some("/src/main.c") },
    ];

    #[test]
    fn each_type_looks_at_its_names_only() {
        for (rule, wanted) in [
            ("leak:leak_here", true),
            ("leak:libplugin", true),
            ("leak:/src/main.c", true),
            ("function:^main$", true),
            ("function:server", false),
            ("module:^server$", true),
            ("module:main", false),
            ("file:main.c$", true),
            ("file:main$", false),
            ("stack:leak_here", true),
            ("stack:leak_here;libplugin;main", true),
            ("stack:leak_here;*;^main$", true),
            ("stack:leak_here;main", false),
            ("stack:main", false),
            ("stack:leak_here;libplugin;main;_start", false),
        ] {
            assert_eq!(Rule::parse_typed(rule).unwrap().matches(&FRAMES), wanted, "{rule}");
        }
        assert!(!Rule::parse("*").unwrap().matches(&[]), "a stack without frames has no name that could match");
    }

    #[test]
    fn a_rule_of_a_flag_needs_no_type_but_has_no_wrong_one() {
        assert!(Rule::parse("leak_here").unwrap().matches(&FRAMES));
        assert!(Rule::parse("std::vector").is_ok() && Rule::parse("JS:^load").is_ok());
        assert_eq!(Rule::parse("modul:libx"), Err(RuleError::Type("modul".to_owned())));
        assert_eq!(Rule::parse_typed("leak_here"), Err(RuleError::Type("leak_here".to_owned())));
        assert_eq!(Rule::parse_typed("leak:"), Err(RuleError::Empty));
        assert_eq!(Rule::parse("^$"), Err(RuleError::Empty));
        assert_eq!(Rule::parse("stack:a;;b"), Err(RuleError::Empty));
        assert_eq!(Rule::parse(&"x".repeat(MAX_RULE_BYTES + 1)), Err(RuleError::Long));
    }

    /// The language by its definition, without regard to time.
    fn model(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', rest @ ..], _) => model(rest, name) || (!name.is_empty() && model(pattern, &name[1..])),
            ([p, rest @ ..], [n, tail @ ..]) => p == n && model(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_the_definition_says(
            body in "[ab*]{1,7}", name in "[ab]{0,9}", start in any::<bool>(), end in any::<bool>()
        ) {
            let text = format!("{}{body}{}", if start { "^" } else { "" }, if end { "$" } else { "" });
            let whole = format!("{}{body}{}", if start { "" } else { "*" }, if end { "" } else { "*" });
            let (whole, letters): (Vec<char>, Vec<char>) = (whole.chars().collect(), name.chars().collect());
            prop_assert_eq!(matches(&text, &name), model(&whole, &letters), "{} on {:?}", text, name);
        }

        #[test]
        fn any_text_is_a_rule_or_an_error_and_never_a_panic(text in any::<String>(), name in any::<String>()) {
            let frames = [Names { function: Some(&name), module: Some(&name), file: None }];
            if let Ok(rule) = Rule::parse(&text) {
                prop_assert_eq!(rule.to_string(), text);
                rule.matches(&frames);
            }
        }

        #[test]
        fn a_name_matches_itself(name in "[a-zA-Z_:<>(), ]{1,40}") {
            prop_assert!(matches(&name, &name));
            let whole = format!("^{name}$");
            prop_assert!(matches(&whole, &name));
        }
    }
}
