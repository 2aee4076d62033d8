//! The languages that code of a target is written in, as far as reports tell them apart.
//!
//! This is the one place where a runtime states its language: an interpreter in each piece of [`Code`](super::Code) that it reads, a
//! runtime that writes a perf map by how names in it begin, Go by its own table of functions. Nothing is told from the name of a file.

use serde::{Deserialize, Serialize};

/// The language that a runtime says its code is in.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// Code of the processor that no runtime claims: C, C++, Rust and others; also an interpreter's own functions.
    #[default]
    Native,
    /// Python, as CPython runs it.
    Python,
    /// Go, as its table of functions names it.
    Go,
    /// JavaScript, as V8 runs it, interpreted or compiled.
    Javascript,
    /// Java, as HotSpot names its classes.
    Java,
    /// PHP, as the Zend Engine runs it.
    Php,
    /// Ruby, as its own virtual machine (MRI) runs it.
    Ruby,
    /// A language that a later memtrace tells, in a report that this one reads.
    #[serde(other)]
    Other,
}

impl Language {
    /// What reports call the module of interpreted code in this language, since there is no file of machine code to name.
    pub const fn module(self) -> &'static str {
        match self {
            Language::Python => "[python]",
            Language::Javascript => "[javascript]",
            Language::Php => "[php]",
            Language::Ruby => "[ruby]",
            Language::Native | Language::Go | Language::Java | Language::Other => "[interpreted]",
        }
    }

    /// The language of code made at run time, by the mark with which its runtime begins names in a perf map: `JS:` is V8's, `py::`
    /// CPython's. Native for names without one.
    pub fn of_runtime_code(name: &str) -> Self {
        match name {
            name if name.starts_with("JS:") => Language::Javascript,
            name if name.starts_with("py::") => Language::Python,
            _ => Language::Native,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perf_maps_marks_tell_the_language_and_the_ends_of_names_do_not() {
        assert_eq!(Language::of_runtime_code("JS:*remember /srv/map.js:3:18"), Language::Javascript);
        assert_eq!(Language::of_runtime_code("py::handle:/srv/app.py"), Language::Python);
        for name in ["Builtin:ArrayPush", "handle /srv/app.py", "map.js", ""] {
            assert_eq!(Language::of_runtime_code(name), Language::Native, "{name}");
        }
    }

    #[test]
    fn languages_have_the_names_that_reports_promise() {
        for (language, name) in [
            (Language::Native, "\"native\""),
            (Language::Python, "\"python\""),
            (Language::Go, "\"go\""),
            (Language::Javascript, "\"javascript\""),
            (Language::Java, "\"java\""),
            (Language::Php, "\"php\""),
            (Language::Ruby, "\"ruby\""),
        ] {
            assert_eq!(serde_json::to_string(&language).unwrap(), name);
            assert_eq!(serde_json::from_str::<Language>(name).unwrap(), language);
        }
        assert_eq!(serde_json::from_str::<Language>("\"cobol\"").unwrap(), Language::Other);
    }
}
