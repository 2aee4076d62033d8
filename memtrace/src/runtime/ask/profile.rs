//! V8's sampling profile of its heap: objects that were drawn as they were allocated and live still, by the functions that made them.
//!
//! The profile comes from the target, which can send what it likes: trees have a bound on their depth, and nodes, samples and names
//! on their number and length.

use std::{collections::HashMap, fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// The mean distance from one object that is drawn to the next, in bytes: what V8 and its tools use.
pub const DISTANCE: u64 = 32 << 10;

/// The deepest tree: V8 notes 128 functions of a stack.
const MAX_DEPTH: usize = 256;
/// The most nodes of a tree.
const MAX_NODES: usize = 1 << 17;
/// The most objects that were drawn and live: 32 GiB of them.
const MAX_SAMPLES: usize = 1 << 20;
/// The most functions and stacks that are told apart, in all profiles of a process.
const MAX_FUNCTIONS: usize = 1 << 15;
const MAX_STACKS: usize = 1 << 14;
/// The most characters of a name or a path; longer ones are cut.
const MAX_CHARACTERS: usize = 512;
/// No object stands for more bytes.
const MAX_BYTES: f64 = (1u64 << 48) as f64;

/// A function of JavaScript, as V8 names it.
#[derive(Debug, Eq, PartialEq)]
pub struct Function {
    /// Tells it from all others of one process; from 0 on.
    pub number: u32,
    /// Its name. Not escaped.
    pub name: String,
    /// Its file; `None` for what is part of the engine. Not escaped.
    pub file: Option<String>,
    /// The line at which it begins: a profile does not say more.
    pub line: Option<u32>,
}

/// What the functions of one stack have allocated.
#[derive(Clone, Debug)]
pub struct Held {
    /// The function that allocates first, then its callers.
    pub functions: Arc<[Arc<Function>]>,
    /// What lives.
    pub live: Drawn,
    /// What lived when any profile was taken.
    pub ever: Drawn,
}

/// Objects that were drawn, and what they stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Drawn {
    /// How many were drawn.
    pub objects: u64,
    /// The bytes that they stand for.
    pub bytes: u64,
    /// The variance of these bytes.
    pub variance: f64,
}

impl Drawn {
    /// Adds an object that stands for so many bytes.
    fn add(&mut self, bytes: f64) {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(bytes as u64);
        // An object of s bytes is drawn with the chance p = 1 - exp(-s/d) and stands for x = s/p; its part of the variance is (1 - p) x².
        // Its own size is not told. As s/p is at most s + d, 1 - p is at most exp(1 - x/d).
        self.variance += bytes * bytes * (1.0 - bytes / DISTANCE as f64).exp().min(1.0);
    }
}

/// All stacks that profiles of one process have told of.
#[derive(Debug, Default)]
pub struct Books {
    functions: HashMap<(String, String, i64), Arc<Function>>,
    stacks: HashMap<Vec<u32>, usize>,
    held: Vec<Held>,
    /// The last object that was drawn before the last profile: V8 numbers them.
    last: u64,
}

impl Books {
    /// Takes in a profile, as `HeapProfiler.getSamplingProfile` returns it, and says what each stack holds: those that hold nothing any
    /// more as well.
    ///
    /// # Errors
    ///
    /// What is wrong with the profile, as a sentence's end.
    pub fn take(&mut self, text: &str) -> Result<Vec<Held>, String> {
        let mut reader = serde_json::Deserializer::from_str(text);
        reader.disable_recursion_limit();
        let Answer { profile: Profile { head: Tree(nodes), samples: Samples(samples) } } =
            Answer::deserialize(&mut reader).map_err(|error| error.to_string())?;
        let places: HashMap<u64, usize> = nodes.iter().enumerate().map(|(at, node)| (node.id, at)).collect();
        let mut stacks: HashMap<usize, Option<usize>> = HashMap::new();
        self.held.iter_mut().for_each(|held| held.live = Drawn::default());
        let before = self.last;
        for Sample { size, node_id, ordinal } in samples {
            let Some(&node) = places.get(&node_id) else { continue };
            let stack = *stacks.entry(node).or_insert_with(|| self.stack(&nodes, node));
            let Some(held) = stack.and_then(|stack| self.held.get_mut(stack)) else { continue };
            let bytes = size.clamp(0.0, MAX_BYTES);
            held.live.add(bytes);
            if ordinal > before {
                held.ever.add(bytes);
                self.last = self.last.max(ordinal);
            }
        }
        Ok(self.held.clone())
    }

    /// Where the stack is kept that ends in a node; `None` for one without a function, and where there is no room.
    fn stack(&mut self, nodes: &[Node], node: usize) -> Option<usize> {
        let mut functions = Vec::new();
        let mut at = Some(node);
        // A node's parent comes before it.
        while let Some(Node { call_frame, parent, .. }) = at.and_then(|at| nodes.get(at)) {
            // The root is no function.
            if parent.is_some() {
                functions.push(self.function(call_frame)?);
            }
            at = *parent;
        }
        let numbers: Vec<u32> = functions.iter().map(|function| function.number).collect();
        if let Some(&known) = self.stacks.get(&numbers) {
            return Some(known);
        }
        if numbers.is_empty() || self.held.len() >= MAX_STACKS {
            return None;
        }
        self.stacks.insert(numbers, self.held.len());
        self.held.push(Held { functions: functions.into(), live: Drawn::default(), ever: Drawn::default() });
        Some(self.held.len() - 1)
    }

    fn function(&mut self, frame: &CallFrame) -> Option<Arc<Function>> {
        let cut = |text: &str| text.chars().take(MAX_CHARACTERS).collect::<String>();
        let path = frame.url.strip_prefix("file://").unwrap_or(&frame.url);
        let key = (cut(&frame.function_name), cut(path), frame.line_number);
        if let Some(known) = self.functions.get(&key) {
            return Some(Arc::clone(known));
        }
        let number = u32::try_from(self.functions.len()).ok().filter(|&number| number < MAX_FUNCTIONS as u32)?;
        let name = match (key.0.as_str(), frame.line_number, frame.column_number) {
            ("", 0, 0) => "(top level)".to_owned(),
            ("", ..) => "(anonymous)".to_owned(),
            (name, ..) => name.to_owned(),
        };
        let file = Some(key.1.clone()).filter(|file| !file.is_empty());
        // Counted from 0 on, and -1 where there is none.
        let line = frame.line_number.checked_add(1).and_then(|line| u32::try_from(line).ok()).filter(|&line| line > 0);
        let function = Arc::new(Function { number, name, file, line });
        self.functions.insert(key, Arc::clone(&function));
        Some(function)
    }
}

#[derive(Deserialize)]
struct Answer {
    profile: Profile,
}

#[derive(Deserialize)]
struct Profile {
    head: Tree,
    samples: Samples,
}

/// A function in the tree, called by its parent.
#[derive(Debug, Default)]
struct Node {
    call_frame: CallFrame,
    id: u64,
    parent: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallFrame {
    function_name: String,
    url: String,
    line_number: i64,
    column_number: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sample {
    size: f64,
    node_id: u64,
    ordinal: u64,
}

/// The nodes of a tree, each behind its parent.
#[derive(Debug)]
struct Tree(Vec<Node>);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut nodes = Vec::new();
        Below { nodes: &mut nodes, parent: None, depth: 0 }.deserialize(deserializer)?;
        Ok(Tree(nodes))
    }
}

/// Reads the node below a parent, and all that is below it.
struct Below<'n> {
    nodes: &'n mut Vec<Node>,
    parent: Option<usize>,
    depth: usize,
}

/// What a node has.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Field {
    CallFrame,
    Id,
    Children,
    #[serde(other)]
    Other,
}

impl<'de> DeserializeSeed<'de> for Below<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Below<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a node of a profile")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.depth >= MAX_DEPTH || self.nodes.len() >= MAX_NODES {
            return Err(A::Error::custom("the profile is too deep or too large"));
        }
        let at = self.nodes.len();
        self.nodes.push(Node { parent: self.parent, ..Node::default() });
        while let Some(field) = map.next_key()? {
            match field {
                Field::CallFrame => self.nodes[at].call_frame = map.next_value()?,
                Field::Id => self.nodes[at].id = map.next_value()?,
                Field::Children => {
                    map.next_value_seed(Children(Below {
                        nodes: self.nodes,
                        parent: Some(at),
                        depth: self.depth + 1,
                    }))?;
                }
                Field::Other => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }
}

/// Reads all nodes below a parent.
struct Children<'n>(Below<'n>);

impl<'de> DeserializeSeed<'de> for Children<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Children<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nodes of a profile")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let Below { nodes, parent, depth } = self.0;
        while sequence.next_element_seed(Below { nodes: &mut *nodes, parent, depth })?.is_some() {}
        Ok(())
    }
}

/// Objects that were drawn and live.
struct Samples(Vec<Sample>);

impl<'de> Deserialize<'de> for Samples {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ReadSamples).map(Samples)
    }
}

struct ReadSamples;

impl<'de> Visitor<'de> for ReadSamples {
    type Value = Vec<Sample>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("samples of a profile")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<Sample>, A::Error> {
        let mut samples = Vec::new();
        while let Some(sample) = sequence.next_element()? {
            if samples.len() >= MAX_SAMPLES {
                return Err(A::Error::custom("the profile has too many samples"));
            }
            samples.push(sample);
        }
        Ok(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, line: i64, id: u64, children: &str) -> String {
        format!(
            r#"{{"callFrame":{{"functionName":"{name}","scriptId":"7","url":"file:///srv/app.js","lineNumber":{line},"columnNumber":3}},
             "selfSize":9,"id":{id},"children":[{children}]}}"#
        )
    }

    fn profile(tree: &str, samples: &[(u64, u64, u64)]) -> String {
        let samples: Vec<String> = samples
            .iter()
            .map(|(size, node, ordinal)| format!(r#"{{"size":{size},"nodeId":{node},"ordinal":{ordinal}}}"#))
            .collect();
        format!(r#"{{"profile":{{"head":{tree},"samples":[{}]}}}}"#, samples.join(","))
    }

    fn names(held: &Held) -> Vec<&str> {
        held.functions.iter().map(|function| function.name.as_str()).collect()
    }

    #[test]
    fn what_lives_is_told_by_stack_and_what_has_died_is_told_to_hold_nothing() {
        let tree = node("(root)", -1, 1, &node("serve", 17, 2, &node("query", 3, 3, "")));
        let mut books = Books::default();
        let held = books.take(&profile(&tree, &[(32800, 3, 1), (100_000, 3, 2), (32784, 2, 3)])).expect("a profile");
        assert_eq!(held.len(), 2);
        assert_eq!(names(&held[0]), ["query", "serve"]);
        assert_eq!((held[0].live.objects, held[0].live.bytes), (2, 132_800));
        let query = &held[0].functions[0];
        assert_eq!((query.file.as_deref(), query.line), (Some("/srv/app.js"), Some(4)));
        assert_eq!(held[0].ever, held[0].live);
        // Of what a small object stands for nearly all is a guess, of a large one some of it.
        let (small, large) = (f64::powi(32800.0, 2), f64::powi(100_000.0, 2));
        assert!(held[0].live.variance > 0.9 * small && held[0].live.variance < small + 0.2 * large, "{held:?}");
        let held = books.take(&profile(&tree, &[(32800, 3, 1), (32800, 3, 9)])).expect("a profile");
        assert_eq!((held[0].live.objects, held[0].ever.objects), (2, 3));
        assert_eq!((held[1].live.objects, held[1].ever.objects), (0, 1));
    }

    #[test]
    fn stacks_are_as_deep_as_v8_notes_them() {
        let deep = |depth: u64| (1..=depth).rev().fold(String::new(), |below, id| node("call", 1, id, &below));
        let held = Books::default().take(&profile(&deep(129), &[(32800, 129, 1)])).expect("a profile");
        assert_eq!(held[0].functions.len(), 128);
        let error = Books::default().take(&profile(&deep(2000), &[])).expect_err("too deep");
        assert!(error.contains("too deep"), "{error}");
    }

    #[test]
    fn what_is_no_profile_is_an_error_and_never_a_panic() {
        let root = node("(root)", -1, 1, "");
        let whole = profile(&root, &[(32800, 1, 1)]);
        for end in 0..whole.len() {
            assert!(whole.get(..end).is_none_or(|cut| Books::default().take(cut).is_err()), "{end}");
        }
        for text in ["[]", "7", r#"{"profile":{"head":[],"samples":{}}}"#, &"[".repeat(1 << 20)] {
            assert!(Books::default().take(text).is_err(), "{}", &text[..text.len().min(40)]);
        }
        // A sample of no node, of the root, of no size; an id twice.
        let odd = profile(&node("(root)", -1, 1, &node("a", i64::MAX, 1, "")), &[(u64::MAX, 1, u64::MAX), (0, 77, 0)]);
        let held = Books::default().take(&odd).expect("a profile");
        assert!(
            held.len() == 1 && held[0].functions[0].line.is_none() && held[0].live.variance.is_finite(),
            "{held:?}"
        );
    }

    #[test]
    fn nodes_samples_stacks_and_functions_are_bounded() {
        let many: Vec<String> = (0..MAX_NODES as u64).map(|id| node("f", 1, id, "")).collect();
        assert!(Books::default().take(&profile(&node("(root)", -1, 1, &many.join(",")), &[])).is_err());
        let samples = vec![(1, 2, 3); MAX_SAMPLES + 1];
        assert!(Books::default().take(&profile(&node("(root)", -1, 1, ""), &samples)).is_err());
        let many: Vec<String> = (2..40_000).map(|id| node(&format!("f{id}"), 1, id, "")).collect();
        let samples: Vec<(u64, u64, u64)> = (2..40_000).map(|id| (1, id, id)).collect();
        let mut books = Books::default();
        let held = books.take(&profile(&node("(root)", -1, 1, &many.join(",")), &samples)).expect("a profile");
        assert!(held.len() == MAX_STACKS && books.functions.len() <= MAX_FUNCTIONS);
        let long = node(&"x".repeat(1 << 20), 1, 2, "");
        let held = Books::default().take(&profile(&node("(root)", -1, 1, &long), &[(1, 2, 1)])).expect("a profile");
        assert_eq!(held[0].functions[0].name.len(), MAX_CHARACTERS);
    }
}
