//! What runtimes hold by their own books, beside the stacks: whole heaps, goroutines, and objects by type. Part of the JSON contract; fields are only
//! ever added.

use serde::{Deserialize, Serialize};

use super::{
    escape::escape,
    name::held,
    number::{bytes, count, of, rate},
    sampling::Estimate,
    snapshot::{Stack, finite},
};
use crate::{runtime::Language, trend::Verdict};

/// How bytes develop, and what is said of that.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Judged {
    /// What is said of them.
    pub verdict: Verdict,
    /// How sure the verdict is, 0 to 1.
    #[serde(serialize_with = "finite")]
    pub confidence: f64,
    /// One sentence that says why.
    pub evidence: String,
    /// The robust slope.
    #[serde(serialize_with = "finite")]
    pub growth_bytes_per_hour: f64,
    /// `[elapsed_ms, bytes]`, oldest first.
    pub series: Vec<(u64, u64)>,
}

impl Judged {
    /// What is known of this as of a stack.
    pub fn of(stack: Stack) -> Self {
        Self {
            verdict: stack.verdict,
            confidence: stack.confidence,
            evidence: stack.evidence,
            growth_bytes_per_hour: stack.growth_bytes_per_hour,
            series: stack.series,
        }
    }
}

/// A heap that a runtime manages, with all that it holds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Heap {
    /// Whose it is.
    pub pid: u32,
    /// What it is called, as in `Go heap`.
    pub name: String,
    /// Bytes of the objects that are held.
    pub bytes: u64,
    /// How many they are; `None` where only the bytes or the pages of the heap are known.
    pub count: Option<u64>,
    /// How well these are known; `None` where they are counted.
    #[serde(default)]
    pub estimate: Option<Estimate>,
    /// How many collections of the whole heap there were since the attach, by the runtime's own count; `None` where that is not read.
    #[serde(default)]
    pub collections: Option<u64>,
    /// Bytes of objects that lived at the end of the last collection of the whole heap, those from before the attach among them;
    /// `None` where that is not read, and before the first collection.
    #[serde(default)]
    pub left_bytes: Option<u64>,
    /// Bytes of objects that can be reached, those from before the attach among them, when they were last looked for; `None` where that is not
    /// done. Where this has been looked at often enough the verdict, the growth and its evidence are those of these bytes.
    #[serde(default)]
    pub reachable_bytes: Option<u64>,
    /// How its bytes develop.
    #[serde(flatten)]
    pub judged: Judged,
}

/// Goroutines that run the same function and were started at the same place: more of what the stack of this id says.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Goroutines {
    /// Whose they are.
    pub pid: u32,
    /// The function that they run.
    pub name: String,
    /// Where they were started, as in `main.serve (main.go:16)`; `None` for those that the runtime started.
    pub created_by: Option<String>,
    /// The id of their stack in `stacks`.
    pub stack: String,
    /// How many there are.
    pub count: u64,
    /// Bytes of their stacks.
    pub bytes: u64,
    /// What most of them do or wait for, as in `chan receive`; `None` where there are none.
    pub state: Option<String>,
    /// How many of them do.
    pub state_count: u64,
    /// How long one of these has waited that waits the longest, in milliseconds; `None` where the runtime did not note it.
    pub longest_wait_ms: Option<u64>,
    /// How their bytes develop.
    #[serde(flatten)]
    pub judged: Judged,
}

/// The live objects of one type in a process. Of Python those that lie in pymalloc's pools, with up to 512 bytes, and those since the attach that
/// have a block of the allocator; of V8 those that can be reached, with what the language has no name for in parentheses; of C++
/// those since the attach of classes with virtual functions with which a block of the allocator begins.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Type {
    /// The process that has them.
    pub pid: u32,
    /// The name of the type, as in `dict`, `Object {id, name}` and `app::Session`; a class of Python has it without its module, and several of
    /// one name are one here.
    pub name: String,
    /// The language of the type: `python`, `javascript`, or `native` for C++; `other` in reports that do not say it.
    #[serde(default = "unsaid")]
    pub language: Language,
    /// How many there are; those of an interpreter's own heap from before the attach as well.
    pub count: u64,
    /// Bytes of their blocks, without what they refer to: the table of a dict is not in it.
    pub bytes: u64,
    /// How well these are known; `None` where all blocks are looked at.
    #[serde(default)]
    pub estimate: Option<Estimate>,
    /// How their bytes develop.
    #[serde(flatten)]
    pub judged: Judged,
}

impl Type {
    /// A type by what is known of its objects as of a stack.
    pub fn of(name: &str, language: Language, stack: Stack) -> Self {
        Self {
            pid: stack.pid,
            name: name.to_owned(),
            language,
            count: stack.outstanding_blocks,
            bytes: stack.outstanding_bytes,
            estimate: stack.estimate,
            judged: Judged::of(stack),
        }
    }

    /// Whether no program has made this type: what a language has no name for, and Java's arrays and own classes.
    pub fn is_of_runtime(&self) -> bool {
        let is_of_java = |prefix: &&str| self.name.starts_with(*prefix);
        self.name.starts_with('(')
            || self.language == Language::Java
                && (self.name.ends_with("[]") || ["java.", "javax.", "jdk.", "sun."].iter().any(is_of_java))
    }

    /// `12,340 dict of 2.84 MB, growing by +1.20 MB/h`; of C++ only those are counted that were allocated since the attach, which it says.
    pub fn sentence(&self) -> String {
        let (number, name) = (count(self.count), escape(&self.name));
        let about = if self.estimate.is_some() { "about " } else { "" };
        let since = if self.language == Language::Native { " since the attach" } else { "" };
        let grows = rate(self.judged.growth_bytes_per_hour);
        format!("{about}{number} {name} of {}{since}, growing by {grows}", bytes(self.bytes))
    }
}

/// What is known of the language of a type in a report that does not say it.
const fn unsaid() -> Language {
    Language::Other
}

impl Heap {
    /// A heap by what is known of it as of a stack.
    pub fn of(name: &str, stack: Stack) -> Self {
        Self {
            pid: stack.pid,
            name: name.to_owned(),
            bytes: stack.outstanding_bytes,
            count: Some(stack.outstanding_blocks).filter(|&blocks| stack.heap.is_none() && blocks > 0),
            estimate: stack.estimate,
            collections: None,
            left_bytes: None,
            reachable_bytes: None,
            judged: Judged::of(stack),
        }
    }

    /// `Go heap: about 5.24 MB in some 327,685 objects, growing by +2.05 GB/h`.
    pub fn sentence(&self) -> String {
        let held = match self.count {
            Some(count) => held(self.bytes, &of(count, "object", "objects"), self.estimate.is_some()),
            None => bytes(self.bytes),
        };
        let grows = match self.judged.verdict {
            Verdict::Growing => format!(", growing by {}", rate(self.judged.growth_bytes_per_hour)),
            Verdict::Shrinking => ", shrinking".to_owned(),
            Verdict::Plateau | Verdict::Sawtooth => ", not growing".to_owned(),
            Verdict::Undecided => ", not known to grow".to_owned(),
        };
        format!("{}: {held}{grows}", self.name)
    }
}
