//! Stacks merged from the outermost frame inwards: what flame graphs and folded stacks are drawn from.

use std::{
    collections::{BTreeSet, HashMap},
    rc::Rc,
};

use super::{
    name::{label, process},
    snapshot::{Snapshot, Stack},
};
use crate::{report::form::Metric, runtime::Language, trend::Verdict};

/// Deeper stacks lose their middle; the unwinder ends long before.
const MAX_DEPTH: usize = 512;

/// A function in one place of the tree.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is called; nothing that it holds steers a terminal.
    pub name: Rc<str>,
    /// What it is written in.
    language: Language,
    /// What it and everything that it calls weighs.
    pub total: u64,
    /// What of that belongs to stacks that end here.
    pub own: u64,
    /// What of the total belongs to stacks that are growing.
    growing: u64,
    /// What of the total belongs to stacks that are shrinking.
    shrinking: u64,
    /// Indices of what it calls, by name.
    pub children: Vec<usize>,
}

/// The colour of a node, in words.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Tone {
    /// Nearly all of it belongs to stacks that keep growing.
    Growing,
    /// Some of it does.
    Partly,
    /// None of it does, and it is written in this language.
    Level(Language),
    /// Nearly all of it belongs to stacks that hold less and less.
    Shrinking,
}

impl Tone {
    /// The tones that every legend explains, in its order.
    const ALWAYS: [Self; 4] = [Self::Growing, Self::Partly, Self::Level(Language::Native), Self::Shrinking];
}

impl Node {
    /// The tone by which the frame is coloured.
    pub fn tone(&self) -> Tone {
        let nearly_all = self.total - self.total / 10;
        match () {
            () if self.growing > 0 && self.growing >= nearly_all => Tone::Growing,
            () if self.growing > 0 => Tone::Partly,
            () if self.shrinking > 0 && self.shrinking >= nearly_all => Tone::Shrinking,
            () => Tone::Level(self.language),
        }
    }
}

/// The merged stacks; the first node is the root, which stands for all of them.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The nodes; a child comes after its parent.
    pub nodes: Vec<Node>,
}

impl Tree {
    /// Merges the stacks that weigh something. With several processes each is a frame of its own at the root.
    pub fn of(snapshot: &Snapshot, metric: Metric) -> Self {
        let mut building = Building::new();
        let several = snapshot.processes.len() > 1;
        for stack in &snapshot.stacks {
            let weight = weight(stack, metric);
            if weight == 0 {
                continue;
            }
            let process = several.then(|| process(stack.pid, &snapshot.processes));
            building.add(process, stack, weight);
        }
        building.sorted()
    }

    /// The tones that a legend explains: those of growth, and those of the languages besides machine code that are in it.
    pub fn tones(&self) -> Vec<Tone> {
        let languages: BTreeSet<Language> =
            self.nodes.iter().map(|node| node.language).filter(|&language| language != Language::Native).collect();
        Tone::ALWAYS.into_iter().chain(languages.into_iter().map(Tone::Level)).collect()
    }

    /// The weight of all stacks together.
    pub fn total(&self) -> u64 {
        self.nodes[0].total
    }

    /// Visits every node but the root, parents first, with its depth from 1 on.
    pub fn walk(&self, mut visit: impl FnMut(usize, &Node)) {
        let mut rest: Vec<(usize, usize)> = self.nodes[0].children.iter().rev().map(|&child| (1, child)).collect();
        while let Some((depth, index)) = rest.pop() {
            let node = &self.nodes[index];
            visit(depth, node);
            rest.extend(node.children.iter().rev().map(|&child| (depth + 1, child)));
        }
    }

    /// One line a stack: its frames from the root on, as `named` writes them, with `;` between them, and its weight.
    pub fn lines(&self, mut named: impl FnMut(&Node) -> String) -> Vec<String> {
        let mut lines = Vec::new();
        let mut path = String::new();
        let mut ends: Vec<usize> = Vec::new();
        self.walk(|depth, node| {
            ends.truncate(depth - 1);
            path.truncate(ends.last().copied().unwrap_or(0));
            if !path.is_empty() {
                path.push(';');
            }
            // The separator; a colon is what other tools put in its place.
            path.push_str(&named(node).replace(';', ":"));
            ends.push(path.len());
            if node.own > 0 {
                lines.push(format!("{path} {}", node.own));
            }
        });
        lines
    }
}

/// What a stack weighs by a metric.
pub fn weight(stack: &Stack, metric: Metric) -> u64 {
    match metric {
        Metric::InuseSpace => stack.outstanding_bytes,
        Metric::InuseObjects => stack.outstanding_blocks,
        Metric::AllocSpace => stack.allocated_bytes,
        Metric::AllocObjects => stack.allocations,
        // Nothing is drawn of what shrinks; a cast of what is no number gives 0.
        Metric::Growth => stack.growth_bytes_per_hour.max(0.0) as u64,
    }
}

struct Building {
    nodes: Vec<Node>,
    index: HashMap<(usize, Rc<str>), usize>,
}

impl Building {
    fn new() -> Self {
        Self { nodes: vec![node("all".into(), Language::Native)], index: HashMap::new() }
    }

    fn add(&mut self, process: Option<String>, stack: &Stack, weight: u64) {
        let mut path = vec![0];
        path.extend(process.map(|process| self.child(0, process, Language::Native)));
        let mut down = |name: String, language| {
            let parent = path.last().copied().unwrap_or(0);
            path.push(self.child(parent, name, language));
        };
        let native = Language::Native;
        if stack.frames.is_empty() {
            down("[unknown]".to_owned(), native);
        } else if stack.truncated.is_some() {
            down("[stack ends early]".to_owned(), native);
        }
        let depth = stack.frames.len();
        for (place, frame) in stack.frames.iter().rev().enumerate() {
            if depth <= MAX_DEPTH || place < MAX_DEPTH / 2 || place >= depth - MAX_DEPTH / 2 {
                down(label(frame), frame.language);
            } else if place == MAX_DEPTH / 2 {
                down("[frames left out]".to_owned(), native);
            }
        }
        for &index in &path {
            let node = &mut self.nodes[index];
            node.total = node.total.saturating_add(weight);
            match stack.verdict {
                Verdict::Growing => node.growing = node.growing.saturating_add(weight),
                Verdict::Shrinking => node.shrinking = node.shrinking.saturating_add(weight),
                Verdict::Undecided | Verdict::Sawtooth | Verdict::Plateau => {}
            }
        }
        if let Some(&last) = path.last() {
            self.nodes[last].own = self.nodes[last].own.saturating_add(weight);
        }
    }

    fn child(&mut self, parent: usize, name: String, language: Language) -> usize {
        let name: Rc<str> = name.into();
        if let Some(&known) = self.index.get(&(parent, Rc::clone(&name))) {
            return known;
        }
        let index = self.nodes.len();
        self.nodes.push(node(Rc::clone(&name), language));
        self.nodes[parent].children.push(index);
        self.index.insert((parent, name), index);
        index
    }

    fn sorted(mut self) -> Tree {
        for index in 0..self.nodes.len() {
            let mut children = std::mem::take(&mut self.nodes[index].children);
            children.sort_by(|&a, &b| self.nodes[a].name.cmp(&self.nodes[b].name));
            self.nodes[index].children = children;
        }
        Tree { nodes: self.nodes }
    }
}

fn node(name: Rc<str>, language: Language) -> Node {
    Node { name, language, total: 0, own: 0, growing: 0, shrinking: 0, children: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{sample, snapshot::Frame};

    fn stack(names: &[&str], bytes: u64, verdict: Verdict) -> Stack {
        let frames = names.iter().map(|name| sample::frame(name, "m", None)).collect();
        Stack { frames, outstanding_bytes: bytes, verdict, ..sample::stack() }
    }

    fn tree(stacks: Vec<Stack>) -> Tree {
        Tree::of(&Snapshot { stacks, ..sample::snapshot() }, Metric::InuseSpace)
    }

    #[test]
    fn common_callers_are_merged_and_weights_add_up() {
        let tree = tree(vec![
            stack(&["leak", "serve", "main"], 60, Verdict::Growing),
            stack(&["cache", "serve", "main"], 100, Verdict::Plateau),
            stack(&["serve", "main"], 5, Verdict::Plateau),
        ]);
        let mut seen = Vec::new();
        tree.walk(|depth, node| seen.push((depth, node.name.to_string(), node.total, node.own, node.tone())));
        let row = |depth, name: &str, total, own, tone| (depth, name.to_owned(), total, own, tone);
        assert_eq!(
            seen,
            [
                row(1, "main", 165, 0, Tone::Partly),
                row(2, "serve", 165, 5, Tone::Partly),
                row(3, "cache", 100, 100, Tone::Level(Language::Native)),
                row(3, "leak", 60, 60, Tone::Growing),
            ]
        );
        assert_eq!(tree.total(), 165);
    }

    #[test]
    fn what_does_not_grow_is_told_by_its_language() {
        let mut cache = stack(&["cache", "handle", "main"], 100, Verdict::Plateau);
        cache.frames[1].language = Language::Python;
        let mut leak = stack(&["leak", "main"], 1, Verdict::Growing);
        leak.frames[0].language = Language::Go;
        let tree = tree(vec![cache, leak]);
        let tones = |name: &str| tree.nodes.iter().find(|node| &*node.name == name).map(Node::tone);
        assert_eq!(tones("cache"), Some(Tone::Level(Language::Native)));
        assert_eq!(tones("handle"), Some(Tone::Level(Language::Python)));
        assert_eq!((tones("leak"), tones("main")), (Some(Tone::Growing), Some(Tone::Partly)));
        let legend = [&Tone::ALWAYS[..], &[Tone::Level(Language::Python), Tone::Level(Language::Go)]].concat();
        assert_eq!(tree.tones(), legend);
    }

    #[test]
    fn processes_stand_apart_and_broken_stacks_say_so() {
        let mut snapshot = sample::snapshot();
        let mut other = snapshot.processes[0].clone();
        other.pid = 7;
        snapshot.processes.push(other);
        snapshot.stacks = vec![
            Stack { pid: 7, truncated: Some("no table".to_owned()), ..stack(&["f"], 1, Verdict::Plateau) },
            stack(&[], 2, Verdict::Plateau),
        ];
        let lines = Tree::of(&snapshot, Metric::InuseSpace).lines(|node| node.name.to_string());
        assert_eq!(lines, ["server (pid 4242);[unknown] 2", "server (pid 7);[stack ends early];f 1"]);
    }

    #[test]
    fn endless_stacks_and_sums_are_bounded() {
        let frames = vec![Frame { address: "0x1".to_owned(), ..Frame::default() }; 100_000];
        let deep = Stack { frames, outstanding_bytes: u64::MAX, ..sample::stack() };
        let tree = tree(vec![deep.clone(), deep]);
        assert_eq!(tree.nodes.len(), MAX_DEPTH + 2);
        assert_eq!(tree.total(), u64::MAX);
    }

    #[test]
    fn every_metric_weighs_and_what_shrinks_weighs_nothing() {
        let stack = Stack { growth_bytes_per_hour: -5.0, allocated_bytes: 7, ..sample::stack() };
        let weights = Metric::ALL.map(|metric| weight(&stack, metric));
        assert_eq!(weights, [603_340, 1200, 7, 1200, 0]);
        for growth in [f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(weight(&Stack { growth_bytes_per_hour: growth, ..sample::stack() }, Metric::Growth), 0);
        }
    }
}
