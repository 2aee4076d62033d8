//! What the runtime of a process was asked, with `--ask`, and what became of that. Part of the JSON contract; fields are only ever added.

use serde::{Deserialize, Serialize};

use super::{
    escape::escape,
    number::{count, of},
};
use crate::runtime::Language;

/// What the runtime of a process was asked.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Asked {
    /// The language of its objects: `javascript` for Node, which is asked by its inspector, and `java` for HotSpot, by its attach socket.
    #[serde(default = "javascript")]
    pub language: Language,
    /// Where its inspector listens, as in `127.0.0.1:9229`, in the network namespace of the process; `None` where it was not reached.
    pub inspector: Option<String>,
    /// Whether memtrace opened the inspector, or the attach socket.
    pub opened: bool,
    /// What has become of the inspector; `None` while it is used, and where it was not reached.
    pub left: Option<Left>,
    /// How many profiles have come, or histograms of classes.
    pub profiles: u64,
    /// The longest time that one took, in milliseconds: for most of it the heap was collected, and no code of this language ran.
    pub longest_ms: u64,
    /// Why it is asked no more, as a sentence; `None` where it was asked until the end.
    pub problem: Option<String>,
}

/// What has become of an inspector.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// It was open before memtrace came, and is left open.
    AsItWas,
    /// Memtrace opened it and has closed it.
    Closed,
    /// Memtrace opened it and could not close it: it is open until the process ends.
    Open,
}

/// The language of reports that do not say it.
const fn javascript() -> Language {
    Language::Javascript
}

impl Asked {
    /// `asked: 12 profiles of the objects allocated since the attach that live, each after a collection of the whole heap (32 ms at most)`
    /// and so on.
    pub fn sentence(&self) -> String {
        if self.language == Language::Java {
            return self.about_java();
        }
        let mut said = format!(
            "asked: {} of JavaScript's objects that were allocated since the attach and live, each after a collection of the whole heap",
            of(self.profiles, "profile", "profiles")
        );
        if self.profiles > 0 {
            said += &format!(" ({} ms at most)", count(self.longest_ms));
        }
        if let Some(inspector) = &self.inspector {
            let by = if self.opened { "opened by memtrace" } else { "was open before" };
            let now = match self.left {
                None => "",
                Some(Left::AsItWas) => " and is left open",
                Some(Left::Closed) => " and closed again",
                Some(Left::Open) => " and could not be closed: it stays open until the process ends",
            };
            said += &format!("; inspector at {}, {by}{now}", escape(inspector));
        }
        self.end(said)
    }

    /// `asked: 12 histograms of all classes whose objects live, each after a collection of the whole heap (32 ms at most)` and so on.
    fn about_java(&self) -> String {
        let mut said = format!(
            "asked: {} of all classes whose objects live, each after a collection of the whole heap",
            of(self.profiles, "histogram", "histograms")
        );
        if self.profiles > 0 {
            said += &format!(" ({} ms at most)", count(self.longest_ms));
        }
        if self.opened {
            said += "; its attach socket, opened for memtrace, stays until it ends";
        }
        self.end(said)
    }

    fn end(&self, mut said: String) -> String {
        if let Some(problem) = &self.problem {
            said += &format!(". {}", escape(problem));
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_to_the_target_is_said() {
        let asked = Asked {
            language: Language::Javascript,
            inspector: Some("127.0.0.1:9229".into()),
            opened: true,
            left: Some(Left::Closed),
            profiles: 12,
            longest_ms: 32,
            problem: None,
        };
        let said = asked.sentence();
        assert!(said.starts_with("asked: 12 profiles") && said.contains("(32 ms at most)"), "{said}");
        assert!(said.ends_with("inspector at 127.0.0.1:9229, opened by memtrace and closed again"), "{said}");
        let open = Asked { left: Some(Left::Open), ..asked.clone() };
        assert!(open.sentence().ends_with("it stays open until the process ends"), "{}", open.sentence());
        let java = Asked { language: Language::Java, inspector: None, left: None, ..asked.clone() };
        assert!(java.sentence().starts_with("asked: 12 histograms"), "{}", java.sentence());
        assert!(
            java.sentence().ends_with("(32 ms at most); its attach socket, opened for memtrace, stays until it ends")
        );
        let refused = Asked { problem: Some("It does not.".into()), ..Asked::default() };
        assert!(refused.sentence().ends_with("the whole heap. It does not."), "{}", refused.sentence());
    }
}
